"""Training what a table still lacks; what is there already, on which machine soever, counts."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bsnn_tha.campaigns.pool import Job, check_processes, failure, train_all
from bsnn_tha.campaigns.reproduction import record
from bsnn_tha.campaigns.reproduction.pages import write_pages
from bsnn_tha.campaigns.reproduction.plan import Plan, Row
from bsnn_tha.campaigns.reproduction.record import Entry
from bsnn_tha.config import RunConfig
from bsnn_tha.errors import InvalidValueError, RunError
from bsnn_tha.run_folder import RunFolder, make_writable
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.session import Session


@dataclass(frozen=True)
class Campaign:
    """A plan, and where its runs and its record are.

    Args:
        plan: of the table.
        folder: of run folders, ``FOLDER/TABLE/ROW/seed-N``.
        records: the table's record and page are written to ``RECORDS/TABLE``.
        others: further folders, of either kind, that may have finished runs.
        only: names of rows to train; all if empty.
        seeds: train so many seeds of a row at most; None for those of the plan.

    Raises:
        InvalidValueError: a row that the plan does not have, or ``seeds`` below 1.
        RunError: one of ``others`` is not there.
    """

    plan: Plan
    folder: Path
    records: Path
    others: Sequence[Path] = ()
    only: Sequence[str] = ()
    seeds: int | None = None

    def __post_init__(self) -> None:
        for name in self.only:
            self.plan.row(name)
        if self.seeds is not None and self.seeds < 1:
            raise InvalidValueError(f"seeds must be at least 1, but got {self.seeds}")
        for place in self.others:
            if not place.is_dir():
                raise RunError(f"there is no folder {place}, whose runs are to count as well")

    def run_path(self, row: Row, seed: int) -> Path:
        """Where one run is trained."""
        return self.folder / self.plan.name / row.name / f"seed-{seed}"

    def entries(self) -> list[Entry]:
        """What finished runs of the plan gave, from wherever they are."""
        found: list[Entry] = []
        for place in dict.fromkeys((self.records, self.folder, *self.others)):
            own = place / self.plan.name
            found += record.read(own)
            for row in self.plan.rows:
                paths = [own / row.name / f"seed-{seed}" for seed in range(row.seeds)]
                found += [e for path in paths if (e := record.of_run(path, row.name))]
        return record.fitting(self.plan, found)

    def missing(self, entries: Sequence[Entry]) -> list[tuple[Row, int]]:
        """Runs to train, those of the first seed first: a table that is stopped has all rows."""
        done = {(entry["row"], entry["seed"]) for entry in entries}
        rows = [row for row in self.plan.rows if not self.only or row.name in self.only]
        most = max(row.seeds for row in rows)
        return [
            (row, seed)
            for seed in range(min(most, self.seeds or most))
            for row in rows
            if seed < row.seeds and (row.name, seed) not in done
        ]

    def write(self) -> None:
        """Write the record and the page of what is finished."""
        entries = self.entries()
        own = self.records / self.plan.name
        record.write(own, entries)
        write_pages(self.plan, entries, own)

    def train(
        self, *, machine: Machine, jobs: int = 1, tell: Callable[[str], None] = lambda line: None
    ) -> None:
        """Train what is missing; record and page are written after every run.

        Args:
            machine: data root, device and threads of each run.
            jobs: runs at a time.
            tell: called with a line for each run that ends.

        Raises:
            InvalidValueError: ``jobs`` below 1, a run that cannot start, or a folder that
                has a run of another plan; then nothing is written.
            RunError: the table's folder cannot be written, or runs could not be trained now
                (:func:`~bsnn_tha.campaigns.pool.train_all`).
        """
        check_processes(jobs)
        missing = self.missing(self.entries())
        origin = record.here()
        runs = []
        for row, seed in missing:
            config, path = row.config(seed), self.run_path(row, seed)
            if RunFolder(path).config.exists():
                _check_same(config, path)
            runs.append(Job(f"{row.name}, seed {seed}", config, path, origin))
        for row in {row.name: row for row, _ in missing}.values():
            Session.prepare(row.config(row.seeds - 1), machine)
        for place in (self.records, *([self.folder] if missing else [])):
            make_writable(place / self.plan.name)

        def ended(job: Job) -> None:
            if failure(job.path) is None:
                self.write()

        self.write()
        train_all(runs, machine=machine, processes=jobs, tell=tell, ended=ended)


def seconds(row: Row, entries: Sequence[Entry]) -> float | None:
    """What a run of a row is likely to take: the mean of those that are done, or the plan's.

    None if neither is known.
    """
    done = [e["summary"]["train_seconds"] for e in entries if e["row"] == row.name]
    return statistics.fmean(done) if done else row.seconds


def _check_same(config: RunConfig, path: Path) -> None:
    there = RunConfig.from_file(RunFolder(path).config, allow_code=config.code_named())
    if not record.same_result(config, there):
        raise InvalidValueError(
            f"{path} has a run of another configuration than the plan's; move it away, or choose "
            "another --folder"
        )
