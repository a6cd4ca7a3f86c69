"""What a run's layers do, one small drawing each: spikes of neurons, membranes and gradient."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from animations.activity import activity_panel
from animations.drawing import on_page
from animations.figures import activity_of
from animations.overview import SnapshotFrames, check_begun
from animations.report.curves import SIZE
from animations.surrogate import SurrogatePanel
from bsnn_tha.observe.recording import Recording

WIDE = (4.6, 2.4)
"""Inches of a drawing with a long title; two of them stand beside each other."""


def activity(run: Path) -> Iterator[tuple[str, Figure]]:
    """How many neurons of a layer send how many spikes: titles and figures.

    Args:
        run: the run folder, with the spikes over its test set.
    """
    for title, counts in activity_of([run]).items():
        with on_page():
            figure = Figure(figsize=SIZE, layout="constrained")
            axes = figure.subplots()
            activity_panel(axes, counts, "spikes per test sample")
            axes.set_title(title)
        yield title, figure


def gradients(run: Path) -> Iterator[tuple[str, Figure]]:
    """A layer's membranes under the surrogate gradient, in the last snapshot: titles and figures.

    Args:
        run: the run folder, with snapshots.

    Raises:
        RunError: no snapshot yet.
    """
    recording = Recording.open(run)
    check_begun(recording)
    snapshots = SnapshotFrames(recording, np.array([len(recording) - 1]))
    for number, layer in enumerate(recording[0].layers, start=1):
        if not layer.trace.fires:
            continue
        with on_page():
            figure = Figure(figsize=WIDE, layout="constrained")
            panel = SurrogatePanel(figure.subplots(), snapshots, number)
            panel.update(0)
            figure.legend(loc="outside lower center", ncols=4, columnspacing=1, handlelength=1.2)
        yield f"layer {number}", figure
