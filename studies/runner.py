"""``bsnn-tha study``: open a study and put workers to it.

With one worker the trials run in this process. With several, each is a
process of its own (:mod:`studies.process`) that finds the study in its storage
as a worker on another computer would; this process only starts them, shows
what they do and passes Ctrl-C on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from bsnn_tha.config import RunConfig
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.presets import load_preset
from bsnn_tha.training.evaluation import load_data
from bsnn_tha.training.machine import Machine
from studies.errors import StudyError
from studies.objective import TrainingObjective, own_settings
from studies.process import Event, read_events, worker_command
from studies.progress import StudyProgress
from studies.space import Space
from studies.spaces import load_space, space_for
from studies.storage import DEFAULT, open_storage
from studies.study import Method, OpenStudy, Plan, open_study
from studies.worker import Worker

RESTARTS = 3
"""How often a worker process that dies is started again."""


@dataclass(frozen=True)
class Options:
    """What ``bsnn-tha study`` was asked for.

    Args:
        dataset, variant: of the preset that trials change.
        trials: N, how many finished trials the study shall have.
        name: of the study; by default ``dataset-variant``.
        storage: folder or URL.
        workers: local processes.
        sampler, pruner, seed: how the study is searched.
        objectives: what trials are scored by.
        space: a table of one's own, ``module:NAME`` or ``file.py:NAME``.
        published: start with the preset's own values.
        changes: of the preset, by dotted key: the budget, and settings that are
            not to be searched.
        timeout: seconds after which no trial is begun.
        force: go on with another plan than the study was begun with.
    """

    dataset: str
    variant: str
    trials: int
    name: str | None = None
    storage: str = DEFAULT
    workers: int = 1
    sampler: str = "tpe"
    pruner: str = "halving"
    seed: int | None = None
    objectives: tuple[str, ...] = ("accuracy",)
    space: str | None = None
    published: bool = True
    changes: dict[str, Any] | None = None
    timeout: float | None = None
    force: bool = False
    data_root: str | None = None
    cache_root: str | None = None
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("trials", "workers"):
            if getattr(self, name) < 1:
                raise StudyError(f"{name} must be at least 1, but got {getattr(self, name)}")
        if self.timeout is not None and not self.timeout > 0:
            raise StudyError(f"timeout must be above 0 seconds, but got {self.timeout:g}")
        if self.name is not None and (not self.name or "/" in self.name):
            raise StudyError(f"a study's name must be a word without /, but got {self.name!r}")

    @property
    def study_name(self) -> str:
        """The study's name, given or by default."""
        return self.name or f"{self.dataset}-{self.variant}"

    @property
    def machine(self) -> Machine:
        """Where trials train."""
        data, cache = (None if p is None else Path(p) for p in (self.data_root, self.cache_root))
        return Machine(data, cache, self.device, self.threads)

    @property
    def method(self) -> Method:
        """How the study is searched."""
        return Method(self.sampler, self.pruner, self.seed)


def prepare(options: Options) -> tuple[Plan, Space]:
    """The plan that the options describe.

    Raises:
        InvalidValueError: no such preset, or a change breaks a rule.
        StudyError: the space cannot be loaded.
    """
    config = load_preset(options.dataset, options.variant).with_changes(options.changes or {})
    if config.training.protocol != "validation":
        raise InvalidValueError(
            "a study never sees the test set: training.protocol must be validation"
        )
    # Trials are compared at the epochs they are given; pruning stops them early.
    config = config.with_changes({"training.patience": None})
    if options.space:
        space = load_space(options.space)
    else:
        space = _fitting(space_for(config, load_data(config, options.machine)), config)
    # What the command line sets is not searched.
    space = space.without(*(options.changes or {})).bound(config)
    return Plan(config.to_toml(), tuple(space.table()), options.objectives), space


def run_study(options: Options) -> OpenStudy:
    """Create a study or go on with it, to ``options.trials`` finished trials.

    Returns:
        The study, with as many finished trials as were asked for, or fewer if
        time ran out or Ctrl-C was pressed.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    opened, plan, space = open_for_work(options)
    progress = StudyProgress(opened.study, options.trials, plan.base.training.epochs)
    deadline = None if options.timeout is None else time.monotonic() + options.timeout
    with progress:
        if options.workers == 1:
            work_here(opened.study, plan, space, options, deadline, progress.event)
        else:
            _work_in_processes(options, deadline, progress.event)
    return opened


def open_for_work(options: Options) -> tuple[OpenStudy, Plan, Space]:
    """Create or open the study that the options describe."""
    plan, space = prepare(options)
    opened = _open(options, plan)
    if opened.created and options.published:
        _enqueue_published(opened.study, plan, space, options)
    return opened, plan, space


def work_here(
    study: optuna.Study,
    plan: Plan,
    space: Space,
    options: Options,
    deadline: float | None,
    show: Callable[[Event], None],
) -> None:
    """One worker in this process; the first Ctrl-C ends it after its trial."""

    def told(trial: FrozenTrial) -> None:
        show(Event("finished", trial.number))

    def seen(number: int, epoch: int, value: float | None) -> None:
        show(Event("epoch", number, epoch, value))

    objective = TrainingObjective(plan, space, options.machine, seen)
    worker = Worker(study, objective, options.trials, deadline, told)
    with _two_interrupts(worker.stopping.set):
        worker.work()


def _open(options: Options, plan: Plan) -> OpenStudy:
    name = options.study_name
    return open_study(
        open_storage(options.storage, name, create=True),
        options.storage,
        name,
        plan,
        options.method,
        force=options.force,
    )


def _fitting(space: Space, config: RunConfig) -> Space:
    """Without rows for what a network does not have."""
    convolutional = "C" in config.network.notation
    return space if convolutional else space.without("network.batch_norm")


def _enqueue_published(study: optuna.Study, plan: Plan, space: Space, options: Options) -> None:
    try:
        parameters = own_settings(plan.base, space, options.machine)
    except InvalidValueError as error:
        raise StudyError(
            f"the study cannot start from the preset's own settings: {error}; widen the space, "
            "or leave them out with --no-published"
        ) from None
    study.enqueue_trial(parameters, user_attrs={"published": True})


def _work_in_processes(
    options: Options, deadline: float | None, show: Callable[[Event], None]
) -> None:
    """Start workers, start those again that die, and wait for all."""
    processes: list[subprocess.Popen[str]] = []
    readers: list[threading.Thread] = []

    def start(index: int) -> subprocess.Popen[str]:
        left = None if deadline is None else max(0.001, deadline - time.monotonic())
        share = replace(options, workers=1, timeout=left, threads=_threads(options))
        process = subprocess.Popen(
            worker_command(asdict(share)),
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(options, index),
            start_new_session=True,  # Ctrl-C reaches them through this process only
        )
        reader = threading.Thread(target=read_events, args=(process, index, show), daemon=True)
        reader.start()
        readers.append(reader)
        return process

    def pass_on() -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)

    try:
        with _two_interrupts(pass_on):
            restarts, stopping = 0, False
            processes.extend(start(index) for index in range(options.workers))
            while any(process.poll() is None for process in processes):
                for index, process in enumerate(processes):
                    code = process.poll()
                    if code is not None and code < 0 and restarts < RESTARTS and not stopping:
                        restarts += 1
                        show(Event("died", worker=index))
                        processes[index] = start(index)
                time.sleep(0.2)
    except KeyboardInterrupt:
        pass_on()
        for process in processes:
            process.wait()
        raise
    for reader in readers:
        reader.join(timeout=5)
    failed = [process.returncode for process in processes if process.returncode not in (0, -2)]
    if failed:
        raise StudyError(f"{len(failed)} of {options.workers} workers ended with an error")


def _threads(options: Options) -> int:
    if options.threads is not None:
        return options.threads
    return max(1, len(os.sched_getaffinity(0)) // options.workers)


def _environment(options: Options, index: int) -> dict[str, str]:
    """CPU threads and GPUs, divided between workers."""
    import torch

    environment = dict(os.environ, OMP_NUM_THREADS=str(_threads(options)))
    if options.device in ("auto", "cuda") and torch.cuda.is_available():
        given = environment.get("CUDA_VISIBLE_DEVICES")
        gpus = given.split(",") if given else [str(n) for n in range(torch.cuda.device_count())]
        environment["CUDA_VISIBLE_DEVICES"] = gpus[index % len(gpus)]
    return environment


@contextmanager
def _two_interrupts(first: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C asks to finish, the second stops at once."""
    pressed = False

    def handle(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt("stopped; finished trials are kept")
        pressed = True
        print(
            "finishing the running trials; press Ctrl-C again to stop at once",
            file=sys.stderr,
            flush=True,
        )
        first()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
