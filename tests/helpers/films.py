"""Panels that tests of films use."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from animations.film import Film


class Wave:
    """A line, its threshold, spikes over the spines, a title and a bar per frame."""

    def __init__(self, axes, rows):
        self.rows, self.axes = rows, axes
        (self.line,) = axes.plot(rows[0], lw=2)
        self.level = axes.axhline(0, color="C1", lw=2, alpha=0.6)
        # A mark at the edge, over and under the spines.
        (self.mark,) = axes.plot([0], [0], "o", ms=12, color="C3")
        self.bars = axes.bar(range(3), [0, 0, 0], color="C2", alpha=0.5)
        axes.plot([], [], color="C4", label="still")
        axes.legend(loc="upper left")
        axes.set(ylim=(-3, 3), xlim=(0, rows.shape[1] - 1), xlabel="step")

    def update(self, frame):
        row = self.rows[frame]
        self.line.set_ydata(row)
        self.level.set_ydata([row.mean()] * 2)
        self.mark.set_data([frame % len(row)], [row.max()])
        self.mark.set_visible(frame % 3 != 2)
        for bar, height in zip(self.bars, row[:3], strict=True):
            bar.set_height(height)
        self.axes.set_title(f"frame {frame} gjy" if frame % 2 else f"FRAME {frame}")
        return [self.line, self.level, self.mark, *self.bars, self.axes.title]


def rows(frames, seed=0, length=20):
    return np.random.default_rng(seed).normal(size=(frames, length))


def film(frames=5, seed=0, size=(3.2, 2.4), fps=20, **options):
    """A small film, 320 × 240 pixels."""
    figure = Figure(figsize=size, dpi=100)
    return Film(figure, [Wave(figure.subplots(), rows(frames, seed))], frames, fps, **options)
