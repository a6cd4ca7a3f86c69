"""Stills of the temporal coding task: membrane, target, threshold and spikes.

Arrays in, drawing out: the arrays are those of a run's ``recording.npz``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from animations.style import BLUE, GREY, ORANGE, RC, VERMILION

Recording = Mapping[str, np.ndarray]
"""``membranes`` and ``spikes`` ``[iterations, time]``, ``threshold``
``[iterations]``, ``loss`` ``[iterations]``, ``target`` ``[time]``."""


def draw_output(axes: Axes, recording: Recording, iteration: int) -> None:
    """Draw one iteration: target, membrane, threshold, and spikes above.

    Args:
        axes: to draw on.
        recording: of one output neuron.
        iteration: index from 0; −1 is the last.
    """
    membrane = recording["membranes"][iteration]
    steps = np.arange(len(membrane))
    threshold = recording["threshold"][iteration]
    top = recording["target"].max()
    axes.plot(steps, recording["target"], color=GREY, lw=1, ls="--", label="target")
    axes.plot(steps, membrane, color=BLUE, lw=1.2, label="membrane potential u")
    axes.axhline(threshold, color=ORANGE, lw=1.2, label="threshold θ")
    fired = np.flatnonzero(recording["spikes"][iteration])
    axes.plot(fired, np.full(len(fired), 1.3 * top), "|", color=VERMILION, ms=9, mew=1.5)
    axes.plot([], [], "|", color=VERMILION, mew=1.5, label="output spike")
    axes.set_ylim(-0.45 * top, 1.45 * top)
    axes.set_xlim(0, len(steps) - 1)


def temporal_coding_figure(
    recordings: Mapping[str, Recording], iterations: Sequence[int] = (0, 99, 399, 999)
) -> Figure:
    """A grid of stills: one row per recording, one column per iteration.

    Args:
        recordings: by row label.
        iterations: indices from 0.

    Raises:
        IndexError: an iteration that was not recorded.
    """
    with plt.rc_context(RC):
        figure, grid = plt.subplots(
            len(recordings),
            len(iterations),
            figsize=(2.3 * len(iterations), 1.75 * len(recordings) + 0.5),
            sharex=True,
            sharey="row",
            squeeze=False,
        )
        for row, (label, recording) in zip(grid, recordings.items(), strict=True):
            for axes, iteration in zip(row, iterations, strict=True):
                draw_output(axes, recording, iteration)
                threshold = recording["threshold"][iteration]
                axes.set_title(f"iteration {iteration + 1:,}, θ = {threshold:.3g}")
            row[0].set_ylabel(label)
        for axes in grid[-1]:
            axes.set_xlabel("time step")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=4)
        figure.tight_layout(rect=(0, 0.35 / figure.get_figheight(), 1, 1))
    return figure


def loss_figure(losses: Mapping[str, np.ndarray]) -> Figure:
    """Loss over iterations: median over seeds, shaded from lowest to highest.

    Args:
        losses: by label, ``[iterations, seeds]``, over a silent network's loss.
    """
    colours = [BLUE, ORANGE, VERMILION, GREY, "#009E73", "#CC79A7", "#56B4E9"]
    with plt.rc_context(RC):
        figure, axes = plt.subplots(figsize=(6.4, 3.2))
        for colour, (label, loss) in zip(colours, losses.items(), strict=False):
            steps = np.arange(1, len(loss) + 1)
            axes.fill_between(steps, loss.min(1), loss.max(1), color=colour, alpha=0.15, lw=0)
            axes.plot(steps, np.median(loss, axis=1), color=colour, lw=1.3, label=label)
        axes.axhline(1, color=GREY, lw=0.8, ls=":")
        axes.set(
            yscale="log", xlabel="training iteration", ylabel="loss / loss of a silent network"
        )
        axes.legend(loc="upper right", ncols=2, fontsize=7.5)
        figure.tight_layout()
    return figure
