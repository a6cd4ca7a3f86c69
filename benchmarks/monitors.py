"""What watching costs: a training step with and without `ActivityMonitor`.

The paper's networks for MNIST (batch 128, 100 steps, a still image) and SHD
(batch 32, 333 steps of spikes). Steps with and without the monitor alternate in
one process, so that whatever else the machine does meets both; a step is
forward, loss, backward, Adam and annealing.

    python -m benchmarks.monitors --threads 1

Times are CPU seconds, which other processes disturb less than the clock. Ratios are
medians over pairs of neighbouring steps, with the quartiles. What is
done once per epoch (the surrogate mass in its last step, and the row of the
table after it) has columns of its own, in milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn

from bsnn_tha import SpikingNetwork, spike_count_loss
from bsnn_tha.presets import load_preset
from bsnn_tha.training.callbacks import anneal
from bsnn_tha.training.memory import keep_freed_memory
from bsnn_tha.training.monitor import ActivityMonitor

# The share of SHD's inputs that are spikes, at 3 ms per step.
SHD_RATE = 0.024


def cases() -> dict[str, tuple[SpikingNetwork, Tensor, int | None, int]]:
    """Network, input, steps of a constant input, classes; by name."""
    mnist = load_preset("mnist", "tha").build_network((1, 28, 28))
    shd = SpikingNetwork(
        "3000-20",
        (700,),
        beta=0.95,
        slope=0.257,
        theta_0=[13.504, 11.2],
        theta_inf=[45.271, 51.12],
        alpha=[2.78e-5, 1.36e-5],
        dropout=[0.186, 0.0176],
    )
    # About a fifth of an MNIST image is ink.
    images = torch.rand(128, 1, 28, 28) * torch.empty(128, 1, 28, 28).bernoulli_(0.2)
    return {
        "MNIST": (mnist, images, 100, 10),
        "SHD": (shd, torch.empty(333, 32, 700).bernoulli_(SHD_RATE), None, 20),
    }


class Training:
    """A network in training, watched or not, step by step."""

    def __init__(
        self, network: SpikingNetwork, input: Tensor, steps: int | None, classes: int
    ) -> None:
        self.network, self.input, self.steps = network, input, steps
        batch = input.shape[0 if steps else 1]
        self.targets = torch.randint(0, classes, (batch,))
        self.optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        # What the monitor wants of Lightning's trainer and module.
        module = nn.ModuleList([network])
        module.device = torch.device("cpu")  # type: ignore[assignment]
        trainer = SimpleNamespace(is_last_batch=False, num_training_batches=0)
        self.module, self.trainer = cast(Any, module), cast(Any, trainer)
        self.monitor = ActivityMonitor()
        self.monitor.setup(self.trainer, self.module, "fit")
        self.monitor.on_train_epoch_start(self.trainer, self.module)

    def step(self, watched: bool, last: bool = False) -> float:
        """CPU seconds of one training step."""
        # As around validation: the hooks come and go.
        self.monitor.on_validation_start(self.trainer, self.module)
        if watched:
            self.monitor.on_validation_end(self.trainer, self.module)
        self.trainer.is_last_batch = last
        start = time.process_time()
        if watched:
            self.monitor.on_train_batch_start(self.trainer, self.module, None, 0)
        loss = spike_count_loss(self.network(self.input, self.steps).spikes, self.targets)
        self.optimizer.zero_grad()
        loss.backward()
        if watched:
            self.monitor.on_before_optimizer_step(self.trainer, self.module, self.optimizer)
        self.optimizer.step()
        anneal(self.network)
        if watched:
            self.monitor.on_train_batch_end(self.trainer, self.module, None, None, 0)
        return time.process_time() - start


def measure(training: Training, pairs: int) -> tuple[float, list[float], float, float]:
    """Plain seconds per step, quartiles of the ratio, and seconds once per epoch."""
    for watched in (False, True):
        training.step(watched)
    plain, ratios, masses = [], [], []
    for pair in range(pairs):
        # In turns, so that neither is always the second.
        order = (False, True) if pair % 2 else (True, False)
        seconds = {watched: training.step(watched) for watched in order}
        plain.append(seconds[False])
        ratios.append(seconds[True] / seconds[False])
    for _ in range(3):
        masses.append(training.step(True, last=True) - training.step(True))
    start = time.process_time()
    training.monitor.columns()
    row = time.process_time() - start
    return statistics.median(plain), statistics.quantiles(ratios), statistics.median(masses), row


def main() -> None:
    """Measure both networks and print a Markdown table."""
    parser = argparse.ArgumentParser(description="What watching costs.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=12, help="steps with and without, each")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_freed_memory()  # as `bsnn-tha train`
    print(f"torch {torch.__version__}, {options.threads} threads, {options.pairs} pairs\n")
    print("| network | CPU seconds per step | watched / plain (quartiles) | mass, ms | row, ms |")
    print("|---|---:|---:|---:|---:|")
    for name, case in cases().items():
        seconds, (low, middle, high), mass, row = measure(Training(*case), options.pairs)
        ratio = f"{middle:.3f} ({low:.3f} to {high:.3f})"
        print(
            f"| {name} | {seconds:.3f} | {ratio} | {1000 * mass:.0f} | {1000 * row:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
