"""What a study says while it runs: a line per worker, and one per finished trial."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from rich.live import Live
from rich.table import Table

from bsnn_tha.words import duration
from studies.process import Event
from studies.series.work import Outlook
from studies.study import OpenStudy
from studies.worker import finished, outcome

_STOPPING = "finishing the running trials; press Ctrl-C again to stop at once"


class StudyProgress:
    """Shows events: live lines on a terminal, else one line per finished trial.

    Args:
        study: whose trials are run.
        trials: how many there shall be.
        epochs: of a trial.
        name: that each line begins with; for one of several studies.
    """

    def __init__(self, study: optuna.Study, trials: int, epochs: int, name: str = "") -> None:
        self.study = study
        self.trials = trials
        self.epochs = epochs
        self.name = f"{name}  " if name else ""
        self._lines: dict[int, str] = {}
        self._lock = threading.Lock()
        self._live: Live | None = None

    def __enter__(self) -> Callable[[Event], None]:
        self._started = time.monotonic()
        self._before = len(finished(self.study))
        if sys.stdout.isatty() and not self.name:
            self._live = Live(transient=True, refresh_per_second=4)
            self._live.start()
        if self._before:
            self._print(f"{self.name}{self._before} of {self.trials} trials are finished")
        return self.event

    def __exit__(self, *exception: Any) -> None:
        if self._live is not None:
            self._live.stop()

    def event(self, event: Event) -> None:
        """Show one; may be called from several threads."""
        with self._lock:
            if event.kind == "stopping":
                print(_STOPPING, file=sys.stderr, flush=True)
            elif event.kind == "died":
                self._print(f"worker {event.worker + 1} died and is started again")
            elif event.kind == "epoch":
                assert event.epoch is not None
                value = "" if event.value is None else f"  {event.value:.2%}"
                self._lines[event.worker] = (
                    f"trial {event.trial}  epoch {event.epoch + 1}/{self.epochs}{value}"
                )
                self._draw()
            elif event.kind == "paused":
                self._lines.pop(event.worker, None)
                self._draw()
            elif event.trial is not None:
                self._print(self._finished(event.trial))
                self._lines.pop(event.worker, None)
                self._draw()

    def _finished(self, number: int) -> str:
        trial = next(t for t in self.study.get_trials(deepcopy=False) if t.number == number)
        done = len(finished(self.study))
        return (
            f"{self.name}{done}/{self.trials}  trial {number}: {outcome(trial)}  "
            f"{self._best()}{self._left(done)}"
        )

    def _best(self) -> str:
        if len(self.study.directions) > 1:
            return f"{len(self.study.best_trials)} on the Pareto front"
        try:
            best = self.study.best_trial
        except ValueError:
            return "none complete yet"
        return f"best {best.value:.4f} (trial {best.number})"

    def _left(self, done: int) -> str:
        here = done - self._before
        if here < 1 or done >= self.trials or self.name:  # others take the time as well
            return ""
        seconds = (time.monotonic() - self._started) / here * (self.trials - done)
        return f"  {duration(seconds)} left"

    def _draw(self) -> None:
        if self._live is None:
            return
        table = Table.grid(padding=(0, 2))
        for worker in sorted(self._lines):
            table.add_row(f"worker {worker + 1}", self._lines[worker])
        self._live.update(table)

    def _print(self, line: str) -> None:
        if self._live is None:
            print(line, flush=True)
        else:
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)


class SeriesProgress:
    """Shows events of a series: a line per finished trial, with its study's name.

    Args:
        outlooks: what there is to do.
        studies: opened, one for each.
    """

    def __init__(self, outlooks: Sequence[Outlook], studies: Sequence[OpenStudy]) -> None:
        self._each = [
            StudyProgress(
                opened.study,
                outlook.options.trials,
                opened.plan.base.training.epochs,
                outlook.options.study_name,
            )
            for outlook, opened in zip(outlooks, studies, strict=True)
        ]

    def __enter__(self) -> Callable[[Event], None]:
        for progress in self._each:
            progress.__enter__()
        return lambda event: self._each[event.study].event(event)

    def __exit__(self, *exception: Any) -> None:
        for progress in self._each:
            progress.__exit__(*exception)
