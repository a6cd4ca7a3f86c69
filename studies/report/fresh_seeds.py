"""A study's best configuration trained from seeds that nothing was selected on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bsnn_tha.config import RunConfig
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.trials import (
    TrialsResult,
    are_trials,
    resume_trials,
    train_trials,
    trials_config,
)
from studies.errors import StudyError
from studies.report.words import best_config
from studies.study import OpenStudy

RETRAINED = "retrained"


def retrain(
    opened: OpenStudy,
    folder: Path,
    seeds: int,
    epochs: int | None,
    machine: Machine,
    allow_code: bool = False,
) -> TrialsResult:
    """Train the best configuration from several seeds; what has begun goes on.

    Seeds start after the study's own, so that none was selected for. The study may be
    anyone's: with ``allow_code`` it may name code outside this package.

    Raises:
        StudyError: the folder has trials of another setting.
    """
    config = best_config(opened)
    config = RunConfig.from_toml(config.to_toml(), config.source, allow_code=allow_code)
    changes: dict[str, Any] = {"training.seed": config.training.seed + opened.plan.race.most}
    if epochs is not None:
        changes["training.epochs"] = epochs
    config, path = config.with_changes(changes), folder / RETRAINED
    if not are_trials(path):
        return train_trials(config, seeds, output=path, machine=machine)
    begun = trials_config(path, allow_code=allow_code)
    if begun != config:
        raise StudyError(
            f"{path} has {begun.training.epochs} epochs of {begun.source}, not "
            f"{config.training.epochs} of {config.source}; move it away to train that"
        )
    return resume_trials(path, at_least=seeds, machine=machine, allow_code=allow_code)


def retrained(opened: OpenStudy, folder: Path) -> list[float]:
    """Test accuracies of the best configuration from fresh seeds, as far as it was trained.

    None of a setting that was the best one before the study went on.
    """
    path = folder / RETRAINED
    if not (path / "trials.json").is_file():
        return []
    if trials_config(path, allow_code=True).source != best_config(opened).source:
        return []
    summary = json.loads((path / "trials.json").read_text(encoding="utf-8"))
    accuracies: list[float] = summary.get("accuracies", [])
    return accuracies
