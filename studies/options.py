"""What a study is asked for, by a command, a plan of several studies, or in Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bsnn_tha.config import RunConfig
from bsnn_tha.cores import usable_cores
from bsnn_tha.presets import load_preset
from bsnn_tha.training.machine import Machine
from studies.checkpoints import Checkpoints
from studies.errors import StudyError
from studies.race import Race
from studies.storage import DEFAULT, report_folder
from studies.study import Method


@dataclass(frozen=True)
class Options:
    """What ``bsnn-tha study`` was asked for.

    Args:
        dataset, variant: of the preset that trials change.
        trials: N, how many finished trials the study shall have.
        name: of the study; by default ``dataset-variant``.
        storage: folder or URL.
        workers: local processes.
        sampler, pruner, reduction, seed: how the study is searched.
        objectives: what trials are scored by.
        seeds: of each trial, ``"3"`` or ``"1..5"``, see :mod:`studies.race`.
        space: a table of one's own, ``module:NAME`` or ``file.py:NAME``.
        published: start with the preset's own values.
        warm_start: studies whose best settings come next, see :mod:`studies.warm_start`.
        changes: of the preset, by dotted key: the budget, and settings that are
            not to be searched.
        begin: values to begin with instead of the preset's, of settings that are searched.
        timeout: seconds after which no trial is begun, and running ones pause.
        checkpoints: folder or address for the checkpoints of trials that pause; by default
            beside the study's report.
        force: go on with another plan than the study was begun with.
        worker: which of several workers this is, from 0.
    """

    dataset: str
    variant: str
    trials: int
    name: str | None = None
    storage: str = DEFAULT
    workers: int = 1
    sampler: str = "tpe"
    pruner: str = "halving"
    reduction: int = 3
    seed: int | None = None
    objectives: tuple[str, ...] = ("accuracy",)
    seeds: str = "1"
    space: str | None = None
    published: bool = True
    warm_start: tuple[str, ...] = ()
    changes: dict[str, Any] | None = None
    begin: dict[str, Any] | None = None
    timeout: float | None = None
    checkpoints: str | None = None
    force: bool = False
    data_root: str | None = None
    cache_root: str | None = None
    device: str = "auto"
    threads: int | None = None
    worker: int = 0

    def __post_init__(self) -> None:
        for name in ("trials", "workers"):
            if getattr(self, name) < 1:
                raise StudyError(f"{name} must be at least 1, but got {getattr(self, name)}")
        if self.timeout is not None and not self.timeout > 0:
            raise StudyError(f"timeout must be above 0 seconds, but got {self.timeout:g}")
        if self.begin and not self.published:
            raise StudyError(
                f"values to begin with are the first trial's, which is left out, but got "
                f"{', '.join(self.begin)}; give either --begin or --no-published"
            )
        Race.parse(self.seeds)
        _ = self.method  # refuses an unknown sampler before anything is opened
        if self.name is not None and (not self.name or "/" in self.name):
            raise StudyError(f"a study's name must be a word without /, but got {self.name!r}")

    @property
    def config(self) -> RunConfig:
        """The preset with the changes, and the values to begin with: what trials change.

        Raises:
            InvalidValueError: no such preset, or a change breaks a rule.
        """
        asked = {**(self.changes or {}), **(self.begin or {})}
        return load_preset(self.dataset, self.variant).with_changes(asked)

    @property
    def study_name(self) -> str:
        """The study's name, given or by default."""
        return self.name or f"{self.dataset}-{self.variant}"

    @property
    def threads_each(self) -> int:
        """CPU threads of each worker: those given, or its share of this process's."""
        if self.threads is not None:
            return self.threads
        return max(1, usable_cores() // self.workers)

    @property
    def machine(self) -> Machine:
        """Where trials train."""
        data, cache = (None if p is None else Path(p) for p in (self.data_root, self.cache_root))
        return Machine(data, cache, self.device, self.threads)

    @property
    def method(self) -> Method:
        """How the study is searched."""
        return Method(self.sampler, self.pruner, self.reduction, self.seed, self.worker)

    def open_checkpoints(self) -> Checkpoints:
        """Where trials of the study leave what they need to go on."""
        if self.checkpoints is not None:
            return Checkpoints.at(self.checkpoints, self.study_name)
        return Checkpoints(report_folder(self.storage, self.study_name) / "checkpoints")
