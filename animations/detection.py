"""What a detector finds while it trains: event frames with true and found boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from animations.clock import iterations_of
from animations.film import Film
from animations.inputs import EventPictures
from animations.layers import LayerCurves
from animations.layout import IterationTitle, lay_out
from animations.overview import Overview, SnapshotFrames, chosen_layers, layer_title
from animations.run_arrays import check_index
from animations.style import colour, theme
from bsnn_tha.detection.boxes import NONE, overlap
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.observe.recording import FoundBoxes, Probe, Recording

LEAST_SCORE = 0.1
"""Boxes with less are not drawn: there are dozens of them, for average precision to rank."""
MATCHED = 0.5
"""Overlap with a true box of its class from which a box counts as found."""
MOST_SAMPLES = 4
MOST_BOXES = 3
"""Drawn of a sample, the best ones."""
_FAINTEST = 0.5
"""Opacity of a box of score 0; those of 1 − it and more are drawn in full."""


def detection_film(
    recording: Recording,
    frames: int = 100,
    pace: str = "even",
    layers: list[int] | None = None,
    sample: int | None = None,
    style: str = "light",
) -> Film:
    """True and found boxes of some samples, the thresholds and the loss, over training.

    A frame of events is the window that ends at the labelled moment, later events the
    stronger. The better its score, the stronger a found box.

    Args:
        recording: of a detector's run.
        frames: at most; there are never more than snapshots.
        pace: see :mod:`animations.clock`.
        layers: whose thresholds are drawn, from 1; by default all that fire.
        sample: of those that were recorded, from 0; by default the first four.
        style: ``"light"`` or ``"dark"``.

    Raises:
        InvalidValueError: the network finds no boxes, or a sample or layer was not recorded.
        RunError: no snapshot yet.
    """
    overview = Overview.of(recording)
    if recording[0].found is None:
        raise InvalidValueError(
            f"{recording.folder} has no boxes, as its network finds none, or was recorded by an "
            "earlier version; choose another --view, or train a detector anew"
        )
    probe = recording.probe
    if sample is None:
        shown = list(range(min(MOST_SAMPLES, len(probe.samples))))
    else:
        check_index("sample", sample, len(probe.samples))
        shown = [sample]
    snapshots = SnapshotFrames(recording, iterations_of(len(recording), frames, pace))
    firing = [n for n, layer in enumerate(recording[0].layers, start=1) if layer.trace.fires]
    drawn = np.array([n for n in chosen_layers(probe, layers or firing) if n in firing], int)
    with theme(style):
        figure = Figure()
        grid = figure.add_gridspec(1, 2, width_ratios=[2.3, 1])
        rows = -(-len(shown) // 2)
        places = grid[0].subgridspec(rows, min(2, len(shown))).subplots(squeeze=False).ravel()
        right = grid[1].subgridspec(2, 1).subplots(sharex=True, squeeze=False)[:, 0]
        clock = snapshots.iterations
        panels: list[Any] = [IterationTitle(figure, clock, probe.planned_iterations)]
        panels += [
            BoxPanel(axes, snapshots, each) for axes, each in zip(places, shown, strict=False)
        ]
        for axes in places[len(shown) :]:
            axes.set_axis_off()
        labels = [layer_title(probe, int(number)) for number in drawn]
        thresholds = overview.thresholds[:, drawn - 1]
        # The first batches cost many times the later ones, which would lie on the axis.
        top = 3 * float(np.median(overview.loss))
        iterations, loss = overview.iterations, overview.loss[:, None]
        panels += [
            LayerCurves(right[0], iterations, thresholds, clock, labels, "threshold θ"),
            LayerCurves(right[1], iterations, loss, clock, ["_"], "loss of the batch", top),
        ]
        right[-1].set_xlabel("training iteration")
        lay_out(figure, places[0], right[0])
        return Film(figure, panels, len(snapshots), fps=10, title=f"detection on {probe.dataset}")


class BoxPanel:
    """One sample of the probe: its events, its true boxes, and those found in each snapshot.

    The title counts the true boxes that have a drawn one of their class on them.

    Args:
        axes: to draw on.
        snapshots: by frame, of a detector.
        sample: of the probe, from 0.
    """

    def __init__(self, axes: Axes, snapshots: SnapshotFrames, sample: int) -> None:
        self._snapshots, self._sample = snapshots, sample
        probe = snapshots.probe
        self._names = probe.class_names
        targets = probe.targets[sample]
        self._truths = targets[targets[:, 4] != NONE]
        picture = EventPictures()(_trail(probe, sample))
        self._size = np.array([picture.shape[1], picture.shape[0]] * 2, float)
        axes.imshow(picture, extent=(0, self._size[0], self._size[1], 0))
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(True)
        true, found = colour(2), plt.rcParams["text.color"]
        for box in self._truths[:, :4] * self._size:
            axes.add_patch(_rectangle(box, color=true, lw=3.0))
        axes.plot([], [], color=true, lw=3.0, label="true box")
        axes.plot([], [], color=found, lw=1.8, label="found box, score")
        self._marks = [_Mark(axes, found) for _ in range(MOST_BOXES)]
        self._title = axes.set_title(" ")

    def update(self, frame: int) -> Iterable[Artist]:
        found = self._snapshots.at(frame).found
        assert found is not None
        own = _best(found[self._sample])
        for number, mark in enumerate(self._marks):
            if number < len(own.boxes):
                name = self._names[own.classes[number]]
                mark.show(own.boxes[number] * self._size, name, own.scores[number], self._size)
            else:
                mark.hide()
        right = int(_matched(self._truths, own).sum())
        self._title.set_text(f"{right} of {len(self._truths)} found")
        return [*(part for mark in self._marks for part in mark.artists), self._title]


class _Mark:
    """A found box with its class and score, or hidden."""

    def __init__(self, axes: Axes, own: str) -> None:
        self._box = _rectangle(np.zeros(4), color=own, lw=1.8)
        axes.add_patch(self._box)
        self._text = axes.text(
            0, 0, "", color=plt.rcParams["axes.facecolor"], fontsize=10, clip_on=True,
            bbox={"facecolor": own, "edgecolor": "none", "pad": 1.0},
        )  # fmt: skip
        self.hide()

    @property
    def artists(self) -> Sequence[Artist]:
        return self._box, self._text

    def show(self, box: np.ndarray, name: str, score: float, frame: np.ndarray) -> None:
        """A box ``[4]`` and a frame's size, both in pixels."""
        self._box.set_bounds(*box)
        strength = min(1.0, _FAINTEST + float(score))
        for artist in (self._box, self._text, self._text.get_bbox_patch()):
            assert artist is not None
            artist.set_alpha(strength)
        below = box[1] < 0.12 * frame[1]  # no room for the text above it
        right = box[0] > 0.6 * frame[0]
        self._text.set(
            x=box[0] + (box[2] if right else 0), y=box[1] + (box[3] if below else 0),
            text=f"{name} {score:.2f}",
            verticalalignment="top" if below else "bottom",
            horizontalalignment="right" if right else "left",
        )  # fmt: skip
        self._seen(True)

    def hide(self) -> None:
        self._seen(False)

    def _seen(self, seen: bool) -> None:
        for artist in self.artists:
            artist.set_visible(seen)


class _Drawn(NamedTuple):
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


def _best(found: FoundBoxes) -> _Drawn:
    """What is drawn of a sample's boxes, the best first."""
    chosen = np.flatnonzero(found.scores >= LEAST_SCORE)[:MOST_BOXES]
    return _Drawn(*(values[chosen] for values in found))


def _matched(truths: np.ndarray, found: _Drawn) -> np.ndarray:
    """Which of the true boxes ``[boxes, 5]`` have a box of their class on them."""
    shared = overlap(torch.from_numpy(truths[:, None, :4]), torch.from_numpy(found.boxes[None]))
    same = truths[:, None, 4] == found.classes[None]
    matched: np.ndarray = ((shared.numpy() >= MATCHED) & same).any(1)
    return matched


def _trail(probe: Probe, sample: int) -> np.ndarray:
    """Events of a window as strengths ``[channels, height, width]``, the latest in full."""
    window = np.minimum(probe.inputs[:, sample].astype(np.float32), 1)
    strength = np.linspace(0, 1, len(window) + 1)[1:]
    trail: np.ndarray = (window * strength[:, None, None, None]).max(0)
    return trail


def _rectangle(box: np.ndarray, **style: Any) -> Rectangle:
    return Rectangle((box[0], box[1]), box[2], box[3], fill=False, **style)
