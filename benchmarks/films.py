"""Frames per second of a film's GIF, beside snnTorch's animations of the same arrays.

    python -m benchmarks.films --rounds 3

A recording as of temporal coding: 1,000 iterations of 100 time steps, in 100 frames of
960 × 540 pixels. Once as an image per frame (ten iterations of the membrane potential),
which is what ``snntorch.spikeplot.animator`` draws; once as lines (target, membrane,
threshold, spikes), drawn with the camera that ``spikeplot`` uses for its own line plots.
Both write the file with Pillow, so that neither needs a program of the system; the rate
is frames over seconds from the empty figure to the finished file. The methods take
turns, each in every round; times are medians over rounds.

``snntorch.spikeplot`` needs pandas, which this project does not.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from snntorch import spikeplot

from animations.film import Film
from animations.style import BLUE, FILM_SIZE, GREY, ORANGE, VERMILION

ITERATIONS, STEPS, FRAMES, FPS = 1_000, 100, 100, 20
EVERY = ITERATIONS // FRAMES


class Traces:
    """A membrane potential that learns a ramp, noisily; its threshold and spikes."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        learnt = 1 - np.exp(-np.arange(ITERATIONS) / 200)[:, None]
        self.target = np.linspace(0, 20, STEPS)
        noise = rng.normal(size=(ITERATIONS, STEPS)).cumsum(1) / 5
        self.membranes = learnt * self.target + noise
        self.threshold = 10 + 8 * learnt[:, 0]
        self.spikes = self.membranes >= self.threshold[:, None]
        self.images = self.membranes.reshape(FRAMES, EVERY, STEPS)

    def fired(self, iteration: int) -> tuple[np.ndarray, np.ndarray]:
        steps = np.flatnonzero(self.spikes[iteration])
        return steps, np.full(len(steps), 26.0)


class ImagePanel:
    """An image per frame."""

    def __init__(self, axes: Axes, traces: Traces) -> None:
        self.images = traces.images
        axes.axis("off")
        low, high = self.images.min(), self.images.max()
        self.image = axes.imshow(self.images[0], cmap="plasma", vmin=low, vmax=high)

    def update(self, frame: int) -> Iterable[Artist]:
        self.image.set_data(self.images[frame])
        return [self.image]


class LinePanel:
    """Target, membrane, threshold and spikes of an iteration."""

    def __init__(self, axes: Axes, traces: Traces) -> None:
        self.traces = traces
        prepare(axes, traces)
        (self.membrane,) = axes.plot(traces.membranes[0], color=BLUE)
        self.threshold = axes.axhline(0, color=ORANGE)
        (self.spikes,) = axes.plot([], [], "|", color=VERMILION, ms=9)

    def update(self, frame: int) -> Iterable[Artist]:
        iteration = frame * EVERY
        self.membrane.set_ydata(self.traces.membranes[iteration])
        self.threshold.set_ydata([self.traces.threshold[iteration]] * 2)
        self.spikes.set_data(*self.traces.fired(iteration))
        return [self.membrane, self.threshold, self.spikes]


def prepare(axes: Axes, traces: Traces) -> None:
    """What stays the same."""
    axes.plot(traces.target, color=GREY, ls="--")
    axes.set(xlim=(0, STEPS - 1), ylim=(-5, 30), xlabel="time step", ylabel="u")


def figure_and_axes() -> tuple[Figure, Axes]:
    return plt.subplots(figsize=FILM_SIZE, dpi=100)


def film_of_images(traces: Traces, path: Path) -> None:
    figure, axes = figure_and_axes()
    Film(figure, [ImagePanel(axes, traces)], FRAMES, FPS).save(path)


def film_of_lines(traces: Traces, path: Path) -> None:
    figure, axes = figure_and_axes()
    Film(figure, [LinePanel(axes, traces)], FRAMES, FPS).save(path)


def animator(traces: Traces, path: Path) -> None:
    figure, axes = figure_and_axes()
    images = torch.from_numpy(traces.images)
    spikeplot.animator(images, figure, axes, interval=1000 // FPS).save(path, writer="pillow")


def camera(traces: Traces, path: Path) -> None:
    figure, axes = figure_and_axes()
    prepare(axes, traces)
    shots = spikeplot.Camera(figure)
    for frame in range(FRAMES):
        iteration = frame * EVERY
        axes.plot(traces.membranes[iteration], color=BLUE)
        axes.axhline(traces.threshold[iteration], color=ORANGE)
        axes.plot(*traces.fired(iteration), "|", color=VERMILION, ms=9)
        shots.snap()
    shots.animate(interval=1000 // FPS).save(path, writer="pillow")


METHODS: dict[str, dict[str, Callable[[Traces, Path], None]]] = {
    "images": {"Film": film_of_images, "spikeplot.animator": animator},
    "lines": {"Film": film_of_lines, "spikeplot.Camera": camera},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often each is timed")
    options = parser.parse_args()
    traces = Traces()
    seconds: dict[tuple[str, str], list[float]] = {}
    sizes: dict[tuple[str, str], int] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.gif"
        for _ in range(options.rounds):
            for drawing, methods in METHODS.items():
                for name, method in methods.items():
                    start = time.perf_counter()
                    method(traces, path)
                    passed = time.perf_counter() - start
                    plt.close("all")
                    seconds.setdefault((drawing, name), []).append(passed)
                    sizes[drawing, name] = os.path.getsize(path)
    print("| drawing | method | frames/s | ratio | file |")
    print("|---|---|---|---|---|")
    for drawing, methods in METHODS.items():
        slowest = statistics.median(seconds[drawing, list(methods)[-1]])
        for name in methods:
            median = statistics.median(seconds[drawing, name])
            print(
                f"| {drawing} | `{name}` | {FRAMES / median:.1f} | {slowest / median:.1f} "
                f"| {sizes[drawing, name] / 1e6:.2f} MB |"
            )


if __name__ == "__main__":
    main()
