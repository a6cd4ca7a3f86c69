"""Finals: the last trials of a study are spent where they are worth most for the choice.

Accuracies of one setting scatter by 1 to 2.6 points between seeds here, and good settings differ
by less: the best of many single trainings is the luckiest, and a sampler that takes each at its
word follows the lucky ones. So with ``--seeds-per-trial 1..K`` the last trials, which take two
thirds of a study's epochs, are **finals**. Each is a whole training, of whatever is expected to
gain most by it (:mod:`studies.gain`), as far as all trials before it tell
(:mod:`studies.lessons`):

* another seed of a setting that was tried, as long as it has fewer than K, or
* a **proposal**: a setting that nobody tried.

Finals take the seeds s, s + 1, … s + K − 1 in turn. From one seed, neighbouring settings are lucky
together: proposals would climb what is good for that seed, and nothing would tell.

What is chosen in the end has the highest lower bound (:mod:`studies.ranking`).

A final is a trial of its own, in no bracket. Which is next is a function of the study's trials,
those that run counted in, so that workers need not agree on anything; two that choose the same
seed at once lose one training, whose result counts once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from studies.cube import Array
from studies.gain import apart, most_telling
from studies.lessons import Lessons, whole
from studies.rungs import SEEDS, UNTIL, Rungs, is_final, is_paused
from studies.study import Plan


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
            lessons.surface.expecting(whole(underway)),
            np.concatenate([lessons.tried, underway]),
            self._spent(lessons, underway),
            lessons.cube,
            whole,
            np.random.default_rng(entropy),
        )
        if point is None:
            return None
        same = np.flatnonzero((lessons.tried == point).all(axis=1))
        if len(same):
            setting = lessons.settings[same[0]]
            return self._final(setting.trial.params, self._in_turn(trials, setting.taken)[:1])
        return self._final(
            lessons.cube.settings(point), self._in_turn(trials)[: self.plan.race.least]
        )

    def _in_turn(self, trials: Sequence[FrozenTrial], taken: Collection[int] = ()) -> list[int]:
        """Seeds that are not taken, the one first whose turn it is."""
        turn, most = sum(map(is_final, trials)), self.plan.race.most
        return [seed for i in range(most) if (seed := (turn + 1 + i) % most) not in taken]

    def _spent(self, lessons: Lessons, underway: Array) -> Array:
        """Points of settings that have all their seeds, or are new and trained by now."""
        every = np.array([len(own.taken) >= self.plan.race.most for own in lessons.settings])
        return np.concatenate([lessons.tried[every], apart(underway, lessons.tried)])

    @cached_property
    def _epochs(self) -> int:
        return self.plan.base.training.epochs

    def _final(self, parameters: dict[str, Any], seeds: list[int]) -> FrozenTrial:
        return optuna.create_trial(
            state=TrialState.WAITING,
            system_attrs={"fixed_params": parameters},
            user_attrs={SEEDS: seeds, UNTIL: self._epochs},
        )


def tries(trials: Sequence[FrozenTrial]) -> int:
    """Trials that try what the sampler suggests, and count now or when they have ended."""
    alive = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    return sum((t.state in alive or is_paused(t)) and not is_final(t) for t in trials)


def _underway(lessons: Lessons) -> Array:
    """Points of finals that train now or soon: else all workers would choose the same."""
    coming = (TrialState.RUNNING, TrialState.WAITING)
    finals = [t for t in lessons.trials if t.state in coming and is_final(t)]
    return lessons.cube.points([trial.system_attrs["fixed_params"] for trial in finals])
