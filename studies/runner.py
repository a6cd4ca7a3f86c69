"""``bsnn-tha study``: open a study and put workers to it.

With one worker the trials run in this process. With several, each is a
process of its own (:mod:`studies.worker_process`) that finds the study in its storage
as a worker on another computer would; this process only starts them, shows
what they do and passes Ctrl-C on.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.trial import FrozenTrial

from bsnn_tha.config import RunConfig
from bsnn_tha.data import check_options
from bsnn_tha.data.dataset import Dataset
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.notation import write_out
from bsnn_tha.presets import load_preset
from bsnn_tha.training.evaluation import load_data
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.session import Session
from studies.checkpoints import Checkpoints
from studies.errors import StudyError
from studies.finals import Finals
from studies.forecast import Forecast, forecast
from studies.objective import TrainingObjective, check_objectives
from studies.process import Event, read_events, start_worker
from studies.race import Race
from studies.space import Depth, Space
from studies.spaces import load_space, space_for
from studies.storage import DEFAULT, alone, open_storage, report_folder
from studies.study import Method, OpenStudy, Plan, open_study
from studies.warm_start import Start, from_studies
from studies.worker import Worker, finished

RESTARTS = 3
"""How often a worker process that dies is started again."""
STOPPED = "stopped; finished trials are kept"
AT_ONCE = signal.SIGUSR2
"""Tells a worker process to stop at once: two SIGINT in a row may arrive as one."""


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
        Race.parse(self.seeds)
        _ = self.method  # refuses an unknown sampler before anything is opened
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
        return Method(self.sampler, self.pruner, self.reduction, self.seed, self.worker)

    def open_checkpoints(self) -> Checkpoints:
        """Where trials of the study leave what they need to go on."""
        if self.checkpoints is not None:
            return Checkpoints.at(self.checkpoints, self.study_name)
        return Checkpoints(report_folder(self.storage, self.study_name) / "checkpoints")


class Prepared(NamedTuple):
    """What options describe, with the data that were loaded to find out."""

    plan: Plan
    space: Space
    dataset: Dataset
    depth: Depth
    """Of the plan's network."""


def prepare(options: Options) -> Prepared:
    """The plan that the options describe. Loads the data and builds the network, once.

    Raises:
        InvalidValueError: no such preset, or a change breaks a rule.
        StudyError: the space cannot be loaded, or an objective does not fit.
    """
    config = load_preset(options.dataset, options.variant).with_changes(options.changes or {})
    if config.training.protocol != "validation":
        raise InvalidValueError(
            "a study never sees the test set: training.protocol must be validation"
        )
    # Trials are compared at the epochs they are given; pruning stops them early.
    config = config.with_changes({"training.patience": None})
    dataset = load_data(config, options.machine)
    check_objectives(options.objectives, dataset)
    session = Session.prepare(config, options.machine, dataset)  # what training would refuse
    if len(options.objectives) > 1 and options.sampler == "cma-es":
        raise StudyError("sampler 'cma-es' takes one objective; use nsga2 or tpe for two")
    if options.space:
        space = load_space(options.space)
    else:
        space = _fitting(space_for(config, dataset), config)
    # What the command line sets is not searched.
    fixed = options.changes or {}
    space = space.without(*fixed).bound(config)
    prefix = "data.options."
    check_options(
        config.data.name,
        [row.key.removeprefix(prefix) for row in space.rows if row.key.startswith(prefix)],
    )
    if not space.rows:
        raise StudyError("there is nothing to search: --set fixes every row of the space")
    if "threshold.theta_inf" in fixed and any(r.key == "threshold.theta_0" for r in space.rows):
        raise StudyError(
            "threshold.theta_inf is fixed but threshold.theta_0 is searched, which may come to "
            "lie above it; --set both"
        )
    plan = Plan(config.to_toml(), tuple(space.table()), options.objectives, options.seeds)
    return Prepared(plan, space, dataset, Depth.of(session.module.network))


Watcher = Callable[[optuna.Study, int, int], AbstractContextManager[Callable[[Event], None]]]
"""Made of a study, how many trials it shall have and of how many epochs each is. Entered before
the first trial, it gives what is called with every event, from several threads."""


def unwatched(study: optuna.Study, trials: int, epochs: int) -> Any:
    """A watcher that does nothing."""
    return nullcontext(lambda event: None)


def run_study(
    options: Options,
    watcher: Watcher = unwatched,
    say: Callable[[object], None] | None = None,
) -> OpenStudy:
    """Create a study or go on with it, to ``options.trials`` finished trials.

    Args:
        options: what was asked for.
        watcher: is told what workers do.
        say: is told before the first trial what could not be taken over from other studies, and
            what the trials will cost (a :class:`~studies.forecast.Forecast`, for which a few
            iterations are trained); None asks for neither.

    Returns:
        The study, with as many finished trials as were asked for, or fewer if
        time ran out or Ctrl-C was pressed.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    opened, prepared, start = _begin(options)
    deadline = None if options.timeout is None else time.monotonic() + options.timeout
    to_begin = options.trials - len(finished(opened.study))
    if say is not None and to_begin > 0:
        for line in start.unfit:
            say(line)
        say(predict(options, prepared, to_begin))
    with watcher(opened.study, options.trials, prepared.plan.base.training.epochs) as show:
        if options.workers == 1:
            with interruptible(show) as stopping:
                work_here(opened.study, prepared, options, deadline, show, stopping)
        else:
            failed = work_in_processes([options], deadline, show)
            if failed and len(finished(opened.study)) < options.trials:
                raise StudyError(f"{failed} of {options.workers} workers ended with an error")
    return opened


def predict(options: Options, prepared: Prepared, trials: int) -> Forecast:
    """What so many trials will cost here; a few iterations are trained to tell."""
    plan = prepared.plan
    return forecast(
        plan.base,
        prepared.dataset,
        replace(options.machine, threads=_threads(options)),
        trials,
        options.workers,
        options.method.rungs(plan),
        plan.race,
    )


def open_for_work(options: Options) -> tuple[OpenStudy, Prepared]:
    """Create or open the study that the options describe."""
    opened, prepared, _ = _begin(options)
    return opened, prepared


def _begin(options: Options) -> tuple[OpenStudy, Prepared, Start]:
    prepared = prepare(options)
    plan, name = prepared.plan, options.study_name
    # Whatever can be refused is refused before the storage is touched.
    published = _published(prepared) if options.published else None
    start = from_studies(options.warm_start, options.storage, plan, prepared.space, prepared.depth)
    storage = open_storage(options.storage, name, create=True)
    with alone(options.storage, name):  # others may begin it just now
        opened = open_study(
            storage,
            options.storage,
            name,
            plan,
            options.method,
            force=options.force,
            source=start.source,
        )
        study = opened.study
        if not study.get_trials(deepcopy=False):
            if published is not None:
                study.enqueue_trial(published, user_attrs={"published": True})
            for parameters, origin in start.first:
                study.enqueue_trial(parameters, user_attrs={"warm start": origin})
    return opened, prepared, start


def work_here(
    study: optuna.Study,
    prepared: Prepared,
    options: Options,
    deadline: float | None,
    show: Callable[[Event], None],
    stopping: threading.Event,
    lingers: bool = True,
) -> None:
    """One worker in this process.

    Args:
        study, prepared, options: opened for it.
        deadline: ``time.monotonic()`` at which it ends.
        show: is told what it does.
        stopping: ends it after its trial; it is set when time is up.
        lingers: as of :class:`~studies.worker.Worker`.
    """

    def told(trial: FrozenTrial) -> None:
        show(Event("finished" if trial.state.is_finished() else "paused", trial.number))

    def seen(number: int, epoch: int, value: float | None) -> None:
        show(Event("epoch", number, epoch, value))

    plan, space, dataset, depth = prepared
    kept, rungs = options.open_checkpoints(), options.method.rungs(plan)
    objective = TrainingObjective(
        plan, space, options.machine, seen, dataset, depth, kept, deadline
    )
    with _collected_less():
        Worker(
            study,
            objective,
            options.trials,
            deadline,
            told,
            rungs,
            kept,
            Finals.of(plan),
            lingers,
            stopping,
        ).work()


@contextmanager
def interruptible(show: Callable[[Event], None]) -> Iterator[threading.Event]:
    """What the first Ctrl-C sets, and tells; the second one stops at once."""
    stopping = threading.Event()

    def stop() -> None:
        show(Event("stopping"))
        stopping.set()

    with _two_interrupts(stop):
        try:
            yield stopping
        except SystemExit:  # what Lightning makes of the second Ctrl-C
            raise KeyboardInterrupt(STOPPED) from None


@contextmanager
def _collected_less() -> Iterator[None]:
    """What is here by now stays: collections after each trial need not look at it.

    At the end they do again, unless somebody else wanted it so: compiled libraries complain
    about objects that outlive them.
    """
    ours = not gc.get_freeze_count()
    gc.collect()  # of an earlier study, a connection to a database among it
    gc.freeze()
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()


def _fitting(space: Space, config: RunConfig) -> Space:
    """Without rows for what a network does not have."""
    convolutional = "C" in write_out(config.network.notation)
    return space if convolutional else space.without("network.norm")


def _published(prepared: Prepared) -> dict[str, Any]:
    """The parameters that stand for the configuration itself: where the paper ended."""
    try:
        return prepared.space.parameters(prepared.plan.base, prepared.depth)
    except InvalidValueError as error:
        raise StudyError(
            f"the study cannot start from the preset's own settings: {error}; widen the space, "
            "or leave them out with --no-published"
        ) from None


def work_in_processes(
    studies: Sequence[Options], deadline: float | None, show: Callable[[Event], None]
) -> int:
    """Start workers, start those again that die, and wait for all.

    Args:
        studies: that each of them works on (:mod:`studies.series.work`), with one machine and
            one number of workers.
        deadline: ``time.monotonic()`` at which they end.
        show: is told what they do.

    Returns:
        How many ended with an error.
    """
    options = studies[0]
    processes: dict[int, subprocess.Popen[str]] = {}
    readers: list[threading.Thread] = []
    stopping = False
    asked: set[int] = set()

    def start(index: int) -> None:
        left = None if deadline is None else max(0.001, deadline - time.monotonic())
        shares = [
            replace(
                study,
                workers=1,
                timeout=left,
                threads=_threads(options),
                published=False,  # that trial is queued already, as are those of other studies
                worker=index,
            )
            for study in studies
        ]
        processes[index] = process = start_worker(
            [asdict(share) for share in shares], _environment(options, index)
        )
        if stopping:  # Ctrl-C came while it was started
            ask(process)
        reader = threading.Thread(target=read_events, args=(process, index, show), daemon=True)
        reader.start()
        readers.append(reader)

    def ask(process: subprocess.Popen[str]) -> None:
        if process.pid not in asked:  # a second time would stop it at once
            asked.add(process.pid)
            process.send_signal(signal.SIGINT)

    def ask_all() -> None:
        nonlocal stopping
        stopping = True
        show(Event("stopping"))
        for process in list(processes.values()):
            ask(process)

    try:
        with _two_interrupts(ask_all):
            restarts = 0
            for index in range(options.workers):
                start(index)
            while any(process.poll() is None for process in processes.values()):
                for index, process in list(processes.items()):
                    code = process.poll()
                    dead = code is not None and code < 0
                    if dead and restarts < RESTARTS and not stopping:
                        restarts += 1
                        show(Event("died", worker=index))
                        start(index)
                time.sleep(0.2)
    except KeyboardInterrupt:
        for process in processes.values():
            process.send_signal(AT_ONCE)
        for process in processes.values():
            process.wait()
        raise
    for reader in readers:
        reader.join(timeout=5)
    return sum(process.returncode != 0 for process in processes.values())


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

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt(STOPPED)

    def handle(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            stop(number, frame)
        pressed = True
        first()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, handle), signal.signal(AT_ONCE, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see start_worker
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(AT_ONCE, before[1])
