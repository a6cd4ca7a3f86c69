"""Worker processes, seen from the one that starts them.

Options go in as JSON on standard input, where others cannot see the password of
a storage; events come back, one JSON line each, on standard output. The other
side is :mod:`studies.worker_process`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from studies.interrupts import AT_ONCE, two_interrupts
from studies.options import Options

RESTARTS = 3
"""How often a worker process that dies is started again."""


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
    team = _Team(studies, deadline, show)
    try:
        with two_interrupts(team.finish):
            return team.work()
    except KeyboardInterrupt:
        team.stop()
        raise


class _Team:
    """The worker processes of one command."""

    def __init__(
        self, studies: Sequence[Options], deadline: float | None, show: Callable[[Event], None]
    ) -> None:
        self._studies = studies
        self._deadline = deadline
        self._show = show
        self._processes: dict[int, subprocess.Popen[str]] = {}
        self._readers: list[threading.Thread] = []
        self._asked: set[int] = set()
        self._finishing = False

    def work(self) -> int:
        """See to it that there is a worker for each place until none has work."""
        restarts = 0
        for index in range(self._studies[0].workers):
            self._start(index)
        while any(process.poll() is None for process in self._processes.values()):
            for index, process in list(self._processes.items()):
                code = process.poll()
                dead = code is not None and code < 0
                if dead and restarts < RESTARTS and not self._finishing:
                    restarts += 1
                    self._show(Event("died", worker=index))
                    self._start(index)
            time.sleep(0.2)
        for reader in self._readers:
            reader.join(timeout=5)
        return sum(process.returncode != 0 for process in self._processes.values())

    def finish(self) -> None:
        """Ask all to finish the trials that they run."""
        self._finishing = True
        self._show(Event("stopping"))
        for process in list(self._processes.values()):
            self._ask(process)

    def stop(self) -> None:
        """Stop all at once."""
        for process in self._processes.values():
            process.send_signal(AT_ONCE)
        for process in self._processes.values():
            process.wait()

    def _start(self, index: int) -> None:
        left = None if self._deadline is None else max(0.001, self._deadline - time.monotonic())
        first = self._studies[0]
        shares = [
            replace(
                study,
                workers=1,
                timeout=left,
                threads=first.threads_each,
                published=False,  # that trial is queued already, as are those of other studies
                worker=index,
            )
            for study in self._studies
        ]
        process = start_worker([asdict(share) for share in shares], _environment(first, index))
        self._processes[index] = process
        if self._finishing:  # Ctrl-C came while it was started
            self._ask(process)
        reader = threading.Thread(
            target=read_events, args=(process, index, self._show), daemon=True
        )
        reader.start()
        self._readers.append(reader)

    def _ask(self, process: subprocess.Popen[str]) -> None:
        if process.pid not in self._asked:  # a second time would stop it at once
            self._asked.add(process.pid)
            process.send_signal(signal.SIGINT)


def _environment(options: Options, index: int) -> dict[str, str]:
    """CPU threads and GPUs, divided between workers."""
    import torch

    environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads_each))
    if options.device in ("auto", "cuda") and torch.cuda.is_available():
        given = environment.get("CUDA_VISIBLE_DEVICES")
        gpus = given.split(",") if given else [str(n) for n in range(torch.cuda.device_count())]
        environment["CUDA_VISIBLE_DEVICES"] = gpus[index % len(gpus)]
    return environment
