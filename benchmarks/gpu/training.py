"""Stage 4: five epochs of MNIST with the published setting, by the command that a user types."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.gpu.setting import Row, Setting

EPOCHS = 5


def rows(setting: Setting) -> Iterator[Row]:
    """The run in float32, then the preset ``best``, of which a user has more."""
    for variant, epochs in (("tha", EPOCHS), ("best", None)):
        folder = setting.folder / f"mnist-{variant}"
        command = [sys.executable, "-m", "bsnn_tha", "train", "--variant", variant]
        command += ["digits" if setting.tiny else "mnist", "--seed", "0"]
        command += ["--output", str(folder), "--device", setting.device]
        if setting.data_root is not None:
            command += ["--data-root", str(setting.data_root)]
        if setting.tiny or epochs is not None:
            command += ["--epochs", str(1 if setting.tiny else epochs)]
        start = time.perf_counter()
        finished = subprocess.run(command, capture_output=True, text=True)
        seconds = time.perf_counter() - start
        row: Row = {"variant": variant, "wall_s": seconds}
        if finished.returncode:
            yield {**row, "skipped": " ".join(finished.stderr.split())[-300:]}
            continue
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        yield {
            **row,
            "test": summary["test"]["accuracy"],
            "epochs": summary["epochs"],
            "s_per_epoch": summary["train_seconds"] / summary["epochs"],
        }
