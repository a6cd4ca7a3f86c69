"""A Markdown table of finished trials: ``python -m studies.trials_table RUN RUN ...``.

One row per folder of trials (``bsnn-tha train --seeds N``): accuracy as the
papers report it, groups of test samples, and per layer the share of dead
neurons and the firing rate on the test set, averaged over seeds.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from bsnn_tha.errors import RunError
from bsnn_tha.words import percent


def trials_table(folders: list[Path]) -> str:
    """The table.

    Args:
        folders: with a ``trials.json`` and the runs it sums up.
    """
    rows = [_row(folder) for folder in folders]
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(row.get(name, "") for name in names) + " |" for row in rows]
    return "\n".join(lines)


def _row(folder: Path) -> dict[str, str]:
    if not (folder / "trials.json").is_file():
        raise RunError(f"{folder} has no trials.json; finish its trials with train --resume")
    summary = json.loads((folder / "trials.json").read_text(encoding="utf-8"))
    runs = [
        json.loads((folder / f"seed-{seed}" / "summary.json").read_text(encoding="utf-8"))
        for seed in summary["seeds"]
    ]
    row = {
        "variant": runs[0]["variant"],
        "seeds": ", ".join(str(seed) for seed in summary["seeds"]),
        "test accuracy, best / mean / σ (%)": _figures(summary["accuracy"]),
    }
    row |= {f"{name} (%)": _figures(figures) for name, figures in summary["groups"].items()}
    row["dead neurons, layer by layer"] = _layers(runs, "dead_share")
    row["firing rates"] = _layers(runs, "firing_rate")
    row["epochs"] = str(runs[0]["epochs"])
    row["s of training, all seeds"] = f"{summary['train_seconds']:,.0f}"
    return row


def _figures(figures: dict[str, float | None]) -> str:
    return " / ".join(percent(figures[name]) for name in ("best", "mean", "std"))


def _layers(runs: list[dict[str, Any]], key: str) -> str:
    layers = zip(*(run["layers"] for run in runs), strict=True)
    firing = (layer for layer in layers if layer[0][key] is not None)
    return ", ".join(f"{statistics.fmean(row[key] for row in layer):.1%}" for layer in firing)


if __name__ == "__main__":
    try:
        print(trials_table([Path(argument) for argument in sys.argv[1:]]))
    except RunError as error:
        sys.exit(f"error: {error}")
