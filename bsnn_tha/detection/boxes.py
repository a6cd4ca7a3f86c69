"""Boxes, their overlap, and non-maximum suppression in plain PyTorch.

A box is ``x, y, width, height``, its left upper corner first, along the last axis of a
tensor. Units are whatever the caller measures in, pixels or shares of the frame: overlap is
the same in both.

The true boxes of a batch are ``[batch, boxes, 5]``, ``x, y, width, height, class`` in
shares of the frame, samples with fewer boxes filled up with rows of class :data:`NONE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

NONE = -1
"""Class of a row that is no box."""


class Detections(NamedTuple):
    """What was found in one sample, the best first."""

    boxes: Tensor
    """``[found, 4]``."""
    scores: Tensor
    """``[found]``, in [0, 1]."""
    classes: Tensor
    """``[found]``, int64."""


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes, in [0, 1]; 0 where both have no area.

    Args:
        first, second: ``[..., 4]``, which broadcast against each other.

    Example:
        >>> a, b = torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([1.0, 0.0, 2.0, 2.0])
        >>> overlap(a, b)  # 2 of 4 + 4 - 2
        tensor(0.3333)
    """
    left_upper = torch.maximum(first[..., :2], second[..., :2])
    right_lower = torch.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    shared = (right_lower - left_upper).clamp(min=0).prod(-1)
    together = first[..., 2:].prod(-1) + second[..., 2:].prod(-1) - shared
    return torch.where(together > 0, shared / together, 0.0)


def suppressed(found: Detections, limit: float) -> Detections:
    """Non-maximum suppression: of boxes of a class that overlap, the best one stays.

    Going down the scores, a box is dropped if it overlaps one that was kept, of the same
    class, by more than ``limit``. Of equal scores the first is the better one.

    Args:
        found: in any order.
        limit: of the intersection over union, in [0, 1].

    Example:
        >>> boxes = torch.tensor([[0.0, 0, 2, 2], [0.0, 0, 2, 1.8], [5.0, 5, 1, 1]])
        >>> found = Detections(boxes, torch.tensor([0.5, 0.9, 0.1]), torch.tensor([0, 0, 0]))
        >>> suppressed(found, 0.5).scores
        tensor([0.9000, 0.1000])
    """
    order = found.scores.argsort(descending=True, stable=True)
    boxes, classes = found.boxes[order], found.classes[order]
    same = classes.unsqueeze(0) == classes.unsqueeze(1)
    # On the CPU in one piece: the walk asks for one flag after the other.
    rivals = (same & (overlap(boxes.unsqueeze(0), boxes.unsqueeze(1)) > limit)).cpu().numpy()
    keep: list[int] = []
    for index in range(len(order)):
        if not rivals[index, keep].any():
            keep.append(index)
    order = order[keep]
    return Detections(found.boxes[order], found.scores[order], found.classes[order])


def padded(samples: Sequence[Tensor]) -> Tensor:
    """Boxes of several samples as one tensor ``[samples, most boxes, 5]``.

    Args:
        samples: ``[boxes, 5]`` each, with any number of boxes.

    Example:
        >>> padded([torch.zeros(0, 5), torch.tensor([[0.1, 0.2, 0.3, 0.4, 1.0]])])[:, :, 4]
        tensor([[-1.],
                [ 1.]])
    """
    most = max((len(sample) for sample in samples), default=0)
    boxes = torch.zeros(len(samples), most, 5)
    boxes[..., 4] = NONE
    for row, sample in zip(boxes, samples, strict=True):
        row[: len(sample)] = sample
    return boxes


def as_rows(samples: Sequence[Detections]) -> Tensor:
    """Detections of several samples as one tensor ``[found, 7]``: sample, box, score, class.

    Example:
        >>> found = Detections(torch.ones(1, 4), torch.tensor([0.5]), torch.tensor([2]))
        >>> nothing = Detections(*(values[:0] for values in found))
        >>> as_rows([nothing, found]).tolist()
        [[1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 2.0]]
    """
    numbers = [scores.new_full((len(scores),), n) for n, (_, scores, _) in enumerate(samples)]
    boxes, scores, classes = (torch.cat(values) for values in zip(*samples, strict=True))
    columns = [torch.cat(numbers)[:, None], boxes, scores[:, None], classes[:, None]]
    return torch.cat([column.to(boxes.dtype) for column in columns], 1)
