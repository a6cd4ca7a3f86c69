"""How a study went: each trial's value in the order of their numbers, and its learning curve."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState

from animations.drawing import WIDTH, Point
from animations.style import BLUE, GREEN, GREY, ORANGE, VERMILION, count
from studies.figures.parts import Drawn, complete_trials, maximizes
from studies.measured import in_words
from studies.ranking import best_trials, feasible
from studies.rungs import is_paused
from studies.study import OpenStudy

SIZE = (WIDTH, 3.4)


def history(opened: OpenStudy, objective: int = 0) -> Drawn:
    """Each trial's value, and the best so far.

    Args:
        opened: the study.
        objective: its place among the plan's.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    complete = complete_trials(opened)
    points = _scatter(axes, complete, objective)
    reported = [
        trial
        for trial in opened.study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
        if trial.intermediate_values
    ]
    if reported:
        points += _pruned(axes, reported, [trial.values[objective] for trial in complete])
    allowed = [trial for trial in complete if feasible(trial)]
    if allowed:
        better = np.maximum if maximizes(opened, objective) else np.minimum
        values = [trial.values[objective] for trial in allowed]
        numbers = [trial.number for trial in allowed]
        # To the last trial there is: nothing better has come since.
        last = max(trial.number for trial in opened.study.get_trials(deepcopy=False))
        best = [*better.accumulate(values)]
        axes.step(
            [*numbers, last], [*best, best[-1]], where="post", color=ORANGE, label="best so far"
        )
    for trial in complete:
        if trial.user_attrs.get("published"):
            axes.axhline(
                trial.values[objective],
                color=GREY,
                linestyle=":",
                linewidth=1,
                label="settings to begin with",
            )
    axes.set(xlabel="trial", ylabel=in_words(opened.plan.objectives[objective]))
    count(axes.xaxis)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=2)
    return Drawn(figure, points)


def learning_curves(opened: OpenStudy) -> Drawn | None:
    """What every trial reported, epoch by epoch; None if none did.

    Trials end where they were pruned, or have come to so far.
    """
    trials = [t for t in opened.study.get_trials(deepcopy=False) if t.intermediate_values]
    if not trials:
        return None
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    best = {trial.number for trial in best_trials(opened)[:1]}
    points, said = [], set()
    faint = max(0.25, min(1.0, 12 / len(trials)))
    for trial in sorted(trials, key=lambda trial: trial.number in best):
        name, colour, marker = _how(trial, trial.number in best)
        epochs = np.array(sorted(trial.intermediate_values))
        values = [trial.intermediate_values[epoch] for epoch in epochs]
        chosen = trial.number in best
        axes.plot(
            epochs + 1,
            values,
            color=colour,
            alpha=1.0 if chosen else faint,
            linewidth=2.0 if chosen else 1.0,
        )
        axes.plot(
            epochs[-1] + 1,
            values[-1],
            marker,
            color=colour,
            markersize=5,
            label=None if name in said else name,
        )
        said.add(name)
        points.append(Point(axes, epochs[-1] + 1, values[-1], str(trial.number)))
    axes.set(xlabel="epoch", ylabel=in_words(opened.plan.objectives[0]))
    count(axes.xaxis)
    figure.legend(loc="outside lower center", ncols=3)
    return Drawn(figure, points)


def _how(trial: FrozenTrial, best: bool) -> tuple[str, str, str]:
    """How a trial ended, its colour and the mark at its end."""
    if best:
        return "the best", ORANGE, "o"
    if is_paused(trial):
        return "paused", GREEN, "d"
    return {
        TrialState.COMPLETE: ("complete", BLUE, "o"),
        TrialState.PRUNED: ("pruned", GREY, "x"),
        TrialState.FAIL: ("failed", VERMILION, "s"),
        TrialState.RUNNING: ("running", GREEN, ">"),
        TrialState.WAITING: ("waiting", GREEN, "d"),
    }[trial.state]


def _scatter(axes: Axes, complete: list[FrozenTrial], objective: int) -> list[Point]:
    """Complete trials as points; those that break a constraint are hollow."""
    for allowed, name, face in ((True, "complete", BLUE), (False, "breaks a constraint", "none")):
        chosen = [trial for trial in complete if feasible(trial) == allowed]
        if chosen:
            axes.scatter(
                [trial.number for trial in chosen],
                [trial.values[objective] for trial in chosen],
                s=14,
                facecolors=face,
                edgecolors=BLUE,
                label=name,
            )
    return [Point(axes, t.number, t.values[objective], str(t.number)) for t in complete]


def _pruned(axes: Axes, trials: list[FrozenTrial], values: list[float]) -> list[Point]:
    """Trials that were pruned, at what they had come to."""
    numbers = [trial.number for trial in trials]
    last = np.array([t.intermediate_values[max(t.intermediate_values)] for t in trials])
    name = "pruned, when it was"
    if len(values) > 1:
        # Most are far away: at the edge, so that the complete ones can be told apart.
        margin = 0.15 * (max(values) - min(values)) or 0.05
        low, high = min(values) - margin, max(values) + margin
        if last.min() < low or last.max() > high:
            name += " (beyond the edge: at it)"
        axes.set_ylim(low, high)
        last = last.clip(low, high)
    axes.scatter(numbers, last, s=14, color=GREY, clip_on=False, label=name)
    return [Point(axes, n, value, str(n)) for n, value in zip(numbers, last.tolist(), strict=True)]
