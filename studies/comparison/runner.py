"""Training the runs of a comparison, several at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

from bsnn_tha.config import RunConfig
from bsnn_tha.errors import BsnnThaError, InvalidValueError
from bsnn_tha.run_folder import RunFolder, replace_atomically
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.memory import keep_freed_memory
from bsnn_tha.training.run import resume, train
from bsnn_tha.training.session import Session
from studies.comparison.plan import Cell, Comparison

_FAILED = "failed.txt"


def run_folder(folder: Path, cell: Cell, seed: int) -> Path:
    """Where one run is: ``runs/rouser-binary/seed-0``."""
    return folder / "runs" / cell.name / f"seed-{seed}"


def failure(path: Path) -> str | None:
    """Why a run failed, None if it did not."""
    try:
        return (path / _FAILED).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def run_all(
    comparison: Comparison,
    folder: Path,
    *,
    machine: Machine,
    jobs: int = 1,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Train what is not yet trained.

    Seeds come first, so that a comparison that is stopped has some of every rule. A run that
    was stopped goes on from its last epoch; one whose loss is no longer finite is kept
    as failed and does not end the others.

    Args:
        comparison: what to run.
        folder: of the comparison.
        machine: data root, device and threads of each run.
        jobs: runs at a time, each a process of its own.
        tell: called with a line for each run that ends.

    Raises:
        InvalidValueError: ``jobs`` below 1, or a run that cannot start; then
            nothing is written.
    """
    if jobs < 1:
        raise InvalidValueError(f"jobs must be at least 1, but got {jobs}")
    cells = comparison.cells()
    for cell in cells:
        Session.prepare(comparison.config(cell, comparison.seeds - 1), machine)
    folder.mkdir(parents=True, exist_ok=True)
    comparison.save(folder)
    runs = []
    for trial in range(comparison.seeds):
        for cell in cells:
            config = comparison.config(cell, trial)
            runs.append((cell, config, run_folder(folder, cell, config.training.seed)))
    own = replace(machine, threads=machine.threads or (1 if jobs > 1 else None))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _end_when_told) as pool:
        waiting: dict[Future[str], Cell] = {}
        ended = 0
        try:
            for cell, config, path in runs:
                waiting[pool.submit(_run, config.to_toml(), path, own)] = cell
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    cell, ended = waiting.pop(future), ended + 1
                    tell(f"{ended}/{len(runs)}  {cell.name}  {future.result()}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _end_when_told() -> None:
    """Make a process of the pool end at Ctrl-C, and when the one that started it has ended.

    Else it would go on with its run, or with the next. What a run has saved is whole at any
    time, and the comparison goes on from there.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run(config: str, path: Path, machine: Machine) -> str:
    """One run, in a process of its own; what to say of it."""
    keep_freed_memory()
    if (reason := failure(path)) is not None:
        return f"failed before: {reason}"
    try:
        if RunFolder(path).config.exists():
            result = resume(path, machine=machine, verbose=False)
        else:
            result = train(RunConfig.from_toml(config), output=path, machine=machine, verbose=False)
    except BsnnThaError as error:
        path.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path / _FAILED) as temporary:
            temporary.write_text(f"{error}\n", encoding="utf-8")
        return f"failed: {error}"
    summary = result.summary
    return f"seed {summary['seed']}  test accuracy {summary['test']['accuracy']:.2%}"
