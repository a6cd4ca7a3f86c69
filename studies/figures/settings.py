"""What settings do: how much each matters, what values were tried, and how they go together."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial

from animations.drawing import WIDTH, Point
from animations.style import BLUE, GREY, ORANGE
from studies.figures.parts import (
    Drawn,
    complete_trials,
    height,
    label,
    maximizes,
    parameters,
    place,
    scale,
)
from studies.importances import Importance
from studies.measured import Measured, in_words
from studies.study import OpenStudy

SMALL = (2.0, 1.7)
"""Inches of one panel among many: two of them stand beside each other on a phone."""
IN_SMALL = (0.18, 0.14, 0.78, 0.74)
"""Left, bottom, width and height of its axes: a layout of its own takes most of the time."""


def importances(opened: OpenStudy, found: dict[str, Importance], what: str) -> Drawn | None:
    """Importances with whiskers of one standard deviation; None if there are none."""
    if not found:
        return None
    names = list(found)[::-1]
    figure = Figure(figsize=(WIDTH, 0.9 + 0.2 * len(names)), layout="constrained")
    axes = figure.subplots()
    means = [found[name].mean for name in names]
    spreads = [found[name].spread for name in names]
    axes.barh([label(opened, name) for name in names], means, color=BLUE, height=0.7)
    below = [min(mean, spread) for mean, spread in zip(means, spreads, strict=True)]
    axes.errorbar(
        means,
        range(len(names)),
        xerr=[below, spreads],
        fmt="none",
        ecolor=ORANGE,
        elinewidth=1.5,
        capsize=2.5,
    )
    axes.set(xlabel=f"share of the variance of {what}", xlim=(0, None))
    axes.tick_params(axis="y", labelsize=7.5)
    axes.margins(y=0.02)
    return Drawn(figure)


def slices(opened: OpenStudy, measured: Measured) -> list[tuple[str, Drawn]]:
    """Each setting against what trials are compared by: names and small figures."""
    drawn = []
    for name in parameters(measured.trials):
        figure = Figure(figsize=SMALL)
        axes = figure.add_axes(IN_SMALL)
        points = _slice(axes, measured, name)
        axes.set_title(label(opened, name), fontsize=7)
        axes.tick_params(labelsize=7.5)
        drawn.append((name, Drawn(figure, points)))
    return drawn


def all_slices(opened: OpenStudy, measured: Measured) -> Figure:
    """The same in one figure, for a file."""
    names = parameters(measured.trials)
    columns = 4
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(11, 2.4 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for name, axes in zip(names, grid.flat, strict=False):
        _slice(axes, measured, name)
        axes.set_title(label(opened, name), fontsize=8)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel(measured.what)
    return figure


def parallel_coordinates(opened: OpenStudy) -> Drawn:
    """Every complete trial as a line through its settings; the best in colour."""
    complete = complete_trials(opened)
    names = parameters(complete)
    figure = Figure(figsize=(max(WIDTH, 0.5 * len(names)), 4), layout="constrained")
    axes = figure.subplots()
    order = sorted(complete, key=lambda t: t.values[0], reverse=not maximizes(opened))
    best = {trial.number for trial in order[-max(1, len(order) // 10) :]}
    faint = max(0.3, min(0.8, 20 / len(order)))
    for trial in order:
        chosen = trial.number in best
        axes.plot(
            [_height(trial, name) for name in names],
            color=ORANGE if chosen else GREY,
            alpha=0.9 if chosen else faint,
            linewidth=1.5 if chosen else 0.8,
            marker="o" if len(names) == 1 else None,
        )
    labels = [label(opened, name) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=60, ha="right", fontsize=7.5)
    axes.set_yticks([0, 1], ["low", "high"])
    axes.set_title(f"the best by {in_words(opened.plan.objectives[0])} in colour", loc="left")
    for at in range(len(names)):
        axes.axvline(at, color=GREY, linewidth=0.5, alpha=0.5)
    return Drawn(figure)


def _slice(axes: Axes, measured: Measured, name: str) -> list[Point]:
    pairs = [
        (trial, value)
        for trial, value in zip(measured.trials, measured.values, strict=True)
        if name in trial.params
    ]
    distribution = pairs[-1][0].distributions[name]
    points = [
        Point(axes, place(distribution, trial.params[name]), value, str(trial.number))
        for trial, value in pairs
        if _is_among(distribution, trial, name)
    ]
    axes.scatter([p.x for p in points], [p.y for p in points], s=10, color=BLUE, alpha=0.6)
    scale(axes.xaxis, distribution)
    return points


def _is_among(distribution: object, trial: FrozenTrial, name: str) -> bool:
    """False for a choice that a table of before had and the last one has not."""
    if not isinstance(distribution, CategoricalDistribution):
        return True
    return trial.params[name] in distribution.choices


def _height(trial: FrozenTrial, name: str) -> float:
    if name not in trial.params:
        return float("nan")
    return height(trial.distributions[name], trial.params[name])
