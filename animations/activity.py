"""How spikes are spread over a layer's neurons (THA, Fig. 5 and 7), and the dead share."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from animations.arrays import as_array
from animations.style import RC, colour
from bsnn_tha.errors import InvalidValueError

_BINS = 40


def activity_panel(axes: Axes, counts: Mapping[str, np.ndarray], unit: str) -> None:
    """Distributions over one layer's neurons, one per run, on common bins.

    Neurons that never fire are not in the curves: their share is in the legend.

    Args:
        axes: to draw on.
        counts: by run, a value ≥ 0 per neuron; the runs' layers may differ in size.
        unit: of the values.
    """
    counts = {label: as_array(values).reshape(-1) for label, values in counts.items()}
    largest = max(float(np.max(values)) for values in counts.values()) or 1.0
    bins = np.linspace(0, largest, _BINS + 1)
    for i, (label, values) in enumerate(counts.items()):
        alive = values[values > 0]
        heights = np.histogram(alive, bins)[0] / values.size
        dead = 1 - alive.size / values.size
        name = f"{label}: {dead:.1%} dead"
        axes.stairs(100 * heights, bins, color=colour(i), lw=1.5, label=name)
        axes.stairs(100 * heights, bins, color=colour(i), fill=True, alpha=0.2)
    axes.set(xlabel=unit, ylabel="share of neurons, %", xlim=(0, largest))
    axes.set_ylim(0, (1.1 + 0.12 * len(counts)) * axes.get_ylim()[1])  # room for the legend
    axes.legend(loc="upper right")


def activity_figure(
    layers: Mapping[str, Mapping[str, np.ndarray]], unit: str = "spikes per sample"
) -> Figure:
    """One panel per layer, all runs on top of each other.

    Args:
        layers: a value per neuron, by layer and run.
        unit: of the values.

    Raises:
        InvalidValueError: nothing to draw.
    """
    if not layers:
        raise InvalidValueError("an activity figure needs at least one layer, but got none")
    with plt.rc_context(RC):
        figure = Figure(figsize=(3.6 * len(layers), 3.2), layout="constrained")
        grid = figure.subplots(1, len(layers), squeeze=False)
        for axes, (title, counts) in zip(grid[0], layers.items(), strict=True):
            activity_panel(axes, counts, unit)
            axes.set_title(title)
    return figure
