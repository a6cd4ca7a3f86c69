"""What watching costs: a training step with and without what `bsnn-tha train` adds.

The networks of the presets for digits (batch 64, 25 steps), MNIST (batch 128, 100
steps, a still image) and SHD (batch 32, 333 steps of spikes). Steps with and
without the monitor, and with and without a snapshot, alternate in one process,
so that whatever else the machine does meets both; a step is forward, loss,
backward, Adam and annealing.

    python -m benchmarks.monitors --threads 1

Times are CPU seconds, which other processes disturb less than the clock. Ratios are
medians over pairs of neighbouring steps, with the quartiles. What is
done once per epoch (the surrogate mass in its last step, and the row of the
table after it) has columns of its own, in milliseconds. So have snapshots: what one
adds to its step, the file's size, and what 50 of them add to a run of so many
iterations.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch.plugins.precision import Precision
from torch import Tensor

from bsnn_tha.config import SnapshotsSection
from bsnn_tha.data.dataset import Dataset, TensorSplit
from bsnn_tha.freed_memory import keep_freed_memory
from bsnn_tha.presets import load_preset
from bsnn_tha.run_folder import RunFolder
from bsnn_tha.training.callbacks import anneal
from bsnn_tha.training.callbacks.monitor import ActivityMonitor
from bsnn_tha.training.callbacks.snapshots import Snapshots
from bsnn_tha.training.module import SpikingModule

# The share of SHD's inputs that are spikes, at 3 ms per step.
SHD_RATE = 0.024

Watch = Literal["nothing", "monitor", "snapshot"]


class Case(NamedTuple):
    """A preset to train with made-up samples."""

    preset: str
    inputs: Tensor
    """A batch, ``[batch, ...]`` or ``[time, batch, ...]``."""
    classes: int
    iterations: int
    """Of a run: the digits' preset; one epoch of MNIST; 12 epochs of SHD."""


def cases() -> dict[str, Case]:
    """By name."""
    # About a fifth of an MNIST image is ink, half of one of the digits.
    digits = torch.rand(64, 1, 8, 8) * torch.empty(64, 1, 8, 8).bernoulli_(0.5)
    images = torch.rand(128, 1, 28, 28) * torch.empty(128, 1, 28, 28).bernoulli_(0.2)
    return {
        "digits": Case("digits", digits, 10, 525),
        "MNIST": Case("mnist", images, 10, 422),
        "SHD": Case("shd", torch.empty(333, 32, 700).bernoulli_(SHD_RATE), 20, 12 * 230),
    }


@dataclass(frozen=True)
class Sequences:
    """Samples of ``[time, samples, ...]``."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.inputs[:, indices], self.targets[indices]


class Training:
    """A network in training, watched or not, step by step."""

    trainer: Any

    def __init__(self, case: Case, folder: Path) -> None:
        config = load_preset(case.preset, "tha")
        static = case.preset != "shd"
        batch = case.inputs.shape[0 if static else 1]
        targets = torch.randint(0, case.classes, (batch,))
        split = (TensorSplit if static else Sequences)(case.inputs, targets)
        shape = tuple(case.inputs.shape[1 if static else 2 :])
        dataset = Dataset(case.preset, shape, case.classes, static, split, None, None, "")
        self.batch = case.inputs, targets
        self.module = SpikingModule(config, dataset)
        self.module.log = lambda *_, **__: None  # type: ignore[method-assign]
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=1e-3)
        # What the callbacks want of Lightning's trainer.
        self.trainer = SimpleNamespace(
            is_last_batch=False,
            num_training_batches=0,
            is_global_zero=True,
            estimated_stepping_batches=config.training.epochs,
            precision_plugin=Precision(),
            global_step=0,
            current_epoch=0,
        )
        self.monitor = ActivityMonitor()
        self.monitor.setup(self.trainer, self.module, "fit")
        self.monitor.on_train_epoch_start(self.trainer, self.module)
        self.run = RunFolder(folder)
        self.snapshots = Snapshots(self.run, SnapshotsSection(), dataset)
        self.snapshots.on_train_start(self.trainer, self.module)

    def step(self, watch: Watch, last: bool = False) -> float:
        """CPU seconds of one training step."""
        callback: Any = {"monitor": self.monitor, "snapshot": self.snapshots}.get(watch)
        module, trainer, optimizer = self.module, self.trainer, self.optimizer
        # As around validation: the hooks come and go.
        self.monitor.on_validation_start(trainer, module)
        if watch == "monitor":
            self.monitor.on_validation_end(trainer, module)
        trainer.is_last_batch = last
        trainer.global_step = (trainer.global_step + 1) % self.module.config.training.epochs
        start = time.process_time()
        if callback:
            callback.on_train_batch_start(trainer, module, None, 0)
        inputs, targets = self.batch
        window = module(inputs)
        loss = module.loss(window, targets)
        module._log("train", window, targets, loss)
        optimizer.zero_grad()
        if callback:
            callback.on_before_backward(trainer, module, loss)
        loss.backward()
        if callback:
            callback.on_before_optimizer_step(trainer, module, optimizer)
        optimizer.step()
        anneal(module)
        if callback:
            callback.on_train_batch_end(trainer, module, None, None, 0)
        return time.process_time() - start

    def pairs(self, watch: Watch, count: int) -> tuple[list[float], list[float]]:
        """Seconds of neighbouring steps: unwatched, and watched."""
        self.step("nothing")
        self.step(watch)
        plain, watched = [], []
        for pair in range(count):
            # In turns, so that neither is always the second.
            order: list[Watch] = ["nothing", watch] if pair % 2 else [watch, "nothing"]
            seconds = {each: self.step(each) for each in order}
            plain.append(seconds["nothing"])
            watched.append(seconds[watch])
        return plain, watched


def monitor_row(training: Training, pairs: int) -> str:
    """Cost of the monitor, as cells of a table."""
    plain, watched = training.pairs("monitor", pairs)
    low, middle, high = statistics.quantiles([b / a for a, b in zip(plain, watched, strict=True)])
    masses = [training.step("monitor", last=True) - training.step("monitor") for _ in range(3)]
    start = time.process_time()
    training.monitor.columns()
    row = time.process_time() - start
    return (
        f"{statistics.median(plain):.3f} | {middle:.3f} ({low:.3f} to {high:.3f}) | "
        f"{1000 * statistics.median(masses):.0f} | {1000 * row:.0f}"
    )


def snapshot_row(training: Training, pairs: int, iterations: int) -> str:
    """Cost of snapshots, as cells of a table."""
    plain, watched = training.pairs("snapshot", pairs)
    low, middle, high = statistics.quantiles([b - a for a, b in zip(plain, watched, strict=True)])
    share = 50 * middle / (iterations * statistics.median(plain))
    files = training.run.snapshots.glob("iteration-*.npz")
    size = next(path.stat().st_size for path in files)
    return (
        f"{1000 * statistics.median(plain):.0f} | {1000 * middle:.1f} "
        f"({1000 * low:.1f} to {1000 * high:.1f}) | {size / 1000:.0f} | "
        f"{100 * share:.2f}% of {iterations:,} iterations"
    )


def main() -> None:
    """Measure the networks and print two Markdown tables."""
    parser = argparse.ArgumentParser(description="What watching costs.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=12, help="steps with and without, each")
    parser.add_argument("--only", choices=cases(), help="one of the networks")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_freed_memory()  # as `bsnn-tha train`
    chosen = {k: case for k, case in cases().items() if options.only in (None, k)}
    print(f"torch {torch.__version__}, {options.threads} threads, {options.pairs} pairs\n")
    print("| network | CPU seconds per step | watched / plain (quartiles) | mass, ms | row, ms |")
    print("|---|---:|---:|---:|---:|")
    snapshots = []
    for name, case in chosen.items():
        with tempfile.TemporaryDirectory() as folder:
            training = Training(case, Path(folder))
            print(f"| {name} | {monitor_row(training, options.pairs)} |", flush=True)
            snapshots.append((name, snapshot_row(training, options.pairs, case.iterations)))
    print("\n| network | CPU ms per step | one snapshot, ms (quartiles) | file, kB | 50 of them |")
    print("|---|---:|---:|---:|---:|")
    for name, row in snapshots:
        print(f"| {name} | {row} |")


if __name__ == "__main__":
    main()
