"""Trials of several objectives: two at a time, and those that no other beats in all."""

from __future__ import annotations

from itertools import combinations
from typing import Literal

from matplotlib.figure import Figure

from animations.drawing import WIDTH, Point
from animations.style import GREY, ORANGE
from studies.figures.parts import Drawn, complete_trials, maximizes, ticks
from studies.measured import in_words
from studies.ranking import best_trials, feasible
from studies.study import OpenStudy

LOGARITHMIC = ("spikes", "operations")
"""Objectives whose ratios count, not their differences."""


def pareto_fronts(opened: OpenStudy) -> dict[str, Drawn]:
    """By name, a figure for each two objectives; empty for a study with one."""
    objectives = opened.plan.objectives
    pairs = list(combinations(range(len(objectives)), 2))
    if len(pairs) == 1:
        return {"pareto_front": _front(opened, 0, 1)}
    return {
        f"pareto_front_{objectives[first]}_{objectives[second]}": _front(opened, first, second)
        for first, second in pairs
    }


def _front(opened: OpenStudy, first: int, second: int) -> Drawn:
    """The front is a line only where it is one: of two objectives."""
    objectives = opened.plan.objectives
    complete, front = complete_trials(opened), best_trials(opened)
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    chosen = {trial.number for trial in front}
    for allowed, name, face in ((True, "beaten", GREY), (False, "breaks a constraint", "none")):
        others = [t for t in complete if t.number not in chosen and feasible(t) == allowed]
        if others:
            axes.scatter(
                [t.values[second] for t in others],
                [t.values[first] for t in others],
                s=14,
                facecolors=face,
                edgecolors=GREY,
                label=name,
            )
    front = sorted(front, key=lambda trial: trial.values[second])
    across, up = ([trial.values[place] for trial in front] for place in (second, first))
    if len(objectives) == 2:
        # What a point reaches holds up to the next: the front is a stair, not a slope.
        where: Literal["pre", "post"] = "pre" if maximizes(opened, second) else "post"
        axes.step(across, up, where=where, color=ORANGE, linewidth=1)
    axes.scatter(across, up, s=28, color=ORANGE, label="Pareto front", zorder=3)
    axes.set(xlabel=in_words(objectives[second]), ylabel=in_words(objectives[first]))
    for own, set_scale, axis in (
        (second, axes.set_xscale, axes.xaxis),
        (first, axes.set_yscale, axes.yaxis),
    ):
        values = [trial.values[own] for trial in complete]
        if objectives[own] in LOGARITHMIC and min(values) > 0:
            set_scale("log")
            ticks(axis, wide=max(values) >= 100 * min(values))
    figure.legend(loc="outside lower center", ncols=3)
    points = [
        Point(axes, trial.values[second], trial.values[first], str(trial.number))
        for trial in complete
    ]
    return Drawn(figure, points)
