"""Which of a study's trials is the best, and how sure that is.

A trial that had one seed of one is taken at its word. Where seeds are instances, the best is
what is the best for sure: the highest lower bound of the true value, as far as the trial's own
seeds and its neighbours tell (:mod:`studies.surface`).
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial

from studies.lessons import Lessons, Setting, settings
from studies.race import INSTANCES
from studies.study import OpenStudy
from studies.worker import outcome


@dataclass(frozen=True)
class Estimate:
    """What the first value of a trial is over all seeds there are, the more the better.

    Args:
        mean: the most likely.
        margin: half the width of the interval about it.
        seeds: that it has been trained from.
    """

    mean: float
    margin: float
    seeds: int = 1

    @property
    def lower(self) -> float:
        """What it is at least."""
        return self.mean - self.margin


def best_trials(opened: OpenStudy) -> list[FrozenTrial]:
    """Complete trials, best first; of several objectives the Pareto front, by the first.

    Of trials of the same setting the first; without those that break a constraint.
    """
    if len(opened.plan.objectives) > 1:
        trials = opened.study.best_trials
    else:
        trials = [setting.trial for setting in _settings(opened)]
    trials = [trial for trial in trials if feasible(trial)]
    known = estimates(opened)
    return sorted(trials, key=lambda trial: known[trial.number].lower, reverse=True)


def estimates(opened: OpenStudy) -> dict[int, Estimate]:
    """Of all complete trials, by number; values that are minimized have their sign turned.

    Trials of the same setting have the same.
    """
    found, race = _settings(opened), opened.plan.race
    if race.most == 1 or not found:
        return {s.trial.number: Estimate(statistics.fmean(s.scores), 0.0) for s in found}
    lessons = Lessons(opened.study.get_trials(deepcopy=False), opened.plan, found)
    return {
        trial.number: Estimate(float(mean), race.z * float(error), len(setting.scores))
        for setting, mean, error in zip(found, *lessons.believed(), strict=True)
        for trial in setting.trials
    }


def score(opened: OpenStudy, trial: FrozenTrial, known: dict[int, Estimate]) -> str:
    """How a trial ended; where seeds are instances, with what is to be expected of others."""
    instances = trial.user_attrs.get(INSTANCES)
    if not instances or trial.number not in known:
        return outcome(trial)
    estimate = known[trial.number]
    seeds = estimate.seeds
    mean = _sign(opened) * estimate.mean
    return (
        f"{outcome(trial)} from {seeds} seed{'s' if seeds > 1 else ''}, "
        f"expected {mean:.4f} ± {estimate.margin:.4f}"
    )


def feasible(trial: FrozenTrial) -> bool:
    """Whether a trial keeps the constraints that a sampler of one's own has."""
    return all(value <= 0 for value in trial.constraints.values())


def _settings(opened: OpenStudy) -> list[Setting]:
    return settings(opened.study.get_trials(deepcopy=False), opened.plan)


def _sign(opened: OpenStudy) -> int:
    return 1 if opened.study.directions[0] == optuna.study.StudyDirection.MAXIMIZE else -1
