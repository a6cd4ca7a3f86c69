"""What detections are worth, in training: over an epoch's validation, and once at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torchmetrics import Metric

from bsnn_tha.data.dataset import BoxTask, Dataset, Split
from bsnn_tha.data.gen1 import BoxSplit
from bsnn_tha.detection.boxes import NONE, Detections
from bsnn_tha.detection.head import check_grid
from bsnn_tha.detection.precision import in_pixels
from bsnn_tha.detection.protocols import PROTOCOLS
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.losses.yolo import YoloLoss


def check_detector(loss: YoloLoss, dataset: Dataset, augment: Any) -> None:
    """Raise unless a detector's outputs fit its frames and classes.

    Args:
        loss: with the head.
        dataset: of boxes.
        augment: of ``[augment]``.

    Raises:
        InvalidValueError: another number of classes; a grid that does not divide the frame; an
            augmentation that would move a sample away from its boxes.
    """
    head, names = loss.head, dataset.class_names
    if head.classes != len(names):
        raise InvalidValueError(
            f"the network's outputs have room for {head.classes} classes with {head.anchors} "
            f"anchors, but {dataset.name} has {len(names)} ({', '.join(names)}); end "
            "network.notation in "
            f"{head.per_cell + (len(names) - head.classes) * _times(head)} outputs for each cell"
        )
    check_grid(head, (dataset.input_shape[-2], dataset.input_shape[-1]))
    for name in ("shift", "flip", "cutout"):
        if getattr(augment, name):
            raise InvalidValueError(
                f"augment.{name} changes where things are, but leaves boxes as they are; "
                "set it to its default"
            )


def _times(head: Any) -> int:
    return 1 if head.shared_classes else int(head.anchors)


class BoxMeter(Metric):
    """Average precision over many batches, also across processes.

    Every box that counts by the first protocol of the set is looked at, at whatever time it
    is: a batch does not say when its samples were.

    Args:
        task: of the data set.
        class_names: in the order of the classes.
    """

    full_state_update = False
    truths: Any
    found: Any

    def __init__(self, task: BoxTask, class_names: Sequence[str]) -> None:
        super().__init__()
        self.task, self.class_names = task, class_names
        # Rows of sample, box, (score,) class: gathered as they are.
        self.add_state("truths", [], dist_reduce_fx="cat")
        self.add_state("found", [], dist_reduce_fx="cat")
        self._seen = 0

    def update(self, found: Sequence[Detections], truths: Tensor) -> None:
        """Add a batch.

        Args:
            found: in each sample, in shares of the frame.
            truths: ``[batch, boxes, 5]``.
        """
        rows = [truths.new_zeros(0, 7, dtype=torch.float64)]
        true = [truths.new_zeros(0, 6, dtype=torch.float64)]
        for boxes, scores, classes in found:
            number = truths.new_tensor([self._number()], dtype=torch.float64)
            own = truths[len(rows) - 1]
            own = own[own[:, 4] != NONE].double()
            true.append(torch.cat([number.expand(len(own), 1), own], 1))
            columns = [number.expand(len(boxes), 1), boxes.double(), scores[:, None].double()]
            rows.append(torch.cat([*columns, classes[:, None].double()], 1))
        self.truths.append(torch.cat(true))
        self.found.append(torch.cat(rows))

    def _number(self) -> int:
        """A number that no other sample has, in whatever process."""
        rank, processes = 0, 1
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            rank, processes = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self._seen += 1
        return self._seen * processes + rank

    def reset(self) -> None:
        super().reset()
        self._seen = 0

    def compute(self) -> Tensor:
        """The mean average precision; 0 if there was no box to find."""
        truths, found = (_joined(rows).cpu() for rows in (self.truths, self.found))
        frames = []
        for number in truths[:, 0].unique().tolist():
            rows = found[found[:, 0] == number]
            detections = Detections(rows[:, 1:5], rows[:, 5], rows[:, 6].long())
            own = truths[truths[:, 0] == number][:, 1:]
            frames.append(in_pixels(own, detections, self.task.frame))
        protocol = PROTOCOLS[self.task.protocols[0]]
        measured = protocol.measure(frames, [math.inf] * len(frames), self.class_names)
        return torch.tensor(measured.mean or 0.0, dtype=torch.float32, device=self.device)


def _joined(rows: Any) -> Tensor:
    """Of one process a list, gathered from several one tensor."""
    return rows if isinstance(rows, Tensor) else torch.cat(list(rows))


def measure_boxes(dataset: Dataset, split: Split, found: Sequence[Detections]) -> dict[str, Any]:
    """What detections on a split are worth, under each protocol of the data set.

    Args:
        dataset: of boxes.
        split: all of whose samples, in order, were looked at.
        found: in each, in shares of the frame.

    Returns:
        ``map``, ``map_50`` and the rest of
        :meth:`~bsnn_tha.detection.precision.Precision.to_plain` under the first protocol;
        ``protocol``, its name; ``protocols``, the same under each by name.
    """
    task = dataset.boxes
    assert task is not None
    frames = [
        in_pixels(truths, detections, task.frame)
        for truths, detections in zip(split.targets, found, strict=True)
    ]
    times = cast(BoxSplit, split).times.tolist()
    measured = {
        name: PROTOCOLS[name].measure(frames, times, dataset.class_names).to_plain()
        for name in task.protocols
    }
    first = task.protocols[0]
    return {**measured[first], "protocol": first, "protocols": measured}
