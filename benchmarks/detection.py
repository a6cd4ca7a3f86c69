"""What detection on moving-boxes is worth without a network: three trivial answers.

    python -m benchmarks.detection                                 # prints a table
    python -m benchmarks.detection -o docs/detection/trivial.json  # and keeps it

* ``none``: no boxes.
* ``mean``: of each class the training boxes' mean, at every place of a grid of 8 pixels, scored
  by how often training boxes have their centre there.
* ``components``: connected components of the pixels with events, each a box of either class,
  scored by its events. How many events a pixel needs, how far pixels may lie apart, and the least
  size are chosen by mAP on the first 300 training samples.

A detector that has learned something beats all of them. Results are those of the test clips,
all boxes counting.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from bsnn_tha.data.dataset import Dataset
from bsnn_tha.data.gen1 import BoxSplit
from bsnn_tha.data.moving_boxes import load_moving_boxes
from bsnn_tha.data.root import cache_root, data_root
from bsnn_tha.detection.boxes import NONE, Detections, suppressed
from bsnn_tha.detection.precision import Precision, average_precision, in_pixels
from bsnn_tha.run_folder import replace_atomically

CELL = 8
"""Pixels between the places of mean boxes."""
CHOSEN_ON = 300
"""Training samples."""

Answer = Callable[[np.ndarray], Detections]
"""From the events of a sample, ``[rows, columns]``, to boxes in shares of the frame."""


def measured(dataset: Dataset, split: BoxSplit, answer: Answer, most: int) -> Precision:
    """What an answer is worth on the first samples of a split."""
    assert dataset.boxes is not None
    frames = []
    for index in range(min(most, len(split))):
        batch, truths = split[[index]]
        events = batch.dense().sum((0, 1, 2)).numpy()
        frames.append(in_pixels(truths[0], answer(events), dataset.boxes.frame))
    return average_precision(frames, dataset.class_names)


def no_boxes(events: np.ndarray) -> Detections:
    """Nothing."""
    return Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))


def mean_boxes(truths: Tensor, frame: tuple[int, int]) -> Answer:
    """The same boxes whatever happens.

    Args:
        truths: of the training samples, ``[samples, boxes, 5]``.
        frame: width and height.
    """
    found = []
    columns, rows = frame[0] // CELL, frame[1] // CELL
    for label in (0, 1):
        own = truths[truths[..., 4] == label]
        size = own[:, 2:4].mean(0)
        centres = own[:, :2] + own[:, 2:4] / 2
        counts = torch.zeros(rows, columns)
        place = (centres * torch.tensor([columns, rows])).long()
        place = place.clamp(min=torch.tensor(0), max=torch.tensor([columns - 1, rows - 1]))
        counts.index_put_((place[:, 1], place[:, 0]), torch.ones(len(place)), accumulate=True)
        row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        middle = (torch.stack([column, row], -1) + 0.5) / torch.tensor([columns, rows])
        corner = middle - size / 2
        boxes = torch.cat([corner, size.expand_as(corner)], -1).flatten(0, 1)
        labels = torch.full((len(boxes),), label)
        found.append(Detections(boxes, counts.flatten() / counts.max(), labels))
    joined = Detections(*(torch.cat(values) for values in zip(*found, strict=True)))
    everywhere = suppressed(joined, 0.5)
    return lambda events: everywhere


def components(least: int, apart: int, size: int) -> Answer:
    """Boxes around what hangs together.

    Args:
        least: events of a pixel that counts.
        apart: pixels by which the pixels of one thing may lie apart.
        size: least side of a box, in pixels.
    """

    def answer(events: np.ndarray) -> Detections:
        seen = events >= least
        joined = ndimage.binary_dilation(seen, iterations=apart) if apart else seen
        labels, _ = ndimage.label(joined, np.ones((3, 3)))
        labels = np.where(seen, labels, 0)
        height, width = events.shape
        boxes, scores = [], []
        for number, place in enumerate(ndimage.find_objects(labels), start=1):
            if place is None:
                continue
            down, across = place
            sides = across.stop - across.start, down.stop - down.start
            if min(sides) < size:
                continue
            boxes.append([across.start / width, down.start / height,
                          sides[0] / width, sides[1] / height])  # fmt: skip
            scores.append(float(events[labels == number].sum()))
        given = torch.tensor(boxes).reshape(-1, 4)
        each = torch.tensor(scores)
        classes = torch.arange(2).repeat_interleave(len(given))
        return Detections(given.repeat(2, 1), each.repeat(2), classes)

    return answer


def best_components(dataset: Dataset, split: BoxSplit) -> tuple[Answer, str]:
    """The settings of :func:`components` with the highest mAP in training, in words."""
    tried: Iterable[tuple[int, int, int]] = itertools.product((1, 2, 3), (0, 1, 2), (4, 8))
    scored = [(measured(dataset, split, components(*s), CHOSEN_ON).mean or 0.0, s) for s in tried]
    _, (least, apart, size) = max(scored)
    words = f"from {least} events, {apart} pixels apart, at least {size} pixels"
    return components(least, apart, size), words


def main() -> None:
    """Print a table, and write it if a place is given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, help="JSON file for the table")
    output = parser.parse_args().output
    dataset = load_moving_boxes(
        data_root(), cache=cache_root(), num_steps=6, bin_ms=15.0, counted=True
    )
    train, test = dataset.train, dataset.test
    assert isinstance(train, BoxSplit) and isinstance(test, BoxSplit) and dataset.boxes is not None
    hanging, words = best_components(dataset, train)
    answers = {
        "none": no_boxes,
        "mean": mean_boxes(train.targets, dataset.boxes.frame),
        "components": hanging,
    }
    table = {}
    print(f"{dataset.source}; {int((test.targets[..., 4] != NONE).sum()):,} test boxes")
    print("| answer | mAP | .5 | .75 |\n|---|---|---|---|")
    for name, answer in answers.items():
        found = measured(dataset, test, answer, len(test))
        figures = (found.mean or 0.0, found.at_50 or 0.0, found.at_75 or 0.0)
        table[name] = dict(zip(("map", "map_50", "map_75"), figures, strict=True))
        print(f"| {name} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |")
    print(f"components: {words}")
    if output is not None:
        boxes = int((test.targets[..., 4] != NONE).sum())
        kept = {"source": dataset.source, "boxes": boxes, "components": words, "answers": table}
        with replace_atomically(output) as temporary:
            temporary.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
