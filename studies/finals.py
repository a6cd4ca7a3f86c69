"""Finals: the last trials of a study are further seeds of the settings that may be the best.

Accuracies of one setting scatter by 1 to 2.6 points between seeds here, and good settings differ
by less: the best of many single trainings is the luckiest. So of N trials with
``--seeds-per-trial 1..K`` the first 80% try new settings, and each of the last 20% trains one of
them from its next seed, s, s + 1, …: the one with the highest **upper** bound of its true
accuracy, mean + 2 standard errors, by its own seeds and its neighbours (:mod:`studies.surface`).
What is chosen in the end has the highest **lower** bound (:mod:`studies.ranking`).

A final is a trial of its own, with the parameters of the one that it goes on with. Who gets the
next is a function of the study's trials, those that run counted in, so that workers need not
agree on anything; two that choose the same seed at once lose one training, whose result counts
once.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from studies.race import INSTANCES, Array, scatter
from studies.rungs import FURTHER, UNTIL, is_paused
from studies.study import OBJECTIVES, Plan
from studies.surface import AT_LEAST, coordinates, posterior

SEED = "seed"
"""User attribute of a final: how many seeds after the configuration's own."""


@dataclass(frozen=True)
class Setting:
    """What has been measured of a setting that a trial ran to its end.

    Args:
        trial: that tried it first.
        scores: of the first objective, seed by seed, the more the better.
        seeds: that it has had or is being trained from.
    """

    trial: FrozenTrial
    scores: list[float]
    seeds: int


def is_final(trial: FrozenTrial | optuna.Trial) -> bool:
    """Whether a trial is a further seed of an earlier one."""
    return FURTHER in trial.user_attrs


def settings(trials: Sequence[FrozenTrial], plan: Plan) -> list[Setting]:
    """Those of complete trials, each with what its finals have told."""
    told: dict[int, dict[int, float]] = {}
    taken: dict[int, set[int]] = {}
    for trial in trials:
        if not is_final(trial) or trial.state in (TrialState.FAIL, TrialState.PRUNED):
            continue
        first, seed = trial.user_attrs[FURTHER], trial.user_attrs[SEED]
        taken.setdefault(first, set()).add(seed)
        if trial.state == TrialState.COMPLETE:
            told.setdefault(first, {})[seed] = _scores(trial, plan)[0]
    found = []
    for trial in trials:
        if trial.state == TrialState.COMPLETE and not is_final(trial):
            own = _scores(trial, plan)
            further = told.get(trial.number, {})
            seeds = len(own) + len(taken.get(trial.number, ()))
            found.append(Setting(trial, [*own, *further.values()], seeds))
    return found


def believed(found: Sequence[Setting]) -> tuple[Array, Array]:
    """Mean and standard error of the true value of each setting."""
    scores = [setting.scores for setting in found]
    means = np.array([statistics.fmean(own) for own in scores])
    errors = scatter(scores) / np.sqrt([len(own) for own in scores])
    if len(found) < AT_LEAST or len(set(means)) < 2:
        return means, errors
    return posterior(coordinates([setting.trial for setting in found]), means, errors**2)


@dataclass(frozen=True)
class Finals:
    """Which trials of a study are finals.

    Args:
        plan: of the study, with one objective.
    """

    plan: Plan

    @staticmethod
    def of(plan: Plan) -> Finals | None:
        """Those of a plan; None if every setting has the same number of seeds."""
        race = plan.race
        return Finals(plan) if race.most > race.least and len(plan.objectives) == 1 else None

    def to_try(self, trials: int) -> int:
        """How many of so many trials try a new setting."""
        return trials - self.plan.race.finals(trials)

    def next(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """The next final, to be put into the queue; None if no setting may have another seed."""
        race, found = self.plan.race, settings(trials, self.plan)
        if all(setting.seeds >= race.most for setting in found):
            return None
        mean, error = believed(found)
        # What runs will make it surer: else all workers would train the same setting.
        seeds = np.array([setting.seeds for setting in found])
        error = error * np.sqrt([len(s.scores) for s in found] / seeds)
        chosen = found[race.next_seed(mean, error, seeds.tolist())]
        trial = chosen.trial
        return optuna.create_trial(
            state=TrialState.WAITING,
            system_attrs={"fixed_params": trial.params},
            user_attrs={
                FURTHER: trial.number,
                SEED: self._free_seed(trials, chosen),
                UNTIL: self.plan.base.training.epochs,
            },
        )

    def _free_seed(self, trials: Sequence[FrozenTrial], chosen: Setting) -> int:
        """The first seed that the setting has not had."""
        taken = {
            trial.user_attrs[SEED]
            for trial in trials
            if trial.user_attrs.get(FURTHER) == chosen.trial.number
            and trial.state not in (TrialState.FAIL, TrialState.PRUNED)
        }
        seed = len(chosen.trial.user_attrs.get(INSTANCES, ())) or 1
        while seed in taken:
            seed += 1
        return seed


def tries(trials: Sequence[FrozenTrial]) -> int:
    """Trials that try a setting, and count now or when they have ended."""
    alive = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    return sum((t.state in alive or is_paused(t)) and not is_final(t) for t in trials)


def _scores(trial: FrozenTrial, plan: Plan) -> list[float]:
    """Of the first objective, seed by seed, the more the better."""
    name, instances = plan.objectives[0], trial.user_attrs.get(INSTANCES)
    values = [instance[name] for instance in instances] if instances else [trial.values[0]]
    sign = 1 if OBJECTIVES[name] == "maximize" else -1
    return [sign * value for value in values]
