"""``python -m studies.worker_process``: a worker as a process of its own.

Started by :mod:`studies.process`, which tells what goes in and comes out.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict

import optuna

from bsnn_tha.errors import BsnnThaError
from bsnn_tha.freed_memory import keep_freed_memory
from studies.process import Event
from studies.runner import Options, open_for_work, work_here


def main(text: str) -> int:
    """Work as told; the exit status says how it ended."""
    values = json.loads(text)
    tuples = {name: tuple(values[name]) for name in ("objectives", "warm_start")}
    options = Options(**values | tuples)
    keep_freed_memory()
    deadline = None if options.timeout is None else time.monotonic() + options.timeout
    try:
        opened, prepared = open_for_work(options)
        work_here(opened.study, prepared, options, deadline, _write)
    except BsnnThaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _write(event: Event) -> None:
    if event.kind != "stopping":  # the process that started this one says so itself
        print(json.dumps(asdict(event)), flush=True)


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sys.exit(main(sys.stdin.read()))
