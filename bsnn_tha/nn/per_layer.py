"""Settings of layers: one value for all, a list with one for each, or a table by kind.

A table names kinds of layers, the more particular name first:

===========  ====================================================
``output``   the network's last layer
``dense``    fully connected layers
``conv``     convolutions, those inside blocks among them
``default``  every layer that the table does not name otherwise
===========  ====================================================

``{default = 0, dense = 3, output = 0}`` of 123 layers is what a list would need 123
values for. In Python a table is any mapping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.notation import ConvSpec, LayerPlan
from bsnn_tha.suggest import did_you_mean, quoted

T = TypeVar("T")
S = TypeVar("S")

PerLayer: TypeAlias = T | list[T] | dict[str, T]
"""How a configuration may write a setting of layers."""

EachLayer: TypeAlias = T | Sequence[T] | Mapping[str, T]
"""How Python may give one."""

OUTPUT, DENSE, CONV, DEFAULT = "output", "dense", "conv", "default"

Kinds = tuple[str, ...]
"""What a table may call a layer, the most particular name first."""


def kinds_of(plans: Sequence[LayerPlan]) -> list[Kinds]:
    """What a table may call each layer of a network.

    Example:
        >>> from bsnn_tha.nn.notation import parse_network
        >>> kinds_of(parse_network("4C3-6-5", (1, 8, 8)))
        [('conv', 'default'), ('dense', 'default'), ('output', 'dense', 'default')]
    """
    last = len(plans) - 1
    return [
        (
            *((OUTPUT,) if index == last else ()),
            CONV if isinstance(plan.spec, ConvSpec) else DENSE,
            DEFAULT,
        )
        for index, plan in enumerate(plans)
    ]


def per_layer(
    name: str,
    value: Any,
    layers: Sequence[Kinds],
    what: str = "spiking layer",
    known: Sequence[str] = (OUTPUT, DENSE, CONV, DEFAULT),
) -> list[Any]:
    """One value for each layer.

    Args:
        name: of the setting, for errors.
        value: one for all, a list or tuple with one for each, or a table by kind.
        layers: what a table may call each of them, as :func:`kinds_of` says it.
        what: the layers are called in errors.
        known: kinds that a table may name, whether or not this network has them.

    Raises:
        InvalidValueError: a list of another length, an unknown kind, or a layer that a
            table has no value for.

    Example:
        >>> layers = [("conv", "default"), ("dense", "default"), ("output", "dense", "default")]
        >>> per_layer("lateral_width", {"default": 0, "dense": 3}, layers)
        [0, 3, 3]
        >>> per_layer("beta", {"convs": 0.5, "dense": 0.9}, layers)
        Traceback (most recent call last):
        bsnn_tha.errors.InvalidValueError: beta has no kind of layer 'convs'; did you mean 'conv'?
    """
    if isinstance(value, Mapping):
        return _from_table(name, value, layers, what, known)
    if not isinstance(value, list | tuple):
        return [value] * len(layers)
    if len(value) != len(layers):
        raise InvalidValueError(
            f"{name} needs one value, or one for each {what} ({len(layers)}), "
            f"but got {len(value)}: {quoted(list(value))}"
        )
    return list(value)


def _from_table(
    name: str, table: Mapping[str, Any], layers: Sequence[Kinds], what: str, known: Sequence[str]
) -> list[Any]:
    for kind in table:
        if kind not in known:
            raise InvalidValueError(
                f"{name} has no kind of layer {kind!r}{did_you_mean(str(kind), known)}"
            )
    values = []
    for number, kinds in enumerate(layers, start=1):
        named = [kind for kind in kinds if kind in table]
        if not named:
            raise InvalidValueError(
                f"{name} has no value for {what} {number}, a {kinds[-2]} layer; "
                f"add {kinds[-2]} or {DEFAULT} to {quoted(dict(table))}"
            )
        values.append(table[named[0]])
    return values


def each_layer(function: Callable[[T], S], value: PerLayer[T]) -> PerLayer[S]:
    """A setting with every value changed, in the form in which it was written.

    Example:
        >>> each_layer(lambda theta: 2 * theta, {"default": 1.0, "output": 4.0})
        {'default': 2.0, 'output': 8.0}
    """
    if isinstance(value, dict):
        return {kind: function(each) for kind, each in value.items()}
    if isinstance(value, list):
        return [function(each) for each in value]
    return function(value)


def values_of(value: PerLayer[T]) -> list[T]:
    """The values as they are written: of each layer, of each kind, or the one for all."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else [value]


def of_output(value: PerLayer[T]) -> T:
    """The value of a network's last layer, which is taken to be a fully connected one.

    Example:
        >>> of_output([1.0, 2.0]), of_output({"default": 1.0, "dense": 3.0}), of_output(4.0)
        (2.0, 3.0, 4.0)
    """
    if isinstance(value, dict):
        return per_layer("the setting", value, [(OUTPUT, DENSE, DEFAULT)])[0]
    return values_of(value)[-1]


def in_words(value: PerLayer[Any] | None) -> str:
    """For tables and titles: ``0.9``, ``1, 2, 3`` or ``dense 3, default 0``; names as they are.

    Example:
        >>> in_words({"default": 0.0, "dense": 0.2}), in_words([1.0, 2.5]), in_words(None)
        ('default 0, dense 0.2', '1, 2.5', '')
        >>> in_words({"dense": "tdbn", "output": "none"})
        'dense tdbn, output none'
    """
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{kind} {_in_word(each)}" for kind, each in value.items())
    return ", ".join(_in_word(each) for each in values_of(value))


def _in_word(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"
