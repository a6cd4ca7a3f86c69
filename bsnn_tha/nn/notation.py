"""The papers' notation for networks, e.g. ``16C5-AP2-64C5-AP2-10``.

Layers are separated by hyphens:

======================  =====================================================
``16C5``, ``16Conv5``   convolution, 16 filters of 5 × 5, no padding
``16C3P``               the same, padded with zeros so that maps keep their size
``16C3S2``, ``16C3PS2`` the same with a stride of 2
``AP2``, ``MP2``        2 × 2 average or maximum pooling of the current of the
                        convolution before it
``10``, ``Dense10``,    fully connected layer with 10 outputs
``FC10``
``1024Dense10``         the same, stating its 1024 inputs, which are checked;
                        chains (``700Dense3000Dense20``) are two such layers
``Rec512``              recurrent layer: fully connected with 512 outputs, whose
                        spikes come back to it one time step later through 512 ×
                        512 weights; in chains as well (``700Rec512Dense20``)
``GAP``                 global average pooling: the fully connected layer after
                        it reads the mean of each map
``34x34x2``             at the start: states the input, width × height × maps,
                        which is checked. (A number there is a layer: what some
                        papers write as 700-200-20 is ``200-20`` on 700 inputs.)
======================  =====================================================

and blocks of several layers, whose convolutions are padded:

======================  =====================================================
``64DW``, ``64DWS2``    depthwise-separable block (Howard et al. 2017): a 3 × 3
                        convolution of each map by itself (with the stride),
                        then 64 filters of 1 × 1
``128R``, ``128RS2``    residual block (He et al. 2016; spiking: Zheng et al.
                        2021): two convolutions with 128 filters of 3 × 3 (the
                        first with the stride). The current of what the block
                        reads is added to the second's current: as it is, or
                        through 128 filters of 1 × 1 where the shape is another
``12DB32``              dense block (Huang et al. 2017) of 12 dense layers, each
                        of 128 = 4 · 32 filters of 1 × 1, then 32 of 3 × 3. Each
                        reads what the block reads and the maps of all dense
                        layers before it; what follows the block reads them all
``T``                   transition: 1 × 1 filters, half as many as maps come in,
                        and 2 × 2 average pooling
======================  =====================================================

Every convolution and every fully connected layer ends in spiking neurons, so that
only spikes are passed on, between dense layers too. (DenseNet as published, and
in LTMD's code, passes on currents, normalises all of them anew for each reader and
has neurons there; the weights are the same.)

A name from :mod:`bsnn_tha.nn.named` stands for a whole network: ``vgg9``, or
``vgg9/101`` with 101 outputs instead of its ten.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.named import NETWORKS
from bsnn_tha.suggest import did_you_mean

_INPUT = re.compile(r"(?P<width>\d+)[x×](?P<height>\d+)[x×](?P<maps>\d+)")
_CONV = re.compile(r"(?P<channels>\d+)C(?:onv)?(?P<kernel>\d+)(?P<same>P?)(?:S(?P<stride>\d+))?")
_POOL = re.compile(r"(?P<kind>[AM])P(?P<kernel>\d+)")
_DENSE = re.compile(r"(?P<inputs>\d*)(?P<layers>(?:(?:Dense|Rec)\d+)+)")
_LINK = re.compile(r"(?P<kind>Dense|Rec)(?P<outputs>\d+)")
_NUMBER = re.compile(r"(?:FC)?(?P<outputs>\d+)")
_SEPARABLE = re.compile(r"(?P<channels>\d+)DW(?:S(?P<stride>\d+))?")
_RESIDUAL = re.compile(r"(?P<channels>\d+)R(?:S(?P<stride>\d+))?")
_DENSE_BLOCK = re.compile(r"(?P<count>\d+)DB(?P<growth>\d+)")
_NAMED = re.compile(r"(?P<name>[a-z][a-z0-9-]*)(?:/(?P<outputs>\d+))?")

_BOTTLENECK = 4
"""Filters of a dense layer's first convolution, in multiples of its second's."""


@dataclass(frozen=True)
class ConvSpec:
    """A convolution of ``channels`` filters, ``kernel`` × ``kernel``, then pooling.

    ``padding`` zeros surround each map. A depthwise one has a filter for each
    map that comes in.
    """

    channels: int
    kernel: int
    pool: int = 1
    pooling: Literal["average", "max"] = "average"
    stride: int = 1
    padding: int = 0
    depthwise: bool = False


@dataclass(frozen=True)
class DenseSpec:
    """A fully connected layer; of the maps' means if it follows global average pooling.

    One without ``bias`` is added to a current that has one.
    """

    outputs: int
    of_means: bool = False
    bias: bool = True


LayerSpec = ConvSpec | DenseSpec


@dataclass(frozen=True)
class Shortcut:
    """What is added to the current of a residual block's last convolution."""

    reads: tuple[int, ...]
    """Layers whose spikes it takes, by index."""
    input_shape: tuple[int, ...]
    spec: ConvSpec | None
    """Their way through weights; None where the spikes themselves are added."""


@dataclass(frozen=True)
class Recurrence:
    """What the layer's own spikes of the time step before add to its current."""

    reads: tuple[int, ...]
    """The layer itself, by index."""
    spec: DenseSpec


@dataclass(frozen=True)
class LayerPlan:
    """One spiking layer of a network: what it is, and what it reads."""

    spec: LayerSpec
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    reads: tuple[int, ...]
    """Layers whose spikes it takes, by index; their maps lie one after the other. Empty
    for the first layer, which alone reads the network's input."""
    shortcut: Shortcut | None = None
    recurrence: Recurrence | None = None


def parse_network(notation: str, input_shape: Sequence[int]) -> list[LayerPlan]:
    """Read a network in the papers' notation and work out its shapes.

    Args:
        notation: for example ``"16Conv5-AP2-64Conv5-AP2-1024Dense10"``, or the
            name of a network.
        input_shape: of one sample at one time step: ``(channels, height,
            width)`` or ``(features,)``.

    Returns:
        The spiking layers, each after those it reads; the last one's spikes are
        the network's output.

    Raises:
        InvalidValueError: pointing at the layer that cannot be read or built.

    Example:
        >>> for layer in parse_network("16C5-AP2-10", (1, 28, 28)):
        ...     print(type(layer.spec).__name__, layer.output_shape, layer.reads)
        ConvSpec (16, 12, 12) ()
        DenseSpec (10,) (0,)
        >>> [layer.recurrence is not None for layer in parse_network("70Rec40Dense2", (70,))]
        [True, False]
        >>> block = parse_network("16C3P-16R", (1, 8, 8))
        >>> [layer.reads for layer in block], block[-1].shortcut.reads
        ([(), (0,), (1,)], (0,))
    """
    shape = tuple(int(size) for size in input_shape)
    if len(shape) not in (1, 3) or min(shape) < 1:
        raise InvalidValueError(
            "input_shape must be (channels, height, width) or (features,), "
            f"but got {tuple(input_shape)}"
        )
    plan = _Plan(shape)
    for token in _tokens(write_out(notation)):
        if token.start == 0 and (match := _INPUT.fullmatch(token.text)):
            _check_input(token, match, shape)
        else:
            plan.extend(token)
    if not plan.layers:
        raise InvalidValueError(f"a network needs at least one layer, but got {notation!r}")
    if plan.means is not None:
        raise plan.means.error("must be followed by a fully connected layer")
    return plan.layers


def write_out(notation: str) -> str:
    """A notation without names: the layers that a name stands for.

    Raises:
        InvalidValueError: it has the form of a name, but there is no such network.

    Example:
        >>> write_out("vgg11/101")
        '64C3P-128C3P-AP2-256C3P-256C3P-AP2-512C3P-512C3P-AP2-512C3P-512C3P-AP2-101'
        >>> write_out("16C5-10")
        '16C5-10'
    """
    match = _NAMED.fullmatch(notation)
    if match is None:
        return notation
    if match["name"] not in NETWORKS:
        raise InvalidValueError(
            f"no network is named {match['name']!r}{did_you_mean(match['name'], NETWORKS)}"
        )
    layers = NETWORKS[match["name"]]
    if match["outputs"] is None:
        return layers
    body, _, _ = layers.rpartition("-")
    return f"{body}-{match['outputs']}"


def _check_input(token: _Token, match: re.Match[str], shape: tuple[int, ...]) -> None:
    stated = tuple(int(match[name]) for name in ("maps", "height", "width"))
    if stated != shape:
        raise token.error(f"states an input of {_by(stated)}, but it is {_by(shape)}")


def _by(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


class _Plan:
    """The layers read so far, and what the next one would read."""

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        self.layers: list[LayerPlan] = []
        self.reads: tuple[int, ...] = ()
        self.shape = input_shape
        self.means: _Token | None = None
        """Global average pooling whose fully connected layer is still to come."""

    def extend(self, token: _Token) -> None:
        """Add the layers that a token stands for."""
        text = token.text
        if self.means is not None and not (_NUMBER.fullmatch(text) or _DENSE.fullmatch(text)):
            raise self.means.error("must be followed by a fully connected layer")
        if match := _CONV.fullmatch(text):
            self._convolution(token, match)
        elif match := _POOL.fullmatch(text):
            self._pool(token, "average" if match["kind"] == "A" else "max", int(match["kernel"]))
        elif match := _SEPARABLE.fullmatch(text):
            self._separable(token, int(match["channels"]), int(match["stride"] or 1))
        elif match := _RESIDUAL.fullmatch(text):
            self._residual(token, int(match["channels"]), int(match["stride"] or 1))
        elif match := _DENSE_BLOCK.fullmatch(text):
            self._dense_block(token, int(match["count"]), int(match["growth"]))
        elif text == "T":
            self._transition(token)
        elif text == "GAP":
            self._need_maps(token, "takes the means of maps")
            self.means = token
        elif _NUMBER.fullmatch(text) or _DENSE.fullmatch(text):
            for link in _dense_links(token):
                self._fully_connected(token, *link)
        else:
            raise token.error(
                "is not a layer; write 16C5 (or 16Conv5), 16C3P (padded), 16C3S2 (stride), AP2, "
                "MP2, 10 (or 1024Dense10, FC10), Rec512, GAP, or a block: 64DW, 128R, 12DB32, T"
            )

    def _convolution(self, token: _Token, match: re.Match[str]) -> None:
        kernel = int(match["kernel"])
        if match["same"] and kernel % 2 == 0:
            raise token.error("cannot keep the size of maps (P) with filters of even size")
        self._add(
            token,
            ConvSpec(
                int(match["channels"]),
                kernel,
                stride=int(match["stride"] or 1),
                padding=kernel // 2 if match["same"] else 0,
            ),
        )

    def _pool(self, token: _Token, kind: Literal["average", "max"], size: int) -> None:
        last = self.layers[-1] if self.layers else None
        # Neither a residual block's current nor what follows a dense block is that of its
        # last convolution alone.
        alone = last is not None and last.shortcut is None and len(self.reads) == 1
        if last is None or not alone or not isinstance(last.spec, ConvSpec) or last.spec.pool > 1:
            raise token.error("pooling must follow a convolution")
        channels, height, width = self.shape
        if size < 1 or min(height, width) < size:
            raise token.error(f"does not fit on maps of {height} × {width}")
        self.shape = channels, height // size, width // size
        spec = replace(last.spec, pool=size, pooling=kind)
        self.layers[-1] = replace(last, spec=spec, output_shape=self.shape)

    def _separable(self, token: _Token, channels: int, stride: int) -> None:
        self._need_maps(token, "is a block of convolutions")
        self._add(token, ConvSpec(self.shape[0], 3, stride=stride, padding=1, depthwise=True))
        self._add(token, ConvSpec(channels, 1))

    def _residual(self, token: _Token, channels: int, stride: int) -> None:
        self._need_layer(token)
        reads, shape = self.reads, self.shape
        self._add(token, ConvSpec(channels, 3, stride=stride, padding=1))
        same = self.shape == shape
        projection = None if same else ConvSpec(channels, 1, stride=stride)
        self._add(token, ConvSpec(channels, 3, padding=1), Shortcut(reads, shape, projection))

    def _dense_block(self, token: _Token, count: int, growth: int) -> None:
        self._need_layer(token)
        if count < 1:
            raise token.error("needs at least one dense layer")
        for _ in range(count):
            reads, shape = self.reads, self.shape
            self._add(token, ConvSpec(_BOTTLENECK * growth, 1))
            self._add(token, ConvSpec(growth, 3, padding=1))
            self.reads = (*reads, *self.reads)
            self.shape = (shape[0] + growth, *self.shape[1:])

    def _transition(self, token: _Token) -> None:
        self._need_layer(token)
        self._add(token, ConvSpec(self.shape[0] // 2, 1))
        self._pool(token, "average", 2)

    def _fully_connected(
        self, token: _Token, inputs: int | None, outputs: int, recurrent: bool
    ) -> None:
        of_means = self.means is not None
        self.means = None
        features = self.shape[0] if of_means else math.prod(self.shape)
        if inputs is not None and inputs != features:
            raise token.error(
                f"states {inputs} inputs, but gets {features} from a shape of {_by(self.shape)}"
            )
        if outputs < 1:
            raise token.error("needs at least one output")
        own = Recurrence((len(self.layers),), DenseSpec(outputs, bias=False))
        spec = DenseSpec(outputs, of_means)
        self._append(spec, (outputs,), recurrence=own if recurrent else None)

    def _add(self, token: _Token, conv: ConvSpec, shortcut: Shortcut | None = None) -> None:
        """Append a convolution if it fits."""
        self._need_maps(token, "is a convolution")
        if conv.channels < 1 or conv.kernel < 1:
            raise token.error("needs at least one filter of at least 1 × 1")
        if conv.stride < 1:
            raise token.error("needs a stride of at least 1")
        height, width = (
            (size + 2 * conv.padding - conv.kernel) // conv.stride + 1 for size in self.shape[1:]
        )
        if min(height, width) < 1:
            raise token.error(f"does not fit on maps of {self.shape[1]} × {self.shape[2]}")
        self._append(conv, (conv.channels, height, width), shortcut)

    def _append(
        self,
        spec: LayerSpec,
        output_shape: tuple[int, ...],
        shortcut: Shortcut | None = None,
        recurrence: Recurrence | None = None,
    ) -> None:
        plan = LayerPlan(spec, self.shape, output_shape, self.reads, shortcut, recurrence)
        self.layers.append(plan)
        self.reads, self.shape = (len(self.layers) - 1,), output_shape

    def _need_maps(self, token: _Token, what: str) -> None:
        if len(self.shape) != 3:
            raise token.error(f"{what}, but gets features without height and width")

    def _need_layer(self, token: _Token) -> None:
        """Blocks that read something twice read spikes, of which the first layer makes some."""
        self._need_maps(token, "is a block of convolutions")
        if not self.layers:
            raise token.error("must follow a convolution, which turns the input into spikes")


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


def _dense_links(token: _Token) -> Iterator[tuple[int | None, int, bool]]:
    """(stated inputs or None, outputs, recurrent) of each layer in a chain of dense layers."""
    if match := _NUMBER.fullmatch(token.text):
        yield None, int(match["outputs"]), False
        return
    chain = _DENSE.fullmatch(token.text)
    assert chain is not None
    inputs = int(chain["inputs"]) if chain["inputs"] else None
    for link in _LINK.finditer(chain["layers"]):
        outputs = int(link["outputs"])
        yield inputs, outputs, link["kind"] == "Rec"
        inputs = outputs
