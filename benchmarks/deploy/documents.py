"""The pages of ``docs/deploy`` with what was measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.deploy import fidelity, latency
from benchmarks.deploy.tables import c_table, nir_table

Results = dict[str, Any]
START, END = "<!-- table -->", "<!-- end of table -->"


def pages(results: Results, folder: Path) -> dict[str, str]:
    """The text of every page with tables, by its name.

    Args:
        results: of all parts.
        folder: of the pages, of which all but one have text of their own around their table.
    """
    made = {"results.md": _results_page(results)}
    tables = {
        "c.md": c_table(results["c"]),
        "nir.md": nir_table(results["nir"]),
        "README.md": latency.beside_the_limit(results["latency"]),
    }
    for name, table in tables.items():
        text = (folder / name).read_text(encoding="utf-8")
        before, start, rest = text.partition(START)
        _, end, after = rest.partition(END)
        if not (start and end):
            raise SystemExit(f"{folder / name} has no place for its table: {START} ... {END}")
        made[name] = f"{before}{start}\n{table}\n{end}{after}"
    return made


def printed(results: Results) -> str:
    """The tables of what was measured."""
    made: dict[str, Callable[[Any], str]] = {
        "fidelity": fidelity.tables,
        "c": c_table,
        "nir": nir_table,
        "latency": latency.table,
    }
    return "\n\n".join(table(results[part]) for part, table in made.items() if results[part])


def _results_page(results: Results) -> str:
    return "\n".join(
        [
            "# Deployment, measured",
            "",
            "Made by `python -m benchmarks.deploy --write`; what the columns mean is in "
            "[the walk](README.md).",
            "",
            fidelity.tables(results["fidelity"]),
            "## Latency",
            "",
            f"One thread of a shared machine ({results['machine']}): medians of the processor time "
            "of calls, over at least a second. A call is a whole window.",
            "",
            latency.table(results["latency"]),
        ]
    )
