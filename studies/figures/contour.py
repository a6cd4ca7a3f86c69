"""What to expect of the two settings that matter most: a map of them, with the trials on it."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution

from animations.drawing import WIDTH, Point
from animations.style import BLUE, GREY, ORANGE
from studies.figures.parts import Drawn, bounds, label, place, scale
from studies.landscape import Landscape
from studies.measured import Measured
from studies.study import OpenStudy

LEVELS = 13
COLOURS = "viridis"


def contour(opened: OpenStudy, measured: Measured, known: Landscape, best: int | None) -> Drawn:
    """A map of two settings, or a curve over one.

    Colours go from the lowest to the highest trial, of the map and of the trials on it: where
    trials tell little of these settings, the map is of one colour and its trials are of many.

    Args:
        opened: the study.
        measured: trials and what they are compared by.
        known: what they tell.
        best: number of the best trial, which is marked.
    """
    trials = measured.trials
    distributions = [trials[0].distributions[name] for name in known.names]
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    spots = [
        [place(distribution, trial.params[name]) for trial in trials]
        for name, distribution in zip(known.names, distributions, strict=True)
    ]
    if len(known.names) == 1:
        spots.append(measured.values)
        axes.plot(_in_units(known.grid[0], distributions[0]), known.values, color=BLUE)
        axes.scatter(spots[0], spots[1], s=14, color=GREY)
        axes.set(ylabel=measured.what)
    else:
        _map(axes, known, distributions, measured, spots)
        axes.set(ylabel=label(opened, known.names[1]))
    scale(axes.xaxis, distributions[0])
    axes.set(xlabel=label(opened, known.names[0]))
    points = []
    for trial, x, y in zip(trials, *spots, strict=True):
        points.append(Point(axes, x, y, str(trial.number)))
        if trial.number == best:
            axes.scatter([x], [y], s=110, marker="*", color=ORANGE, edgecolors="black", zorder=4)
    return Drawn(figure, points)


def _map(
    axes: Axes,
    known: Landscape,
    distributions: list[BaseDistribution],
    measured: Measured,
    spots: list[list[float]],
) -> None:
    across, up = (_in_units(grid, own) for grid, own in zip(known.grid, distributions, strict=True))
    low, high = min(measured.values), max(measured.values)
    coloured: Any = {"cmap": COLOURS, "norm": Normalize(low, high)}
    if any(isinstance(own, CategoricalDistribution) for own in distributions):
        axes.pcolormesh(across, up, known.values.T, shading="nearest", **coloured)
    else:
        levels = np.linspace(low, high, LEVELS)
        axes.contourf(across, up, known.values.T, levels=levels, extend="both", **coloured)
    dots = axes.scatter(
        spots[0],
        spots[1],
        c=measured.values,
        s=22,
        edgecolors="white",
        linewidths=0.8,
        zorder=3,
        **coloured,
    )
    axes.figure.colorbar(dots, ax=axes, label=measured.what)
    scale(axes.yaxis, distributions[1])


def _in_units(grid: np.ndarray, distribution: BaseDistribution) -> np.ndarray:
    """Places of a grid as values of the setting."""
    if isinstance(distribution, CategoricalDistribution):
        return grid
    low, high = bounds(distribution)
    if getattr(distribution, "log", False):
        return np.geomspace(low, high, len(grid))
    return np.linspace(low, high, len(grid))
