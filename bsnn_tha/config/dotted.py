"""Keys with dots, as ``neuron.beta``, and the tables that they lead into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bsnn_tha.errors import InvalidValueError


def put(tables: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key, or, with None, take it out.

    Raises:
        InvalidValueError: it leads through a value that is no table.
    """
    *names, leaf = key.split(".")
    table = tables
    for depth, name in enumerate(names, start=1):
        if not isinstance(table.setdefault(name, {}), dict):
            inner = ".".join(names[:depth])
            raise InvalidValueError(f"{inner} is a value, not a table, in {key!r}")
        table = table[name]
    if value is None:
        table.pop(leaf, None)
    else:
        table[leaf] = value


def flat(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value by its dotted key.

    Example:
        >>> flat({"variant": "tha", "neuron": {"beta": 0.9}})
        {'variant': 'tha', 'neuron.beta': 0.9}
    """
    found: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def nested(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The tables that changes by dotted keys make of none; the reverse of :func:`flat`.

    Example:
        >>> nested({"neuron.beta": 0.9, "neuron.slope": 5.0})
        {'neuron': {'beta': 0.9, 'slope': 5.0}}
    """
    tables: dict[str, Any] = {}
    for key, value in changes.items():
        put(tables, key, value)
    return tables
