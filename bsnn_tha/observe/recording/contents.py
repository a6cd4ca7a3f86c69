"""What a run has recorded, as values: the probe, a snapshot, the test set's activity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bsnn_tha.observe.recording.traces import LayerTrace


@dataclass(frozen=True)
class ProbeLayer:
    """One layer of a recorded network."""

    name: str
    """E.g. ``16C5``, or the outputs of a fully connected layer."""
    shape: tuple[int, ...]
    """Of its output for one sample."""
    neurons: np.ndarray
    """Whose traces are kept, flat indices."""
    rate_neurons: np.ndarray
    """Whose firing rates are kept, flat indices."""
    slope: float
    theta_0: float
    theta_inf: float
    """θ0 for a fixed threshold."""
    alpha: float
    """0 for a fixed threshold."""


@dataclass(frozen=True)
class Probe:
    """The samples that every snapshot looks at, and what is recorded of them."""

    inputs: np.ndarray
    """``[samples, ...]`` if static, else frames ``[time, samples, ...]``."""
    static: bool
    num_steps: int
    step_ms: float | None
    targets: np.ndarray
    """Classes ``[samples]``; a trace ``[time, samples, outputs]``; or boxes
    ``[samples, boxes, 5]``, see :mod:`bsnn_tha.detection.boxes`."""
    samples: np.ndarray
    """Indices within the split."""
    split: str
    """``validation`` or ``training``."""
    dataset: str
    class_names: tuple[str, ...]
    surrogate: str
    surrogate_centre: str
    planned_iterations: int
    epoch_iterations: int
    layers: tuple[ProbeLayer, ...]


@dataclass(frozen=True)
class SnapshotLayer:
    """One layer in one training iteration."""

    trace: LayerTrace
    """Of the probe."""
    histogram: np.ndarray
    """Membranes of the training batch, counts ``[bins]``; end bins are open."""
    edges: np.ndarray
    """Of the bins, ``[bins + 1]``."""
    rates: np.ndarray
    """Spikes per time step of ``rate_neurons``, float32, in [0, 1]."""
    dead_share: float
    surrogate_mass: float


class FoundBoxes(NamedTuple):
    """What a detector finds in one sample of the probe, the best first."""

    boxes: np.ndarray
    """``[found, 4]``: x, y, width, height in shares of the frame."""
    scores: np.ndarray
    """``[found]``, in [0, 1]."""
    classes: np.ndarray
    """``[found]``, int64."""


@dataclass(frozen=True)
class Snapshot:
    """One training iteration."""

    iteration: int
    epoch: int
    loss: float
    layers: tuple[SnapshotLayer, ...]
    found: tuple[FoundBoxes, ...] | None = None
    """In each sample of the probe; None of a network that finds no boxes."""


class LayerActivity(NamedTuple):
    """What every neuron of a layer did over the test set."""

    name: str
    mean_counts: np.ndarray
    """Spikes per sample, of the layer's shape, float32."""
    threshold: float
    samples: int
    time_steps: int

    @property
    def dead_share(self) -> float:
        """Share of neurons that never fired; NaN of a layer without a threshold."""
        return float((self.mean_counts == 0).mean()) if self.fires else np.nan

    @property
    def fires(self) -> bool:
        """Whether the layer has a threshold."""
        return bool(np.isfinite(self.threshold))
