"""Curves over training epochs: loss with the threshold over it, dead neurons, rates."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from animations.arrays import as_array
from animations.style import RC, colour
from bsnn_tha.errors import InvalidValueError


def loss_panel(axes: Axes, epochs: Mapping[str, np.ndarray], label: str, own: str) -> Axes:
    """Training and validation loss of one run, and its output threshold (THA, Fig. 6).

    Args:
        axes: to draw on.
        epochs: ``iteration`` and ``train_loss``, perhaps ``val_loss``, and ``threshold``
            of the last layer that fires, ``[epochs]`` each.
        label: of the run.
        own: colour of the run.

    Returns:
        The axes at the right, which belong to the threshold.
    """
    at = epochs["iteration"]
    marker = "o" if len(at) == 1 else None
    axes.plot(at, epochs["train_loss"], color=own, marker=marker, label=f"{label}, training")
    if "val_loss" in epochs:
        values = epochs["val_loss"]
        axes.plot(at, values, color=own, ls=":", marker=marker, label=f"{label}, validation")
    right = axes.twinx()
    right.plot(at, epochs["threshold"], color=own, ls="--", lw=1, marker=marker)
    right.spines["right"].set_visible(True)
    axes.set(xlabel="training iteration", ylabel="loss")
    return right


def loss_figure(runs: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Fig. 6: losses of runs on one scale, their output thresholds (dashed) on another.

    Args:
        runs: by label, see :func:`loss_panel`.

    Raises:
        InvalidValueError: no runs.
    """
    _check(runs)
    runs = {k: {n: as_array(v) for n, v in epochs.items()} for k, epochs in runs.items()}
    with plt.rc_context(RC):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        rights = [
            loss_panel(axes, epochs, label, colour(i))
            for i, (label, epochs) in enumerate(runs.items())
        ]
        top = 1.1 * max(float(epochs["threshold"].max()) for epochs in runs.values())
        for right in rights:
            right.set_ylim(0, top)
            right.set_yticks(right.get_yticks() if right is rights[0] else [])
        rights[0].set_ylim(0, top)
        rights[0].set_ylabel("threshold of the last firing layer (dashed)")
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def layers_figure(
    runs: Mapping[str, np.ndarray], what: str, at: Mapping[str, np.ndarray]
) -> Figure:
    """A figure of every layer over epochs, one panel per layer (Rouser, Fig. 4 and 5).

    Args:
        runs: ``[layers, epochs]`` in percent, by label.
        what: the values are.
        at: epochs of the values, ``[epochs]``, by label.

    Raises:
        InvalidValueError: no runs.
    """
    _check(runs)
    runs = {label: as_array(values) for label, values in runs.items()}
    at = {label: as_array(epochs) for label, epochs in at.items()}
    layers = max(len(values) for values in runs.values())
    with plt.rc_context(RC):
        figure = Figure(figsize=(2.8 * layers, 3.0), layout="constrained")
        grid = figure.subplots(1, layers, squeeze=False)
        for layer, axes in enumerate(grid[0]):
            for i, (label, values) in enumerate(runs.items()):
                if layer < len(values):
                    marker = "o" if values.shape[1] == 1 else None
                    axes.plot(at[label], values[layer], color=colour(i), marker=marker, label=label)
            axes.set(title=f"layer {layer + 1}", xlabel="epoch")
            axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))  # a layer without any is no step
        grid[0][0].set_ylabel(what)
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _check(runs: Mapping) -> None:
    if not runs:
        raise InvalidValueError("a figure needs at least one run, but got none")
