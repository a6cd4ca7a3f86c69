"""The stages' rows as Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu.setting import Row


def markdown(results: dict[str, Any]) -> str:
    """A page: machine, then a table for each stage."""
    machine = ", ".join(f"{key} {value}" for key, value in results["machine"].items())
    lines = ["# On a GPU", "", f"`{results['command']}`: {machine}.", ""]
    if results["dry_run"]:
        lines += ["**A dry run without a GPU: none of these figures means anything.**", ""]
    for stage in results["stages"]:
        lines += [f"## {stage['stage']}", ""]
        rows = stage["rows"]
        if stage["stage"] == "kernels":
            rows = _failures(rows, lines)
        lines += [*_table(rows), ""]
        if not stage["finished"]:
            lines += [f"Cut off: {stage.get('error', 'its time was over')}.", ""]
    return "\n".join(lines)


def _failures(rows: list[Row], lines: list[str]) -> list[Row]:
    """The kernels' lines that do not hold, and the networks; the others are counted."""
    holding = sum(bool(row["holds"]) for row in rows)
    lines += [f"{holding} of {len(rows)} cases hold.", ""]
    return [row for row in rows if not row["holds"] or row["kernel"] == "network"]


def _table(rows: list[Row]) -> list[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if not rows:
        return []
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return lines + [f"| {' | '.join(_cell(row.get(key)) for key in columns)} |" for row in rows]


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")
