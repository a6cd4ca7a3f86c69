"""Worker processes, seen from the one that starts them.

Options go in as JSON on standard input, where others cannot see the password of
a storage; events come back, one JSON line each, on standard output. The other
side is :mod:`studies.worker_process`.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Event:
    """Something a worker did.

    Args:
        kind: ``"epoch"``, ``"paused"``, ``"finished"``, ``"died"`` or ``"stopping"`` (at Ctrl-C).
        trial: its number.
        epoch: from 0.
        value: the epoch's validation accuracy.
        worker: which process, from 0.
        study: of a series, from 0.
    """

    kind: str
    trial: int | None = None
    epoch: int | None = None
    value: float | None = None
    worker: int = 0
    study: int = 0


def start_worker(
    options: Sequence[dict[str, Any]], environment: dict[str, str]
) -> subprocess.Popen[str]:
    """Start a worker process, with options for each study that it works on.

    Ctrl-C reaches it through this process only, and waits until it can be
    handled: the process inherits that SIGINT is blocked.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "studies.worker_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:  # it may have died already
        process.stdin.write(json.dumps(options))
    return process


def read_events(process: subprocess.Popen[str], worker: int, show: Callable[[Event], None]) -> None:
    """Pass on a worker's events until it ends."""
    assert process.stdout is not None
    for line in process.stdout:
        try:
            event = Event(**json.loads(line))
        except (ValueError, TypeError):
            continue  # something else that was printed
        show(replace(event, worker=worker))
