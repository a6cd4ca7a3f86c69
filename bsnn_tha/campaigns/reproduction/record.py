"""What finished runs gave, in one file per table: ``runs.jsonl``, a line for each run.

A line has the run's whole summary, its configuration, a few columns of its epochs, and where
it was made. A record stands for its runs: what it has need not be trained again on another
machine, and records of several machines are merged line by line.
"""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bsnn_tha.campaigns.pool import ORIGIN
from bsnn_tha.campaigns.reproduction.plan import Plan
from bsnn_tha.config import RunConfig
from bsnn_tha.errors import DataError
from bsnn_tha.run_folder import RunFolder, replace_atomically
from bsnn_tha.training.epoch_columns import read_columns
from bsnn_tha.training.machine import processor
from bsnn_tha.training.summary import read_summary

Entry = dict[str, Any]
"""Keys ``row``, ``seed``, ``origin``, ``config``, ``summary`` and ``epochs``."""

NAME = "runs.jsonl"
_COLUMNS = (
    "train_loss",
    "train_accuracy",
    "val_accuracy",
    "val_map",
    "dead",
    "flipped",
    "threshold",
)
_DIGITS = 4


def read(folder: Path) -> list[Entry]:
    """Entries of a folder's record; none if it has no record.

    Raises:
        DataError: a damaged line.
    """
    path, entries = folder / NAME, []
    if not path.is_file():
        return []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}, line {number} is not JSON ({error.msg}); remove the line"
            ) from None
    return entries


def write(folder: Path, entries: Sequence[Entry]) -> None:
    """Write a folder's record, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(entry, ensure_ascii=False) for entry in entries]
    with replace_atomically(folder / NAME) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def of_run(path: Path, row: str) -> Entry | None:
    """The entry of a run folder; None if the run is not finished."""
    folder = RunFolder(path)
    if not (summary := read_summary(folder)):
        return None
    origin = path / ORIGIN
    return {
        "row": row,
        "seed": summary["seed"],
        "origin": json.loads(origin.read_text(encoding="utf-8")) if origin.is_file() else {},
        "config": tomllib.loads(folder.config.read_text(encoding="utf-8")),
        "summary": summary,
        "epochs": _epochs(folder.metrics),
    }


def fitting(plan: Plan, entries: Iterable[Entry]) -> list[Entry]:
    """Those that are runs of the plan as it stands, each once, in its order.

    A run fits if its configuration shapes the same result: names, sources and snapshots
    may differ, and keys that came later have the default that they stand for.
    """
    found: dict[tuple[str, int], Entry] = {}
    configs = {(row.name, seed): row.config(seed) for row in plan.rows for seed in range(row.seeds)}
    planned = {key: _shaping(config) for key, config in configs.items()}
    for entry in entries:
        key = entry["row"], entry["seed"]
        if key in planned and key not in found:
            where = f"{plan.name}, {key[0]}, seed {key[1]}"
            # The plan's own code was allowed when it was loaded; none else is.
            allowed = configs[key].code_named()
            own = RunConfig.from_dict(entry["config"], where, allow_code=allowed)
            if _shaping(own) == planned[key]:
                found[key] = entry
    return [found[key] for key in planned if key in found]


def here() -> dict[str, Any]:
    """Where runs of this process are made: commit of the checkout, processor."""
    return {"commit": _commit(), "processor": processor()}


def same_result(one: RunConfig, other: RunConfig) -> bool:
    """Whether two configurations shape the same result: names and snapshots do not count."""
    return _shaping(one) == _shaping(other)


def _shaping(config: RunConfig) -> dict[str, Any]:
    values = config.with_changes({"variant": "", "source": ""}).model_dump(mode="json")
    del values["snapshots"]
    return values


def _epochs(path: Path) -> dict[str, list[float | None]]:
    """Columns of ``metrics.csv``, rounded."""
    return {
        name: [None if v is None else float(f"{v:.{_DIGITS}g}") for v in values]
        for name, values in read_columns(path).items()
        if name.rstrip("0123456789").rstrip("_") in _COLUMNS
    }


def _commit() -> str:
    """Of the checkout that this file is part of, with a + if files differ; "" of no checkout."""
    folder = Path(__file__).parent

    def git(*words: str) -> str:
        call = ["git", "-C", str(folder), *words]
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "../../..")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
