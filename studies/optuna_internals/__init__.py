"""What studies need of Optuna that it does not promise to keep: all of it, and nowhere else.

The inside of its TPE is in files of its own, :mod:`studies.optuna_internals.tpe` and
:mod:`studies.optuna_internals.parzen`. Optuna's private names move between versions. ``setup.cfg``
bounds the version to those that the tests ran with; the tests of these files say what has moved
when that bound is raised.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.storages.journal._file import BaseJournalFileLock as JournalLock
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import FrozenTrial, TrialState

__all__ = [
    "JournalLock",
    "JournalOperation",
    "artifact_ids",
    "begin",
    "claim",
    "contains",
    "noted",
    "put_back",
    "storage_of",
    "suggest",
    "trial_id",
]


def suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    """A parameter drawn from a distribution that is an object already."""
    return trial._suggest(name, distribution)


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a distribution can draw a value; False for what is no value of its kind.

    Example:
        >>> from optuna.distributions import CategoricalDistribution, FloatDistribution
        >>> [contains(FloatDistribution(0, 1), value) for value in (0.5, 2.0, "many")]
        [True, False, False]
        >>> contains(CategoricalDistribution(["none", None]), None)
        True
    """
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except (TypeError, ValueError):  # not a number, or none of the options
        return False


def storage_of(study: optuna.Study) -> BaseStorage:
    """Where a study is kept."""
    return study._storage


def trial_id(trial: optuna.Trial | FrozenTrial) -> int:
    """A trial's number within its storage, which may hold several studies."""
    return trial._trial_id


def noted(study: optuna.Study, trial: FrozenTrial | None) -> Any:
    """What optuna-dashboard writes a note for: a study, or one of its trials, ended or not."""
    if trial is None:
        return study
    return SimpleNamespace(storage=study._storage, study=study, _trial_id=trial._trial_id)


def artifact_ids(study: optuna.Study) -> dict[str, str]:
    """Artifacts of a study: their names in the artifact store by the names of their files.

    Those that were deleted in optuna-dashboard stay as ``null``, over which Optuna's own list
    stumbles.
    """
    attributes = study._storage.get_study_system_attrs(study._study_id)
    kept = [json.loads(v) for name, v in attributes.items() if name.startswith("artifacts:")]
    return {artifact["filename"]: artifact["artifact_id"] for artifact in kept if artifact}


def begin(study: optuna.Study) -> optuna.Trial:
    """A new trial, as ``Study.ask``, whatever waits in the queue."""
    _forget_trials(study)
    return optuna.Trial(study, study._storage.create_new_trial(study._study_id))


def claim(study: optuna.Study, waiting: FrozenTrial) -> optuna.Trial | None:
    """Take a trial that waits; None if another worker was faster."""
    _forget_trials(study)
    try:
        if not study._storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING):
            return None
    except UpdateFinishedTrialError:
        return None
    return optuna.Trial(study, waiting._trial_id)


def put_back(study: optuna.Study, trial: optuna.Trial) -> None:
    """Let a running trial wait, with all that it has.

    Raises:
        UpdateFinishedTrialError: others took its worker for dead.
    """
    study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)


def _forget_trials(study: optuna.Study) -> None:
    """A sampler looks at all trials once for each new one, as ``Study.ask`` sees to."""
    study._thread_local.cached_all_trials = None
