"""Figures per layer over a training, gathered from its snapshots in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bsnn_tha.errors import InvalidValueError, RunError
from bsnn_tha.observe.recording import Probe, Recording, Snapshot


@dataclass(frozen=True)
class Overview:
    """One row per snapshot, one column per layer."""

    iterations: np.ndarray
    """Training iterations, from 0, ``[snapshots]``."""
    loss: np.ndarray
    """Of the iteration's batch, likewise."""
    thresholds: np.ndarray
    """θ, ``[snapshots, layers]``."""
    rates: np.ndarray
    """Spikes per neuron and time step, likewise."""
    dead: np.ndarray
    """Share of neurons that never fired for a training batch, likewise."""
    masses: np.ndarray
    """Mean surrogate gradient, likewise."""

    @classmethod
    def of(cls, recording: Recording) -> Overview:
        """Read every snapshot once, keeping a few numbers of each.

        Raises:
            RunError: there is no snapshot yet.
            DataError: a snapshot is damaged.
        """
        check_begun(recording)
        rows = [
            (
                snapshot.loss,
                [np.mean(layer.trace.threshold) for layer in snapshot.layers],
                [layer.rates.mean() for layer in snapshot.layers],
                [layer.dead_share for layer in snapshot.layers],
                [layer.surrogate_mass for layer in snapshot.layers],
            )
            for snapshot in recording
        ]
        return cls(
            np.array(recording.iterations),
            *(np.array(column) for column in zip(*rows, strict=True)),
        )


def check_begun(recording: Recording) -> None:
    """Refuse a recording without a snapshot.

    Raises:
        RunError: its run has just begun.
    """
    if not len(recording):
        raise RunError(f"{recording.folder} has no snapshot yet; wait for the first")


class SnapshotFrames:
    """SnapshotFrames by frame; the latest one is kept, since several panels ask for it.

    Args:
        recording: of a run.
        places: which snapshot each frame shows, indices from 0.
    """

    def __init__(self, recording: Recording, places: np.ndarray) -> None:
        self.recording, self.places = recording, places
        self._latest: tuple[int, Snapshot] | None = None

    @property
    def probe(self) -> Probe:
        """What all snapshots look at."""
        return self.recording.probe

    @property
    def iterations(self) -> np.ndarray:
        """Training iteration of each frame, from 0."""
        return np.array(self.recording.iterations)[self.places]

    def __len__(self) -> int:
        """How many frames."""
        return len(self.places)

    def at(self, frame: int) -> Snapshot:
        """The snapshot a frame shows."""
        place = int(self.places[frame])
        if self._latest is None or self._latest[0] != place:
            self._latest = place, self.recording[place]
        return self._latest[1]


def layer_title(probe: Probe, layer: int) -> str:
    """A layer's number and name, e.g. ``layer 1, 16C5`` or ``layer 3, 10 neurons``."""
    name = probe.layers[layer - 1].name
    return f"layer {layer}, {name}" + (" neurons" if name.isdigit() else "")


def chosen_layers(probe: Probe, layers: list[int] | None, at_most: int = 3) -> list[int]:
    """Layers to draw, from 1; by default the first, the last and one between.

    Raises:
        InvalidValueError: a layer that the network does not have.
    """
    known = len(probe.layers)
    for layer in layers or []:
        if not 1 <= layer <= known:
            raise InvalidValueError(
                f"layers are 1 to {known} ({', '.join(p.name for p in probe.layers)}), "
                f"but got {layer}"
            )
    if layers:
        return list(dict.fromkeys(layers))  # each once
    return sorted({round(1 + i * (known - 1) / max(1, at_most - 1)) for i in range(at_most)})


def chosen_neurons(
    recording: Recording, layer: int, sample: int, neurons: list[int] | None, at_most: int = 3
) -> list[int]:
    """Places of neurons among those recorded of a layer.

    Args:
        recording: with at least one snapshot.
        layer: from 1.
        sample: of the probe, from 0.
        neurons: flat indices within the layer; by default those that fire most for the
            sample in the last snapshot, or have the highest membranes where none fires.
        at_most: how many by default.

    Raises:
        InvalidValueError: a neuron that was not recorded.
    """
    if neurons is None:
        trace = recording[-1].layers[layer - 1].trace
        counts = trace.spikes[:, sample].sum(0, dtype=int)
        most = counts if trace.fires else trace.membranes[:, sample].mean(0)
        return np.argsort(-most, kind="stable")[:at_most].tolist()
    recorded = recording.probe.layers[layer - 1].neurons.tolist()
    for neuron in neurons:
        if neuron not in recorded:
            raise InvalidValueError(
                f"neuron {neuron} of layer {layer} was not recorded; recorded are "
                f"{', '.join(map(str, recorded))}; record more with --set snapshots.neurons=64"
            )
    return [recorded.index(neuron) for neuron in dict.fromkeys(neurons)]
