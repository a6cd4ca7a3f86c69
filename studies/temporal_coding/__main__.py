"""``python -m studies.temporal_coding``: the report and the search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bsnn_tha.training.memory import keep_freed_memory
from studies.temporal_coding.report import report
from studies.temporal_coding.search import search

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)


@app.command(name="report")
def report_command(
    folder: Annotated[Path, typer.Argument()] = Path("docs/temporal-coding"),
) -> None:
    """Train every case over ten seeds; write tables, figures and numbers."""
    report(folder)
    print((folder / "results.md").read_text(encoding="utf-8"))


@app.command(name="search")
def search_command(
    out: Annotated[Path, typer.Argument(help="File of JSON lines, one per setting.")],
    peak: Annotated[float, typer.Option(help="Peak of the target over θ∞ (paper: 1.1).")] = 1.1,
    centre: Annotated[str, typer.Option(help="clamped or moving")] = "clamped",
    trials: Annotated[int, typer.Option(help="Settings to try.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the sampler.")] = 0,
) -> None:
    """Look for a setting that fires once, on target, for three seeds."""
    search(peak, centre, trials, out, seed)


if __name__ == "__main__":
    keep_freed_memory()
    app()
