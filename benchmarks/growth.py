"""How the cost of a training step grows with T, batch, width and depth.

    python -m benchmarks.growth --threads 2

The networks of :mod:`benchmarks.steps`, each axis at half, once, twice and so on.
Next to the seconds stands the ratio to the ideal line: how much longer a step takes
than one whose cost is proportional to its multiplications, starting from the
smallest. Below 1 is better than proportional: fixed costs are shared.
"""

from __future__ import annotations

import argparse
import os

import torch

from benchmarks.steps import NETWORKS, Sizes, median_seconds, scaled, training_step
from bsnn_tha.freed_memory import keep_freed_memory

AXES: dict[str, tuple[float, ...]] = {
    "T": (0.25, 0.5, 1, 2),
    "batch": (0.25, 0.5, 1, 2),
    "width": (0.25, 0.5, 1, 2),
    "depth": (1, 2, 3),
}


def size_along(axis: str, sizes: Sizes) -> str:
    """What the axis changes, as shown in the table."""
    if axis in ("width", "depth"):
        return "-".join(map(str, sizes.hidden))
    return str(sizes.steps if axis == "T" else sizes.batch)


def main() -> None:
    """Measure every axis and print a Markdown table."""
    parser = argparse.ArgumentParser(description="Growth of the cost of a training step.")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--networks", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as `bsnn-tha train`
    print(
        f"torch {torch.__version__}, float32, {options.threads} threads, medians of "
        f"{options.turns}; load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n"
    )
    print(
        "| network | axis | sizes | ms per step | ratio to the ideal line |\n|---|---|---|---|---|"
    )
    for name in options.networks:
        for axis, factors in AXES.items():
            if axis == "depth" and len(NETWORKS[name].input_shape) > 1:
                continue  # maps would shrink to nothing
            base = NETWORKS[name]
            if axis == "depth":
                base = scaled(base, "width", 0.25)
            cases = [scaled(base, axis, factor) for factor in factors]
            seconds = median_seconds([training_step(case) for case in cases], options.turns)
            rates = [
                taken / case.multiplications for taken, case in zip(seconds, cases, strict=True)
            ]
            sizes = ", ".join(size_along(axis, case) for case in cases)
            times = ", ".join(f"{1e3 * taken:.0f}" for taken in seconds)
            ratios = ", ".join(f"{rate / rates[0]:.2f}" for rate in rates)
            print(f"| {name} | {axis} | {sizes} | {times} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
