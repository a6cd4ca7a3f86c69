"""A worker as a process of its own, and how it tells what it does.

``python -m studies.process '{"dataset": ...}'`` works on the study that the
options describe and writes one JSON line per event on standard output.
"""

from __future__ import annotations

import json
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


def worker_command(options: dict[str, Any]) -> list[str]:
    """The command line of a worker process."""
    return [sys.executable, "-m", "studies.process", json.dumps(options)]


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
        work_here(opened.study, plan, space, options, deadline, _write)
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
    sys.exit(main(sys.argv[1]))
