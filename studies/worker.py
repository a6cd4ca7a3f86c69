"""One worker: takes trials until a study has as many as were asked for.

Any number of workers, on any number of computers, share a study through its
storage alone. Three rules make them exact:

**Numbers.** The storage numbers trials atomically. A trial runs only if fewer
than N living trials (finished, pruned or running) have smaller numbers; one
that comes too late is marked as failed, "not needed", and never counted.

**Signs of life.** While a trial runs, a thread of its worker renews a
heartbeat in the trial's attributes. A trial whose heartbeat has not changed
for :data:`GRACE` seconds of the watcher's own clock, or whose process is gone
from this computer, is marked as failed by whoever notices first.

**Second chances.** A trial that died with its worker is put back in the queue
with the same parameters, up to :data:`RETRIES` times.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from studies.errors import StudyError, TrialFailedError
from studies.optuna_internals import storage_of, trial_id

HEARTBEAT = 20.0
"""Seconds between two signs of life."""
GRACE = 90.0
"""Seconds without one after which a trial counts as dead."""
RETRIES = 3
"""How often a trial is tried again after its worker died."""
FAILURES_IN_A_ROW = 10
"""So many failed trials of one worker in a row end it: something is wrong for all."""
POLL = 1.0
"""Seconds between looks at trials that others run."""

Objective = Callable[[optuna.Trial], float | Sequence[float]]

_ALIVE = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that count: complete or pruned."""
    return study.get_trials(deepcopy=False, states=_FINISHED)


@dataclass
class Worker:
    """Runs trials of a study.

    Args:
        study: opened.
        objective: scores a trial; may raise ``optuna.TrialPruned`` or
            :class:`~studies.errors.TrialFailedError`.
        trials: N, how many trials the study shall have.
        deadline: ``time.monotonic()`` after which no trial is begun; None for
            no limit.
        told: called after each trial with its final state.
    """

    study: optuna.Study
    objective: Objective
    trials: int
    deadline: float | None = None
    told: Callable[[FrozenTrial], None] = lambda trial: None
    stopping: threading.Event = field(default_factory=threading.Event)
    _seen: dict[int, tuple[Any, float]] = field(default_factory=dict)

    def work(self) -> None:
        """Take trials until there are N, time is up or :attr:`stopping` is set.

        Raises:
            StudyError: :data:`FAILURES_IN_A_ROW` trials failed.
        """
        failures = 0
        while not self.stopping.is_set() and not self._late():
            self._bury_the_dead()
            if len(finished(self.study)) >= self.trials:
                return
            if len(self._alive()) >= self.trials:
                self.stopping.wait(POLL)  # others run the last ones; they may yet fail
                continue
            trial = self.study.ask()
            if self._rank(trial) >= self.trials:
                trial.set_user_attr("reason", "not needed: others were faster")
                self.study.tell(trial, state=TrialState.FAIL)
                continue
            result = self._run(trial)
            self.told(result)
            failures = failures + 1 if result.state == TrialState.FAIL else 0
            if failures == FAILURES_IN_A_ROW:
                raise StudyError(
                    f"{failures} trials failed in a row, the last with: "
                    f"{result.user_attrs.get('reason')}; mend that and give the command again"
                )

    def _run(self, trial: optuna.Trial) -> FrozenTrial:
        with self._signs_of_life(trial):
            try:
                values = self.objective(trial)
            except optuna.TrialPruned as pruned:
                if pruned.args:
                    trial.set_user_attr("reason", str(pruned))
                return self._tell(trial, state=TrialState.PRUNED)
            except TrialFailedError as failure:
                trial.set_user_attr("reason", str(failure))
                return self._tell(trial, state=TrialState.FAIL)
            except UpdateFinishedTrialError:
                return self._frozen(trial)  # as in _tell
            except BaseException as error:
                # Ctrl-C or a bug: the trial is tried again by whoever goes on.
                stopped = not isinstance(error, Exception)
                reason = "the worker was stopped" if stopped else f"{type(error).__name__}: {error}"
                self._fail_and_retry(trial_id(trial), reason)
                raise
        if any(value is None or math.isnan(value) for value in _sequence(values)):
            trial.set_user_attr("reason", "a score is not a number")
            return self._tell(trial, state=TrialState.FAIL)
        return self._tell(trial, values)

    def _tell(self, trial: optuna.Trial, values: Any = None, **options: Any) -> FrozenTrial:
        try:
            return self.study.tell(trial, values, **options)
        except (UpdateFinishedTrialError, ValueError):
            # Others took this worker for dead and the trial is being repeated.
            result = self._frozen(trial)
            if not result.state.is_finished():
                raise
            return result

    def _frozen(self, trial: optuna.Trial) -> FrozenTrial:
        return storage_of(self.study).get_trial(trial_id(trial))

    def _alive(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=_ALIVE)

    def _rank(self, trial: optuna.Trial) -> int:
        """How many living trials come before this one.

        Those that wait in the queue count: one of them may have been put there
        while this one began, and will run.
        """
        states = (*_ALIVE, TrialState.WAITING)
        others = self.study.get_trials(deepcopy=False, states=states)
        return sum(other.number < trial.number for other in others)

    def _late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    @contextmanager
    def _signs_of_life(self, trial: optuna.Trial) -> Iterator[None]:
        trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
        ended = threading.Event()

        def beat() -> None:
            count = 0
            while not ended.wait(HEARTBEAT):
                count += 1
                try:
                    trial.set_user_attr("heartbeat", count)
                except Exception:  # the storage is away, or the trial was given up
                    continue

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _bury_the_dead(self) -> None:
        """Fail running trials whose worker is gone, and queue them again."""
        now = time.monotonic()
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            sign = trial.user_attrs.get("heartbeat", 0)
            last, since = self._seen.get(trial.number, (None, now))
            if sign != last:
                since = now
            self._seen[trial.number] = (sign, since)
            if now - since > GRACE or _process_is_gone(trial.user_attrs.get("worker")):
                self._fail_and_retry(trial_id(trial))

    def _fail_and_retry(self, dead: int, reason: str = "its worker died") -> None:
        storage = storage_of(self.study)
        trial = storage.get_trial(dead)
        try:
            storage.set_trial_user_attr(dead, "reason", reason)
            if not storage.set_trial_state_values(dead, TrialState.FAIL):
                return
        except UpdateFinishedTrialError:
            return  # it was alive after all, or another worker was faster
        tries = trial.user_attrs.get("tries", 1)
        if tries <= RETRIES:
            self.study.add_trial(
                optuna.create_trial(
                    state=TrialState.WAITING,
                    # It may have died before all of its parameters were drawn.
                    system_attrs={
                        "fixed_params": trial.system_attrs.get("fixed_params", {}) | trial.params
                    },
                    user_attrs={
                        **{k: v for k, v in trial.user_attrs.items() if k == "published"},
                        "retry_of": trial.number,
                        "tries": tries + 1,
                    },
                )
            )


def outcome(trial: FrozenTrial) -> str:
    """How a trial ended, in a few words."""
    reason = trial.user_attrs.get("reason", "")
    if trial.state == TrialState.COMPLETE:
        return ", ".join(f"{value:.4f}" for value in trial.values or [])
    if trial.state == TrialState.PRUNED:
        return f"pruned ({reason})" if reason else f"pruned after {len(trial.intermediate_values)}"
    return f"{trial.state.name.lower()} ({reason})"


def _sequence(values: float | Sequence[float]) -> Sequence[float]:
    return values if isinstance(values, Sequence) else (values,)


def _process_is_gone(worker: str | None) -> bool:
    """True if a worker of this computer no longer exists; False if that cannot be known."""
    if worker is None:
        return False
    host, _, pid = worker.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return _is_zombie(pid)


def _is_zombie(pid: str) -> bool:
    """True for a process that was killed and whose parent has not noticed (Linux)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] == "Z"
