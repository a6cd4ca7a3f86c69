"""Stage 5: the next unfinished runs of the project's own table, for the time that is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gpu.setting import Row, Setting

DONE = Path(__file__).parents[2] / "docs" / "reproduction"
"""Records of the runs that need no repetition."""

GRACE = 20.0
"""Seconds before the end at which the command is asked to stop: it ends its runs as by Ctrl-C."""


def rows(setting: Setting) -> Iterator[Row]:
    """What ``bsnn-tha reproduce best`` finished; what it began can be resumed from its folder."""
    records = setting.folder.parent / "records"
    command = [sys.executable, "-m", "bsnn_tha", "reproduce", "best"]
    command += ["--only", "mnist,fashion-mnist", "--device", setting.device]
    command += ["--folder", str(setting.folder / "reproduction"), "--records", str(records)]
    if DONE.is_dir():
        command += ["--also", str(DONE)]
    if setting.data_root is not None:
        command += ["--data-root", str(setting.data_root)]
    if setting.tiny:
        command.append("--dry-run")
    process = subprocess.Popen(command, start_new_session=True, stdout=sys.stderr)
    try:
        process.wait(timeout=max(setting.seconds_left - GRACE, 1.0))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(timeout=GRACE / 2)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    yield {"command": "reproduce best", "exit": process.wait()}
    found = records / "best" / "runs.jsonl"
    for line in found.read_text(encoding="utf-8").splitlines() if found.exists() else []:
        run = json.loads(line)
        if run["summary"]["machine"].get("device") == setting.device:
            test = run["summary"]["test"]["accuracy"]
            seconds = run["summary"]["train_seconds"]
            yield {"row": run["row"], "seed": run["seed"], "test": test, "train_s": seconds}
