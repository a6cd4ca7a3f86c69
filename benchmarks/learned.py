"""What learned thresholds cost: a training step with them over the same one with fixed ones.

    OMP_NUM_THREADS=1 python -m benchmarks.learned --threads 1

One network for each route in one pass (:mod:`bsnn_tha.functional.routes`), on random input as
sparse as the data: the fewest CPU seconds of many steps (which what else the machine does meets
less than the clock), all rules in turns within one process.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from bsnn_tha.freed_memory import keep_freed_memory
from bsnn_tha.presets import load_preset


class Case(NamedTuple):
    """A preset and its input."""

    preset: tuple[str, str]
    shape: tuple[int, ...]
    rate: float
    """Share of inputs that are not zero."""
    static: bool
    """One image for all steps."""
    classes: int
    theta_0: float | list[float]


CASES = {
    "MNIST": Case(("mnist", "best"), (1, 28, 28), 0.19, True, 10, 1.0),
    "SHD": Case(("shd", "tha"), (700,), 0.024, False, 20, [13.504, 11.2]),
    "DVS": Case(("dvs-gesture", "tha"), (2, 32, 32), 0.1, False, 11, [10.4, 16.62, 6.81]),
}

FIXED: dict[str, Any] = {"rule": "fixed"}
RULES: dict[str, dict[str, Any]] = {
    "fixed": FIXED,
    "learned": {"rule": "learned"},
    "learned, own path": {"rule": "learned", "penalty_window": "sigmoid", "fired_only": True},
    "learned per neuron": {"rule": "learned", "per": "neuron"},
}
"""Tables ``[threshold]``; the path of its own is LT-SNN's."""


def training_step(case: Case, rule: dict[str, Any]) -> tuple[Callable[[], None], Any]:
    """Forward, loss, backward and the optimizer's step; and the network."""
    config = load_preset(*case.preset)
    none = dict.fromkeys(("theta_inf", "alpha"))
    changes = {f"threshold.{key}": value for key, value in (none | rule).items()}
    config = config.with_changes(changes | {"threshold.theta_0": case.theta_0})
    torch.manual_seed(0)
    network = config.build_network(case.shape)
    loss, steps, batch = config.build_loss(network), config.data.num_steps, config.data.batch_size
    lead = (batch,) if case.static else (steps, batch)
    input = torch.empty(*lead, *case.shape).bernoulli_(case.rate)
    if case.static:
        input *= torch.rand_like(input)
    targets = torch.randint(case.classes, (batch,))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-6, fused=True)

    def step() -> None:
        window = network(input, steps if case.static else None, record=loss.needs_membranes)
        optimizer.zero_grad()
        loss(window, targets).backward()
        optimizer.step()

    return step, network


def fastest(steps: dict[str, Callable[[], None]], turns: int) -> dict[str, float]:
    """CPU seconds of each, taking turns; the first two do not count."""
    found = dict.fromkeys(steps, float("inf"))
    for turn in range(2 + turns):
        for name, step in steps.items():
            begin = time.process_time()
            step()
            if turn > 1:
                found[name] = min(found[name], time.process_time() - begin)
    return found


def main() -> None:
    """A Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--networks", nargs="*", choices=list(CASES), default=list(CASES))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as `bsnn-tha train`
    load = os.getloadavg()[0]
    print(f"{options.threads} threads; load {load:.1f} on {os.cpu_count()} cores\n")
    print("| network | thresholds | ms a step | over fixed | ways of the layers |")
    print("|---|---|---:|---:|---|")
    for name in options.networks:
        made = {rule: training_step(CASES[name], told) for rule, told in RULES.items()}
        seconds = fastest({rule: step for rule, (step, _) in made.items()}, options.turns)
        for rule, (_, network) in made.items():
            ways = "; ".join(way for layer in network.routes() for way in layer["training"])
            ratio = seconds[rule] / seconds["fixed"]
            cells = name, rule, f"{1e3 * seconds[rule]:.1f}", f"{ratio:.2f}", ways
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
