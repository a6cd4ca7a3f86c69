"""Neurons and training steps: compiled scans against tensor operations.

The spiking layers of the three networks, forward and backward, and whole
training steps of the presets' networks (forward, loss, backward, Adam), the last column
under autocast, which keeps spikes and their gradients in bfloat16:

    python -m benchmarks.lif --threads 2

Backends and variants take turns in one process, so that whatever else the machine
does meets both; times are medians. GB/s counts what has to be moved at least:
currents read, spikes and membranes written; on the way back gradients of the
spikes and membranes read, gradients of the currents written. A constant current
and what is summed over time by others count as nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor

from bsnn_tha import AnnealedLeaky, SpikingNetwork, lif_sequence, spike_count_loss
from bsnn_tha.equations.surrogate import FastSigmoid
from bsnn_tha.freed_memory import keep_freed_memory
from bsnn_tha.functional.lif_operator import Backend
from bsnn_tha.presets import load_preset

BACKENDS: tuple[Backend, Backend] = ("reference", "numba")
BETA, THRESHOLD, CENTRE = (torch.tensor(value) for value in (0.95, 1.2, 1.0))


def layers() -> dict[str, Tensor]:
    """Currents, leaves of autograd, by layer."""
    return {
        "MNIST conv1, constant": torch.randn(128, 16, 12, 12).expand(100, -1, -1, -1, -1),
        "MNIST conv2": torch.randn(100, 128, 64, 4, 4),
        # As batch norm leaves it: all time steps of a sample together.
        "MNIST conv2, batch first": torch.randn(128, 100, 64, 4, 4).transpose(0, 1),
        "MNIST conv2, channels last": torch.randn(100, 128, 4, 4, 64).movedim(-1, 2),
        "SHD hidden": torch.randn(333, 32, 3000),
        "DVS conv1": torch.randn(100, 8, 16, 14, 14),
        "MNIST output": torch.randn(100, 128, 10),
    }


def layer_steps(current: Tensor) -> dict[str, Callable[[], tuple[float, float]]]:
    """Forward and backward seconds of a layer, by backend."""
    current = current.detach().requires_grad_()
    # Gradients arrive in the layout of the spikes.
    spikes = lif_sequence(current, BETA, THRESHOLD, CENTRE, FastSigmoid()).spikes
    upstream = torch.randn_like(spikes)

    def step(backend: Backend) -> tuple[float, float]:
        begin = time.perf_counter()
        window = lif_sequence(current, BETA, THRESHOLD, CENTRE, FastSigmoid(2.5), backend=backend)
        middle = time.perf_counter()
        torch.autograd.grad(window.spikes, current, upstream)
        return middle - begin, time.perf_counter() - middle

    return {backend: lambda backend=backend: step(backend) for backend in BACKENDS}  # type: ignore[misc]


VARIANTS: dict[str, tuple[Backend, bool]] = {
    "tensors": ("reference", False),
    "numba": ("auto", False),
    "and bfloat16": ("auto", True),
}
"""Backend of the neurons; autocast to bfloat16. With ``"auto"`` layers take one pass."""


def training_steps(name: str) -> dict[str, Callable[[], tuple[float]]]:
    """Seconds of a training step of a preset's network, by variant."""
    config = load_preset(name, "tha")
    steps: int | None = None
    if name == "mnist":
        input, steps, classes = torch.rand(128, 1, 28, 28), config.data.num_steps, 10
    elif name == "dvs-gesture":
        input, classes = torch.empty(100, 8, 2, 32, 32).bernoulli_(0.02), 11
    else:
        # 2.4% of SHD's inputs are spikes, at 3 ms per step.
        input, classes = torch.empty(333, 32, 700).bernoulli_(0.024), 20
    shape = tuple(input.shape[1 if steps else 2 :])
    targets = torch.randint(classes, (input.shape[0 if steps else 1],))

    def training(backend: Backend, half: bool) -> Callable[[], tuple[float]]:
        torch.manual_seed(0)
        network: SpikingNetwork = config.build_network(shape)
        for layer in network.layers:
            cast(AnnealedLeaky, layer.neuron).backend = backend
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

        def step() -> tuple[float]:
            begin = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                spikes = network(input, steps).spikes
            loss = spike_count_loss(spikes.float(), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return (time.perf_counter() - begin,)

        return step

    return {variant: training(*settings) for variant, settings in VARIANTS.items()}


def medians(steps: Mapping[str, Callable[[], tuple[float, ...]]], turns: int) -> list[list[float]]:
    """Median seconds of each part of a step, by backend; a first turn does not count."""
    seconds: dict[str, list[tuple[float, ...]]] = {backend: [] for backend in steps}
    for turn in range(1 + turns):
        for backend, step in steps.items():
            taken = step()
            if turn:
                seconds[backend].append(taken)
    return [
        [statistics.median(part) for part in zip(*each, strict=True)] for each in seconds.values()
    ]


def main() -> None:
    """Measure every case and print two Markdown tables."""
    parser = argparse.ArgumentParser(description="Compiled scans against tensor operations.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=7, help="of each backend")
    parser.add_argument("--networks", nargs="*", default=["mnist", "shd", "dvs-gesture"])
    parser.add_argument("--no-layers", action="store_true", help="training steps only")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_freed_memory()  # as `bsnn-tha train`
    print(
        f"torch {torch.__version__}, float32, {options.threads} threads, medians of "
        f"{options.turns}; load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n"
    )
    if not options.no_layers:
        print("| layer | | tensors, ms | numba, ms | | GB/s |\n|---|---|---:|---:|---:|---:|")
    for name, current in ({} if options.no_layers else layers()).items():
        slow, fast = medians(layer_steps(current), options.turns)
        window = 4e-9 * current.numel()
        moved = window * (2 if current.stride(0) == 0 else 3), window * 3
        for index, way in enumerate(("forward", "backward")):
            print(
                f"| {name} | {way} | {1e3 * slow[index]:.1f} | {1e3 * fast[index]:.1f} "
                f"| {slow[index] / fast[index]:.1f} × | {moved[index] / fast[index]:.1f} |",
                flush=True,
            )
    print(f"\n| training step | {' | '.join(f'{variant}, s' for variant in VARIANTS)} |")
    print("|---|" + "---:|" * len(VARIANTS))
    for name in options.networks:
        row = [seconds for (seconds,) in medians(training_steps(name), options.turns)]
        shown = [f"{seconds:.3f} ({row[0] / seconds:.2f} ×)" for seconds in row]
        print(f"| {name} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    main()
