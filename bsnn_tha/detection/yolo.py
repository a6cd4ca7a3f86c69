"""YOLOv2's loss (Redmon and Farhadi 2017, after Redmon et al. 2016, Eq. 3).

Each true box belongs to the cell that holds its centre, and there to the anchor whose shape
is nearest; to the next nearest if another box of the sample has that one. With σ² short for a
squared error, the loss of a sample is

    L = λ_coord  Σ_own  (2 − w · h) [σ²(σ(t_x), x̂) + σ²(σ(t_y), ŷ) + σ²(t_w, ŵ) + σ²(t_h, ĥ)]
      + λ_object Σ_own  σ²(σ(t_o), IoU(box, true box))
      + λ_none   Σ_free σ²(σ(t_o), 0)
      + λ_class  Σ_own  cross-entropy(t_class, class)

x̂, ŷ are the centre's place within its cell, ŵ = ln(width / anchor width) and ĥ likewise;
2 − w · h, with w and h in shares of the frame, makes small boxes count more. *own* are the
anchors that have a true box; *free* those that have none and whose own box overlaps none by
more than ``ignore``. Weights are those of the authors' code: λ_object = 5, the others 1. LT-SNN
says "cross entropy loss plus mean square error" (Appendix A), and no more.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from bsnn_tha.detection.anchors import shape_overlap
from bsnn_tha.detection.boxes import NONE, overlap
from bsnn_tha.detection.head import Raw, decode


class Assigned(NamedTuple):
    """True boxes by the anchors they belong to; ``cells`` stands for ``rows, columns``."""

    own: Tensor
    """Whether an anchor has a box, ``[batch, *cells, anchors]``."""
    boxes: Tensor
    """That box, ``[batch, *cells, anchors, 4]``, 0 where there is none."""
    classes: Tensor
    """Its class, ``[batch, *cells, anchors]``, int64, 0 where there is none."""


def assign(truths: Tensor, anchors: Tensor, rows: int, columns: int) -> Assigned:
    """Which anchor answers for which true box.

    Args:
        truths: ``[batch, boxes, 5]``, see :mod:`bsnn_tha.detection.boxes`.
        anchors: ``[anchors, 2]``, in shares of the frame.
        rows, columns: of the grid.

    Returns:
        The assignment. A box whose cell has no anchor left is not in it.

    Example:
        >>> truths = torch.tensor([[[0.5, 0.0, 0.2, 0.4, 1.0]]])
        >>> assigned = assign(truths, torch.tensor([[0.4, 0.2], [0.2, 0.4]]), 1, 2)
        >>> assigned.own.nonzero().tolist()  # sample, row, column, anchor
        [[0, 0, 1, 1]]
    """
    batch, count = len(truths), len(anchors)
    own = torch.zeros(batch, rows, columns, count, dtype=torch.bool, device=truths.device)
    boxes = truths.new_zeros(batch, rows, columns, count, 4)
    classes = torch.zeros(batch, rows, columns, count, dtype=torch.int64, device=truths.device)
    sample = torch.arange(batch, device=truths.device)
    centres = truths[..., :2] + truths[..., 2:4] / 2
    column = (centres[..., 0] * columns).long().clamp(0, columns - 1)
    row = (centres[..., 1] * rows).long().clamp(0, rows - 1)
    fits = shape_overlap(truths[..., 2:4].clamp(min=torch.finfo(truths.dtype).tiny), anchors)
    # One box of each sample at a time: no two of them can want the same anchor at once.
    for number in range(truths.shape[1]):
        place = sample, row[:, number], column[:, number]
        fit = fits[:, number].masked_fill(own[place], -1)
        best, anchor = fit.max(-1)
        there = (truths[:, number, 4] != NONE) & (best >= 0)
        chosen = tuple(index[there] for index in (*place, anchor))
        own[chosen] = True
        boxes[chosen] = truths[there, number, :4]
        classes[chosen] = truths[there, number, 4].long()
    return Assigned(own, boxes, classes)


class Terms(NamedTuple):
    """Sums of the loss's four parts, each the mean over samples, not yet weighed."""

    coordinates: Tensor
    objects: Tensor
    none: Tensor
    classes: Tensor


def yolo_terms(raw: Raw, truths: Tensor, anchors: Tensor, ignore: float = 0.6) -> Terms:
    """The four parts of the loss.

    Args:
        raw: sorted outputs of a head.
        truths: ``[batch, boxes, 5]``.
        anchors: ``[anchors, 2]``, in shares of the frame.
        ignore: overlap with a true box above which an anchor without one is left alone.

    Example:
        >>> from bsnn_tha.detection.head import Head
        >>> raw = Head(1, 1, anchors=1, classes=2).sort(torch.zeros(1, 7, 1, 1))
        >>> truth = torch.tensor([[[0.3, 0.3, 0.4, 0.4, 1.0]]])  # where the anchor is
        >>> [round(term.item(), 3) for term in yolo_terms(raw, truth, torch.tensor([[0.4, 0.4]]))]
        [0.0, 0.25, 0.0, 0.693]
    """
    batch, rows, columns = raw.boxes.shape[:3]
    assigned = assign(truths, anchors, rows, columns)
    own = assigned.own
    with torch.no_grad():
        boxes = decode(raw, anchors)
        quality = overlap(boxes, assigned.boxes)
        best = torch.zeros_like(quality)
        for number in range(truths.shape[1]):
            truth = truths[:, number]
            shared = overlap(boxes, truth[:, None, None, None, :4])
            there = (truth[:, 4] != NONE)[:, None, None, None]
            best = torch.where(there, torch.maximum(best, shared), best)
        free = ~own & (best <= ignore)
    objectness = raw.objectness.sigmoid()

    _sample, row, column, anchor = own.nonzero(as_tuple=True)
    truth = assigned.boxes[own]
    grid = truth.new_tensor([columns, rows])
    within = (truth[:, :2] + truth[:, 2:] / 2) * grid - torch.stack([column, row], -1)
    stretch = (truth[:, 2:] / anchors[anchor]).log()
    given = raw.boxes[own]
    errors = (given[:, :2].sigmoid() - within).square() + (given[:, 2:] - stretch).square()
    return Terms(
        coordinates=((2 - truth[:, 2:].prod(-1)) * errors.sum(-1)).sum() / batch,
        objects=(objectness - quality)[own].square().sum() / batch,
        none=objectness[free].square().sum() / batch,
        classes=F.cross_entropy(raw.classes[own], assigned.classes[own], reduction="sum") / batch,
    )
