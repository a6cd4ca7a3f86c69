"""Average precision against pycocotools, and Gen1's protocols against a case done by hand."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys

import numpy as np
import pytest
import torch

from bsnn_tha.detection.boxes import NONE, Detections, padded
from bsnn_tha.detection.precision import Frame, average_precision, coco_tables, in_pixels
from bsnn_tha.detection.protocols import PROTOCOLS

NAMES = ["car", "pedestrian"]


def random_frames(seed, count=30):
    """True boxes of all sizes, found with errors, doubles and false alarms."""
    draw = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        number = draw.integers(0, 5)
        sizes = np.exp(draw.uniform(np.log(5), np.log(150), (number, 2)))
        corners = draw.uniform(0, 150, (number, 2))
        labels = draw.integers(0, 2, (number, 1))
        truths = np.concatenate([corners, sizes, labels], 1)
        found = [truths[:, :4] + draw.normal(0, 3, (number, 4)) for _ in range(2)]
        found.append(draw.uniform(5, 60, (3, 4)))
        boxes = np.abs(np.concatenate(found))
        classes = np.concatenate([labels[:, 0], 1 - labels[:, 0], draw.integers(0, 2, 3)])
        detections = Detections(
            torch.from_numpy(boxes), torch.from_numpy(draw.uniform(0, 1, len(boxes))),
            torch.from_numpy(classes),
        )  # fmt: skip
        frames.append(Frame(torch.from_numpy(truths), detections))
    return frames


def by_pycocotools(frames):
    """Its twelve figures for all classes, and its first for each class."""
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is a test dependency")
    from pycocotools.cocoeval import COCOeval

    frames = [frame for frame in frames if len(frame.truths)]
    annotations, results = coco_tables(frames)
    with contextlib.redirect_stdout(io.StringIO()):
        truths = coco.COCO()
        truths.dataset = {
            "info": {},
            "images": [{"id": number} for number in range(len(frames))],
            "categories": [{"id": 0}, {"id": 1}],
            "annotations": annotations,
        }
        truths.createIndex()
        evaluation = COCOeval(truths, truths.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        overall = evaluation.stats
        classes = []
        for index in (0, 1):
            evaluation.params.catIds = [index]
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            classes.append(evaluation.stats[0])
    return overall, classes


@pytest.mark.parametrize("seed", range(4))
def test_is_that_of_pycocotools(seed):
    frames = random_frames(seed)
    overall, classes = by_pycocotools(frames)
    found = average_precision(frames, NAMES)
    assert 0.05 < found.mean < 0.95
    figures = [found.mean, found.at_50, found.at_75, *found.sizes.values()]
    assert figures == pytest.approx(overall[:6].tolist(), abs=1e-9)
    assert list(found.classes.values()) == pytest.approx(classes, abs=1e-9)


def test_nothing_found_and_nothing_to_find():
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    truth = torch.tensor([[5.0, 5.0, 40.0, 40.0, 1.0]])
    missed = average_precision([Frame(truth, nothing)], NAMES)
    assert (missed.mean, missed.classes) == (0.0, {"car": None, "pedestrian": 0.0})
    empty = average_precision([Frame(torch.zeros(0, 5), nothing)], NAMES)
    assert (empty.mean, empty.frames) == (None, 0)


def test_frames_without_true_boxes_are_left_out_with_their_false_alarms():
    frames = random_frames(1)
    alarms = Detections(torch.tensor([[0.0, 0, 50, 50]]), torch.tensor([1.0]), torch.tensor([0]))
    more = [*frames, Frame(torch.zeros(0, 5), alarms)]
    assert average_precision(more, NAMES) == average_precision(frames, NAMES)


def test_shares_become_pixels_and_rows_without_a_box_go():
    truths = padded([torch.tensor([[0.5, 0.25, 0.1, 0.5, 1.0]]), torch.zeros(2, 5)])
    assert truths[0, 1, 4] == NONE
    found = Detections(truths[0, :1, :4], torch.tensor([0.5]), torch.tensor([1]))
    frame = in_pixels(truths[0], found, (304, 240))
    torch.testing.assert_close(frame.truths.float(), torch.tensor([[152, 60, 30.4, 120, 1.0]]))
    torch.testing.assert_close(frame.found.boxes, frame.truths[:, :4])


def test_the_protocols_give_three_different_known_values():
    """One class; every overlap is 0 or 1, so AP is the same at all overlaps.

    =======  =======  ==========  ==================  =============================
    frame    time     true boxes  found (score)       counts for
    =======  =======  ==========  ==================  =============================
    a        0.05 s   40 × 40     —                   cordone
    b        0.3 s    40 × 40     it (0.9)            psee, cordone
    c        1.0 s    40 × 15     —                   rvt (15 is below a side of 20)
    d        1.0 s    40 × 40     it (0.8)            all three
    e        1.0 s    8 × 8       a 50 × 50 (0.95)    none: no true box is left
    f        2.0 s    40 × 40     a 40 × 15 (0.99)    all; the false alarm for rvt
                                  elsewhere, it (0.7)
    =======  =======  ==========  ==================  =============================

    Precision is interpolated at recalls 0, 0.01, …, 1 (101 of them):

    * rvt: boxes of c, d, f (3). False, true, true: precision 2/3 up to recall 2/3 (0 to 0.66:
      67 recalls), then 0: AP = 67 · 2/3 / 101.
    * psee: b, d, f: all three found, no false alarm: AP = 1.
    * cordone: a, b, d, f: three of four, no false alarm: precision 1 up to recall 3/4
      (76 recalls): AP = 76 / 101.
    """
    square = [100.0, 100.0, 40.0, 40.0]

    def frame(truth, *found):
        boxes = torch.tensor([box for box, _ in found]).reshape(-1, 4)
        scores = torch.tensor([score for _, score in found])
        detections = Detections(boxes, scores, torch.zeros(len(found), dtype=torch.int64))
        return Frame(torch.tensor([[*truth, 0.0]]), detections)

    frames = [
        frame(square),
        frame(square, (square, 0.9)),
        frame([100.0, 100.0, 40.0, 15.0]),
        frame(square, (square, 0.8)),
        frame([50.0, 50.0, 8.0, 8.0], ([0.0, 0.0, 50.0, 50.0], 0.95)),
        frame(square, ([200.0, 10.0, 40.0, 15.0], 0.99), (square, 0.7)),
    ]
    times = [0.05, 0.3, 1.0, 1.0, 1.0, 2.0]
    measured = {n: PROTOCOLS[n].measure(frames, times, ["car"]).mean for n in PROTOCOLS}
    assert measured["rvt"] == pytest.approx(67 * 2 / 3 / 101)
    assert measured["psee"] == pytest.approx(1.0)
    assert measured["cordone"] == pytest.approx(76 / 101)
    assert PROTOCOLS["all"].measure(frames, times, ["car"]).frames == 6


def test_the_package_is_imported_only_to_measure():
    code = (
        "import sys, bsnn_tha.detection.protocols, bsnn_tha.losses\n"
        "assert not {'faster_coco_eval', 'pycocotools'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
