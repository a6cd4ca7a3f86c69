"""The surrogate gradient and the membranes it meets (THA, Fig. 3).

The threshold θ moves on; the surrogate gradient of Eq. 8 stays at θ0, where the
membranes are. Drawn for a layer: how membrane potentials are distributed, θ, the
surrogate gradient where it is, and where it would be at θ (or at θ0, if the run's
surrogate moves). The title has the mean gradient of both over all potentials.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from animations.overview import SnapshotFrames, layer_title
from animations.style import GREY, ORANGE, colour
from bsnn_tha.equations.surrogate import SURROGATES, Surrogate
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.observe.recording import SnapshotLayer


class SurrogatePanel:
    """One layer.

    Args:
        axes: to draw on; ``u`` to the right.
        snapshots: by frame.
        layer: from 1.
    """

    def __init__(self, axes: Axes, snapshots: SnapshotFrames, layer: int) -> None:
        self.snapshots, self.layer = snapshots, layer
        probe = snapshots.probe
        settings = probe.layers[layer - 1]
        if probe.surrogate not in SURROGATES:
            raise InvalidValueError(
                f"the surrogate of this run is code of its own, {probe.surrogate!r}, which films "
                f"do not run; this view draws {', '.join(SURROGATES)}"
            )
        self._surrogate: Surrogate = SURROGATES[probe.surrogate](slope=settings.slope)
        self._clamped = probe.surrogate_centre == "clamped"
        self._theta_0 = settings.theta_0
        low, high = self._range()
        self._u = np.linspace(low, high, 400)
        self._peak = self._derivative(np.array([0.0]), 0.0)[0]
        self._bars = axes.stairs(
            np.zeros(1), [low, high], fill=True, color=colour(0), alpha=0.35, label="membranes u"
        )
        (self._here,) = axes.plot(self._u, self._u * 0, color=colour(2), label="surrogate gradient")
        where = "at θ instead" if self._clamped else "at θ0 instead"
        (self._there,) = axes.plot(self._u, self._u * 0, color=GREY, ls="--", lw=1.4, label=where)
        self._threshold = axes.axvline(0, color=ORANGE, label="threshold θ")
        self._name = layer_title(probe, layer)
        self._title = axes.set_title(self._name)
        axes.set(xlim=(low, high), ylim=(0, 1.08), xlabel="membrane potential u", yticks=[])

    def _at(self, frame: int) -> SnapshotLayer:
        return self.snapshots.at(frame).layers[self.layer - 1]

    def _range(self) -> tuple[float, float]:
        """Where nearly all potentials of nearly all snapshots are, and all thresholds."""
        lows, highs, thetas = [], [], [self._theta_0]
        for frame in range(len(self.snapshots)):
            layer = self._at(frame)
            share = np.cumsum(layer.histogram) / max(1, layer.histogram.sum())
            first, last = np.searchsorted(share, [0.01, 0.99])
            lows.append(layer.edges[first])
            highs.append(layer.edges[1:][min(last, len(share) - 1)])
            thetas.append(float(np.mean(layer.trace.threshold)))
        low, high = min(np.median(lows), *thetas), max(np.median(highs), *thetas)
        margin = 0.05 * (high - low) or 1.0
        return float(low - margin), float(high + margin)

    def _derivative(self, u: np.ndarray, centre: float) -> np.ndarray:
        return self._surrogate(torch.from_numpy(u.astype(np.float64)), torch.tensor(centre)).numpy()

    def update(self, frame: int) -> Iterable[Artist]:
        layer = self._at(frame)
        theta = float(np.mean(layer.trace.threshold))
        centre = float(np.mean(layer.trace.centre))
        other = theta if self._clamped else self._theta_0
        share = layer.histogram / max(1, layer.histogram.sum())
        density = share / np.diff(layer.edges)
        # The end bins hold all that lies beyond them: they would tower over the rest.
        inner = density[1:-1] if len(density) > 2 else density
        self._bars.set_data(np.minimum(density / max(inner.max(), 1e-12), 1), layer.edges)
        self._here.set_ydata(self._derivative(self._u, centre) / self._peak)
        self._there.set_ydata(self._derivative(self._u, other) / self._peak)
        self._threshold.set_xdata([theta, theta])
        middles = (layer.edges[1:] + layer.edges[:-1]) / 2
        elsewhere = float((share * self._derivative(middles, other)).sum())
        instead = "at θ" if self._clamped else "at θ0"
        self._title.set_text(
            f"{self._name}: mean gradient {layer.surrogate_mass:.2g} ({instead}: {elsewhere:.2g})"
        )
        return self._bars, self._here, self._there, self._threshold, self._title
