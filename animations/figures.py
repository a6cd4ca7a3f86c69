"""Figures of runs by name, as ``bsnn-tha figure NAME RUN...`` draws them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from animations.activity import activity_figure
from animations.curves import layers_figure, loss_figure
from animations.overview import check_begun
from animations.run_arrays import (
    OutputRecording,
    label_of,
    layer_columns,
    read_epochs,
)
from animations.runs import surrogate_film, training_film, window_film
from animations.temporal_coding import temporal_coding_figure
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.observe.recording import Recording, read_activity
from bsnn_tha.suggest import did_you_mean


def draw_figure(name: str, runs: Sequence[Path]) -> Figure:
    """Draw one of :data:`FIGURES`.

    Args:
        name: of the figure.
        runs: folders, at least one.

    Raises:
        InvalidValueError: an unknown name, or no run.
        RunError: a run has not recorded what the figure shows.
    """
    if name not in FIGURES:
        near = did_you_mean(name, FIGURES)
        raise InvalidValueError(
            f"figure must be one of {', '.join(FIGURES)}, but got {name!r}"
            + (near if near.endswith("?") else "")
        )
    if not runs:
        raise InvalidValueError(f"figure {name} needs at least one run folder, but got none")
    return FIGURES[name](runs)


def labels_of(runs: Sequence[Path]) -> list[str]:
    """Names for runs: what they are, or where two are alike, their folders.

    Raises:
        RunError: no such run.
    """
    labels = [label_of(run) for run in runs]
    folders = [run.resolve() for run in runs]
    names = [folder.name for folder in folders]
    return [
        label
        if labels.count(label) == 1
        else folder.name
        if names.count(folder.name) == folders.count(folder)
        else str(run)
        for run, label, folder in zip(runs, labels, folders, strict=True)
    ]


def output_recordings(runs: Sequence[Path]) -> dict[str, OutputRecording]:
    """The outputs of runs that recorded them, by label."""
    return {
        label: OutputRecording.of_run(run) for label, run in zip(labels_of(runs), runs, strict=True)
    }


def _temporal_coding(runs: Sequence[Path]) -> Figure:
    return temporal_coding_figure(output_recordings(runs))


def activity_of(runs: Sequence[Path]) -> dict[str, dict[str, np.ndarray]]:
    """Spikes per test sample of every neuron, by layer and by the run's label."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for label, run in zip(labels_of(runs), runs, strict=True):
        for number, layer in enumerate(read_activity(run), start=1):
            if not layer.fires:
                continue
            layers.setdefault(f"layer {number}", {})[label] = layer.mean_counts.ravel()
    return layers


def _activity(runs: Sequence[Path]) -> Figure:
    return activity_figure(activity_of(runs), "spikes per test sample")


def _activity_at_start(runs: Sequence[Path]) -> Figure:
    layers: dict[str, dict[str, np.ndarray]] = {}
    for label, run in zip(labels_of(runs), runs, strict=True):
        recording = Recording.open(run)
        check_begun(recording)
        steps = recording.probe.num_steps
        for number, layer in enumerate(recording[0].layers, start=1):
            if not layer.trace.fires:
                continue
            layers.setdefault(f"layer {number}", {})[label] = steps * layer.rates
    return activity_figure(layers, "spikes per sample, first training batch")


def _loss(runs: Sequence[Path]) -> Figure:
    columns = {}
    for label, run in zip(labels_of(runs), runs, strict=True):
        epochs = read_epochs(run)
        columns[label] = epochs | {"threshold": layer_columns(epochs, "threshold")[-1]}
    return loss_figure(columns)


def _layers(column: str, what: str) -> Callable[[Sequence[Path]], Figure]:
    def draw(runs: Sequence[Path]) -> Figure:
        epochs = {label: read_epochs(run) for label, run in zip(labels_of(runs), runs, strict=True)}
        return layers_figure(
            {label: 100 * layer_columns(table, column) for label, table in epochs.items()},
            what,
            {label: table["epoch"] + 1 for label, table in epochs.items()},
        )

    return draw


def _last_frame(film: Callable) -> Callable[[Sequence[Path]], Figure]:
    def draw(runs: Sequence[Path]) -> Figure:
        if len(runs) != 1:
            raise InvalidValueError(f"this figure is of one run, but got {len(runs)}")
        return film(Recording.open(runs[0])).still(-1)

    return draw


FIGURES: dict[str, Callable[[Sequence[Path]], Figure]] = {
    "temporal-coding": _temporal_coding,
    "activity": _activity,
    "activity-at-start": _activity_at_start,
    "loss": _loss,
    "surrogate": _last_frame(surrogate_film),
    "dead": _layers("dead", "dead neurons, %"),
    "rates": _layers("rate", "firing rate, %"),
    "membranes": _last_frame(training_film),
    "response": _last_frame(window_film),
}
"""By name; each draws run folders."""
