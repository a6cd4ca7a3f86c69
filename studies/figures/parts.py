"""What figures of a study have in common: colours of states, axes of settings, points of trials."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from animations.drawing import Point
from studies.study import OpenStudy


@dataclass(frozen=True)
class Drawn:
    """A figure, and which points of it are trials."""

    figure: Figure
    points: list[Point] = field(default_factory=list)


def complete_trials(opened: OpenStudy) -> list[FrozenTrial]:
    """Trials that have their values."""
    return opened.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def maximizes(opened: OpenStudy, objective: int = 0) -> bool:
    """Whether more is better."""
    return opened.study.directions[objective] == optuna.study.StudyDirection.MAXIMIZE


def parameters(trials: list[FrozenTrial]) -> list[str]:
    """Names of all that trials were given, in the order of the table."""
    return list(dict.fromkeys(name for trial in trials for name in trial.params))


def label(opened: OpenStudy, name: str) -> str:
    """A parameter's name; of one that is added to another, what it stands for."""
    text = next((t for key, t, _ in opened.plan.space if name.startswith(key)), "")
    over, plus, _ = text.partition(" + ")
    return f"{name} − {over.rpartition('.')[2]}" if plus else name


def place(distribution: BaseDistribution, value: Any) -> float:
    """Where a value of a setting is drawn: a number at itself, a choice at its index."""
    if isinstance(distribution, CategoricalDistribution):
        return float(distribution.choices.index(value))
    return float(value)


def height(distribution: BaseDistribution, value: Any) -> float:
    """A value's place in its range, from 0 to 1.

    Example:
        >>> height(FloatDistribution(0.01, 1.0, log=True), 0.1)
        0.5
    """
    low, high = bounds(distribution)
    at = place(distribution, value)
    if getattr(distribution, "log", False):
        low, high, at = np.log(low), np.log(high), np.log(at)
    return float((at - low) / (high - low)) if high > low else 0.5


def bounds(distribution: BaseDistribution) -> tuple[float, float]:
    """Lowest and highest place of a setting."""
    if isinstance(distribution, CategoricalDistribution):
        return 0.0, len(distribution.choices) - 1.0
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return float(distribution.low), float(distribution.high)


def scale(axis: Axis, distribution: BaseDistribution) -> None:
    """Make an axis that of a setting: its range, its scale, its choices by name."""
    low, high = bounds(distribution)
    if isinstance(distribution, CategoricalDistribution):
        names = ["off" if choice is None else str(choice) for choice in distribution.choices]
        axis.set_ticks(range(len(names)), labels=names)
        _limit(axis, low - 0.5, high + 0.5)
        return
    if getattr(distribution, "log", False):
        (axis.axes.set_xscale if isinstance(axis, XAxis) else axis.axes.set_yscale)("log")
        ticks(axis, wide=high >= 100 * low)
    if high > low:
        _limit(axis, low, high)


def ticks(axis: Axis, wide: bool) -> None:
    """Numbers on a logarithmic axis: written out, of a narrow one more than powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=9))
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _limit(axis: Axis, low: float, high: float) -> None:
    (axis.axes.set_xlim if isinstance(axis, XAxis) else axis.axes.set_ylim)(low, high)
