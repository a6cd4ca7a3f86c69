"""What a comparison found: one row for each rule, weights and initial threshold."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from bsnn_tha.campaigns.comparison.plan import Cell, Comparison
from bsnn_tha.campaigns.comparison.runner import run_folder
from bsnn_tha.campaigns.pool import failure
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.run_folder import RunFolder
from bsnn_tha.training.epoch_columns import read_columns
from bsnn_tha.training.summary import read_summary

Row = dict[str, Any]


def read(comparison: Comparison, folder: Path, reach: float | None = None) -> list[Row]:
    """Rows of the table, from the run folders of what is finished.

    Args:
        comparison: of the folder.
        folder: of the comparison.
        reach: validation accuracy, or mAP, whose first epoch is looked for. None: 95% of the
            best mean over rules, for each kind of weights.

    Returns:
        One row per cell with at least one finished or failed run. ``accuracies``, or of
        detectors ``maps``, are on the test set; ``curves`` has ``[seeds, epochs]`` arrays as
        lists by column of ``metrics.csv``.
    """
    rows = [_row(comparison, folder, cell) for cell in comparison.cells()]
    rows = [row for row in rows if row["seeds"] or row["failed"]]
    column = f"val_{comparison.merit.key}"
    for weights in {row["weights"] for row in rows}:
        alike = [row for row in rows if row["weights"] == weights and row["seeds"]]
        goal = reach
        if goal is None and alike:
            goal = 0.95 * max(
                float(np.nanmax(np.mean(row["curves"][column], axis=0))) for row in alike
            )
        for row in alike:
            row["reach"] = goal
            row["epochs_to_reach"] = [_first(curve, goal or 0.0) for curve in row["curves"][column]]
    return rows


def check_reach(reach: float | None) -> None:
    """Raise unless it is an accuracy that can be reached, or left out."""
    if reach is not None and not 0 < reach <= 1:
        raise InvalidValueError(f"reach must be above 0 and at most 1, but got {reach:g}")


def _row(comparison: Comparison, folder: Path, cell: Cell) -> Row:
    summaries, tables, failed = [], [], []
    first = comparison.bases[cell.weights].training.seed
    for seed in range(first, first + comparison.seeds):
        path = run_folder(folder, cell, seed)
        if (reason := failure(path)) is not None:
            failed.append({"seed": seed, "reason": reason})
        elif RunFolder(path).summary.exists():
            summaries.append(read_summary(RunFolder(path)))
            tables.append(read_columns(RunFolder(path).metrics))
    row: Row = {
        "merit": comparison.merit.key,
        "rule": cell.rule,
        "weights": cell.weights,
        "factor": cell.factor,
        "seeds": [summary["seed"] for summary in summaries],
        "failed": failed,
    }
    if not summaries:
        return row
    values = [comparison.merit.of(summary["test"]) for summary in summaries]
    layers = [summary["layers"] for summary in summaries]
    epochs = min(len(table["epoch"]) for table in tables)
    return row | {
        comparison.merit.plural: values,
        "best": max(values),
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "dead": _means(layers, "dead_share"),
        "firing_rate": _means(layers, "firing_rate"),
        "threshold": _means(layers, "threshold"),
        "spikes_per_sample": sum(_means(layers, "spikes_per_sample")),
        "weight_bits": sum(summaries[0]["weight_bits"].values()),
        "train_seconds": statistics.fmean(s["train_seconds"] for s in summaries),
        "curves": {
            name: [[math.nan if v is None else v for v in t[name][:epochs]] for t in tables]
            for name in tables[0]
            if name.rstrip("0123456789_") in _CURVES
        },
    }


_CURVES = ("val_accuracy", "val_map", "train_accuracy", "dead", "threshold", "rate")


def _means(layers: list[list[dict[str, Any]]], key: str) -> list[float]:
    """One mean over seeds for each layer that has it; an output that does not fire has not."""
    return [
        statistics.fmean(row[key] for row in rows)
        for rows in zip(*layers, strict=True)
        if rows[0][key] is not None
    ]


def _first(curve: list[float], goal: float) -> int | None:
    """The first epoch, from 1, that reaches the goal."""
    return next((epoch for epoch, value in enumerate(curve, 1) if value >= goal), None)
