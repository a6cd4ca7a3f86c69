"""Options that a data set needs and was not given, with what to type for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo

from bsnn_tha.errors import InvalidValueError


class MissingOptionsError(InvalidValueError):
    """A data set lacks options that have no default.

    Args:
        name: of the data set.
        loader: whose keywords the options are.
        keys: of those that are missing.

    Example:
        >>> from bsnn_tha.data.own.event_table import load_event_table
        >>> print(MissingOptionsError("event-table", load_event_table, ["sensor", "time_unit"]))
        event-table needs data.options.sensor and data.options.time_unit; add them to the \
configuration, or --set data.options.sensor=[2,128,128] --set data.options.time_unit=us|ms|s
    """

    def __init__(self, name: str, loader: Callable[..., Any], keys: Sequence[str]) -> None:
        self.loader, self.keys = loader, keys
        named = " and ".join(f"data.options.{key}" for key in keys)
        them = "it" if len(keys) == 1 else "them"
        super().__init__(
            f"{name} needs {named}; add {them} to the configuration, or "
            + self.to_type("data.options.")
        )

    def to_type(self, prefix: str = "") -> str:
        """The missing ones as arguments of a command, with values of the right form."""
        rules = get_type_hints(self.loader, include_extras=True)
        return " ".join(f"--set {prefix}{key}={_value(rules.get(key))}" for key in self.keys)


def _value(rule: Any) -> str:
    """An example that the rule names, its choices, or ``…``.

    Example:
        >>> _value(Literal["us", "ms"]), _value(float)
        ('us|ms', '…')
    """
    if get_origin(rule) is Literal:
        return "|".join(map(str, get_args(rule)))
    for note in getattr(rule, "__metadata__", ()):
        if isinstance(note, FieldInfo) and note.examples:
            return str(note.examples[0]).replace(" ", "")
    return "…"
