"""A worker as a process of its own, and how it tells what it does.

``python -m studies.process`` reads options as JSON from standard input, where
others cannot see the password of a storage, works on the study that they
describe and writes one JSON line per event on standard output.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Event:
    """Something a worker did.

    Args:
        kind: ``"epoch"``, ``"finished"`` or ``"died"``.
        trial: its number.
        epoch: from 0.
        value: the epoch's validation accuracy.
        worker: which process, from 0.
    """

    kind: str
    trial: int | None = None
    epoch: int | None = None
    value: float | None = None
    worker: int = 0


def start_worker(options: dict[str, Any], environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start a worker process.

    Ctrl-C reaches it through this process only, and waits until it can be
    handled: the process inherits that SIGINT is blocked.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "studies.process"],
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


def main(text: str) -> int:
    """Work as told; the exit status says how it ended."""
    from bsnn_tha.errors import BsnnThaError
    from bsnn_tha.training.memory import keep_freed_memory
    from studies.runner import Options, open_for_work, work_here

    values = json.loads(text)
    options = Options(**{**values, "objectives": tuple(values["objectives"])})
    keep_freed_memory()
    deadline = None if options.timeout is None else time.monotonic() + options.timeout
    try:
        opened, plan, space = open_for_work(options)
        work_here(opened.study, plan, space, options, deadline, _write, announce=False)
    except BsnnThaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _write(event: Event) -> None:
    print(json.dumps(asdict(event)), flush=True)


if __name__ == "__main__":
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sys.exit(main(sys.stdin.read()))
