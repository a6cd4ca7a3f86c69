"""Accuracy over what a network costs: energy of a sample, memory of its parameters."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from animations.style import RC, colour
from bsnn_tha.campaigns.merit import merit_in
from bsnn_tha.campaigns.reproduction.plan import Plan, Row
from bsnn_tha.campaigns.reproduction.record import Entry


class Point(NamedTuple):
    """A row of a series; means over its seeds."""

    label: str
    score: float
    low: float
    high: float
    energy: float
    """nJ a sample."""
    bits: float
    """Of all parameters."""


def points(plan: Plan, entries: Sequence[Entry]) -> dict[str, list[Point]]:
    """The finished rows of each series that a plan names, in the plan's order."""
    found: dict[str, list[Point]] = {}
    for row in plan.rows:
        own = [entry for entry in entries if entry["row"] == row.name]
        if row.series and own and (point := _point(row, own)):
            found.setdefault(row.series, []).append(point)
    return found


def energies(entries: Sequence[Entry]) -> list[float]:
    """nJ a sample of each run; none of one from before energy was estimated."""
    workloads = (entry["summary"]["workload"] for entry in entries)
    return [workload["energy_nj"] for workload in workloads if "energy_nj" in workload]


def energy_of(entries: Sequence[Entry], write: str) -> str:
    """Their mean, written; a dash where it is not known."""
    known = energies(entries)
    return format(statistics.fmean(known), write) if known else "–"


def cost(plan: Plan, entries: Sequence[Entry]) -> Figure:
    """A line per series over energy and over memory; a bar from the worst to the best seed."""
    series = points(plan, entries)
    with mpl.rc_context(RC):
        figure = Figure(figsize=(9.6, 5.6), layout="constrained")
        over_energy, over_bits = figure.subplots(1, 2, sharey=True)
        for index, (name, own) in enumerate(series.items()):
            for axes, places in (
                (over_energy, [point.energy for point in own]),
                (over_bits, [point.bits / 1000 for point in own]),
            ):
                scores = [point.score for point in own]
                spread = [
                    [point.score - point.low for point in own],
                    [point.high - point.score for point in own],
                ]
                axes.errorbar(
                    places, scores, spread, fmt="o-", ms=4, lw=1.2, elinewidth=0.8,
                    color=colour(index), label=name,
                )  # fmt: skip
                if len(set(places)) == 1 < len(own):  # labels would lie on each other
                    continue
                # Each series has a side of its own, for lines meet where networks are alike.
                across, up, side = _SIDES[index % len(_SIDES)]
                for point, place in zip(own, places, strict=True):
                    axes.annotate(
                        point.label, (place, point.score), (across, up), ha=side,
                        textcoords="offset points", fontsize=7, color=colour(index),
                    )  # fmt: skip
        merit = merit_in(entries[0]["summary"]["test"])
        over_energy.set(
            xscale="log", xlabel="estimated energy a sample, nJ", ylabel=f"test {merit.name}"
            + (", %" if merit.unit else ""),
        )  # fmt: skip
        over_bits.set(xscale="log", xlabel="memory of the parameters, kbit")
        for axes in (over_energy, over_bits):
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
            axes.xaxis.set_minor_locator(LogLocator(subs=()))
            axes.margins(x=0.12)
        handles, labels = over_energy.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


_SIDES = ((-3, 6, "right"), (4, -11, "left"), (5, 4, "left"), (4, -11, "left"))
"""Of a series' labels: points across and up from what they name, and where they end."""


def _point(row: Row, entries: list[Entry]) -> Point | None:
    known = energies(entries)
    if not known:
        return None
    merit = merit_in(entries[0]["summary"]["test"])
    scores = [merit.scale * merit.of(entry["summary"]["test"]) for entry in entries]
    bits = [sum(entry["summary"]["weight_bits"].values()) for entry in entries]
    return Point(
        row.label or row.name,
        statistics.fmean(scores),
        min(scores),
        max(scores),
        statistics.fmean(known),
        statistics.fmean(bits),
    )
