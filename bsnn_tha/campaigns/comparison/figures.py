"""Figures of a comparison, drawn from its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from animations.style import RC, colour, count
from bsnn_tha.campaigns.comparison.results import Row
from bsnn_tha.campaigns.merit import MERITS, Merit


def overview(rows: Sequence[Row]) -> Figure:
    """Accuracy or mAP, dead neurons and firing rate over epochs, a row for each kind of weights.

    Lines are means over seeds, the shade about the accuracies their range. Dead neurons and
    rates are those of the training samples, of the hidden layers together.

    Args:
        rows: with the same initial thresholds, at least one finished.
    """
    rows = [row for row in rows if row["seeds"]]
    kinds = list(dict.fromkeys(row["weights"] for row in rows))
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    with mpl.rc_context(RC):
        figure = Figure(figsize=(9.6, 0.6 + 2.6 * len(kinds)), layout="constrained")
        grid = figure.subplots(len(kinds), 3, squeeze=False)
        for axes, kind in zip(grid, kinds, strict=True):
            for row in rows:
                if row["weights"] == kind:
                    _curves(axes, row, _line(rules.index(row["rule"])))
            axes[0].set(ylabel=f"{kind} weights\nvalidation {_merit(rows).name}")
            axes[1].set(ylabel="dead neurons")
            axes[2].set(ylabel="firing rate, hidden")
            for one in axes:
                one.set(xlabel="epoch")
                count(one.xaxis)
                if one is not axes[0] or _merit(rows).unit:
                    one.yaxis.set_major_formatter(PercentFormatter(1))
        _legend(figure, grid[0, 0])
    return figure


def thresholds(rows: Sequence[Row]) -> Figure:
    """Thresholds over epochs, layer by layer; of those that neurons own, the mean.

    Args:
        rows: with the same initial thresholds, at least one finished.
    """
    rows = [row for row in rows if row["seeds"]]
    kinds = list(dict.fromkeys(row["weights"] for row in rows))
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    layers = len(rows[0]["threshold"])
    with mpl.rc_context(RC):
        size = (max(4.8, 2.6 * layers), 0.6 + 2.4 * len(kinds))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(kinds), layers, squeeze=False, sharex=True)
        for axes, kind in zip(grid, kinds, strict=True):
            for layer, one in enumerate(axes):
                for row in rows:
                    if row["weights"] == kind:
                        own = _mean(row, f"threshold_{layer + 1}")
                        label = row["rule"] if layer == 0 else None
                        at = range(1, len(own) + 1)
                        one.plot(at, own, label=label, **_line(rules.index(row["rule"])))
                one.set(xlabel="epoch", title=f"layer {layer + 1}")
                count(one.xaxis)
            axes[0].set(ylabel=f"{kind} weights\nthreshold θ")
        _legend(figure, grid[0, 0])
    return figure


def sweep(rows: Sequence[Row]) -> Figure:
    """Test accuracy or mAP over the initial threshold, with the range over seeds.

    Args:
        rows: of several factors of the initial thresholds.
    """
    rows = [row for row in rows if row["seeds"]]
    kinds = list(dict.fromkeys(row["weights"] for row in rows))
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    with mpl.rc_context(RC):
        figure = Figure(figsize=(1 + 3.8 * len(kinds), 3.4), layout="constrained")
        grid = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
        for axes, kind in zip(grid, kinds, strict=True):
            for index, rule in enumerate(rules):
                own = [row for row in rows if (row["weights"], row["rule"]) == (kind, rule)]
                own.sort(key=lambda row: row["factor"])
                at = [row["factor"] for row in own]
                means = [row["mean"] for row in own]
                axes.plot(at, means, marker="o", label=rule, **_line(index))
                lows, highs = ([f(row[_merit(rows).plural]) for row in own] for f in (min, max))
                axes.fill_between(at, lows, highs, color=colour(index), alpha=0.15, lw=0)
            ticks = sorted({row["factor"] for row in rows})
            axes.set(xscale="log", title=f"{kind} weights")
            axes.set(xlabel="initial threshold over the preset's")
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
            if _merit(rows).unit:
                axes.yaxis.set_major_formatter(PercentFormatter(1))
        grid[0].set(ylabel=f"test {_merit(rows).name}")
        _legend(figure, grid[0])
    return figure


def _merit(rows: Sequence[Row]) -> Merit:
    return MERITS[rows[0]["merit"]]


def _line(index: int) -> dict[str, Any]:
    """Of one rule: colours, and from the seventh rule on dashes to tell them apart."""
    return {"color": colour(index), "ls": ("-", "--", ":")[index // 6 % 3]}


def _curves(axes: Sequence[Axes], row: Row, line: dict[str, Any]) -> None:
    accuracies = np.array(row["curves"][f"val_{row['merit']}"])
    at = np.arange(1, accuracies.shape[1] + 1)
    axes[0].plot(at, accuracies.mean(0), label=row["rule"], **line)
    lows, highs = accuracies.min(0), accuracies.max(0)
    axes[0].fill_between(at, lows, highs, color=line["color"], alpha=0.15, lw=0)
    axes[1].plot(at, _mean(row, "dead"), **line)
    hidden = range(1, len(row["threshold"]))
    rates = [_mean(row, f"rate_{layer}") for layer in hidden] or [_mean(row, "rate_1")]
    axes[2].plot(at, np.mean(rates, axis=0), **line)


def _mean(row: Row, column: str) -> np.ndarray:
    return np.array(row["curves"][column]).mean(0)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)))


FIGURES: dict[str, Callable[[Sequence[Row]], Figure]] = {
    "overview": overview,
    "thresholds": thresholds,
}
"""Of the rows at one initial threshold, by file name."""
