"""Table and figures of a comparison.

runs/compare-digits-1/
  comparison.toml  what is compared: rules, seeds, and a configuration for each kind of weights
  runs/            one run folder per rule, weights and seed
  results.json     the table's rows, with the curves
  table.md         the table
  overview.png     accuracy, dead neurons and firing rates over epochs
  thresholds.png   thresholds over epochs, layer by layer
  sweep.png        accuracy over the initial threshold, if several were tried
"""

from __future__ import annotations

import io
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from bsnn_tha.campaigns.comparison import figures
from bsnn_tha.campaigns.comparison.results import Row
from bsnn_tha.campaigns.merit import MERITS
from bsnn_tha.run_folder import replace_atomically

_COLUMNS = (
    "rule", "weights", "θ0", "best", "mean", "σ", "epochs", "dead", "firing rate",
    "threshold", "spikes", "bits",
)  # fmt: skip


def write(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write ``results.json``, ``table.md`` and the figures.

    Args:
        rows: of :func:`bsnn_tha.campaigns.comparison.results.read`.
        folder: of the comparison.

    Returns:
        What was written.
    """
    written = [folder / "results.json", folder / "table.md"]
    _replace(written[0], (json.dumps(rows, indent=1) + "\n").encode())
    _replace(written[1], (table(rows, markdown=True) + "\n").encode())
    for name, figure in _figures(rows).items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130)
        written.append(folder / f"{name}.png")
        _replace(written[-1], buffer.getvalue())
    return written


def table(rows: Sequence[Row], markdown: bool = False) -> str:
    """The comparison as text: one line for each rule, weights and initial threshold.

    Accuracies, in per cent, or mAPs are on the test set; ``epochs`` is the mean epoch at which
    that of the validation split reaches the goal, over the seeds that do; dead neurons, firing
    rates and thresholds are those of each layer after training; spikes are per sample.

    Args:
        rows: of :func:`bsnn_tha.campaigns.comparison.results.read`.
        markdown: for a file rather than for a terminal.
    """
    swept = len({row["factor"] for row in rows}) > 1
    columns = [name for name in _COLUMNS if swept or name != "θ0"]
    style = box.MARKDOWN if markdown else box.SIMPLE_HEAD
    grid = Table(*columns, box=style, show_edge=markdown, padding=(0, 1))
    for row in rows:
        cells = _cells(row)
        grid.add_row(*(cells[name] for name in columns))
    buffer = io.StringIO()
    Console(file=buffer, width=400 if markdown else 160, force_terminal=False).print(grid)
    lines = [line.rstrip() for line in buffer.getvalue().splitlines() if line.strip()]
    for weights, goal in {row["weights"]: row.get("reach") for row in rows}.items():
        if goal is not None:
            merit = MERITS[rows[0]["merit"]]
            said = f"{merit.scale * goal:.{max(1, merit.digits - 1)}f}{merit.unit}"
            lines += ["", f"{weights} weights: epochs to {said} validation {merit.name}"]
    return "\n".join(lines)


def _cells(row: Row) -> dict[str, str]:
    cells = {name: "" for name in _COLUMNS}
    cells |= {"rule": row["rule"], "weights": row["weights"], "θ0": f"× {row['factor']:g}"}
    if not row["seeds"]:
        return cells | {"best": "failed"}
    merit = MERITS[row["merit"]]
    reached = [epoch for epoch in row["epochs_to_reach"] if epoch is not None]
    missed = len(row["seeds"]) - len(reached)
    epochs = f"{statistics.fmean(reached):.1f}" if reached else "–"
    failed = f" ({len(row['failed'])} failed)" if row["failed"] else ""
    return cells | {
        "best": f"{merit.written(row['best'])}{failed}",
        "mean": merit.written(row["mean"]),
        "σ": merit.written(row["std"]),
        "epochs": epochs + (f" ({missed} never)" if reached and missed else ""),
        "dead": ", ".join(f"{100 * share:.1f}%" for share in row["dead"]),
        "firing rate": ", ".join(f"{100 * rate:.2g}%" for rate in row["firing_rate"]),
        "threshold": ", ".join(f"{theta:.3g}" for theta in row["threshold"]),
        "spikes": f"{row['spikes_per_sample']:,.0f}",
        "bits": f"{row['weight_bits']:,}",
    }


def _figures(rows: Sequence[Row]) -> dict[str, Figure]:
    finished = [row for row in rows if row["seeds"]]
    if not finished:
        return {}
    factors = sorted({row["factor"] for row in finished})
    middle = 1.0 if 1.0 in factors else factors[0]
    alike = [row for row in finished if row["factor"] == middle]
    drawn = {name: draw(alike) for name, draw in figures.FIGURES.items()}
    if len(factors) > 1:
        drawn["sweep"] = figures.sweep(finished)
    return drawn


def _replace(path: Path, content: bytes) -> None:
    with replace_atomically(path) as temporary:
        temporary.write_bytes(content)
