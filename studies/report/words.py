"""A study in words: counts, budget, the best trials, what went wrong."""

from __future__ import annotations

import tomllib
from typing import NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from bsnn_tha.config import RunConfig
from bsnn_tha.words import counted
from studies.errors import StudyError
from studies.heartbeat import Watch
from studies.ranking import Estimate, best_trials, estimates, score
from studies.rungs import is_paused
from studies.study import OpenStudy
from studies.worker import finished

TOP = 10
"""Trials in the table of the best."""


def best_config(opened: OpenStudy) -> RunConfig:
    """The best trial's configuration.

    Raises:
        StudyError: no trial is complete, or none that is keeps the constraints.
    """
    trials = best_trials(opened)
    if not trials:
        raise StudyError(f"study {opened.study.study_name!r} {without_best(opened)}")
    # Read only: to train it may need to be allowed.
    return RunConfig.from_toml(trials[0].user_attrs["config"], allow_code=True).with_changes(
        {"source": f"study {opened.study.study_name}, trial {trials[0].number}"}
    )


def without_best(opened: OpenStudy) -> str:
    """Why a study has no best trial."""
    complete = opened.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if complete:
        return f"has no trial that keeps the constraints, of {len(complete)} complete ones"
    return "has no complete trial yet"


def text(opened: OpenStudy) -> str:
    """Counts, the best trials and their parameters, for a terminal."""
    study, plan = opened.study, opened.plan
    lines = [f"study {study.study_name}: {_counts(study)}"]
    base = plan.base
    lines.append(f"{base.data.name}, variant {base.variant}, budget: {budget(opened)}")
    names, known = ", ".join(plan.objectives), estimates(opened)
    best = best_trials(opened)
    for place, trial in enumerate(best[:TOP], start=1):
        mark = "  (settings to begin with)" if trial.user_attrs.get("published") else ""
        lines.append(
            f"{place:3}.  trial {trial.number:<4} {names} {score(opened, trial, known)}{mark}"
        )
    if not best:
        lines.append(without_best(opened))
        lines += [
            f"{counted(len(numbers), 'trial')} {state}: {reason}"
            for state, reason, numbers in reasons(study)
        ]
    if counts(study).get("paused"):
        lines.append("the command that began the study goes on with trials that have paused")
    if own := published(study):
        lines.append(f"settings to begin with: trial {own.number}, {score(opened, own, known)}")
    return "\n".join(lines)


class State(NamedTuple):
    """How far a study has come: two that are equal have nothing new between them.

    Args:
        running: trials that run; not those that only stand so, their worker being gone.
        reports: what each trial has reported and how it ended.
    """

    running: int
    reports: tuple[tuple[TrialState, int], ...]


def state_of(opened: OpenStudy, watch: Watch) -> State:
    """How far a study has come by now; the watch has looked on since it is followed."""
    dead = {trial.number for trial in watch.dead(opened.study)}
    trials = opened.study.get_trials(deepcopy=False)
    return State(
        sum(t.state == TrialState.RUNNING and t.number not in dead for t in trials),
        tuple((trial.state, len(trial.intermediate_values)) for trial in trials),
    )


def counts(study: optuna.Study) -> dict[str, int]:
    """How many trials are in which state; only states that some are in."""
    trials = study.get_trials(deepcopy=False)
    names = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
        TrialState.RUNNING: "running",
    }
    found = {name: sum(t.state == state for t in trials) for state, name in names.items()}
    found["paused"] = sum(map(is_paused, trials))
    return {name: count for name, count in found.items() if count or name == "complete"}


def reasons(study: optuna.Study) -> list[tuple[str, str, list[int]]]:
    """Why trials failed or were pruned: state, reason and numbers, the most frequent first."""
    found: dict[tuple[str, str], list[int]] = {}
    for trial in study.get_trials(deepcopy=False):
        state = {TrialState.FAIL: "failed", TrialState.PRUNED: "pruned"}.get(trial.state)
        if state and (reason := trial.user_attrs.get("reason")):
            found.setdefault((state, reason), []).append(trial.number)
    ordered = sorted(found.items(), key=lambda pair: -len(pair[1]))
    return [(state, reason, numbers) for (state, reason), numbers in ordered]


def described(opened: OpenStudy, trial: FrozenTrial, known: dict[int, Estimate]) -> str:
    """One trial in some lines: how it ended, and its settings."""
    marks = [name for name in ("published", "warm start") if trial.user_attrs.get(name)]
    state = "paused" if is_paused(trial) else trial.state.name.lower()
    lines = [", ".join([f"trial {trial.number}", state.replace("fail", "failed"), *marks])]
    if trial.state == TrialState.COMPLETE:
        told = trial.user_attrs.get("scores") or dict(
            zip(opened.plan.objectives, trial.values, strict=True)
        )
        lines += [f"{name} {value:.6g}" for name, value in told.items()]
        if trial.number in known and known[trial.number].margin:
            lines.append(score(opened, trial, known))
    elif trial.intermediate_values:
        epoch = max(trial.intermediate_values)
        value = trial.intermediate_values[epoch]
        lines.append(f"{opened.plan.objectives[0]} {value:.6g} after {counted(epoch + 1, 'epoch')}")
    if reason := trial.user_attrs.get("reason"):
        lines.append(reason)
    broken = [f"constraint {name}: {v:.4g}" for name, v in trial.constraints.items() if v > 0]
    settings = [f"{name} = {_short(value)}" for name, value in trial.params.items()]
    return "\n".join([*lines, *broken, "", *settings]).rstrip()


def budget(opened: OpenStudy) -> str:
    """What trials had of epochs, samples and time steps: those that ended, else as planned.

    It may have been changed by force, and time steps may be searched.
    """
    configs = [
        tomllib.loads(trial.user_attrs["config"])
        for trial in finished(opened.study)
        if "config" in trial.user_attrs
    ] or [tomllib.loads(opened.plan.config)]

    def values(table: str, key: str) -> str:
        found = {config[table].get(key) for config in configs}
        return " or ".join(str(v) for v in sorted(found - {None}) + ["all"] * (None in found))

    return (
        f"{values('training', 'epochs')} epochs, {values('data', 'subset')} training samples, "
        f"{values('data', 'num_steps')} time steps"
    )


def published(study: optuna.Study) -> FrozenTrial | None:
    """The trial of the settings to begin with, the last if it was tried again."""
    trials = [t for t in study.get_trials(deepcopy=False) if t.user_attrs.get("published")]
    return trials[-1] if trials else None


def _counts(study: optuna.Study) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts(study).items())


def _short(value: object) -> str:
    if value is None:
        return "off"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
