"""Optuna's TPE with a memory: it draws the same, bit for bit, in less time.

For each new trial ``optuna.samplers.TPESampler`` reads every parameter of every trial, and every
trial's value, constraints and number several times. Here a trial that has ended is written down
once, as a row of growing arrays, and what the sampler asks is answered from there.

What it overrides is private in Optuna: see :mod:`studies.optuna_internals`.
``tests/studies/test_optuna_tpe.py`` compares what both draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe import sampler as optunas
from optuna.search_space.group_decomposed import _GroupDecomposedSearchSpace, _SearchSpaceGroup
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from studies.optuna_internals.parzen import FasterParzenEstimator

COMPLETE, PRUNED, INFEASIBLE, RUNNING = range(4)
"""What a trial is to TPE: the worst of one kind is better than the best of the next."""

_NUMBER = attrgetter("_number")


class RememberingTPESampler(TPESampler):
    """``optuna.samplers.TPESampler`` that draws the same from the same seed, sooner.

    Args:
        options: Optuna's.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._rows = _Rows(self._get_params)
        self._parzen_estimator_cls = FasterParzenEstimator
        if self._group:
            self._group_decomposed_search_space = _Groups()

    def _sample(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        liar = self._constant_liar
        states = [TrialState.COMPLETE, TrialState.PRUNED] + [TrialState.RUNNING] * liar
        seen = study._get_trials(deepcopy=False, states=states, use_cache=not liar)
        below, above = self._split(study, [t for t in seen if t.number != trial.number])
        better = self._build_parzen_estimator(study, search_space, below, handle_below=True)
        others = self._build_parzen_estimator(study, search_space, above, handle_below=False)
        candidates = better.sample(self._rng.rng, self._n_ei_candidates)
        gains = self._compute_acquisition_func(candidates, better, others)
        drawn = self._compare(candidates, gains)
        return {
            name: distribution.to_external_repr(drawn[name])
            for name, distribution in search_space.items()
        }

    def _split(
        self, study: optuna.Study, trials: list[FrozenTrial]
    ) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
        """The better trials and the others, each in the order of their numbers."""
        rows = self._rows.of(trials, study)
        ended = int(np.count_nonzero(self._rows.kind[rows] != RUNNING))
        several = len(study.directions) > 1
        gamma = optunas.default_gamma_multiobjective if several else optunas.default_gamma
        better = (self._gamma or gamma)(ended)
        if several:  # where the Pareto front takes the time
            return optunas._split_trials(study, trials, better)
        best_first = self._rows.best_first(rows)
        better = min(better, ended)  # those that run never are
        halves = (best_first[:better], best_first[better:])
        below, above = (
            [trials[place] for place in half[np.argsort(rows[half])].tolist()] for half in halves
        )
        return below, above

    def _get_internal_repr(
        self,
        trials: list[FrozenTrial],
        search_space: dict[str, BaseDistribution],
        study: optuna.Study,
    ) -> dict[str, np.ndarray]:
        rows = self._rows.of(trials, study)
        columns = {name: self._rows.values(name, d)[rows] for name, d in search_space.items()}
        whole = ~np.isnan(list(columns.values())).any(axis=0)
        return {name: values[whole] for name, values in columns.items()}


class _Rows:
    """Trials of a study as rows of arrays, each at the place of its number.

    A row is written when its trial is first seen, and again only if another object stands for the
    trial: storages hand out one that has ended as an object that nobody changes, or as a new one
    each time. One that runs may change, and is written whenever it is seen.

    Args:
        params: of a trial of a study by name, as the sampler takes them.
    """

    def __init__(self, params: Callable[[FrozenTrial, optuna.Study], dict[str, Any]]) -> None:
        self._params_of = params
        self._trials: list[FrozenTrial | None] = []  # keeps objects, and so their ids, alive
        self._params: list[dict[str, Any]] = []
        self._ids = np.zeros(0, np.int64)
        self.kind = np.zeros(0, np.int8)
        self._losses = np.zeros((2, 0))
        self._columns: dict[tuple[str, BaseDistribution | None], np.ndarray] = {}

    def of(self, trials: Sequence[FrozenTrial], study: optuna.Study) -> np.ndarray:
        """Rows of trials, written where they have to be; integers of the shape [trials]."""
        rows = np.fromiter(map(_NUMBER, trials), np.intp, len(trials))
        ids = np.fromiter(map(id, trials), np.int64, len(trials))
        self._grow(int(rows.max(initial=-1)) + 1)
        for place in np.flatnonzero(self._ids[rows] != ids).tolist():
            self._write(trials[place], study)
        return rows

    def best_first(self, rows: np.ndarray) -> np.ndarray:
        """Places of rows from the best to the worst, those as good as another in their order."""
        return np.lexsort((*self._losses[::-1, rows], self.kind[rows]))

    def values(self, name: str, distribution: BaseDistribution) -> np.ndarray:
        """A parameter of all trials as the distribution has it inside; NaN where there is none."""
        # A number is the same inside of every range, a choice is its place among the choices.
        of_choices = distribution if isinstance(distribution, CategoricalDistribution) else None
        column = self._columns.get((name, of_choices))
        if column is None:
            column = np.full(len(self._ids), np.nan)
            for row, params in enumerate(self._params):
                if name in params:
                    column[row] = distribution.to_internal_repr(params[name])
            self._columns[name, of_choices] = column
        return column

    def _write(self, trial: FrozenTrial, study: optuna.Study) -> None:
        row = trial.number
        params = self._params_of(trial, study)
        for (name, of_choices), column in self._columns.items():
            if name not in params:
                column[row] = math.nan
            elif of_choices is not None:
                column[row] = of_choices.to_internal_repr(params[name])
            else:
                column[row] = params[name]
        self.kind[row], self._losses[:, row] = _standing(trial, study)
        running = self.kind[row] == RUNNING
        self._trials[row], self._params[row] = trial, params
        self._ids[row] = 0 if running else id(trial)  # no object has the id 0

    def _grow(self, rows: int) -> None:
        """Make room; by half as much again, so that a row is moved a few times only."""
        missing = rows - len(self._ids)
        if missing <= 0:
            return
        missing = max(missing, len(self._ids) // 2)
        self._trials += [None] * missing
        self._params += [{}] * missing
        self._ids = np.append(self._ids, np.zeros(missing, np.int64))
        self.kind = np.append(self.kind, np.zeros(missing, np.int8))
        self._losses = np.append(self._losses, np.zeros((2, missing)), axis=1)
        for key, column in self._columns.items():
            self._columns[key] = np.append(column, np.full(missing, np.nan))


def _standing(trial: FrozenTrial, study: optuna.Study) -> tuple[int, tuple[float, float]]:
    """What kind a trial is of, and by what it is compared with others of its kind, first and then.

    Those of several objectives are compared elsewhere.
    """
    if trial.state == TrialState.RUNNING:
        return RUNNING, (0.0, 0.0)
    if (broken := optunas._get_infeasible_trial_score(trial)) > 0:
        return INFEASIBLE, (broken, 0.0)
    if len(study.directions) > 1:
        return COMPLETE, (0.0, 0.0)
    if trial.state == TrialState.PRUNED:
        return PRUNED, optunas._get_pruned_trial_score(trial, study)
    value = trial.values[0]
    return COMPLETE, (value if study.direction == StudyDirection.MINIMIZE else -value, 0.0)


class _Groups(_GroupDecomposedSearchSpace):
    """Optuna's partition of the parameters, without what cannot divide it further."""

    def __init__(self) -> None:
        super().__init__(include_pruned=True)
        self._search_space = _Partition()


class _Partition(_SearchSpaceGroup):
    def __init__(self) -> None:
        super().__init__()
        self._added: set[frozenset[str]] = set()

    def add_distributions(self, distributions: dict[str, BaseDistribution]) -> None:
        names = frozenset(distributions)
        if names not in self._added:  # else it has been divided along these names
            self._added.add(names)
            super().add_distributions(distributions)
