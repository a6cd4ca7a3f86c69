"""How much each setting matters, and how sure that is.

A setting's importance is the share of the variance between trials that it explains by itself
(fANOVA: a random forest learns the values; Hutter et al. 2014). A forest of few trials, whose
values scatter between seeds, says something else each time. So it is asked again and again, each
time with another seed and with trials drawn anew from those there are (a bootstrap): what it
says on average is the importance, how much that varies its uncertainty.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import FrozenTrial

from studies.cube import columns
from studies.measured import Measured

AT_LEAST = 5
"""Trials below which importances say nothing."""
REPEATS = 12
TREES = 8
"""Of each forest."""
MOST = 300
"""Trials that a forest learns from: more cost time and change little."""


@dataclass(frozen=True)
class Importance:
    """Of one setting.

    Args:
        mean: share of the variance that it explains, over all repetitions.
        spread: their standard deviation.
    """

    mean: float
    spread: float


def importances(measured: Measured, repeats: int = REPEATS) -> dict[str, Importance]:
    """Importances by setting, the largest first; empty if too few trials tell.

    Settings are those that all trials have, of the same range.

    Args:
        measured: trials and what they are compared by.
        repeats: how often a forest is asked.
    """
    trials, values = measured.trials, np.array(measured.values)
    space = common_space(trials)
    if len(trials) < AT_LEAST or len(set(measured.values)) == 1 or not space:
        return {}
    points = _points(trials, space)
    shares: dict[str, list[float]] = {name: [] for name in space}
    random = np.random.default_rng(0)
    for seed in range(repeats):
        drawn = random.integers(len(trials), size=min(len(trials), MOST))
        told = _shares([points[i] for i in drawn], values[drawn], space, seed)
        for name, share in told.items():
            shares[name].append(share)
    found = {
        name: Importance(float(np.mean(own)), float(np.std(own, ddof=1)))
        for name, own in shares.items()
        if own
    }
    return dict(sorted(found.items(), key=lambda pair: -pair[1].mean))


def common_space(trials: list[FrozenTrial]) -> dict[str, BaseDistribution]:
    """Settings that all trials have, of one range and with more than one value."""
    if not trials:
        return {}
    first, *others = (trial.distributions for trial in trials)
    return {
        name: distribution
        for name, distribution in first.items()
        if not distribution.single() and all(other.get(name) == distribution for other in others)
    }


def _points(trials: list[FrozenTrial], space: dict[str, BaseDistribution]) -> list[dict[str, Any]]:
    """Settings of each trial as a forest is to see them.

    Numbers are places in their range, on a log scale where they are searched on one: shares
    are those of what a study draws. Optuna's evaluator would take a threshold between 0.5 and
    30 for one that is above 3 nine times out of ten.
    """
    found = {
        name: [trial.params[name] for trial in trials]
        if isinstance(distribution, CategoricalDistribution)
        else columns(name, trials)[0]
        for name, distribution in space.items()
    }
    return [dict(zip(found, own, strict=True)) for own in zip(*found.values(), strict=True)]


def _shares(
    points: list[dict[str, Any]], values: np.ndarray, space: dict[str, BaseDistribution], seed: int
) -> dict[str, float]:
    """What one forest says; nothing if all of its values are the same."""
    if np.ptp(values) == 0:
        return {}
    seen: dict[str, BaseDistribution] = {
        name: own if isinstance(own, CategoricalDistribution) else FloatDistribution(0.0, 1.0)
        for name, own in space.items()
    }
    with _quietly():
        study = optuna.create_study()
    study.add_trials(
        [
            optuna.trial.create_trial(value=float(value), params=point, distributions=seen)
            for point, value in zip(points, values, strict=True)
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return optuna.importance.get_param_importances(
            study, evaluator=FanovaImportanceEvaluator(n_trees=TREES, seed=seed)
        )


@contextmanager
def _quietly() -> Iterator[None]:
    """Nobody needs to be told of studies that are made to ask a forest."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
