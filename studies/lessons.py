"""What a study's trials have told of all settings, those that were trained a little among them.

Where trials pause at rungs few come to their end, and those were the best ones: of nine settings
one. What the others reached is known after fewer epochs, and how the two go together from those
that went on. So the number of epochs is a coordinate of the surface (:mod:`studies.surface`), on a
log scale, and what is asked for is at its end, where settings are trained for all epochs.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from studies.cube import Array, Cube
from studies.race import INSTANCES, scatter
from studies.rungs import SEEDS, trained
from studies.study import COMPARED, OBJECTIVES, Plan
from studies.surface import Surface

MOST = 300
"""Measurements that are learned from, the highest: time grows with their cube."""
OFTEN = 0.1
"""Share of the trials that must have stopped after so many epochs for others, which went on, to be
compared there."""


@dataclass(frozen=True)
class Setting:
    """What has been measured of a setting that a trial ran to its end.

    Args:
        trials: that are complete; the first of them tried it first, others are finals.
        told: scores of the first objective by seed, the more the better.
        taken: seeds that it has had or is being trained from.
    """

    trials: list[FrozenTrial] = field(default_factory=list)
    told: dict[int, float] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)

    @property
    def trial(self) -> FrozenTrial:
        """That tried it first."""
        return self.trials[0]

    @property
    def scores(self) -> list[float]:
        """Seed by seed."""
        return list(self.told.values())


@dataclass(frozen=True)
class Lessons:
    """What is known of a study's settings.

    Args:
        trials: of the study.
        plan: of the study.
        settings: that were trained to their end, at least one.
    """

    trials: Sequence[FrozenTrial]
    plan: Plan
    settings: list[Setting]

    @classmethod
    def of(cls, trials: Sequence[FrozenTrial], plan: Plan) -> Lessons | None:
        """Those of a study's trials; None as long as no setting was trained to its end."""
        found = settings(trials, plan)
        return cls(trials, plan, found) if found else None

    @cached_property
    def cube(self) -> Cube:
        """That settings are drawn from."""
        return Cube.of(self.trials)

    @cached_property
    def tried(self) -> Array:
        """The settings as points of the cube, ``[settings, coordinates]``."""
        return self.cube.points([setting.trial.params for setting in self.settings])

    @cached_property
    def surface(self) -> Surface:
        """Over the cube and, as the last coordinate, epochs."""
        told = sorted(self._told(), key=lambda measured: -measured[2])[:MOST]
        points, epochs, values, seeds = zip(*told, strict=True)
        return Surface.learned(
            np.column_stack([self.cube.points(points), epochs]),
            np.array(values),
            np.array(seeds),
            *scatter([setting.scores for setting in self.settings]),
        )

    def believed(self) -> tuple[Array, Array]:
        """Mean and standard error of the true value of each setting."""
        return self.surface.at(whole(self.tried))

    def _told(self) -> Iterator[tuple[dict[str, Any], float, float, int]]:
        """Settings, how long they were trained (0 to 1), their value and of how many seeds."""
        for setting in self.settings:
            scores = setting.scores
            yield setting.trial.params, 1.0, statistics.fmean(scores), len(scores)
        worst = min(statistics.fmean(setting.scores) for setting in self.settings)
        begun = [trial for trial in self.trials if trial.params]
        all_epochs = self.plan.base.training.epochs
        compared = self.plan.objectives in COMPARED
        stops = Counter(trained(t) for t in begun if compared and t.state != TrialState.COMPLETE)
        often = {epochs for epochs, count in stops.items() if count >= OFTEN * len(begun)}
        for trial in begun:
            last, complete = trained(trial), trial.state == TrialState.COMPLETE
            stages = often | (set() if complete else {last}) if compared else set()
            for epochs in stages:
                if 0 < epochs <= last and not (complete and epochs == all_epochs):
                    reached = max(v for at, v in trial.intermediate_values.items() if at < epochs)
                    yield trial.params, _length(epochs, all_epochs), reached, 1
            if trial.state == TrialState.PRUNED and not last:
                yield trial.params, 1.0, worst, 1  # weights that are no numbers, say


def whole(points: Array) -> Array:
    """Points of the cube as those of the surface, for trainings of all epochs."""
    return np.column_stack([points, np.ones(len(points))])


def settings(trials: Sequence[FrozenTrial], plan: Plan) -> list[Setting]:
    """Those of complete trials, where there are finals one for all of the same parameters."""
    found: dict[Hashable, Setting] = {}
    for trial in trials:
        if trial.state == TrialState.FAIL:
            continue  # it is tried again, or another takes its place
        own: Hashable = trial.number
        if plan.race.most > plan.race.least:
            own = frozenset((trial.system_attrs.get("fixed_params", {}) | trial.params).items())
        scores = _scores(trial, plan) if trial.state == TrialState.COMPLETE else []
        seeds = trial.user_attrs.get(SEEDS, range(max(plan.race.least, len(scores))))
        setting = found.setdefault(own, Setting())
        setting.taken.update(seeds)
        setting.told.update(zip(seeds, scores, strict=False))
        if scores:
            setting.trials.append(trial)
    return [setting for setting in found.values() if setting.trials]


def _scores(trial: FrozenTrial, plan: Plan) -> list[float]:
    """Of the first objective, seed by seed, the more the better."""
    name, instances = plan.objectives[0], trial.user_attrs.get(INSTANCES)
    values = [instance[name] for instance in instances] if instances else [trial.values[0]]
    sign = 1 if OBJECTIVES[name] == "maximize" else -1
    return [sign * value for value in values]


def _length(epochs: int, of: int) -> float:
    """1 for all epochs, 0 for one."""
    return math.log(epochs) / math.log(of) if of > 1 else 1.0
