"""Where the time of a whole run goes: steps, and everything around them.

    python -m benchmarks.epochs --preset mnist/best --threads 1

Trains as `bsnn-tha train` does, for an epoch of all training samples, after a short run in which
loops are compiled, and takes the time of each part by itself: what it calls that has a row of its
own is not in it.

- step: forward, loss, backward and optimizer, and nothing else;
- data: samples put together in batches and augmented;
- monitors: spikes counted, gradients' norm, means of loss and accuracy, the table's row;
- statistics: batch norm's, measured again after the epoch, with their data;
- validation and test, with their data and monitors; the test comes once in a run;
- snapshots, as many in this epoch as the preset has in one of its own; checkpoints;
- Lightning: all that is left of training; preparation: data read, network built.

Times are CPU seconds of all threads, which other processes disturb less than the clock;
`--wall` takes the clock. An epoch is everything but preparation and test.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
from lightning.pytorch.strategies import Strategy
from torch.utils.data.dataloader import _BaseDataLoaderIter

from bsnn_tha import SpikingNetwork
from bsnn_tha.config import RunConfig
from bsnn_tha.freed_memory import keep_freed_memory
from bsnn_tha.observe.metrics import SampleMean
from bsnn_tha.presets import load_preset
from bsnn_tha.training import run
from bsnn_tha.training.callbacks.monitor import ActivityMonitor, EpochTable
from bsnn_tha.training.callbacks.norm_statistics import NormStatistics
from bsnn_tha.training.callbacks.snapshots import Snapshots
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.module import SpikingModule
from bsnn_tha.training.session import LastEpoch, Session

REST, PREPARATION, TEST = "Lightning", "preparation", "test"
EPOCH = (
    "step", "data", "monitors", "snapshots", "statistics", "validation", "checkpoints", REST,
)  # fmt: skip
WHOLE = ("statistics", "validation", TEST, "snapshots")
"""Parts that have all they call, whatever else that would belong to."""


class Clock:
    """Seconds of each part, without those of parts that it calls.

    Args:
        now: gives seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._since = now, now()
        self._running: list[str] = []
        self.seconds: dict[str, float] = defaultdict(float)

    def _turn(self) -> None:
        now = self._now()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def time(self, owner: Any, name: str, part: str) -> None:
        """Take the time of a method from now on."""
        method = getattr(owner, name)

        @functools.wraps(method)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._turn()
            within = self._running[-1] if self._running else ""
            self._running.append(within if within in WHOLE else part)
            try:
                return method(*args, **kwargs)
            finally:
                self._turn()
                self._running.pop()

        setattr(owner, name, timed)

    def time_hooks(self, callback: type, part: str) -> None:
        """Those that a Lightning callback has of its own."""
        for name in [name for name in vars(callback) if name.startswith("on_")]:
            self.time(callback, name, part)


def watch(clock: Clock) -> None:
    """Time every part of a run."""
    owned: tuple[tuple[Any, str, str], ...] = (
        (Session, "prepare", PREPARATION),
        (run, "_keep", PREPARATION),
        (run, "_fit", REST),
        (run, "_measure", TEST),
        (_EvaluationLoop, "run", "validation"),
        (SpikingNetwork, "forward", "step"),
        (SpikingModule, "_log", "step"),  # the loss
        (Strategy, "backward", "step"),
        (importlib.import_module("torch.optim.adam"), "adam", "step"),
        (_BaseDataLoaderIter, "__next__", "data"),
        (SpikingModule, "on_after_batch_transfer", "data"),
        (ActivityMonitor, "_see", "monitors"),
        (SampleMean, "update", "monitors"),
        (SpikingModule, "log", "monitors"),
    )
    for each in owned:
        clock.time(*each)
    for callback, part in (
        (ActivityMonitor, "monitors"),
        (EpochTable, "monitors"),
        (LastEpoch, "monitors"),
        (Snapshots, "snapshots"),
        (NormStatistics, "statistics"),
        (ModelCheckpoint, "checkpoints"),
    ):
        clock.time_hooks(callback, part)


def trained(config: RunConfig, machine: Machine) -> int:
    """Train as configured; the iterations that this took."""
    with tempfile.TemporaryDirectory() as folder:
        result = run.train(config, output=Path(folder) / "run", machine=machine, verbose=False)
    return int(result.summary["iterations"])


def report(seconds: dict[str, float], iterations: int, epochs: int) -> str:
    """A Markdown table.

    Args:
        seconds: of the parts, in one epoch.
        iterations: of this epoch.
        epochs: of a run of the preset.
    """
    epoch = sum(seconds[part] for part in EPOCH)
    whole = epochs * epoch + seconds[TEST] + seconds[PREPARATION]
    lines = ["| part | seconds | ms an iteration | to a step | of an epoch | of a run |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    sums = {part: (seconds[part], epochs) for part in EPOCH}
    sums |= {part: (seconds[part], 1) for part in (TEST, PREPARATION)}
    sums["all but steps"] = epoch - seconds["step"], epochs
    for part, (its, times) in sums.items():
        lines.append(
            f"| {part} | {its:.2f} | {1000 * its / iterations:.2f} | {its / seconds['step']:.3f} | "
            f"{its / epoch:.1%} | {its * times / whole:.1%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Train and print the table."""
    parser = argparse.ArgumentParser(description="Where the time of a whole run goes.")
    parser.add_argument("--preset", default="mnist/best", help="DATASET/VARIANT, with Adam(W)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--subset", type=int, help="training samples of the epoch; default all")
    parser.add_argument("--wall", action="store_true", help="seconds by the clock")
    parser.add_argument("--data-root", type=Path)
    options = parser.parse_args()
    keep_freed_memory()  # as `bsnn-tha train`
    machine = Machine(options.data_root, device="cpu", threads=options.threads)
    preset = load_preset(*options.preset.split("/"))
    size, epochs = preset.data.batch_size, preset.training.epochs
    short = {"training.epochs": 1, "data.subset": 2 * size, "snapshots.count": 1}
    trained(preset.with_changes(short), machine)
    clock = Clock(time.perf_counter if options.wall else time.process_time)
    watch(clock)
    settings = {
        "training.epochs": 1,
        "data.subset": options.subset,
        "snapshots.count": max(1, preset.snapshots.count // epochs),
    }
    iterations = trained(preset.with_changes(settings), machine)
    load = os.getloadavg()[0]
    print(
        f"{options.preset}, {iterations} iterations of {size}, {options.threads} threads, "
        f"{'wall' if options.wall else 'CPU'} seconds; load {load:.1f} on {os.cpu_count()} cores; "
        f"a run is {epochs} epochs\n"
    )
    print(report(clock.seconds, iterations, epochs))


if __name__ == "__main__":
    main()
