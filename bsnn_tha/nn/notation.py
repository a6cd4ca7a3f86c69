"""The papers' notation for networks, e.g. ``16C5-AP2-64C5-AP2-10``.

Layers are separated by hyphens:

======================  =====================================================
``16C5``, ``16Conv5``   convolution, 16 filters of 5 × 5, no padding
``AP2``                 2 × 2 average pooling of the current of the
                        convolution before it
``10``, ``Dense10``     fully connected layer with 10 outputs
``1024Dense10``         the same, stating its 1024 inputs, which are checked;
                        chains (``700Dense3000Dense20``) are two such layers
======================  =====================================================

Every convolution and every fully connected layer ends in spiking neurons.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bsnn_tha.errors import InvalidValueError

_CONV = re.compile(r"(?P<channels>\d+)C(?:onv)?(?P<kernel>\d+)")
_POOL = re.compile(r"AP(?P<kernel>\d+)")
_DENSE = re.compile(r"(?P<inputs>\d*)(?P<outputs>(?:Dense\d+)+)")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class ConvSpec:
    """A convolution of ``channels`` filters, ``kernel`` × ``kernel``, then pooling."""

    channels: int
    kernel: int
    pool: int = 1


@dataclass(frozen=True)
class DenseSpec:
    """A fully connected layer."""

    outputs: int


LayerSpec = ConvSpec | DenseSpec


def parse_network(
    notation: str, input_shape: Sequence[int]
) -> list[tuple[LayerSpec, tuple[int, ...]]]:
    """Read a network in the papers' notation and work out its shapes.

    Args:
        notation: for example ``"16Conv5-AP2-64Conv5-AP2-1024Dense10"``.
        input_shape: of one sample at one time step: ``(channels, height,
            width)`` or ``(features,)``.

    Returns:
        One ``(specification, output shape)`` per spiking layer.

    Raises:
        InvalidValueError: pointing at the layer that cannot be read or built.

    Example:
        >>> for spec, shape in parse_network("16C5-AP2-64C5-AP2-10", (1, 28, 28)):
        ...     print(spec, shape)
        ConvSpec(channels=16, kernel=5, pool=2) (16, 12, 12)
        ConvSpec(channels=64, kernel=5, pool=2) (64, 4, 4)
        DenseSpec(outputs=10) (10,)
    """
    layers: list[tuple[LayerSpec, tuple[int, ...]]] = []
    shape = tuple(int(size) for size in input_shape)
    if len(shape) not in (1, 3) or min(shape) < 1:
        raise InvalidValueError(
            "input_shape must be (channels, height, width) or (features,), "
            f"but got {tuple(input_shape)}"
        )
    for token in _tokens(notation):
        if match := _CONV.fullmatch(token.text):
            conv = ConvSpec(int(match["channels"]), int(match["kernel"]))
            shape = _conv_shape(token, conv, shape)
            layers.append((conv, shape))
        elif match := _POOL.fullmatch(token.text):
            previous = layers[-1][0] if layers else None
            if not isinstance(previous, ConvSpec) or previous.pool > 1:
                raise token.error("pooling must follow a convolution")
            pool = int(match["kernel"])
            shape = _pool_shape(token, pool, shape)
            layers[-1] = (replace(previous, pool=pool), shape)
        elif _NUMBER.fullmatch(token.text) or _DENSE.fullmatch(token.text):
            for inputs, outputs in _dense_links(token):
                features = _size(shape)
                if inputs is not None and inputs != features:
                    raise token.error(
                        f"states {inputs} inputs, but gets {features} from a shape of "
                        f"{' × '.join(map(str, shape))}"
                    )
                if outputs < 1:
                    raise token.error("needs at least one output")
                shape = (outputs,)
                layers.append((DenseSpec(outputs), shape))
        else:
            raise token.error("is not a layer; write 16C5 (or 16Conv5), AP2, 10 (or 1024Dense10)")
    return layers


@dataclass(frozen=True)
class _Token:
    notation: str
    start: int
    text: str

    def error(self, problem: str) -> InvalidValueError:
        before = self.notation[: self.start]
        after = self.notation[self.start + len(self.text) :]
        return InvalidValueError(
            f"network {before}→{self.text}←{after}: layer {self.text!r} "
            f"at character {self.start + 1} {problem}"
        )


def _tokens(notation: str) -> Iterator[_Token]:
    if not notation.strip():
        raise InvalidValueError("a network needs at least one layer, e.g. 16C5-AP2-10")
    start = 0
    for text in notation.split("-"):
        yield _Token(notation, start, text)
        start += len(text) + 1


def _dense_links(token: _Token) -> Iterator[tuple[int | None, int]]:
    """(stated inputs or None, outputs) of each layer in a chain of dense layers."""
    if _NUMBER.fullmatch(token.text):
        yield None, int(token.text)
        return
    sizes = token.text.split("Dense")
    for inputs, outputs in itertools.pairwise(sizes):
        yield (int(inputs) if inputs else None), int(outputs)


def _conv_shape(token: _Token, conv: ConvSpec, shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) != 3:
        raise token.error("is a convolution, but gets features without height and width")
    if conv.channels < 1 or conv.kernel < 1:
        raise token.error("needs at least one filter of at least 1 × 1")
    height, width = (size - conv.kernel + 1 for size in shape[1:])
    if min(height, width) < 1:
        raise token.error(f"does not fit on maps of {shape[1]} × {shape[2]}")
    return conv.channels, height, width


def _pool_shape(token: _Token, pool: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    channels, height, width = shape
    if pool < 1 or min(height, width) < pool:
        raise token.error(f"does not fit on maps of {height} × {width}")
    return channels, height // pool, width // pool


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size
