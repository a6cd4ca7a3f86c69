"""Training the runs of a comparison, several at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bsnn_tha.campaigns.comparison.plan import Cell, Comparison
from bsnn_tha.campaigns.pool import Job, check_processes, train_all
from bsnn_tha.run_folder import make_writable
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.session import Session


def run_folder(folder: Path, cell: Cell, seed: int) -> Path:
    """Where one run is: ``runs/rouser-binary/seed-0``."""
    return folder / "runs" / cell.name / f"seed-{seed}"


def run_all(
    comparison: Comparison,
    folder: Path,
    *,
    machine: Machine,
    jobs: int = 1,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Train what is not yet trained, as :func:`bsnn_tha.campaigns.pool.train_all` does.

    Seeds come first, so that a comparison that is stopped has some of every rule.

    Args:
        comparison: what to run.
        folder: of the comparison.
        machine: data root, device and threads of each run.
        jobs: runs at a time, each a process of its own.
        tell: called with a line for each run that ends.

    Raises:
        InvalidValueError: ``jobs`` below 1, or a run that cannot start; then
            nothing is written.
        RunError: the folder cannot be written.
    """
    check_processes(jobs)
    cells = comparison.cells()
    for cell in cells:
        Session.prepare(comparison.config(cell, comparison.seeds - 1), machine)
    make_writable(folder)
    comparison.save(folder)
    runs = []
    for trial in range(comparison.seeds):
        for cell in cells:
            config = comparison.config(cell, trial)
            path = run_folder(folder, cell, config.training.seed)
            runs.append(Job(cell.name, config, path))
    train_all(runs, machine=machine, processes=jobs, tell=tell)
