"""Workers of a series: each takes the study that has the fewest of them.

Sixteen workers on one study would draw sixteen settings from what one has learned; spread over
the series, each study's sampler sees nearly all trials before the next. A worker stays with a
study until there is no trial to be had, leaves the last ones to those that run them, and goes
on to the next; when all are so far it waits with one after the other until that is finished,
since a trial whose worker dies has to be tried again. What is done is known from the storages
alone: workers on any number of computers may come and go.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from bsnn_tha.data.inventory import inventory
from bsnn_tha.data.root import data_root
from bsnn_tha.errors import BsnnThaError
from studies.errors import StudyError
from studies.forecast import Forecast
from studies.options import Options
from studies.preparation import prepare
from studies.process import Event, work_in_processes
from studies.runner import ending_with_trials, open_for_work, predict, work_here
from studies.storage import open_storage, study_names
from studies.study import OpenStudy, load_existing
from studies.worker import finished


def take_turns(
    studies: Sequence[Options], deadline: float | None, show: Callable[[Event], None]
) -> None:
    """One worker for all of them, in this process.

    Args:
        studies: that have been begun.
        deadline: ``time.monotonic()`` at which it ends; None for no limit.
        show: is told what it does; events say the study's place.
    """
    left: set[int] = set()  # there was no trial to be had
    with ending_with_trials(show) as stopping:
        while not stopping.is_set() and (deadline is None or time.monotonic() < deadline):
            unfinished = [i for i, options in enumerate(studies) if not _is_finished(options)]
            if not unfinished:
                return
            fresh = [i for i in unfinished if i not in left]
            place = _fewest_on(studies, fresh) if fresh else unfinished[0]
            options = studies[place]
            opened, prepared = open_for_work(options)
            work_here(
                opened.study,
                prepared,
                options,
                deadline,
                lambda event, place=place: show(replace(event, study=place)),  # type: ignore[misc]
                stopping,
                lingers=not fresh or len(unfinished) == 1,
            )
            left.add(place)


@dataclass(frozen=True)
class Outlook:
    """What a study of a series still has to do.

    Args:
        options: of it.
        done: trials that are finished.
        forecast: of the others; None if there are none, or it cannot be trained here.
        reason: why it cannot.
    """

    options: Options
    done: int
    forecast: Forecast | None = None
    reason: str = ""

    @property
    def seconds(self) -> float:
        """That its trials take with all workers on them."""
        return 0.0 if self.forecast is None else self.forecast.total / self.forecast.workers

    @property
    def left(self) -> int:
        """Trials to go."""
        return max(0, self.options.trials - self.done)


def outlook(options: Options, *, downloads: bool = True) -> Outlook:
    """What one study still has to do; nothing is written but data that are downloaded.

    A few iterations of its own network are trained to tell (:mod:`studies.forecast`).

    Args:
        options: of the study.
        downloads: whether data that are missing are got; else that is the reason why its cost
            cannot be told.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    opened = existing(options)
    done = 0 if opened is None else len(finished(opened.study))
    if done >= options.trials:
        return Outlook(options, done)
    try:
        if not downloads and (missing := _missing_data(options)):
            return Outlook(options, done, reason=missing)
        prepared = prepare(options)
        return Outlook(options, done, predict(options, prepared, options.trials - done))
    except BsnnThaError as error:
        return Outlook(options, done, reason=str(error))


def _missing_data(options: Options) -> str:
    """What a known data set lacks on this machine, and how to get it; else nothing."""
    name, root = options.config.data.name, data_root(options.data_root)
    for entry in inventory(root):
        if entry.name == name and entry.obtain:
            return f"{name} is not in {root}; {entry.obtain}"
    return ""


Watcher = Callable[
    [Sequence[Outlook], Sequence[OpenStudy]], AbstractContextManager[Callable[[Event], None]]
]
"""Made of what there is to do; gives what is called with every event, from several threads."""


def run_series(outlooks: Sequence[Outlook], watcher: Watcher) -> None:
    """Go on with studies until each has its trials, time is up or Ctrl-C is pressed.

    Args:
        outlooks: of the studies, whose options have one storage, machine and number of workers.
        watcher: is told what workers do.

    Raises:
        StudyError: a study cannot be trained here or exists with another plan, before any
            trial is begun.
    """
    if reasons := [f"{o.options.study_name}: {o.reason}" for o in outlooks if o.reason]:
        more = f", and {len(reasons) - 1} others likewise" if len(reasons) > 1 else ""
        raise StudyError(f"{reasons[0]}{more}; name those that can be trained here with --only")
    todo = [o for o in outlooks if o.left]
    if not todo:
        return
    studies = [o.options for o in todo]
    first = studies[0]
    deadline = None if first.timeout is None else time.monotonic() + first.timeout
    opened = [open_for_work(options)[0] for options in studies]
    with watcher(todo, opened) as show:
        if first.workers == 1:
            take_turns(studies, deadline, show)
            return
        failed = work_in_processes(studies, deadline, show)
        if failed and not all(_is_finished(options) for options in studies):
            raise StudyError(f"{failed} of {first.workers} workers ended with an error")


def existing(options: Options) -> OpenStudy | None:
    """The study that options describe, to be read; None if nobody has begun it."""
    where, name = options.storage, options.study_name
    if "://" not in where and name not in study_names(where):
        return None  # without a file of its own
    storage = open_storage(where, name, create=False)
    return load_existing(storage, where, name) if _has(storage, name) else None


def _has(storage: BaseStorage, name: str) -> bool:
    return name in optuna.get_all_study_names(storage)


def _is_finished(options: Options) -> bool:
    opened = existing(options)
    return opened is not None and len(finished(opened.study)) >= options.trials


def _fewest_on(studies: Sequence[Options], places: Sequence[int]) -> int:
    """Where the fewest trials run; workers that begin at once do not all begin with the first."""

    def rank(place: int) -> tuple[int, int]:
        options = studies[place]
        opened = existing(options)
        running = [] if opened is None else opened.study.get_trials(False, (TrialState.RUNNING,))
        return len(running), (place - options.worker) % len(studies)

    return min(places, key=rank)
