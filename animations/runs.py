"""Films of any trained network, from the snapshots its training took."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from animations.clock import iterations_of
from animations.film import Film, Panel
from animations.inputs import InputPanel, MeanMembranePanel, SpikeCountPanel
from animations.layers import LayerCurves
from animations.layout import IterationTitle, lay_out
from animations.membranes import LayerOverTime, LayerOverTraining
from animations.overview import (
    Overview,
    SnapshotFrames,
    check_begun,
    chosen_layers,
    chosen_neurons,
    layer_title,
)
from animations.run_arrays import check_index
from animations.style import theme
from animations.surrogate import SurrogatePanel
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.observe.recording import Recording


def training_film(
    recording: Recording,
    frames: int = 100,
    pace: str = "even",
    layers: list[int] | None = None,
    neurons: list[int] | None = None,
    sample: int = 0,
    style: str = "light",
) -> Film:
    """Membranes and spikes of one sample, thresholds, rates and dead neurons, over training.

    Args:
        recording: of a run.
        frames: at most; there are never more than snapshots.
        pace: see :mod:`animations.clock`.
        layers: from 1; by default up to three.
        neurons: flat indices within their layer; by default three recorded ones. With
            this, one layer must be chosen.
        sample: of those that were recorded, from 0.
        style: ``"light"`` or ``"dark"``.

    Raises:
        InvalidValueError: a layer, neuron or sample that was not recorded.
        RunError: no snapshot yet.
    """
    overview = Overview.of(recording)
    snapshots = SnapshotFrames(recording, iterations_of(len(recording), frames, pace))
    probe = recording.probe
    shown = chosen_layers(probe, layers)
    check_index("sample", sample, len(probe.samples))
    drawn = _drawn(recording, shown, sample, neurons)
    with theme(style):
        figure = Figure()
        grid = figure.add_gridspec(1, 2, width_ratios=[1.8, 1])
        left = grid[0].subgridspec(len(shown), 1).subplots(sharex=True, squeeze=False)[:, 0]
        right = grid[1].subgridspec(3, 1).subplots(sharex=True, squeeze=False)[:, 0]
        clock = snapshots.iterations
        panels: list[Any] = [IterationTitle(figure, clock, probe.planned_iterations)]
        for axes, layer in zip(left, shown, strict=True):
            title = layer_title(probe, layer)
            panels.append(LayerOverTraining(axes, snapshots, layer, drawn[layer], sample, title))
        left[-1].set_xlabel("time step" + _target(recording, sample))
        labels = [layer_title(probe, layer) for layer in range(1, len(probe.layers) + 1)]
        for axes, values, title in zip(
            right,
            (overview.thresholds, 100 * overview.rates, 100 * overview.dead),
            ("threshold θ", "firing rate, %", "dead in a batch, %"),
            strict=True,
        ):
            panels.append(LayerCurves(axes, overview.iterations, values, clock, labels, title))
        right[-1].set_xlabel("training iteration")
        lay_out(figure, left[0], right[0])
        return Film(figure, panels, len(snapshots), fps=10, title=f"training on {probe.dataset}")


def window_film(
    recording: Recording,
    iteration: int | None = None,
    frames: int = 100,
    layers: list[int] | None = None,
    neurons: list[int] | None = None,
    sample: int = 0,
    style: str = "light",
) -> Film:
    """The input and the response to it, over the time steps of a window.

    Args:
        recording: of a run.
        iteration: the snapshot at or before this training iteration (from 1); the last
            if none.
        frames: at most; there are never more than time steps.
        layers, neurons, sample, style: as in :func:`training_film`.

    Raises:
        InvalidValueError: a layer, neuron or sample that was not recorded.
        RunError: no snapshot yet.
    """
    check_begun(recording)
    place = len(recording) - 1
    if iteration is not None:
        first, last = recording.iterations[0], recording.iterations[-1]
        check_index("iteration", iteration, last - first + 1, first + 1)
        place = int(np.searchsorted(recording.iterations, iteration - 1, side="right")) - 1
    snapshot, probe = recording[place], recording.probe
    shown = chosen_layers(probe, layers)
    check_index("sample", sample, len(probe.samples))
    drawn = _drawn(recording, shown, sample, neurons)
    inputs = probe.inputs[sample] if probe.static else probe.inputs[:, sample]
    output = snapshot.layers[-1].trace
    classifies = probe.targets.ndim == 1 and len(output.neurons) == np.prod(probe.layers[-1].shape)
    with theme(style):
        figure = Figure()
        grid = figure.add_gridspec(1, 2, width_ratios=[1, 1.7])
        beside = grid[0].subgridspec(
            2 if classifies else 1, 1, height_ratios=[1.6, 1][: 1 + classifies]
        )
        columns = beside.subplots(squeeze=False)[:, 0]
        panels: list[Any] = [InputPanel(columns[0], inputs, probe.step_ms)]
        if classifies:
            panels.append(
                (SpikeCountPanel if output.fires else MeanMembranePanel)(
                    columns[1],
                    (output.spikes if output.fires else output.membranes)[:, sample],
                    int(probe.targets[sample]),
                    probe.class_names,
                )
            )
        right = grid[1].subgridspec(len(shown), 1).subplots(sharex=True, squeeze=False)[:, 0]
        for axes, layer in zip(right, shown, strict=True):
            trace = snapshot.layers[layer - 1].trace
            title = layer_title(probe, layer)
            if trace.fires:
                title += f", θ = {np.mean(trace.threshold):.3g}"
            panels.append(LayerOverTime(axes, trace, drawn[layer], sample, title))
        right[-1].set_xlabel("time step")
        figure.suptitle(
            f"{probe.dataset}, after {snapshot.iteration + 1:,} training iterations",
            fontsize=plt.rcParams["font.size"],
        )
        lay_out(figure, right[0])
        steps = iterations_of(probe.num_steps, frames)
        moved = [_Moved(panel, steps) for panel in panels]
        return Film(figure, moved, len(steps), title=f"response to {probe.dataset}")


class _Moved:
    """A panel with another clock: frame i shows what was its frame ``places[i]``."""

    def __init__(self, panel: Panel, places: np.ndarray) -> None:
        self._panel, self._places = panel, places

    def update(self, frame: int) -> Iterable[Artist]:
        return self._panel.update(int(self._places[frame]))


def surrogate_film(
    recording: Recording,
    frames: int = 100,
    pace: str = "even",
    layers: list[int] | None = None,
    style: str = "light",
) -> Film:
    """Membranes, threshold and surrogate gradient per layer, over training (Fig. 3).

    Args:
        recording, frames, pace, layers, style: as in :func:`training_film`.

    Raises:
        InvalidValueError: a layer that the network does not have.
        RunError: no snapshot yet.
    """
    check_begun(recording)
    snapshots = SnapshotFrames(recording, iterations_of(len(recording), frames, pace))
    firing = [i for i, layer in enumerate(recording[0].layers, start=1) if layer.trace.fires]
    shown = chosen_layers(recording.probe, layers)
    if layers is None:
        shown = [layer for layer in shown if layer in firing] or shown
    if silent := [layer for layer in shown if layer not in firing]:
        raise InvalidValueError(
            f"layer {silent[0]} does not fire and has no surrogate gradient; layers that do are "
            f"{', '.join(map(str, firing)) or 'none'}"
        )
    with theme(style):
        figure = Figure()
        rows = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
        total = recording.probe.planned_iterations
        panels: list[Any] = [IterationTitle(figure, snapshots.iterations, total)]
        for axes, layer in zip(rows, shown, strict=True):
            panels.append(SurrogatePanel(axes, snapshots, layer))
            if axes is not rows[-1]:
                axes.set_xlabel("")
        lay_out(figure, rows[0])
        return Film(figure, panels, len(snapshots), fps=10, title="surrogate gradient")


def _drawn(
    recording: Recording, layers: list[int], sample: int, neurons: list[int] | None
) -> dict[int, list[int]]:
    if neurons is not None and len(layers) != 1:
        raise InvalidValueError(
            f"neurons {', '.join(map(str, neurons))} are of one layer; choose it with --layer"
        )
    return {layer: chosen_neurons(recording, layer, sample, neurons) for layer in layers}


def _target(recording: Recording, sample: int) -> str:
    probe = recording.probe
    if probe.targets.ndim > 1:
        return ""
    target = int(probe.targets[sample])
    name = probe.class_names[target] if probe.class_names else target
    return f" ({probe.split} sample, class {name})"
