"""Figures per layer over training, with a cursor at the frame's iteration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from animations.arrays import as_array
from animations.smoothing import bulk
from animations.style import GREY, colour

_ORDER = 0, 3, 2, 4, 1, 5
"""Colours of layers, input side first: neighbours are easy to tell apart."""


class LayerCurves:
    """One curve per layer, drawn whole, and a cursor.

    Args:
        axes: to draw on.
        iterations: of the values, ``[points]``.
        values: ``[points, layers]``.
        cursor: iteration of each frame.
        labels: of the layers.
        title: what the values are.
        top: of the axis, where it is known.
    """

    def __init__(
        self,
        axes: Axes,
        iterations: np.ndarray,
        values: np.ndarray,
        cursor: Sequence[int] | np.ndarray,
        labels: Sequence[str],
        title: str,
        top: float | None = None,
    ) -> None:
        iterations, values = as_array(iterations), as_array(values)
        self._cursor = cursor
        for layer, label in enumerate(labels):
            own = colour(_ORDER[layer % len(_ORDER)])
            axes.plot(iterations + 1, values[:, layer], color=own, lw=1.6, label=label)
        axes.set_title(title)
        axes.set_xlim(1, max(2, int(iterations[-1]) + 1))
        axes.set_ylim(0, top or max(1.1 * bulk(values)[1], 1e-3))
        self._line = axes.axvline(1, color=GREY, lw=1.2)

    def update(self, frame: int) -> Iterable[Artist]:
        now = self._cursor[frame] + 1
        self._line.set_xdata([now, now])
        return (self._line,)
