"""Which of a study's trials is the best, and how sure that is.

A trial that had one seed of one is taken at its word. Where seeds are instances, the best is
what is the best for sure: the highest lower bound of the true value, as far as the trial's own
seeds and its neighbours tell (:mod:`studies.surface`).
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from studies.race import INSTANCES, scatter
from studies.study import OpenStudy
from studies.surface import AT_LEAST, coordinates, posterior
from studies.worker import outcome


@dataclass(frozen=True)
class Estimate:
    """What the first value of a trial is over all seeds there are, the more the better.

    Args:
        mean: the most likely.
        margin: half the width of the interval about it.
    """

    mean: float
    margin: float

    @property
    def lower(self) -> float:
        """What it is at least."""
        return self.mean - self.margin


def best_trials(opened: OpenStudy) -> list[FrozenTrial]:
    """Complete trials, best first; of several objectives the Pareto front, by the first.

    Without those that break a constraint.
    """
    trials = opened.study.best_trials if len(opened.plan.objectives) > 1 else _complete(opened)
    trials = [trial for trial in trials if feasible(trial)]
    known = estimates(opened)
    return sorted(trials, key=lambda trial: known[trial.number].lower, reverse=True)


def estimates(opened: OpenStudy) -> dict[int, Estimate]:
    """Of all complete trials, by number; values that are minimized have their sign turned."""
    trials, race = _complete(opened), opened.plan.race
    scores = [_scores(opened, trial) for trial in trials]
    means = [statistics.fmean(own) for own in scores]
    if race.most == 1:
        pairs = [(mean, 0.0) for mean in means]
    else:
        sigma = scatter(scores)
        errors = [sigma / len(own) ** 0.5 for own in scores]
        if len(trials) >= AT_LEAST and len(set(means)) > 1:
            mean, error = posterior(coordinates(trials), np.array(means), np.array(errors) ** 2)
            means, errors = mean.tolist(), error.tolist()
        pairs = [(mean, race.z * error) for mean, error in zip(means, errors, strict=True)]
    return {trial.number: Estimate(*pair) for trial, pair in zip(trials, pairs, strict=True)}


def score(opened: OpenStudy, trial: FrozenTrial, known: dict[int, Estimate]) -> str:
    """How a trial ended; where seeds are instances, with what is to be expected of others."""
    instances = trial.user_attrs.get(INSTANCES)
    if not instances or trial.number not in known:
        return outcome(trial)
    estimate, seeds = known[trial.number], len(instances)
    mean = _sign(opened) * estimate.mean
    return (
        f"{outcome(trial)} from {seeds} seed{'s' if seeds > 1 else ''}, "
        f"expected {mean:.4f} ± {estimate.margin:.4f}"
    )


def feasible(trial: FrozenTrial) -> bool:
    """Whether a trial keeps the constraints that a sampler of one's own has."""
    return all(value <= 0 for value in trial.constraints.values())


def _complete(opened: OpenStudy) -> list[FrozenTrial]:
    return opened.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _sign(opened: OpenStudy) -> int:
    return 1 if opened.study.directions[0] == optuna.study.StudyDirection.MAXIMIZE else -1


def _scores(opened: OpenStudy, trial: FrozenTrial) -> list[float]:
    """Of the first objective, seed by seed, the more the better."""
    name, instances = opened.plan.objectives[0], trial.user_attrs.get(INSTANCES)
    values = [instance[name] for instance in instances] if instances else [trial.values[0]]
    return [_sign(opened) * value for value in values]
