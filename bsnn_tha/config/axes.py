"""The keys that name a choice: of a table, or code of one's own.

No other key of a configuration makes code run, so what is asked here is all that has to be
allowed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from bsnn_tha.choices import Axis, names_code
from bsnn_tha.config.sections import Tables
from bsnn_tha.data import LOADERS
from bsnn_tha.equations.quantizers import QUANTIZERS
from bsnn_tha.equations.surrogate import SURROGATES
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.losses import LOSSES
from bsnn_tha.losses.readouts import READOUTS
from bsnn_tha.nn.neurons import NEURONS
from bsnn_tha.nn.norms import NORMS
from bsnn_tha.nn.thresholds import RULES

AXES: dict[str, Axis[Any]] = {
    "data.name": LOADERS,
    "network.weights": QUANTIZERS,
    "network.norm": NORMS,
    "neuron.model": NEURONS,
    "neuron.surrogate": SURROGATES,
    "threshold.rule": RULES,
    "loss.name": LOSSES,
    "loss.readout": READOUTS,
}
"""Keys that take a name of a table, or ``module:Class``; no other key runs code."""


def check_names(tables: Tables) -> None:
    """Refuse names that are in no table, with the nearest that is."""
    for key, axis in AXES.items():
        table, leaf = key.split(".")
        for name in _names(getattr(getattr(tables, table), leaf, None)):
            axis.check_name(name)


def code_in(values: Any) -> Iterator[tuple[str, str]]:
    """Keys of :data:`AXES` whose value names code, and the names."""
    for key in AXES:
        table, leaf = key.split(".")
        section = values.get(table)
        if isinstance(section, dict):
            yield from ((key, name) for name in _names(section.get(leaf)) if names_code(name))


def check_allowed(values: Any, allow_code: bool | Collection[str], where: str) -> None:
    """Refuse code that is not part of this package, unless it may run: all, or these names."""
    for key, name in code_in(values):
        if allow_code is False or (allow_code is not True and name not in allow_code):
            raise InvalidValueError(
                f"{where}: {key} = {name!r} names code that is not part of bsnn-tha and would be "
                "run; look at it, then allow it with --allow-code (in Python allow_code=True)"
            )


def _names(value: Any) -> Iterator[str]:
    """Of a setting: one value, a list, or a table by kind of layer."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _names(part)
