"""Signs of life: which worker runs a trial, and whether it still does.

While a trial runs, a thread of its worker renews a heartbeat in the trial's attributes. A trial
whose heartbeat has not changed for :data:`GRACE` seconds of the watcher's own clock, or whose
process is gone from this computer, has lost its worker.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

HEARTBEAT = 20.0
"""Seconds between two signs of life."""
GRACE = 90.0
"""Seconds without one after which a trial counts as dead."""
WORKER, BEATS = "worker", "heartbeat"


@contextmanager
def shown(trial: optuna.Trial) -> Iterator[None]:
    """Renew a trial's heartbeat while this process runs it."""
    trial.set_user_attr(WORKER, f"{socket.gethostname()}:{os.getpid()}")
    ended = threading.Event()

    def beat() -> None:
        count = 0
        while not ended.wait(HEARTBEAT):
            count += 1
            try:
                trial.set_user_attr(BEATS, count)
            except Exception:  # the storage is away, or the trial was given up
                continue

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Watch:
    """Looks at running trials again and again, and tells those whose worker is gone."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, float]] = {}

    def dead(self, study: optuna.Study) -> list[FrozenTrial]:
        """Trials that stand as running, and that nobody runs as far as is known by now."""
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial for trial in running if self._is_dead(trial, time.monotonic())]

    def _is_dead(self, trial: FrozenTrial, now: float) -> bool:
        # One that paused and was gone on with counts its beats from where they were.
        sign = trial.datetime_start, trial.user_attrs.get(BEATS, 0)
        last, since = self._seen.get(trial.number, (None, now))
        if sign != last:
            since = now
        self._seen[trial.number] = (sign, since)
        return now - since > GRACE or process_is_gone(trial.user_attrs.get(WORKER))


def process_is_gone(worker: str | None) -> bool:
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
    return is_zombie(pid)


def is_zombie(pid: str) -> bool:
    """True for a process that was killed and whose parent has not noticed (Linux)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] == "Z"
