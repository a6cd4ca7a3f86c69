"""COCO's average precision of detections, by ``faster_coco_eval``.

The package belongs to the extra ``detection`` and is imported when something is measured.
torchmetrics has the same measure around the same package, but insists on torchvision, which
nothing here may need.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bsnn_tha.detection.boxes import NONE, Detections
from bsnn_tha.errors import InvalidValueError

SIZES = ("small", "medium", "large")
"""COCO's areas: below 32², up to 96², above, in pixels."""


class Frame(NamedTuple):
    """Boxes of one sample, true and found, in pixels of the sensor."""

    truths: Tensor
    """``[boxes, 5]``, ``x, y, width, height, class``."""
    found: Detections


class Precision(NamedTuple):
    """Average precisions, in [0, 1]; None where there was no true box to find."""

    mean: float | None
    """Over classes and overlaps of .5, .55, …, .95: what COCO calls AP."""
    at_50: float | None
    """Over classes, at an overlap of .5."""
    at_75: float | None
    classes: dict[str, float | None]
    """:attr:`mean` of each class."""
    sizes: dict[str, float | None]
    """:attr:`mean` of boxes by area: :data:`SIZES`."""
    frames: int
    """That had a true box; the others are left out, with what was found in them."""
    boxes: int
    """True ones."""

    def to_plain(self) -> dict[str, Any]:
        """As a table of numbers and words."""
        return {
            "map": self.mean,
            "map_50": self.at_50,
            "map_75": self.at_75,
            "classes": self.classes,
            "sizes": self.sizes,
            "frames": self.frames,
            "boxes": self.boxes,
        }


def average_precision(frames: Sequence[Frame], class_names: Sequence[str]) -> Precision:
    """COCO's average precision over frames that have a true box.

    Frames without one are left out, as all evaluations on Gen1 do.

    Args:
        frames: true boxes and detections, in pixels.
        class_names: in the order of the classes.

    Raises:
        InvalidValueError: the package ``faster_coco_eval`` is not installed.

    Example:
        >>> truth = torch.tensor([[10.0, 10.0, 20.0, 20.0, 0.0]])
        >>> found = Detections(truth[:, :4], torch.tensor([0.9]), torch.tensor([0]))
        >>> average_precision([Frame(truth, found)], ["car", "pedestrian"]).classes
        {'car': 1.0, 'pedestrian': None}
    """
    frames = [frame for frame in frames if len(frame.truths)]
    boxes = sum(len(frame.truths) for frame in frames)
    if not frames:
        nothing = dict.fromkeys(class_names)
        return Precision(None, None, None, nothing, dict.fromkeys(SIZES), 0, 0)
    precision = _evaluated(frames, len(class_names))
    by_overlap = precision[:, :, :, 0]
    return Precision(
        _mean(by_overlap),
        _mean(by_overlap[0]),
        _mean(by_overlap[5]),
        {name: _mean(by_overlap[:, :, index]) for index, name in enumerate(class_names)},
        {name: _mean(precision[:, :, :, area]) for area, name in enumerate(SIZES, start=1)},
        len(frames),
        boxes,
    )


def in_pixels(truths: Tensor, found: Detections, frame: tuple[int, int]) -> Frame:
    """A sample in pixels, from shares of the frame.

    Args:
        truths: ``[boxes, 5]``; rows of class :data:`~bsnn_tha.detection.boxes.NONE` go.
        found: in shares.
        frame: width and height of the sensor.
    """
    scale = torch.tensor([*frame, *frame], dtype=torch.float64)
    truths = truths[truths[:, 4] != NONE].cpu().double()
    truths[:, :4] *= scale
    boxes = found.boxes.cpu().double() * scale
    return Frame(truths, Detections(boxes, found.scores.cpu(), found.classes.cpu()))


def _mean(precision: np.ndarray) -> float | None:
    """Over what is defined; −1 says that there was no true box."""
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else None


def _evaluated(frames: Sequence[Frame], classes: int) -> np.ndarray:
    """Precision ``[overlaps, recalls, classes, areas]`` for up to 100 boxes in a frame."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise InvalidValueError(
            "measuring detections needs the package faster-coco-eval, which is not installed; "
            "pip install 'bsnn-tha[detection]'"
        ) from error
    annotations, found = coco_tables(frames)
    truths = COCO()
    truths.dataset = {
        "info": {},
        "images": [{"id": number} for number in range(len(frames))],
        "categories": [{"id": index, "name": str(index)} for index in range(classes)],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):  # it says what it does
        truths.createIndex()
        results = truths.loadRes(found) if found else COCO()
        if not found:
            results.dataset = {**truths.dataset, "annotations": []}
            results.createIndex()
        evaluation = COCOeval_faster(truths, results, iouType="bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"])[..., -1]


def coco_tables(frames: Sequence[Frame]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """True boxes and detections as COCO's lists of annotations and results."""
    annotations: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, frame in enumerate(frames):
        for *box, label in frame.truths.tolist():
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(label),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
        for box, score, index in zip(*(values.tolist() for values in frame.found), strict=True):
            found.append({"image_id": number, "category_id": index, "bbox": box, "score": score})
    return annotations, found
