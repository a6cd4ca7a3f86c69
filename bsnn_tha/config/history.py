"""Keys that configurations once had, and what is written for them today.

A ``config.toml`` outlives the version that wrote it. Whoever moves or removes a
key adds a row to :data:`HISTORY`; files that have the old key load, mean what
they meant, and say so in one line.
"""

from __future__ import annotations

import copy
import logging
from typing import Any

logger = logging.getLogger(__name__)

HISTORY: dict[str, dict[Any, dict[str, Any]]] = {
    "network.binary": {
        True: {"network.weights": "binary"},
        False: {"network.weights": "float"},
    },
    "network.batch_norm": {
        True: {"network.norm": "per-step"},
        False: {"network.norm": "none"},
    },
    "neuron.learn_threshold": {
        True: {"threshold.rule": "learned"},
        False: {},
    },
}
"""Old key → its value → the keys and values that mean the same; ``{}``: today's default."""


def in_todays_keys(values: dict[str, Any]) -> dict[str, Any]:
    """The tables of a configuration, with old keys replaced by what they are called today.

    An old key is left where it is, for the validation to refuse, if it has a value
    that it never had, or if what takes its place is there already. ``values`` stays
    as it is; without old keys it is what comes back.

    Example:
        >>> in_todays_keys({"network": {"notation": "64-10", "binary": False}})
        {'network': {'notation': '64-10', 'weights': 'float'}}
    """
    found = [key for key in HISTORY if _get(values, key) is not None]
    if not found:
        return values
    values = copy.deepcopy(values)
    for key in found:
        value = _get(values, key)
        # By type as well: 1 is not True, and a list is no key of a dictionary.
        today = next((new for old, new in HISTORY[key].items() if old is value), None)
        if today is None or any(_get(values, new) is not None for new in today):
            continue
        table, leaf = key.split(".")
        del values[table][leaf]
        for new, replacement in today.items():
            table, leaf = new.split(".")
            values.setdefault(table, {})[leaf] = replacement
        logger.info("%s = %s, of an earlier version, is read as %s", key, value, _in_words(today))
    return values


def _get(values: dict[str, Any], key: str) -> Any:
    table, leaf = key.split(".")
    section = values.get(table)
    return section.get(leaf) if isinstance(section, dict) else None


def _in_words(today: dict[str, Any]) -> str:
    return ", ".join(f"{key} = {value!r}" for key, value in today.items()) or "today's default"
