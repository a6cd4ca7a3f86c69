"""Where one route is faster than the next: the shares of spikes that routes decide by.

Each route of :mod:`bsnn_tha.functional.routes` that goes spike by spike, against what the layer
takes without it, on layers of the papers, at shares of inputs that spike from 2.5 to 50%:

    OMP_NUM_THREADS=1 python -m benchmarks.routes [-o docs/images]

Forward and backward, seconds of the processor (which what else the machine does meets less);
the two take turns, and their minima are compared: above 1 the route is faster. The numbers
it is decided by are in :mod:`bsnn_tha.kernels.tuning`. With ``-o`` figures and their plot are kept
as ``routes.json`` and ``routes.png``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from bsnn_tha import SpikingNetwork
from bsnn_tha.kernels import tuning
from bsnn_tha.training.machine import processor

SHARES = (0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
PRECISIONS = ("float32", "bfloat16")
Case = tuple[str, str, tuple[int, ...], tuple[int, int], dict[str, object]]
LAYERS: dict[str, Case] = {
    "SHD, dense, one pass": ("SPARSE_LIF_SHARE", "1000", (700,), (100, 16), {}),
    "SHD, dense, product": (
        "SPARSE_LINEAR_SHARE", "1000", (700,), (100, 16), {"learn_beta": True},
    ),
    "DVS, second convolution": (
        "SPARSE_CONV_SHARE", "32C5-AP2", (16, 14, 14), (50, 16), {"norm": "none"},
    ),
    "MNIST, second convolution": (
        "SPARSE_CONV_SHARE", "64C5-AP2", (16, 12, 12), (6, 128), {"norm": "tdbn"},
    ),
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


Gains = dict[str, dict[str, list[float]]]
"""By layer and precision, at each of ``SHARES``."""


def measure() -> Gains:
    """All gains; printed as they come."""
    found: Gains = {}
    print("share of inputs that spike".ljust(32), *(f"{share:8.1%}" for share in SHARES))
    for name in LAYERS:
        found[name] = {}
        for precision in PRECISIONS:
            gains = [gain(name, share, precision == "bfloat16") for share in SHARES]
            found[name][precision] = gains
            print(f"{name}, {precision}".ljust(32), *(f"{g:8.2f}" for g in gains), flush=True)
    return found


def draw(found: Gains, path: Path) -> None:
    """A plot of the gains beside the shares that are decided by.

    Args:
        found: gains.
        path: of the image.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from animations.style import GREY, RC

    with mpl.rc_context(RC):
        figure = Figure(figsize=(7.2, 4.8), layout="constrained")
        for axes, (name, lines) in zip(figure.subplots(2, 2).flat, found.items(), strict=True):
            for precision, gains in lines.items():
                axes.plot([100 * share for share in SHARES], gains, ".-", label=precision)
            limit = 100 * getattr(tuning, LAYERS[name][0])
            axes.axvline(limit, color=GREY, linestyle="--", label=f"taken up to {limit:g}%")
            axes.axhline(1, color=GREY, linewidth=0.8)
            axes.set(title=name, xlabel="inputs that spike, %", ylabel="times as fast")
            axes.set_ylim(bottom=0)
            axes.legend(loc="upper right")
        figure.savefig(path)


def main() -> None:
    """Measure, print, and keep if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, help="folder of routes.json and routes.png")
    folder = parser.parse_args().output
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    found = measure()
    if folder is not None:
        kept = {"processor": processor(), "shares": SHARES, "gains": found}
        (folder / "routes.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        draw(found, folder / "routes.png")


if __name__ == "__main__":
    main()
