"""What figures and films of several panels have in common: a clock and a legend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure


class IterationTitle:
    """The clock: which iteration a frame shows, above all panels.

    Args:
        figure: whose title it is.
        iterations: of each frame, counted from 0; shown counted from 1.
        total: of the training.
    """

    def __init__(self, figure: Figure, iterations: Sequence[int] | np.ndarray, total: int) -> None:
        self.iterations, self.total = iterations, total
        self._text = figure.suptitle(self._at(0), x=0.5, fontsize=plt.rcParams["font.size"])

    def _at(self, frame: int) -> str:
        return f"training iteration {int(self.iterations[frame]) + 1:,} of {self.total:,}"

    def update(self, frame: int) -> Iterable[Artist]:
        self._text.set_text(self._at(frame))
        return (self._text,)


def lay_out(figure: Figure, *labelled: Axes) -> None:
    """Place everything once and for all frames, with one legend below for all panels.

    Args:
        figure: with all its panels.
        labelled: panels whose labels the legend shows.
    """
    handles: dict[str, Artist] = {}
    for axes in labelled:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.set_layout_engine("constrained", h_pad=0.07, w_pad=0.07)
    if handles:
        _add_legend(figure, handles)
    figure.draw_without_rendering()
    # A layout that followed each title's length would make films tremble.
    figure.set_layout_engine("none")


def _add_legend(figure: Figure, handles: dict[str, Artist]) -> None:
    """In as many columns as fit, five at most."""
    for columns in range(min(len(handles), 5), 0, -1):
        legend = figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside lower center",
            ncols=columns,
            columnspacing=1.2,
            handlelength=1.4,
        )
        figure.draw_without_rendering()
        if columns == 1 or legend.get_window_extent().width < _WIDEST * figure.bbox.width:
            return
        legend.remove()


_WIDEST = 0.93
"""Share of a figure's width that a legend takes at most; letters of few pixels are wider."""
