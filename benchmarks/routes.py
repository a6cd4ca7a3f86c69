"""Where one route is faster than the next: the shares of spikes that routes decide by.

Each route of :mod:`bsnn_tha.functional.routes` that goes spike by spike, against what the layer
takes without it, on layers of the papers, at several shares of inputs that spike:

    OMP_NUM_THREADS=1 python -m benchmarks.routes [--bf16]

Forward and backward, seconds of the processor (which what else the machine does meets less);
the two take turns, and their minima are compared: above 1 the route is faster. The numbers
it is decided by are in :mod:`bsnn_tha.kernels.tuning`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from bsnn_tha import SpikingNetwork
from bsnn_tha.kernels import tuning

SHARES = (0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
Case = tuple[str, str, tuple[int, ...], tuple[int, int], dict[str, object]]
LAYERS: dict[str, Case] = {
    "SHD, dense": ("SPARSE_LIF_SHARE", "1000", (700,), (100, 16), {}),
    "SHD, dense, learned": (
        "SPARSE_LINEAR_SHARE", "1000", (700,), (100, 16), {"learn_beta": True},
    ),
    "DVS, second": ("SPARSE_CONV_SHARE", "32C5-AP2", (16, 14, 14), (50, 16), {"norm": "none"}),
    "MNIST, second": ("SPARSE_CONV_SHARE", "64C5-AP2", (16, 12, 12), (6, 128), {"norm": "tdbn"}),
}  # fmt: skip
"""By layer: the number of ``tuning``, the layer, its input, steps and batch, and its settings."""


@contextmanager
def decided(name: str, share: float) -> Iterator[None]:
    """A number of ``tuning`` for a while."""
    before = getattr(tuning, name)
    setattr(tuning, name, share)
    try:
        yield
    finally:
        setattr(tuning, name, before)


def step(name: str, share: float, autocast: bool) -> Callable[[], float]:
    """A layer's training step, which gives its seconds."""
    _, notation, shape, (steps, batch), settings = LAYERS[name]
    torch.manual_seed(1)
    network = SpikingNetwork(notation, shape, beta=0.95, theta_0=5.0, slope=2.0, **settings)  # type: ignore[arg-type]
    input = (torch.rand(steps, batch, *shape) < share).float()
    # Convolutions of the papers that have many spikes read other layers.
    input.requires_grad_(len(shape) > 1)

    def run() -> float:
        begin = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            spikes = network(input).spikes
        spikes.sum().backward()
        return time.process_time() - begin

    return run


def gain(name: str, share: float, autocast: bool, rounds: int = 5) -> float:
    """How many times as fast the route is."""
    run = step(name, share, autocast)
    times: dict[float, list[float]] = {1.0: [], 0.0: []}
    for _ in range(rounds + 1):
        for limit, seconds in times.items():
            # A list has no more room than 1 / share of the input.
            with decided(LAYERS[name][0], limit or 1e-9):
                seconds.append(run())
    return min(times[0.0][1:]) / min(times[1.0][1:])


def main() -> None:
    """Print the gains."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bf16", action="store_true", help="under autocast")
    autocast = parser.parse_args().bf16
    print("share of inputs that spike".ljust(28), *(f"{share:8.1%}" for share in SHARES))
    for name in LAYERS:
        print(
            name.ljust(28), *(f"{gain(name, share, autocast):8.2f}" for share in SHARES), flush=True
        )


if __name__ == "__main__":
    main()
