"""Spikes as short vertical lines in a strip under a trace, in the same axes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D


def show_steps(axes: Axes, steps: int) -> None:
    """Let the axes reach a little beyond so many time steps.

    A spike at the first or the last one would be half cut off, and its rest hidden by
    the frame.
    """
    margin = max(0.5, 0.008 * steps)
    axes.set_xlim(-margin, steps - 1 + margin)


class Raster:
    """The strip; one line per neuron, the first at the top.

    Args:
        axes: that have the trace above the strip; see :meth:`make_room`.
        neurons: how many lines.
        height: of the strip, share of the axes'.
        colour: of the spikes.

    Attributes:
        artist: what changes.
    """

    def __init__(self, axes: Axes, neurons: int, height: float, colour: str) -> None:
        self._axes, self._height, self._neurons = axes, height, neurons
        # x in time steps, y in shares of the axes' height.
        transform = axes.get_xaxis_transform()
        self.artist: Line2D
        (self.artist,) = axes.plot([], [], transform=transform, color=colour, lw=1.8)

    def show(self, spikes: np.ndarray) -> None:
        """Draw spikes ``[time]`` or ``[time, neurons]``, 0 or 1."""
        steps, neurons = np.nonzero(spikes.reshape(len(spikes), self._neurons))
        row = self._height / self._neurons
        top = self._height - neurons * row
        gaps = np.full(len(steps), np.nan)
        self.artist.set_data(
            np.repeat(steps, 3), np.stack([top - 0.1 * row, top - 0.9 * row, gaps], 1).ravel()
        )

    def make_room(self, low: float, high: float) -> None:
        """Give the trace's values from ``low`` to ``high`` the rest of the axes."""
        margin = 0.05 * (high - low) or 1.0
        low, high = low - margin, high + margin
        self._axes.set_ylim(low - (high - low) * self._height / (1 - self._height), high)
