"""Figures of a study, drawn from its trials."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from animations.style import BLUE, GREY, ORANGE
from studies.study import OpenStudy

MIN_FOR_IMPORTANCE = 5
"""Complete trials below which importances say nothing."""


def all_figures(opened: OpenStudy) -> dict[str, Figure]:
    """Every figure that the study's trials allow, by name."""
    drawn = {"history": history(opened)}
    if (figure := importances(opened)) is not None:
        drawn["importances"] = figure
    drawn["slices"] = slices(opened)
    drawn["parallel_coordinates"] = parallel_coordinates(opened)
    if len(opened.plan.objectives) == 2:
        drawn["pareto_front"] = pareto_front(opened)
    return drawn


def history(opened: OpenStudy) -> Figure:
    """Each trial's value in the order of their numbers, and the best so far."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    complete = _complete(opened)
    numbers = [trial.number for trial in complete]
    values = np.array([trial.values[0] for trial in complete])
    axes.scatter(numbers, values, s=14, color=BLUE, label="complete")
    pruned = opened.study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
    reported = [t for t in pruned if t.intermediate_values]
    last = [t.intermediate_values[max(t.intermediate_values)] for t in reported]
    if reported:
        # Most are far away: at the edge, so that the complete ones can be told apart.
        margin = 0.15 * (values.max() - values.min()) or 0.05
        low, high = values.min() - margin, values.max() + margin
        axes.set_ylim(low, high)
        axes.scatter(
            [t.number for t in reported],
            np.clip(last, low, high),
            s=14,
            color=GREY,
            clip_on=False,
            label="pruned, when it was (beyond the edge: at it)",
        )
    running = np.maximum if _maximizes(opened) else np.minimum
    axes.step(numbers, running.accumulate(values), where="post", color=ORANGE, label="best so far")
    for trial in complete:
        if trial.user_attrs.get("published"):
            axes.axhline(
                trial.values[0], color=GREY, linestyle=":", linewidth=1, label="published settings"
            )
    axes.set(xlabel="trial", ylabel=opened.plan.objectives[0], title="Optimization history")
    axes.legend(frameon=False, fontsize=8)
    return figure


def importances(opened: OpenStudy) -> Figure | None:
    """How much each parameter explains of the first value (fANOVA); None if too few trials."""
    shares = parameter_importances(opened)
    if not shares:
        return None
    names = list(shares)[::-1]
    figure = Figure(figsize=(8, 0.6 + 0.28 * len(names)), layout="constrained")
    axes = figure.subplots()
    labels = [_label(opened, name) for name in names]
    axes.barh(labels, [shares[name] for name in names], color=BLUE)
    axes.set(xlabel="share of the variance explained", title="Parameter importances")
    return figure


def parameter_importances(opened: OpenStudy) -> dict[str, float]:
    """Shares by parameter, largest first; empty if there are too few complete trials."""
    complete = _complete(opened)
    if len(complete) < MIN_FOR_IMPORTANCE or len({t.values[0] for t in complete}) == 1:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return optuna.importance.get_param_importances(
            opened.study,
            evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
            target=lambda trial: trial.values[0],
        )


def slices(opened: OpenStudy) -> Figure:
    """Each parameter against the first value, one panel per parameter."""
    complete = _complete(opened)
    names = _parameters(complete)
    columns = 4
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(11, 2.4 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for index, axes in enumerate(grid.flat):
        if index >= len(names):
            axes.set_visible(False)
            continue
        chosen = [trial for trial in complete if names[index] in trial.params]
        _slice(axes, chosen, names[index])
        axes.set_title(_label(opened, names[index]), fontsize=8)
    for axes in grid[:, 0]:
        axes.set_ylabel(opened.plan.objectives[0])
    return figure


def parallel_coordinates(opened: OpenStudy) -> Figure:
    """Every complete trial as a line through its parameters; the best in colour."""
    complete = _complete(opened)
    names = _parameters(complete)
    figure = Figure(figsize=(max(8, 0.75 * len(names)), 5), layout="constrained")
    axes = figure.subplots()
    order = sorted(complete, key=lambda t: t.values[0], reverse=not _maximizes(opened))
    best = {trial.number for trial in order[-max(1, len(order) // 10) :]}
    for trial in order:
        heights = [_height(trial, name) for name in names]
        chosen = trial.number in best
        axes.plot(
            heights,
            color=ORANGE if chosen else GREY,
            alpha=0.9 if chosen else 0.25,
            linewidth=1.5 if chosen else 0.7,
        )
    labels = [_label(opened, name) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=60, ha="right", fontsize=7)
    axes.set_yticks([0, 1], ["low", "high"])
    axes.set_title("Parameters of complete trials, the best tenth in colour")
    for place in range(len(names)):
        axes.axvline(place, color=GREY, linewidth=0.5, alpha=0.5)
    return figure


def pareto_front(opened: OpenStudy) -> Figure:
    """The two values of each trial, and those that no other trial beats in both."""
    complete = _complete(opened)
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    axes.scatter([t.values[1] for t in complete], [t.values[0] for t in complete], s=14, color=GREY)
    front = sorted(opened.study.best_trials, key=lambda t: t.values[1])
    axes.plot(
        [t.values[1] for t in front],
        [t.values[0] for t in front],
        "o-",
        color=ORANGE,
        label="Pareto front",
    )
    first, second = opened.plan.objectives
    labels = {"spikes": "spikes per sample", "dead": "share of dead neurons"}
    axes.set(xlabel=labels.get(second, second), ylabel=first, title="Pareto front")
    if second == "spikes":
        axes.set_xscale("log")
    axes.legend(frameon=False)
    return figure


def _slice(axes: Axes, trials: list[FrozenTrial], name: str) -> None:
    values: list[Any] = [trial.params[name] for trial in trials]
    distribution = trials[0].distributions[name]
    if isinstance(distribution, CategoricalDistribution):
        options = [str(choice) for choice in distribution.choices]
        places = [options.index(str(value)) for value in values]
        axes.scatter(places, [t.values[0] for t in trials], s=10, color=BLUE, alpha=0.6)
        axes.set_xticks(range(len(options)), options, fontsize=8)
        axes.set_xlim(-0.5, len(options) - 0.5)
    else:
        axes.scatter(values, [t.values[0] for t in trials], s=10, color=BLUE, alpha=0.6)
        if isinstance(distribution, FloatDistribution):
            if distribution.log:
                axes.set_xscale("log")
                axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlim(distribution.low, distribution.high)


def _label(opened: OpenStudy, name: str) -> str:
    """A parameter's name; of one that is added to another, what it stands for."""
    text = next((t for key, t, _ in opened.plan.space if name.startswith(key)), "")
    over, plus, _ = text.partition(" + ")
    return f"{name} − {over.rpartition('.')[2]}" if plus else name


def _height(trial: FrozenTrial, name: str) -> float:
    """A parameter's place in its range, from 0 to 1."""
    if name not in trial.params:
        return float("nan")
    distribution, value = trial.distributions[name], trial.params[name]
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices.index(value) / max(1, len(distribution.choices) - 1)
    assert isinstance(distribution, FloatDistribution)
    low, high = distribution.low, distribution.high
    if distribution.log:
        low, high, value = np.log(low), np.log(high), np.log(value)
    return float((value - low) / (high - low))


def _complete(opened: OpenStudy) -> list[FrozenTrial]:
    return opened.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _maximizes(opened: OpenStudy) -> bool:
    return opened.study.directions[0] == optuna.study.StudyDirection.MAXIMIZE


def _parameters(trials: list[FrozenTrial]) -> list[str]:
    return list(dict.fromkeys(name for trial in trials for name in trial.params))
