"""Boxes, anchors and non-maximum suppression against loops over numbers."""

from __future__ import annotations

import random

import pytest
import torch

from bsnn_tha.detection.anchors import k_means_anchors, shape_overlap
from bsnn_tha.detection.boxes import Detections, overlap, suppressed
from bsnn_tha.errors import InvalidValueError


def overlap_by_pixels(a, b):
    """Of boxes with whole corners, pixel by pixel."""

    def pixels(box):
        x, y, width, height = (int(value) for value in box)
        return {(i, j) for i in range(x, x + width) for j in range(y, y + height)}

    union = pixels(a) | pixels(b)
    return len(pixels(a) & pixels(b)) / len(union) if union else 0.0


def suppressed_by_loops(boxes, scores, classes, limit):
    """Indices kept: each box is asked for all better ones, one after the other."""
    order = sorted(range(len(boxes)), key=lambda i: (-scores[i], i))
    kept = []
    for i in order:
        if all(
            classes[i] != classes[k] or overlap_by_pixels(boxes[i], boxes[k]) <= limit for k in kept
        ):
            kept.append(i)
    return kept


def random_boxes(draw, count):
    return torch.tensor(
        [[draw.randint(0, 8), draw.randint(0, 8), draw.randint(0, 7), draw.randint(1, 7)]
         for _ in range(count)]
    ).float()  # fmt: skip


def test_overlap_is_that_of_pixels():
    draw = random.Random(1)
    first, second = random_boxes(draw, 40), random_boxes(draw, 30)
    found = overlap(first.unsqueeze(1), second.unsqueeze(0))
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            assert found[i, j].item() == pytest.approx(overlap_by_pixels(a, b), abs=1e-6)


def test_overlap_does_not_depend_on_the_unit():
    draw = random.Random(2)
    first, second = random_boxes(draw, 20), random_boxes(draw, 20)
    scale = torch.tensor([1 / 304, 1 / 240, 1 / 304, 1 / 240])
    torch.testing.assert_close(overlap(first * scale, second * scale), overlap(first, second))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("limit", [0.0, 0.3, 0.5, 1.0])
def test_suppression_is_that_of_loops(seed, limit):
    draw = random.Random(seed)
    boxes = random_boxes(draw, 60)
    # Few different scores: ties are decided by position.
    scores = torch.tensor([draw.randint(1, 9) / 10 for _ in boxes])
    classes = torch.tensor([draw.randint(0, 2) for _ in boxes])
    expected = suppressed_by_loops(boxes, scores.tolist(), classes.tolist(), limit)
    found = suppressed(Detections(boxes, scores, classes), limit)
    assert torch.equal(found.boxes, boxes[expected])
    assert torch.equal(found.scores, scores[expected])
    assert torch.equal(found.classes, classes[expected])


def test_suppression_of_nothing_is_nothing():
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert len(suppressed(nothing, 0.5).boxes) == 0


def test_anchors_find_the_sizes_that_boxes_have():
    generator = torch.Generator().manual_seed(3)
    centres = torch.tensor([[0.05, 0.2], [0.2, 0.1], [0.5, 0.5]])
    noise = 1 + 0.05 * torch.randn(300, 2, generator=generator)
    sizes = centres.repeat(100, 1) * noise
    anchors = k_means_anchors(sizes, 3, seed=0)
    torch.testing.assert_close(anchors, centres, rtol=0.03, atol=0)
    # Seeded, whatever torch's own generator does, and in whatever order boxes come.
    torch.manual_seed(99)
    assert torch.equal(anchors, k_means_anchors(sizes, 3, seed=0))
    assert shape_overlap(sizes, anchors).amax(-1).mean() > 0.9


def test_more_anchors_than_boxes_are_refused():
    sizes = torch.tensor([[0.1, 0.1], [0.1, 0.1], [0.2, 0.1]])
    assert len(k_means_anchors(sizes, 2)) == 2
    with pytest.raises(InvalidValueError, match="at most as many as boxes .* got 3 for 2"):
        k_means_anchors(sizes, 3)
