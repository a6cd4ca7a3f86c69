"""Beginning a study where others have ended: another data set, variant or budget.

Settings are taken over by what they mean, not by parameters' names: the other trial's
configuration is read through the rows of this study's table. What a row cannot take, because it
is out of range, of another depth, or not there at all, is named and left to the sampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from bsnn_tha.config import RunConfig
from bsnn_tha.errors import BsnnThaError, InvalidValueError
from studies.optuna_internals import contains
from studies.ranking import best_trials
from studies.space import Depth, Space
from studies.storage import open_storage
from studies.study import OpenStudy, Plan, load_existing

BEST = 3
"""How many settings of each other study become first trials."""


@dataclass(frozen=True)
class Start:
    """What other studies give to a new one.

    Args:
        first: parameters of first trials, and where each is from.
        source: their trials as if they had been of this study, for CMA-ES's distribution; those
            that fit as a whole, of studies that are scored in the same way.
        unfit: what could not be taken over, a line for each study.
    """

    first: list[tuple[dict[str, Any], str]]
    source: list[FrozenTrial]
    unfit: list[str]


def from_studies(
    names: Sequence[str], storage: str, plan: Plan, space: Space, depth: Depth
) -> Start:
    """What studies have to give to a plan.

    Args:
        names: of studies in the same storage, or paths of journals elsewhere
            (``old/digits-tha.journal``).
        storage: of the new study.
        plan, space, depth: of the new study.

    Raises:
        StudyError: there is no such study.
    """
    start = Start([], [], [])
    for name in names:
        opened = _open(name, storage)
        same = opened.plan.objectives == plan.objectives
        best = {trial.number for trial in best_trials(opened)[:BEST]}
        missing: dict[str, str] = {}
        for trial in _ranked(opened):
            parameters, reasons = _mapped(trial, space, depth)
            if trial.number in best and parameters:
                missing |= reasons
                if parameters not in [known for known, _ in start.first]:
                    start.first.append((parameters, f"{name}, trial {trial.number}"))
            if same and not reasons and len(plan.objectives) == 1:
                start.source.append(_as_own(trial, parameters, space, depth))
        if not best:
            start.unfit.append(f"warm start: {name} has no complete trial")
        elif missing:
            said = "; ".join(f"{key} ({reason})" for key, reason in missing.items())
            start.unfit.append(f"warm start: not taken over from {name}: {said}")
    return start


def _open(name: str, storage: str) -> OpenStudy:
    if name.endswith(".journal"):
        path = Path(name)
        storage, name = str(path.parent), path.stem
    return load_existing(open_storage(storage, name, create=False), storage, name)


def _ranked(opened: OpenStudy) -> list[FrozenTrial]:
    """Complete trials with a configuration, the best first."""
    best = best_trials(opened)
    numbers = {trial.number for trial in best}
    others = opened.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    trials = [*best, *(trial for trial in others if trial.number not in numbers)]
    return [trial for trial in trials if "config" in trial.user_attrs]


def _mapped(
    trial: FrozenTrial, space: Space, depth: Depth
) -> tuple[dict[str, Any], dict[str, str]]:
    """A trial's settings as parameters of a space, and why rows cannot take theirs."""
    try:  # Read only: what is trained is the new study's own configuration.
        config = RunConfig.from_toml(trial.user_attrs["config"], allow_code=True)
    except BsnnThaError as error:
        return {}, {"its configuration": str(error)}
    parameters: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for row in space.rows:
        names = row.names(depth)
        try:
            values = row.from_config(config, len(names))
        except (InvalidValueError, TypeError, AttributeError):
            reasons[row.key] = "not set there"
            continue
        if len(values) != len(names):
            reasons[row.key] = f"{len(values)} layers there, {len(names)} here"
        elif outside := [v for v in values if not contains(row.distribution, v)]:
            first = outside[0]
            shown = "not set" if first is None else f"{first:.4g}" if _is_number(first) else first
            reasons[row.key] = f"{shown} there, {row.text} here"
        else:
            parameters |= dict(zip(names, values, strict=True))
    return parameters, reasons


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_own(
    trial: FrozenTrial, parameters: dict[str, Any], space: Space, depth: Depth
) -> FrozenTrial:
    distributions = {name: row.distribution for row in space.rows for name in row.names(depth)}
    return optuna.trial.create_trial(
        params=parameters, distributions=distributions, value=trial.values[0]
    )
