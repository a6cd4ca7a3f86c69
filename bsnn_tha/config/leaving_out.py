"""What ``none`` means where a change of a setting is written as text."""

from __future__ import annotations

from typing import Any, get_args

from bsnn_tha.config.axes import AXES
from bsnn_tha.config.sections import Tables


def none_read(key: str, value: Any) -> Any:
    """None, which leaves a key out, for ``"none"``; unless the key has a choice of that name.

    Args:
        key: dotted, as :meth:`~bsnn_tha.config.RunConfig.with_changes` takes it.
        value: that was written; any other comes back as it is.

    Example:
        >>> none_read("threshold.alpha", "none"), none_read("optimizer.schedule", "none")
        (None, 'none')
    """
    return None if value == "none" and not _is_choice(key) else value


def _is_choice(key: str) -> bool:
    if key in AXES:
        return "none" in AXES[key]
    table, _, leaf = key.partition(".")
    section = Tables.model_fields.get(table)
    fields = getattr(section.annotation, "model_fields", {}) if section else {}
    return leaf in fields and "none" in get_args(fields[leaf].annotation)
