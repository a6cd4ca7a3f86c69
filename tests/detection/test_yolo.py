"""YOLOv2's head, targets and loss against loops over cells."""

from __future__ import annotations

import math
import random

import pytest
import torch

from bsnn_tha.detection.boxes import NONE, padded
from bsnn_tha.detection.head import Head, check_grid, decode, detect
from bsnn_tha.detection.yolo import assign, yolo_terms
from bsnn_tha.errors import InvalidValueError


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def overlap_of(a, b):
    """Of boxes x, y, width, height as plain numbers."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def random_truths(draw, most, classes=2):
    rows = []
    for _ in range(draw.randint(0, most)):
        width, height = draw.uniform(0.05, 0.5), draw.uniform(0.05, 0.5)
        x, y = draw.uniform(0, 1 - width), draw.uniform(0, 1 - height)
        rows.append([x, y, width, height, draw.randrange(classes)])
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 5)


def owners_by_loops(truths, anchors, rows, columns):
    """{(row, column, anchor): truth}, box after box."""
    owners = {}
    for truth in truths:
        x, y, width, height, _ = truth
        row, column = int((y + height / 2) * rows), int((x + width / 2) * columns)
        order = sorted(
            range(len(anchors)),
            key=lambda a: -overlap_of((0, 0, width, height), (0, 0, *anchors[a])),
        )
        for anchor in order:
            if (row, column, anchor) not in owners:
                owners[row, column, anchor] = truth
                break
    return owners


def terms_by_loops(values, truths, anchors, ignore):
    """Of one sample: values [rows][columns][anchor][5 + classes], as in the docstring."""
    rows, columns = len(values), len(values[0])
    owners = owners_by_loops(truths, anchors, rows, columns)
    terms = [0.0] * 4
    for row in range(rows):
        for column in range(columns):
            for a, (pw, ph) in enumerate(anchors):
                tx, ty, tw, th, to, *scores = values[row][column][a]
                cx, cy = (column + sigmoid(tx)) / columns, (row + sigmoid(ty)) / rows
                w, h = pw * math.exp(tw), ph * math.exp(th)
                box = (cx - w / 2, cy - h / 2, w, h)
                truth = owners.get((row, column, a))
                if truth is None:
                    if all(overlap_of(box, other) <= ignore for other in truths):
                        terms[2] += sigmoid(to) ** 2
                    continue
                x, y, width, height, label = truth
                terms[0] += (2 - width * height) * (
                    (sigmoid(tx) - ((x + width / 2) * columns - column)) ** 2
                    + (sigmoid(ty) - ((y + height / 2) * rows - row)) ** 2
                    + (tw - math.log(width / pw)) ** 2
                    + (th - math.log(height / ph)) ** 2
                )
                terms[1] += (sigmoid(to) - overlap_of(box, truth)) ** 2
                total = sum(math.exp(score) for score in scores)
                terms[3] -= math.log(math.exp(scores[int(label)]) / total)
    return terms


@pytest.mark.parametrize("shared_classes", [False, True])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_loss_is_that_of_loops(seed, flat, shared_classes):
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    head = Head(3, 4, anchors=2, classes=2, flat=flat, shared_classes=shared_classes)
    outputs = torch.randn(5, 3, 4, head.per_cell, generator=generator, dtype=torch.float64)
    given = outputs.flatten(1) if flat else outputs.movedim(-1, 1)
    anchors = [(0.2, 0.3), (0.4, 0.15)]
    samples = [random_truths(draw, 7) for _ in range(5)]
    raw = head.sort(given)
    found = yolo_terms(raw, padded(samples).double(), torch.tensor(anchors).double(), ignore=0.3)
    expected = [0.0] * 4
    for values, truths in zip(outputs.tolist(), samples, strict=True):
        if shared_classes:  # 5, 5, then the cell's classes
            cells = [[[v[:5] + v[10:], v[5:10] + v[10:]] for v in row] for row in values]
        else:
            cells = [[[v[:7], v[7:]] for v in row] for row in values]
        for index, term in enumerate(terms_by_loops(cells, truths.tolist(), anchors, 0.3)):
            expected[index] += term / 5
    # Boxes are filled up in single precision.
    assert [term.item() for term in found] == pytest.approx(expected, rel=1e-5)


def test_assignment_is_that_of_loops_and_crowded_cells_share_their_anchors():
    draw = random.Random(5)
    anchors = [(0.1, 0.1), (0.3, 0.2), (0.2, 0.4)]
    samples = [random_truths(draw, 12) for _ in range(20)]
    assigned = assign(padded(samples), torch.tensor(anchors), 2, 2)
    crowded = 0
    for number, truths in enumerate(samples):
        owners = owners_by_loops(truths.tolist(), anchors, 2, 2)
        crowded += len(owners) < len(truths)
        places = {tuple(place) for place in assigned.own[number].nonzero().tolist()}
        assert places == set(owners)
        for place, truth in owners.items():
            torch.testing.assert_close(
                assigned.boxes[(number, *place)], torch.tensor(truth[:4]), rtol=1e-6, atol=0
            )
            assert assigned.classes[(number, *place)] == truth[4]
    assert crowded  # some cells had more boxes than anchors


def test_a_box_written_into_the_outputs_is_found_again_and_costs_nothing():
    head, anchors = Head(6, 8, anchors=2, classes=3), torch.tensor([[0.1, 0.1], [0.3, 0.3]])
    truth = torch.tensor([[0.36, 0.51, 0.24, 0.33, 2.0], [0.02, 0.03, 0.12, 0.09, 0.0]])
    values = torch.zeros(1, 6, 8, 2, 8)
    values[..., 4] = -30.0
    for x, y, width, height, label in truth.tolist():
        cx, cy = (x + width / 2) * 8, (y + height / 2) * 6
        anchor = int(width > 0.2)
        cell = values[0, int(cy), int(cx), anchor]
        cell[:2] = torch.tensor([cx % 1, cy % 1]).logit()
        cell[2:4] = (torch.tensor([width, height]) / anchors[anchor]).log()
        cell[4] = 30.0
        cell[5 + int(label)] = 30.0
    raw = head.sort(values.flatten(3).movedim(-1, 1))
    assert sum(yolo_terms(raw, truth[None], anchors)).item() == pytest.approx(0, abs=1e-8)
    (found,) = detect(raw, anchors)
    order = found.classes.argsort(descending=True)
    torch.testing.assert_close(found.boxes[order], truth[:, :4], rtol=1e-4, atol=1e-5)
    assert found.classes[order].tolist() == [2, 0]


def test_gradients_reach_what_the_loss_is_about_and_nothing_else():
    head, anchors = Head(2, 2, anchors=1, classes=2), torch.tensor([[0.3, 0.3]]).double()
    outputs = torch.randn(1, 7, 2, 2, dtype=torch.float64, requires_grad=True)
    truth = torch.tensor([[[0.1, 0.1, 0.2, 0.3, 1.0], [0.0, 0.0, 0.0, 0.0, NONE]]]).double()
    sum(yolo_terms(head.sort(outputs), truth, anchors)).backward()
    # The cell of the box learns everything, others only that nothing is there.
    assert (outputs.grad[0, :, 0, 0] != 0).all()
    assert not outputs.grad[0, [0, 1, 2, 3, 5, 6]].flatten(1)[:, 1:].any()
    # The overlap is a target: no gradient comes through it (YOLOv2's code).
    with torch.no_grad():
        quality = outputs[0, 4, 0, 0].sigmoid()
        box = decode(head.sort(outputs), anchors)[0, 0, 0, 0]
        target = overlap_of(box.tolist(), truth[0, 0, :4].tolist())
        slope = 2 * (quality - target) * quality * (1 - quality)
    assert outputs.grad[0, 4, 0, 0].item() == pytest.approx(slope.item())


def test_samples_without_boxes_have_a_loss_and_a_gradient():
    head = Head(2, 3, anchors=2, classes=2)
    outputs = torch.randn(2, 14, 2, 3, requires_grad=True)
    loss = sum(yolo_terms(head.sort(outputs), padded([torch.zeros(0, 5)] * 2), torch.ones(2, 2)))
    loss.backward()
    assert loss > 0 and torch.isfinite(outputs.grad).all()


def test_wild_outputs_stay_finite():
    head, anchors = Head(1, 1, anchors=1, classes=2), torch.tensor([[0.3, 0.3]])
    raw = head.sort(torch.full((1, 7, 1, 1), 500.0))
    assert all(torch.isfinite(values).all() for found in detect(raw, anchors) for values in found)


@pytest.mark.parametrize(
    ("shape", "anchors", "options", "rule"),
    [
        ((13, 8, 10), 2, {}, "anchors · .5 . classes. outputs, but the network has 13 with 2"),
        ((10, 8, 10), 2, {"shared_classes": True}, "5 · anchors . classes"),
        ((576,), 2, {}, "needs loss.grid"),
        ((577,), 2, {"grid": (6, 8)}, "multiple of the cells"),
        ((14, 8, 10), 2, {"grid": (8, 10)}, "is for a fully connected last layer"),
    ],
)
def test_outputs_that_fit_no_head_are_refused(shape, anchors, options, rule):
    with pytest.raises(InvalidValueError, match=rule):
        Head.of_outputs(shape, anchors, **options)


def test_a_grid_that_does_not_divide_the_input_is_refused():
    check_grid(Head(15, 19, 1, 1), (60, 76))
    with pytest.raises(InvalidValueError, match="7 rows of cells do not divide 60 rows"):
        check_grid(Head(7, 19, 1, 1), (60, 76))
