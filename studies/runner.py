"""``bsnn-tha study``: open a study and put workers to it.

With one worker the trials run in this process. With several, each is a
process of its own (:mod:`studies.worker_process`) that finds the study in its storage
as a worker on another computer would; this process only starts them, shows
what they do and passes Ctrl-C on.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from studies.errors import StudyError
from studies.finals import Finals
from studies.forecast import Forecast, forecast
from studies.interrupts import STOPPED, two_interrupts
from studies.objective import TrainingObjective
from studies.options import Options
from studies.preparation import Prepared, prepare
from studies.process import Event, work_in_processes
from studies.storage import alone, open_storage
from studies.study import OpenStudy, open_study
from studies.warm_start import Start, from_studies
from studies.worker import Worker, finished

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
            with ending_with_trials(show) as stopping:
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
        replace(options.machine, threads=options.threads_each),
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
    published = prepared.published() if options.published else None
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
            Finals.of(plan, rungs, options.method.entropy()),
            lingers,
            stopping,
        ).work()


@contextmanager
def ending_with_trials(show: Callable[[Event], None]) -> Iterator[threading.Event]:
    """What the first Ctrl-C sets, and tells; the second one stops at once."""
    stopping = threading.Event()

    def stop() -> None:
        show(Event("stopping"))
        stopping.set()

    with two_interrupts(stop):
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
