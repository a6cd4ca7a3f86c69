"""``python -m studies.worker_process``: a worker as a process of its own.

Started by :mod:`studies.process`, which tells what goes in and comes out.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import Any

import optuna

from bsnn_tha.errors import BsnnThaError
from bsnn_tha.freed_memory import keep_freed_memory
from studies.options import Options
from studies.process import Event
from studies.series.work import take_turns


def main(text: str) -> int:
    """Work as told; the exit status says how it ended."""
    studies = [_options(values) for values in json.loads(text)]
    keep_freed_memory()
    timeout = studies[0].timeout
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        take_turns(studies, deadline, _write)
    except BsnnThaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _options(values: dict[str, Any]) -> Options:
    tuples = {name: tuple(values[name]) for name in ("objectives", "warm_start")}
    return Options(**values | tuples)


def _write(event: Event) -> None:
    if event.kind != "stopping":  # the process that started this one says so itself
        print(json.dumps(asdict(event)), flush=True)


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sys.exit(main(sys.stdin.read()))
