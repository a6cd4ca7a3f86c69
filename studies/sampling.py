"""Samplers that learn from trials that have paused as from pruned ones.

A trial that waits at a rung has told what it is worth so far, but Optuna's samplers look at
ended trials only. With brackets of 81 settings they would draw the 81st as blindly as the first.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from studies.optuna_internals import storage_of
from studies.rungs import is_paused


class SeesPaused(BaseSampler):
    """A sampler to which paused trials look as if they had been pruned.

    Args:
        sampler: any of Optuna's, or of one's own.
    """

    def __init__(self, sampler: BaseSampler) -> None:
        self.sampler = sampler
        self._study: optuna.Study | None = None

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        # A study keeps what it has read for as long as a trial is begun: a new one for each.
        view = _PausedArePruned(storage_of(study))  # type: ignore[abstract]
        self._study = optuna.Study(study.study_name, view, self.sampler, study.pruner)
        self.sampler.before_trial(self._study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, Any]:
        return self.sampler.infer_relative_search_space(self._study or study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, Any]
    ) -> dict[str, Any]:
        return self.sampler.sample_relative(self._study or study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        return self.sampler.sample_independent(
            self._study or study, trial, param_name, param_distribution
        )

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: Any, values: Any) -> None:
        self.sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        self.sampler.reseed_rng()


def _handed_on(name: str) -> Callable[..., Any]:
    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        return getattr(self.storage, name)(*arguments, **options)

    return call


class _Storage(BaseStorage):
    """A storage that asks another one for everything."""

    def __init__(self, storage: BaseStorage) -> None:
        self.storage = storage

    for _name in BaseStorage.__abstractmethods__:
        locals()[_name] = _handed_on(_name)


class _PausedArePruned(_Storage):
    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        trials = self.storage.get_all_trials(study_id, deepcopy=False)
        seen = (_as_pruned(trial) if is_paused(trial) else trial for trial in trials)
        chosen = [trial for trial in seen if states is None or trial.state in states]
        return copy.deepcopy(chosen) if deepcopy else chosen


def _as_pruned(trial: FrozenTrial) -> FrozenTrial:
    pruned = copy.copy(trial)
    pruned.state = TrialState.PRUNED
    return pruned
