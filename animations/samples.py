"""A picture of a few samples of a data set: of each class one, or the first."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from animations.style import BLUE, GREEN, RC, VERMILION
from bsnn_tha.data.dataset import Dataset, Split
from bsnn_tha.data.inspect import samples_of
from bsnn_tha.detection.boxes import NONE

MOST = 10
"""Samples in the picture."""
COLUMNS = 5


def samples_figure(dataset: Dataset, most: int = MOST) -> Figure:
    """Samples of the training part, class by class.

    Images are shown as they are; recordings of a camera as what each pixel sent, ON blue and
    OFF orange; sequences of units as dots over time.

    Boxes, where those are the targets, are drawn over them.

    Args:
        dataset: loaded.
        most: so many samples at most.
    """
    indices = _one_of_each(dataset.train, most)
    rows = -(-len(indices) // COLUMNS)
    with plt.rc_context(RC):
        figure = Figure(figsize=(1.7 * COLUMNS, 1.95 * rows), layout="constrained")
        axes = np.atleast_1d(figure.subplots(rows, COLUMNS)).ravel()
        for place, index in zip(axes, indices, strict=False):
            draw_sample(place, dataset, dataset.train, index)
            target = dataset.train.targets[index]
            if dataset.boxes is None:
                place.set_title(_name(dataset, int(target)))
            else:
                _draw_boxes(place, dataset, target)
        for place in axes[len(indices) :]:
            place.set_axis_off()
    return figure


def draw_sample(axes: Axes, dataset: Dataset, split: Split, index: int) -> None:
    """Draw one sample of a split."""
    sample = samples_of(split, [index]).float()
    _draw(axes, sample[0] if dataset.static else sample[:, 0], dataset.static)


def _one_of_each(split: Split, most: int) -> list[int]:
    targets = split.targets
    if targets.dim() != 1:  # no classes
        return [*range(min(most, len(split)))]
    first = [int((targets == label).nonzero()[0]) for label in targets.unique()]
    others = [index for index in range(len(split)) if index not in first]
    return (first + others)[:most]


def _name(dataset: Dataset, label: int) -> str:
    return dataset.class_names[label] if dataset.class_names else str(label)


def _draw_boxes(axes: Axes, dataset: Dataset, boxes: torch.Tensor) -> None:
    """True boxes, ``[boxes, 5]`` in shares of the frame, with the names of their classes."""
    height, width = dataset.input_shape[-2:]
    for x, y, across, down, label in boxes[boxes[:, 4] != NONE].tolist():
        corner = x * width - 0.5, y * height - 0.5
        axes.add_patch(Rectangle(corner, across * width, down * height, fill=False, color=GREEN))
        axes.text(*corner, _name(dataset, int(label)), color=GREEN, fontsize=7, va="bottom")


def _draw(axes: Axes, sample: torch.Tensor, static: bool) -> None:
    frame = sample if static else sample.sum(0)
    if frame.dim() == 3:
        axes.set_axis_off()
        axes.imshow(_pixels(frame.numpy(), static), cmap="gray_r", interpolation="nearest")
    elif static:
        axes.bar(range(frame.numel()), frame.flatten().numpy(), width=1.0, color=BLUE)
        axes.set_xticks([])
    else:
        steps, units = sample.flatten(1).nonzero(as_tuple=True)
        axes.plot(steps, units, ".", markersize=1.0, color=BLUE)
        axes.set(xlim=(0, len(sample)), ylim=(0, sample[0].numel()))


def _pixels(frame: np.ndarray, static: bool) -> np.ndarray:
    """``[height, width]``, or ``[height, width, 3]``: colours, or ON blue and OFF orange."""
    low, high = frame.min(), frame.max()
    if len(frame) == 3 and static:
        pixels: np.ndarray = np.clip(frame, 0, 1).transpose(1, 2, 0)
        return pixels
    if len(frame) == 2 and not static:
        ink = frame / max(high, 1.0)
        white = np.ones((*frame.shape[1:], 3))
        for part, colour in zip(ink, (VERMILION, BLUE), strict=True):
            white -= part[..., None] ** 0.5 * (1 - np.array(to_rgb(colour)))
        return np.clip(white, 0, 1)
    grey: np.ndarray = (frame.mean(0) - low) / max(high - low, 1e-9)
    return grey
