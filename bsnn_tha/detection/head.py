"""What the outputs of a YOLOv2 head stand for (Redmon and Farhadi 2017, section 2, Fig. 3).

The frame is a grid of cells. Each cell has k anchors, each with four numbers for a box, one
for its objectness, and scores of the classes:

    x = (column + σ(t_x)) / columns     width  = anchor width · exp(t_w)
    y = (row + σ(t_y)) / rows           height = anchor height · exp(t_h)
    P(object) = σ(t_o)                  P(class | object) = softmax(t_class)

x and y are the box's centre, everything in shares of the frame. The classes are scored for
each anchor, as in YOLOv2, or once for a cell, as in YOLOv1: the last layer of LT-SNN's
network, FC576 = 6 · 8 · (2 · 5 + 2), has the size of the second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bsnn_tha.detection.boxes import Detections, suppressed
from bsnn_tha.errors import InvalidValueError

OF_A_BOX = 5
"""Outputs for an anchor's box: x, y, width, height and objectness."""
_LARGEST = 6.0
"""t_w and t_h above it count as this: no box is 400 times its anchor."""
_MOST_CANDIDATES = 300
"""Of a sample, that non-maximum suppression looks at."""


class Raw(NamedTuple):
    """A head's outputs, sorted. ``cells`` stands for ``rows, columns``."""

    boxes: Tensor
    """t_x, t_y, t_w, t_h, ``[batch, *cells, anchors, 4]``."""
    objectness: Tensor
    """t_o, ``[batch, *cells, anchors]``."""
    classes: Tensor
    """t_class, ``[batch, *cells, anchors, classes]``, before the softmax."""


@dataclass(frozen=True)
class Head:
    """How a network's outputs are laid out.

    Args:
        rows, columns: of the grid.
        anchors: k, of each cell.
        classes: number of them.
        flat: outputs are those of a fully connected layer, cell after cell, row by row;
            else maps of a convolution, whose size is the grid's.
        shared_classes: classes are scored once for each cell.

    Example:
        >>> Head(6, 8, anchors=2, classes=2, flat=True, shared_classes=True).outputs
        576
    """

    rows: int
    columns: int
    anchors: int
    classes: int
    flat: bool = False
    shared_classes: bool = False

    @classmethod
    def of_outputs(
        cls,
        shape: tuple[int, ...],
        anchors: int,
        grid: tuple[int, int] | None = None,
        shared_classes: bool = False,
    ) -> Head:
        """The head that a network's output shape has room for.

        Args:
            shape: ``(maps, rows, columns)``, or ``(outputs,)`` of a fully connected layer.
            anchors: k.
            grid: rows and columns, for a fully connected layer.
            shared_classes: as above.

        Raises:
            InvalidValueError: the outputs are no whole number for each cell, or leave none
                for a class.

        Example:
            >>> Head.of_outputs((35, 8, 10), anchors=5).classes
            2
        """
        if len(shape) == 3:
            if grid is not None:
                raise InvalidValueError(
                    f"loss.grid is for a fully connected last layer, but got {list(grid)} with "
                    f"maps of {shape[1]} × {shape[2]}, which are the grid; leave it out"
                )
            maps, rows, columns = shape
        elif grid is None:
            raise InvalidValueError(
                f"a fully connected last layer of {shape[0]} outputs needs loss.grid = "
                "[rows, columns]; add it"
            )
        else:
            rows, columns = grid
            if min(grid) < 1 or shape[0] % (rows * columns):
                raise InvalidValueError(
                    f"outputs must be a multiple of the cells of loss.grid, but got {shape[0]} "
                    f"outputs for {rows} × {columns}"
                )
            maps = shape[0] // (rows * columns)
        classes = maps - OF_A_BOX * anchors
        if not shared_classes:
            classes = maps // anchors - OF_A_BOX if maps % anchors == 0 else 0
        if classes < 1:
            formula = "5 · anchors + classes" if shared_classes else "anchors · (5 + classes)"
            raise InvalidValueError(
                f"each cell must have {formula} outputs, but the network has {maps} with "
                f"{anchors} anchors; change the last layer of network.notation, or loss.anchors"
            )
        return cls(rows, columns, anchors, classes, len(shape) == 1, shared_classes)

    @property
    def outputs(self) -> int:
        """Of the whole head."""
        return self.rows * self.columns * self.per_cell

    @property
    def per_cell(self) -> int:
        """Outputs of each cell."""
        if self.shared_classes:
            return OF_A_BOX * self.anchors + self.classes
        return (OF_A_BOX + self.classes) * self.anchors

    def sort(self, outputs: Tensor) -> Raw:
        """Outputs by what they stand for.

        Args:
            outputs: ``[batch, maps, rows, columns]``, or ``[batch, outputs]`` if flat.
        """
        cells = (len(outputs), self.rows, self.columns)
        values = outputs.reshape(*cells, self.per_cell) if self.flat else outputs.movedim(1, -1)
        if self.shared_classes:
            boxes, scores = values.split([OF_A_BOX * self.anchors, self.classes], -1)
            boxes = boxes.unflatten(-1, (self.anchors, OF_A_BOX))
            classes = scores.unsqueeze(-2).expand(*cells, self.anchors, self.classes)
        else:
            values = values.unflatten(-1, (self.anchors, OF_A_BOX + self.classes))
            boxes, classes = values.split([OF_A_BOX, self.classes], -1)
        return Raw(boxes[..., :4], boxes[..., 4], classes)


def decode(raw: Raw, anchors: Tensor) -> Tensor:
    """The boxes that outputs stand for, in shares of the frame.

    Args:
        raw: sorted outputs.
        anchors: ``[anchors, 2]``, in shares of the frame.

    Returns:
        ``[batch, *cells, anchors, 4]``: left upper corner, width and height.

    Example:
        >>> raw = Head(1, 2, anchors=1, classes=1).sort(torch.zeros(1, 6, 1, 2))
        >>> decode(raw, torch.tensor([[0.2, 0.4]]))[0, 0, :, 0]
        tensor([[0.1500, 0.3000, 0.2000, 0.4000],
                [0.6500, 0.3000, 0.2000, 0.4000]])
    """
    rows, columns = raw.boxes.shape[1:3]
    corner = cell_corners(rows, columns, raw.boxes)
    grid = raw.boxes.new_tensor([columns, rows])
    centre = (corner.unsqueeze(-2) + raw.boxes[..., :2].sigmoid()) / grid
    size = anchors * raw.boxes[..., 2:].clamp(max=_LARGEST).exp()
    return torch.cat([centre - size / 2, size], -1)


def cell_corners(rows: int, columns: int, like: Tensor) -> Tensor:
    """Column and row of every cell, ``[rows, columns, 2]``."""
    row = torch.arange(rows, device=like.device, dtype=like.dtype)
    column = torch.arange(columns, device=like.device, dtype=like.dtype)
    return torch.stack(torch.meshgrid(column, row, indexing="xy"), -1)


def detect(
    raw: Raw, anchors: Tensor, *, least_score: float = 0.01, limit: float = 0.5, most: int = 100
) -> list[Detections]:
    """What a head has found, sample by sample: boxes cut to the frame, after suppression.

    A box's score is P(object) · P(class | object), its class the most probable one.

    Args:
        raw: sorted outputs.
        anchors: ``[anchors, 2]``, in shares of the frame.
        least_score: boxes below it are left out.
        limit: of the overlap of two boxes of a class, see :func:`~bsnn_tha.detection.boxes.\
suppressed`.
        most: boxes kept of a sample, as COCO counts at most 100.

    Returns:
        Detections in shares of the frame, one for each sample.
    """
    with torch.no_grad():
        boxes = decode(raw, anchors).flatten(1, 3)
        share, classes = raw.classes.softmax(-1).max(-1)
        scores = (raw.objectness.sigmoid() * share).flatten(1)
        low = boxes[..., :2].clamp(0, 1)
        high = (boxes[..., :2] + boxes[..., 2:]).clamp(0, 1)
        boxes = torch.cat([low, high - low], -1)
        seen = (scores >= least_score) & (boxes[..., 2:].amin(-1) > 0)
        found = []
        for number in range(len(boxes)):
            chosen = seen[number].nonzero().flatten()
            order = scores[number, chosen].argsort(descending=True, stable=True)
            chosen = chosen[order[:_MOST_CANDIDATES]]
            candidates = Detections(
                boxes[number, chosen], scores[number, chosen], classes[number].flatten()[chosen]
            )
            kept = suppressed(candidates, limit)
            found.append(Detections(*(values[:most] for values in kept)))
        return found


def check_grid(head: Head, frame: tuple[int, int]) -> None:
    """Raise unless every cell of the grid stands for as many rows and columns of the frame.

    Args:
        head: whose grid it is.
        frame: height and width of the network's input.

    Raises:
        InvalidValueError: the strides of the network do not divide its input: rows or
            columns at the edge would belong to no cell.
    """
    for what, size, cells in zip(
        ("rows", "columns"), frame, (head.rows, head.columns), strict=True
    ):
        if size % cells:
            smaller = math.gcd(size, cells)
            raise InvalidValueError(
                f"the grid must divide the input, but {cells} {what} of cells do not divide "
                f"{size} {what}; choose strides that divide {size} (a grid of {smaller} would), "
                "or another data.options.downsample"
            )
