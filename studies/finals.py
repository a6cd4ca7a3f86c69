"""Finals: the last trials of a study are spent where they are worth most for the choice.

Accuracies of one setting scatter by 1 to 2.6 points between seeds here, and good settings differ
by less: the best of many single trainings is the luckiest, and a sampler that takes each at its
word follows the lucky ones. So with ``--seeds-per-trial 1..K`` the last trials, which take two
thirds of a study's epochs, are **finals**. Each is a whole training, of whatever is expected to
gain most by it (:mod:`studies.gain`), as far as all trials before it tell
(:mod:`studies.lessons`):

* a **further seed** of a setting that was tried, s + 1, s + 2, … up to K of them, or
* a **proposal**: a setting that nobody tried, from seed s.

What is chosen in the end has the highest lower bound (:mod:`studies.ranking`).

A final is a trial of its own, in no bracket. Which is next is a function of the study's trials,
those that run counted in, so that workers need not agree on anything; two that choose the same
seed at once lose one training, whose result counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from studies.cube import Array
from studies.gain import most_telling
from studies.lessons import SEED, Lessons, Setting, whole
from studies.race import INSTANCES
from studies.rungs import FURTHER, PROPOSED, UNTIL, Rungs, in_no_bracket, is_paused
from studies.study import Plan


def is_further(trial: FrozenTrial | optuna.Trial) -> bool:
    """Whether a trial is a further seed of an earlier one."""
    return FURTHER in trial.user_attrs


@dataclass(frozen=True)
class Finals:
    """Which trials of a study are finals.

    Args:
        plan: of the study, with one objective.
        rungs: at which other trials pause; None if they never do.
        seed: of random numbers, another for each worker; None draws one.
    """

    plan: Plan
    rungs: Rungs | None = None
    seed: tuple[int, ...] | None = None

    @staticmethod
    def of(
        plan: Plan, rungs: Rungs | None = None, seed: tuple[int, ...] | None = None
    ) -> Finals | None:
        """Those of a plan; None if every setting has the same number of seeds."""
        race = plan.race
        has = race.most > race.least and len(plan.objectives) == 1
        return Finals(plan, rungs, seed) if has else None

    def to_try(self, trials: int) -> int:
        """How many of so many trials try what the sampler suggests."""
        return trials - self.plan.race.finals(trials, self._epochs, self.rungs)

    def next(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """The next final, to be put into the queue; None if there is nothing to learn."""
        lessons = Lessons.of(trials, self.plan)
        if lessons is None:
            return None
        underway = _underway(lessons)
        entropy = None if self.seed is None else [*self.seed, len(trials)]
        point = most_telling(
            lessons.surface.expecting(whole(_points(underway, lessons))),
            lessons.tried,
            self._spent(lessons, underway),
            lessons.cube,
            whole,
            np.random.default_rng(entropy),
        )
        if point is None:
            return None
        same = np.flatnonzero((lessons.tried == point).all(axis=1))
        if len(same):
            chosen = min((lessons.settings[i] for i in same), key=lambda own: own.seeds)
            attributes = {FURTHER: chosen.trial.number, SEED: _free_seed(trials, chosen)}
            return self._final(chosen.trial.params, attributes)
        return self._final(lessons.cube.settings(point), {PROPOSED: True})

    def _spent(self, lessons: Lessons, underway: Sequence[FrozenTrial]) -> Array:
        """Points of settings that have all their seeds, or are proposed by now."""
        every = np.array([setting.seeds >= self.plan.race.most for setting in lessons.settings])
        proposed = [trial for trial in underway if not is_further(trial)]
        return np.concatenate([lessons.tried[every], _points(proposed, lessons)])

    @cached_property
    def _epochs(self) -> int:
        return self.plan.base.training.epochs

    def _final(self, parameters: dict[str, Any], attributes: dict[str, Any]) -> FrozenTrial:
        return optuna.create_trial(
            state=TrialState.WAITING,
            system_attrs={"fixed_params": parameters},
            user_attrs={**attributes, UNTIL: self._epochs},
        )


def tries(trials: Sequence[FrozenTrial]) -> int:
    """Trials that try what the sampler suggests, and count now or when they have ended."""
    alive = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    return sum((t.state in alive or is_paused(t)) and not in_no_bracket(t) for t in trials)


def _underway(lessons: Lessons) -> list[FrozenTrial]:
    """Finals that train now or soon: else all workers would choose the same."""
    coming = (TrialState.RUNNING, TrialState.WAITING)
    return [t for t in lessons.trials if t.state in coming and in_no_bracket(t)]


def _points(trials: Sequence[FrozenTrial], lessons: Lessons) -> Array:
    """Of the cube, for trials that are underway."""
    return lessons.cube.points([trial.system_attrs["fixed_params"] for trial in trials])


def _free_seed(trials: Sequence[FrozenTrial], chosen: Setting) -> int:
    """The first seed that a setting has not had."""
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
