"""Recordings made up for tests of films: every number in them is known."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from animations.run_arrays import OutputRecording
from bsnn_tha.observe.recording import Recording

LAYERS = (("4C3", (4, 2, 2), (1, 5, 6, 14)), ("3", (3,), (0, 1, 2)))
"""Name, shape and recorded neurons of each layer."""
THETA_0, RISE, SLOPE = 1.0, 0.5, 2.0


def made(
    folder: Path,
    seed=0,
    iterations=(0, 3, 7),
    time=12,
    samples=3,
    layers=LAYERS,
    change=lambda place, arrays: None,
    **probe,
) -> Recording:
    """Snapshots with random membranes, spikes, histograms and rates, as a training writes them.

    θ is 1, 1.5, 2, ... in the first layer and twice that in the second, and so on.

    Args:
        change: gets the place of a snapshot and its arrays, to change them.
        **probe: arrays of the probe that are to be others.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    count = len(layers)
    numbers = np.arange(1, count + 1)
    arrays = {
        "inputs": rng.random((samples, 1, 4, 4)).astype(np.float32),
        "static": True,
        "num_steps": time,
        "step_ms": np.nan,
        "targets": np.arange(samples) % 3,
        "samples": np.arange(samples) + 40,
        "split": "validation",
        "dataset": "digits",
        "class_names": np.array(["zero", "one", "two"]),
        "layer_names": np.array([name for name, _, _ in layers]),
        "surrogate": "fast_sigmoid",
        "surrogate_centre": "clamped",
        "slopes": np.full(count, SLOPE),
        "theta_0": THETA_0 * numbers,
        "theta_inf": 5.0 * numbers,
        "alpha": np.full(count, 0.1),
        "planned_iterations": iterations[-1] + 1,
        "epoch_iterations": 2,
    }
    for number, (_, shape, neurons) in enumerate(layers, start=1):
        arrays[f"shape_{number}"] = np.array(shape)
        arrays[f"neurons_{number}"] = np.array(neurons)
        arrays[f"rate_neurons_{number}"] = np.arange(np.prod(shape))
    arrays |= probe
    np.savez(folder / "probe.npz", **arrays)
    for place, iteration in enumerate(iterations):
        theta = (THETA_0 + RISE * place) * numbers
        clamped = arrays["surrogate_centre"] == "clamped"
        snapshot = {
            "iteration": iteration,
            "epoch": iteration // 2,
            "loss": np.float32(rng.random()),
            "thresholds": theta,
            "centres": arrays["theta_0"] if clamped else theta,
            "histograms": rng.integers(1, 50, (count, 20)),
            "edges": np.linspace(-2 * numbers, 4 * numbers, 21).T,
            "dead_shares": rng.random(count),
            "surrogate_masses": rng.random(count),
        }
        for number, (_, shape, neurons) in enumerate(layers, start=1):
            size = time, samples, len(neurons)
            snapshot[f"membranes_{number}"] = rng.normal(size=size).astype(np.float32)
            snapshot[f"spikes_{number}"] = rng.integers(0, 2, size, dtype=np.uint8)
            snapshot[f"rates_{number}"] = rng.random(np.prod(shape)).astype(np.float16)
        change(place, snapshot)
        np.savez(folder / f"iteration-{iteration:09d}.npz", **snapshot)
    return Recording(folder)


class CountedRecording(Recording):
    """Notes which iterations are read, and how many snapshots are held at a time."""

    def __init__(self, folder):
        super().__init__(folder)
        self.reads, self.most = [], 0
        self._given = []

    def __getitem__(self, index):
        snapshot = super().__getitem__(index)
        self.reads.append(snapshot.iteration)
        self._given.append(weakref.ref(snapshot))
        self.most = max(self.most, sum(given() is not None for given in self._given))
        return snapshot


def output_recording(seed=0, iterations=6, time=40, spikes=None) -> OutputRecording:
    """Of an output neuron; it fires at ``spikes[iteration]``, by default once, later and later."""
    rng = np.random.default_rng(seed)
    fired = np.zeros((iterations, time), dtype=np.uint8)
    for iteration in range(iterations):
        fired[iteration, [5 + 4 * iteration] if spikes is None else spikes[iteration]] = 1
    return OutputRecording(
        membranes=rng.normal(scale=0.2, size=(iterations, time)).astype(np.float32),
        spikes=fired,
        threshold=np.linspace(1.0, 2.0, iterations),
        target=np.linspace(0, 2.2, time),
    )


def pixels_like(image: np.ndarray, colour: str, within=None, tolerance=30) -> np.ndarray:
    """Rows from the top and columns ``[pixels, 2]`` where an image has a colour.

    Args:
        image: ``[height, width, 3]``.
        colour: ``#RRGGBB``.
        within: axes outside of which nothing is looked at; at the image's resolution.
        tolerance: of each channel.
    """
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    found = (np.abs(image.astype(int) - wanted) <= tolerance).all(-1)
    if within is not None:
        height = image.shape[0]
        box = within.bbox
        inside = np.zeros_like(found)
        rows = slice(round(height - box.y1), round(height - box.y0))
        inside[rows, round(box.x0) : round(box.x1)] = True
        found &= inside
    return np.argwhere(found)


def place_of(figure: Figure, axes, x: float, y: float) -> tuple[float, float]:
    """Row from the top and column of a point in an axes' units, in pixels."""
    column, above = axes.transData.transform((x, y))
    return figure.bbox.height - above, column
