"""``metrics.csv`` read: what :class:`~bsnn_tha.training.callbacks.monitor.EpochTable` writes."""

from __future__ import annotations

import csv
from pathlib import Path


def read_columns(path: Path) -> dict[str, list[float | None]]:
    """A value for each epoch by the column's name, None where it was not measured.

    Empty if no epoch has ended.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = rows[0] if rows else ()
    return {name: [float(row[name]) if row[name] else None for row in rows] for name in names}
