"""Training many runs, several at a time, each in a process of its own.

A run that was stopped goes on from its last epoch; one whose loss is no longer finite is
kept as failed. Neither it nor one that cannot be trained now, as another process is at it,
ends the others.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bsnn_tha.campaigns.merit import merit_in
from bsnn_tha.config import RunConfig
from bsnn_tha.errors import BsnnThaError, InvalidValueError, RunError, TrainingError
from bsnn_tha.freed_memory import keep_freed_memory
from bsnn_tha.run_folder import RunFolder, replace_atomically
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.run import resume, train
from bsnn_tha.training.summary import read_summary

_FAILED = "failed.txt"
ORIGIN = "origin.json"


@dataclass(frozen=True)
class Job:
    """One run to train."""

    name: str
    """For messages."""
    config: RunConfig
    path: Path
    """Of its run folder."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """What is to be known of where the run was made; written beside its summary."""


def failure(path: Path) -> str | None:
    """Why a run failed, None if it did not."""
    try:
        return (path / _FAILED).read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None


def check_processes(processes: int) -> None:
    """Raise unless at least one run can be made at a time."""
    if processes < 1:
        raise InvalidValueError(f"jobs must be at least 1, but got {processes}")


def train_all(
    jobs: Sequence[Job],
    *,
    machine: Machine,
    processes: int = 1,
    tell: Callable[[str], None] = lambda line: None,
    ended: Callable[[Job], None] = lambda job: None,
) -> None:
    """Train what is not yet trained, in this order.

    Args:
        jobs: the runs.
        machine: data root, device and threads of each run.
        processes: runs at a time.
        tell: called with a line for each run that ends.
        ended: called with each run that ends, before ``tell``.

    Raises:
        InvalidValueError: ``processes`` below 1.
        RunError: a summary that is there already is damaged; or, when all others have
            ended, runs could not be trained now.
    """
    check_processes(processes)
    own = replace(machine, threads=machine.threads or (1 if processes > 1 else None))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _end_when_told) as pool:
        waiting: dict[Future[str], Job] = {}
        count, not_now = 0, []
        try:
            for job in jobs:
                if (said := _said_before(job.path)) is not None:
                    count += 1
                    ended(job)
                    tell(f"{count}/{len(jobs)}  {job.name}  {said}")
                    continue
                waiting[pool.submit(_run, job, own)] = job
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    job, count = waiting.pop(future), count + 1
                    try:
                        said = future.result()
                    except BsnnThaError as error:
                        said = f"not trained: {error}"
                        not_now.append(f"{job.name} ({error})")
                    else:
                        ended(job)
                    tell(f"{count}/{len(jobs)}  {job.name}  {said}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if not_now:
        raise RunError(
            f"{len(not_now)} of {len(jobs)} runs were not trained, the first of them "
            f"{not_now[0]}; the same command tries again"
        )


def _end_when_told() -> None:
    """Make a process of the pool end at Ctrl-C, and when the one that started it has ended.

    Else it would go on with its run, or with the next. What a run has saved is whole at any
    time, and goes on from there.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run(job: Job, machine: Machine) -> str:
    """One run, in a process of its own; what to say of it."""
    keep_freed_memory()
    path = job.path
    try:
        if RunFolder(path).config.exists():
            result = resume(path, machine=machine, verbose=False)
        else:
            result = train(job.config, output=path, machine=machine, verbose=False)
    except TrainingError as error:  # it would fail again
        try:
            _write(path / _FAILED, f"{error}\n")
        except OSError:  # nowhere to keep it, so it is said now
            raise error from None
        return f"failed: {error}"
    if job.origin:
        _write(path / ORIGIN, json.dumps(dict(job.origin)) + "\n")
    return _said(result.summary)


def _said_before(path: Path) -> str | None:
    """What to say of a run that has ended already; None if there is something to train."""
    if (reason := failure(path)) is not None:
        return f"failed before: {reason} (delete {path / _FAILED} to go on with it)"
    summary = read_summary(RunFolder(path))
    return _said(summary) if summary else None


def _said(summary: Mapping[str, Any]) -> str:
    test = summary["test"]
    return f"seed {summary['seed']}  test {merit_in(test).said(test)}"


def _write(path: Path, text: str) -> None:
    with replace_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
