"""A run over its epochs: losses, accuracies or mAP, thresholds, rates, dead neurons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from animations.drawing import on_page
from animations.run_arrays import layer_columns
from animations.style import BLUE, ORANGE, colour, count

SIZE = (3.2, 2.4)
"""Inches: small enough that a phone shows one at its own size."""
_SPLITS = {"train": ("training", BLUE), "val": ("validation", ORANGE)}
_JUDGED = {"loss": "loss", "accuracy": "accuracy", "map": "mAP"}
"""Columns of each split, and their titles."""
_LAYERS = {
    "threshold": ("threshold θ", 1),
    "rate": ("firing rate, %", 100),
    "dead": ("dead neurons, %", 100),
}
"""Columns of each layer, their titles, and what they are multiplied with."""


def curves(epochs: Mapping[str, np.ndarray]) -> Iterator[tuple[str, Figure]]:
    """What a run has learned, and whether its neurons live: titles and small figures.

    Args:
        epochs: columns of ``metrics.csv``, ``[epochs]`` each; what a run does not have is
            left out.
    """
    at = epochs["epoch"] + 1
    for what, title in _JUDGED.items():
        lines = {
            label: (epochs[f"{split}_{what}"], own)
            for split, (label, own) in _SPLITS.items()
            if f"{split}_{what}" in epochs
        }
        if lines:
            yield title, _figure(at, lines, title)
    for column, (title, scale) in _LAYERS.items():
        layers = layer_columns(dict(epochs), column)
        with on_page():  # for its colours
            lines = {f"layer {n + 1}": (scale * v, colour(n)) for n, v in enumerate(layers)}
        yield title, _figure(at, lines, title)
    yield "learning rate", _figure(at, {"": (epochs["lr"], BLUE)}, "learning rate")


def _figure(at: np.ndarray, lines: Mapping[str, tuple[np.ndarray, str]], title: str) -> Figure:
    with on_page():
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        for label, (values, own) in lines.items():
            # As a colour of its own: names of the cycle are looked up when it is drawn.
            marker = "o" if len(at) < 4 else None
            axes.plot(at, values, color=to_hex(own), marker=marker, label=label)
        axes.set(title=title, xlabel="epoch")
        count(axes.xaxis)
        if len(lines) > 1:  # below: within, it would lie on the lines
            figure.legend(loc="outside lower center", ncols=3)
    return figure
