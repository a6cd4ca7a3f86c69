"""Membrane potentials of a layer's neurons: over training, and over a window.

Each panel shows a few neurons of one layer for one sample: u as lines, θ, and the
spikes of all recorded neurons below, the drawn ones first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from animations.arrays import as_array
from animations.overview import SnapshotFrames
from animations.raster import Raster, show_steps
from animations.smoothing import bulk
from animations.style import ORANGE, VERMILION, colour
from bsnn_tha.observe.recording import LayerTrace, SnapshotLayer

_ORDER = 0, 4, 2, 5
"""Colours of the drawn neurons: orange and vermilion belong to θ and spikes."""


class _Traces:
    """The artists both panels move; of neurons that do not fire the membranes alone."""

    def __init__(self, axes: Axes, trace: LayerTrace, drawn: Sequence[int], title: str) -> None:
        time, _, neurons = trace.membranes.shape
        self._drawn, self._fires = list(drawn), trace.fires
        others = [place for place in range(neurons) if place not in self._drawn]
        self._order = self._drawn + others
        steps = np.arange(time)
        self.lines: list[Line2D] = [
            axes.plot(steps, steps * np.nan, color=colour(_ORDER[i % len(_ORDER)]), lw=1.4)[0]
            for i in range(len(self._drawn))
        ]
        self.threshold = axes.axhline(0, color=ORANGE, visible=self._fires)
        height = 0.0
        if self._fires:
            self.threshold.set_label("threshold θ")
            axes.plot([], [], "|", color=VERMILION, mew=1.8, label="spike")
            height = 0.08 + 0.02 * min(neurons, 8)
        self.raster = Raster(axes, neurons, height, VERMILION)
        self.title = axes.set_title(title)
        show_steps(axes, time)

    def show(self, membranes: np.ndarray, spikes: np.ndarray, threshold: float) -> None:
        """Arrays ``[time, neurons]`` of all recorded neurons."""
        for line, place in zip(self.lines, self._drawn, strict=True):
            line.set_ydata(membranes[:, place])
        if self._fires:
            self.threshold.set_ydata([threshold, threshold])
            self.raster.show(spikes[:, self._order])

    def artists(self) -> list[Artist]:
        return [*self.lines, self.threshold, self.raster.artist, self.title]


class LayerOverTraining:
    """One layer's neurons for the same sample, as training goes on.

    Args:
        axes: to draw on.
        snapshots: by frame.
        layer: from 1.
        drawn: which of the recorded neurons get a line, places from 0.
        sample: of the probe, from 0.
        title: before the threshold's value.
    """

    def __init__(
        self,
        axes: Axes,
        snapshots: SnapshotFrames,
        layer: int,
        drawn: Sequence[int],
        sample: int = 0,
        title: str = "",
    ) -> None:
        self.snapshots, self.layer, self.sample, self._text = snapshots, layer, sample, title
        self._traces = _Traces(axes, self._at(0).trace, drawn, title)
        self._traces.raster.make_room(*self._range(list(drawn)))

    def _at(self, frame: int) -> SnapshotLayer:
        return self.snapshots.at(frame).layers[self.layer - 1]

    def _range(self, drawn: list[int]) -> tuple[float, float]:
        """For all frames: nearly all potentials, and every threshold."""
        lows, highs, thresholds = [0.0], [0.0], []
        for frame in range(len(self.snapshots)):
            trace = self._at(frame).trace
            low, high = bulk(trace.membranes[:, self.sample, drawn], 99)
            lows.append(low)
            highs.append(high)
            if trace.fires:
                thresholds.append(float(np.mean(trace.threshold)))
        # Where a few snapshots are far off, the others keep most of the room.
        return float(np.percentile(lows, 5)), max([float(np.percentile(highs, 95)), *thresholds])

    def update(self, frame: int) -> Iterable[Artist]:
        trace = self._at(frame).trace
        threshold = float(np.mean(trace.threshold))
        self._traces.show(trace.membranes[:, self.sample], trace.spikes[:, self.sample], threshold)
        if trace.fires:
            self._traces.title.set_text(f"{self._text}, θ = {threshold:.3g}")
        return self._traces.artists()


class LayerOverTime:
    """One layer's neurons for one sample, a time step per frame.

    Args:
        axes: to draw on.
        trace: of the layer.
        drawn, sample, title: as in :class:`LayerOverTraining`.
    """

    def __init__(
        self, axes: Axes, trace: LayerTrace, drawn: Sequence[int], sample: int = 0, title: str = ""
    ) -> None:
        self._membranes = as_array(trace.membranes)[:, sample].astype(np.float32)
        self._spikes = as_array(trace.spikes)[:, sample]
        self._threshold = float(np.mean(as_array(trace.threshold)))
        self._traces = _Traces(axes, trace, drawn, title)
        low, high = bulk(self._membranes[:, list(drawn)])
        if trace.fires:
            high = max(self._threshold, high)
        self._traces.raster.make_room(min(0.0, low), high)

    def update(self, frame: int) -> Iterable[Artist]:
        past = np.arange(len(self._membranes)) <= frame
        membranes = np.where(past[:, None], self._membranes, np.nan)
        self._traces.show(membranes, self._spikes * past[:, None], self._threshold)
        return self._traces.artists()
