"""The page of a table: ours beside what was printed, curves, and where the runs were made."""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from animations.style import RC, colour, count
from bsnn_tha.campaigns.merit import Merit, merit_in
from bsnn_tha.campaigns.plan_files import Printed
from bsnn_tha.campaigns.reproduction.cost import cost, energy_of, points
from bsnn_tha.campaigns.reproduction.plan import Plan, Row
from bsnn_tha.campaigns.reproduction.record import NAME, Entry
from bsnn_tha.run_folder import replace_atomically
from bsnn_tha.words import DASH, percent, wrapped

PAGE, CURVES, COST = "README.md", "curves.png", "cost.png"
_ENERGY = (
    "Energy is estimated from operations ([constants](../../reference/observe.md)), for comparing "
    "these networks\nwith each other; memory is that of weights, of batch norm and of biases."
)


def write_pages(plan: Plan, entries: Sequence[Entry], folder: Path) -> None:
    """Write the page and its figure into a folder.

    Args:
        plan: of the table.
        entries: of finished runs of the plan.
        folder: of the record.
    """
    with replace_atomically(folder / PAGE) as temporary:
        temporary.write_text(page(plan, entries), encoding="utf-8")
    drawings = {CURVES: curves} if entries else {}
    if points(plan, entries):
        drawings[COST] = cost
    for name, draw in drawings.items():
        buffer = io.BytesIO()
        draw(plan, entries).savefig(buffer, format="png", dpi=100)
        with replace_atomically(folder / name) as temporary:
            temporary.write_bytes(buffer.getvalue())


def page(plan: Plan, entries: Sequence[Entry]) -> str:
    """The page's text; it depends on the plan and the record alone."""
    lines = [f"# {plan.title}", ""]
    if plan.about:
        lines += [plan.about.strip(), ""]
    lines += [
        wrapped(
            f"{_judged(plan.merit)}, over seeds. Printed: {plan.source}. Dead neurons, firing "
            "rates and spikes are those of the test set, flips the share of a layer's binary "
            "weights whose sign changed during the last epoch; layer by layer. Seconds are of "
            "training alone; the machine may have been shared with other work."
        ),
        "",
    ]
    header = [*_COLUMNS]
    cells = [
        [write(row, own) for write in _COLUMNS.values()] for row, own in _by_row(plan, entries)
    ]
    kept = [i for i, _ in enumerate(header) if any(line[i] not in ("", DASH) for line in cells)]
    lines.append("| " + " | ".join(header[i] for i in kept) + " |")
    lines.append("|" + "---|" * len(kept))
    lines += ["| " + " | ".join(line[i] for i in kept) + " |" for line in cells]
    if points(plan, entries):
        lines += ["", f"![Accuracy over energy and memory, means over seeds]({COST})", "", _ENERGY]
    if entries:
        lines += ["", f"![Curves over epochs, means over seeds]({CURVES})"]
    lines += ["", "## The runs", ""]
    lines += [_settings(row) for row in plan.rows]
    lines += [
        "",
        wrapped(
            f"All of them, or those that are missing: `bsnn-tha reproduce {plan.name}`. Every "
            f"run's summary, configuration and epochs are a line of [{NAME}]({NAME})."
        ),
        "",
        *_origins(entries),
    ]
    return "\n".join(lines).rstrip() + "\n"


def figures(entries: Sequence[Entry]) -> dict[str, Any]:
    """What is computed over the seeds of a row.

    Returns:
        ``accuracies``, or of detectors ``maps``; their ``best``, ``mean``, ``std`` (None of one
        seed) and ``groups``, shares.
    """
    merit = _merit(entries)
    values = [merit.of(entry["summary"]["test"]) for entry in entries]
    groups = [entry["summary"]["test"].get("groups", {}) for entry in entries]
    return {
        merit.plural: values,
        "best": max(values),
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "groups": {name: statistics.fmean(g[name] for g in groups) for name in groups[0]},
    }


def curves(plan: Plan, entries: Sequence[Entry]) -> Figure:
    """Accuracy or mAP, dead neurons and flips over epochs: a line per row, the mean over seeds.

    Data sets of several rows, or what a plan names, have a band of panels each, and axes of their
    own; rows that are called the same in two bands look the same.
    """
    rows = [(row, own) for row, own in _by_row(plan, entries) if own]
    shown = {
        name: what
        for name, what in _PANELS.items()
        if any(name in entry["epochs"] for entry in entries)
    }
    bands: dict[str, list[tuple[Row, list[Entry]]]] = {}
    for row, own in rows:
        bands.setdefault(row.band or row.config(0).data.name, []).append((row, own))
    if all(len(band) == 1 for band in bands.values()):
        bands = {"": rows}
    called = [_called(row, name) for name, band in bands.items() for row, _ in band]
    looks = {name: place for place, name in enumerate(dict.fromkeys(called))}
    with mpl.rc_context(RC):
        figure = Figure(figsize=(3.2 * len(shown), 3.6 * len(bands)), layout="constrained")
        for part, (name, band) in zip(
            figure.subfigures(len(bands), 1, squeeze=False)[:, 0], bands.items(), strict=True
        ):
            _band(part, name, band, shown, looks)
    return figure


def _called(row: Row, band: str) -> str:
    """A row within its band."""
    return row.label or row.name.removeprefix(f"{band}-")


_PANELS = {
    "val_accuracy": "validation accuracy, %",
    "val_map": "validation mAP",
    "train_accuracy": "training accuracy, %",
    "dead": "dead in training, %",
    "flipped_1": "flips, first layer, %",
}
"""Columns of ``metrics.csv`` that are drawn, and their titles."""


def _band(
    part: SubFigure,
    band: str,
    rows: list[tuple[Row, list[Entry]]],
    shown: dict[str, str],
    looks: dict[str, int],
) -> None:
    """The panels of a band, side by side, over their legend; a line looks as it is called."""
    grid = part.subplots(1, len(shown), squeeze=False)[0]
    if band:
        part.suptitle(band, fontsize=10, fontweight="bold")
    for axes, (name, what) in zip(grid, shown.items(), strict=True):
        for index, (row, own) in enumerate(rows):
            mean = _mean_curve(own, name)
            if mean is None:
                continue
            called = _called(row, band)
            look = looks[called]
            # Thinner and thinner: of curves that coincide, each stays to be seen.
            axes.plot(
                np.arange(1, len(mean) + 1),
                100 * mean if what.endswith("%") else mean,
                ("-", "--", ":", "-.")[look // 8 % 4],
                marker="." if len(mean) < _FEW else "",
                lw=1.2 + 2 * (len(rows) - 1 - index) / len(rows),
                color=colour(look % 8),
                label=called,
            )
        axes.set(title=what, xlabel="epoch")
        count(axes.xaxis)
        if name == "dead":
            axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
        if name.endswith("accuracy"):
            _leave_out_the_first(axes)
    handles, labels = grid[0].get_legend_handles_labels()
    part.legend(handles, labels, loc="outside lower center", ncols=4)


def _mean_curve(entries: Sequence[Entry], name: str) -> np.ndarray | None:
    """A column over epochs, mean over seeds; as far as all go, as patience may end some."""
    tables = [entry["epochs"][name] for entry in entries if name in entry["epochs"]]
    if not tables:
        return None
    return np.array([np.mean(np.array(each, float)) for each in zip(*tables, strict=False)])


def _leave_out_the_first(axes: Axes) -> None:
    """Limits for the later epochs of all lines: the first ones would take all the room."""
    heights = [np.asarray(line.get_ydata(), dtype=float) for line in axes.lines]
    low = min(np.nanmin(each[len(each) // 4 :]) for each in heights)
    high = max(np.nanmax(each) for each in heights)
    axes.set_ylim(low - 1, min(high + 1, 100.2))


_FEW = 5
"""Epochs; of fewer, each is marked."""


def _by_row(plan: Plan, entries: Sequence[Entry]) -> list[tuple[Row, list[Entry]]]:
    return [(row, [e for e in entries if e["row"] == row.name]) for row in plan.rows]


def _printed(printed: Printed, merit: Merit) -> str:
    values = (printed.best, printed.mean, printed.std)
    if all(value is None for value in values):
        return DASH
    return " / ".join(merit.written(None if v is None else v / merit.scale) for v in values)


def _merit(entries: Sequence[Entry]) -> Merit:
    return merit_in(entries[0]["summary"]["test"])


def _judged(merit: Merit) -> str:
    return f"Test {merit.name}" + (" in per cent" if merit.unit else "")


def _ours(entries: list[Entry]) -> str:
    if not entries:
        return DASH
    found = figures(entries)
    written = _merit(entries).written
    return " / ".join(written(found[name]) for name in ("best", "mean", "std"))


def _overlaps(key: str) -> Callable[[Row, list[Entry]], str]:
    """Of detectors, the mean precision at one overlap, beside that over all."""

    def cell(row: Row, entries: list[Entry]) -> str:
        if not entries or key not in entries[0]["summary"]["test"]:
            return DASH
        values = [entry["summary"]["test"][key] or 0.0 for entry in entries]
        return _merit(entries).written(statistics.fmean(values))

    return cell


def _groups(entries: list[Entry]) -> str:
    groups = figures(entries)["groups"] if entries else {}
    return ", ".join(f"{name} {percent(share, 1)}" for name, share in groups.items())


def _layers(key: str, write: Callable[[float], str]) -> Callable[[Row, list[Entry]], str]:
    def cell(row: Row, entries: list[Entry]) -> str:
        layers = zip(*(entry["summary"]["layers"] for entry in entries), strict=True)
        means = [
            statistics.fmean(one[key] for one in layer)
            for layer in layers
            if layer[0][key] is not None
        ]
        return ", ".join(write(mean) for mean in means) or DASH

    return cell


def _flips(row: Row, entries: list[Entry]) -> str:
    last: dict[str, list[float]] = {}
    for entry in entries:
        for name, values in entry["epochs"].items():
            if name.startswith("flipped_"):
                last.setdefault(name, []).append(values[-1])
    return ", ".join(percent(statistics.fmean(each), 1) for each in last.values()) or DASH


def _mean(write: str, of: Callable[[dict[str, Any]], float]) -> Callable[[Row, list[Entry]], str]:
    def cell(row: Row, entries: list[Entry]) -> str:
        if not entries:
            return DASH
        return format(statistics.fmean(of(entry["summary"]) for entry in entries), write)

    return cell


_COLUMNS: dict[str, Callable[[Row, list[Entry]], str]] = {
    "row": lambda row, entries: row.name,
    "printed: best / mean / σ": lambda row, entries: _printed(row.printed, row.merit),
    "here: best / mean / σ": lambda row, entries: _ours(entries),
    "groups": lambda row, entries: _groups(entries),
    "at an overlap of .5": _overlaps("map_50"),
    "of .75": _overlaps("map_75"),
    "seeds": lambda row, entries: f"{len(entries)} of {row.seeds}",
    "epochs": _mean(".0f", lambda summary: summary["epochs"]),
    "dead, %": _layers("dead_share", lambda share: percent(share, 1)),
    "rate, %": _layers("firing_rate", lambda share: percent(share, 1)),
    "θ": _layers("threshold", lambda theta: f"{theta:.3g}"),
    "flips, %": _flips,
    "spikes a sample": _mean(
        ",.0f", lambda summary: sum(layer["spikes_per_sample"] for layer in summary["layers"])
    ),
    "operations a sample": _mean(
        ",.0f",
        lambda summary: (
            summary["workload"]["effective_macs"] + summary["workload"]["effective_acs"]
        ),
    ),
    "energy a sample, nJ": lambda row, entries: energy_of(entries, ",.0f"),
    "bits": _mean(",.0f", lambda summary: summary["weight_bits"]["quantized"]),
    "s a run": _mean(",.0f", lambda summary: summary["train_seconds"]),
}


def _settings(row: Row) -> str:
    changes = ", ".join(f"`{key} = {_toml(value)}`" for key, value in row.set.items())
    return f"- {row.name}: preset `{row.preset}`" + (f" with {changes}" if changes else "")


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).replace("'", '"')


def _origins(entries: Sequence[Entry]) -> list[str]:
    """Where and with what the runs were made, and by which protocol."""
    if not entries:
        return []

    def of(*values: str) -> str:
        return ", ".join(dict.fromkeys(value for value in values if value)) or "not known"

    machines = [entry["summary"]["machine"] for entry in entries]
    commits = of(*(f"`{e['origin']['commit']}`" for e in entries if e["origin"].get("commit")))
    return [
        wrapped(
            f"Made at {commits} on {of(*(e['origin'].get('processor', '') for e in entries))}, "
            f"{of(*(m['device'] for m in machines))}, "
            f"threads: {of(*(str(m['threads']) for m in machines))}, torch "
            f"{of(*(m['torch'] for m in machines))}. Protocol: "
            f"{of(*(e['summary']['protocol'] for e in entries))}."
        )
    ]
