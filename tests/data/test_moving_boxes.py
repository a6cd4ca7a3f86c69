"""The made-up set: what it is made of, and that it is made whole or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from bsnn_tha.data import moving_boxes
from bsnn_tha.data.gen1_files import EventFile, read_boxes
from bsnn_tha.data.moving_boxes import (
    MOVING_BOXES,
    load_moving_boxes,
    make_moving_boxes,
    moving_clip,
)
from bsnn_tha.errors import DataError, InvalidValueError


@pytest.fixture(scope="module")
def clips():
    return [moving_clip([1, 0, 0, number]) for number in range(25)]


def columns(clip):
    place = clip.events["place"].astype(int)
    return clip.events["time"].astype(int), place & 0x3FFF, place >> 14 & 0x3FFF, place >> 28


def test_a_seed_makes_a_clip_whatever_was_made_before(clips):
    again = moving_clip([1, 0, 0, 3])
    assert np.array_equal(again.events, clips[3].events)
    assert np.array_equal(again.boxes, clips[3].boxes)
    assert not np.array_equal(moving_clip([1, 1, 0, 3]).events, again.events)


def test_it_has_what_makes_detection_hard(clips):
    boxes = np.concatenate([clip.boxes for clip in clips])
    assert set(boxes["class_id"]) == {0, 1}
    frames = [
        (clip.boxes["ts"] == t).sum() for clip in clips for t in range(200_000, 800_001, 200_000)
    ]
    assert min(frames) == 0 and max(frames) >= 3
    # Both classes have the same sizes: shape alone tells them apart.
    sizes = [boxes["w"][boxes["class_id"] == label].mean() for label in (0, 1)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.15)
    width, height = MOVING_BOXES.frame
    outside = (
        (boxes["x"] < 0)
        | (boxes["y"] < 0)
        | (boxes["x"] + boxes["w"] > width)
        | (boxes["y"] + boxes["h"] > height)
    )
    assert 0.02 < outside.mean() < 0.5


def test_events_are_where_objects_are_and_elsewhere_too(clips):
    inside, share, total = 0, 0.0, 0
    for clip in clips:
        time, x, y, polarity = columns(clip)
        assert time.min() >= 0 and time.max() < 800_000 and set(polarity) <= {0, 1}
        assert (np.diff(time) >= 0).all() and x.max() < 80 and y.max() < 64
        for box in clip.boxes:
            recent = (time >= int(box["ts"]) - 20_000) & (time < int(box["ts"]))
            near = (np.abs(x + 0.5 - box["x"] - box["w"] / 2) <= box["w"] / 2 + 2) & (
                np.abs(y + 0.5 - box["y"] - box["h"] / 2) <= box["h"] / 2 + 2)  # fmt: skip
            inside += (recent & near).sum()
            total += recent.sum()
            share += (box["w"] + 4) * (box["h"] + 4) / (80 * 64) * recent.sum()
    assert inside > 3 * share  # than if they lay anywhere
    assert inside < 0.9 * total  # noise, crosses, other objects


def test_files_are_those_of_the_layout(tmp_path):
    counts = make_moving_boxes(tmp_path / "set", seed=5, clips=(2, 1, 1))
    names = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert names == [
        "set/test/clip_0000_bbox.npy", "set/test/clip_0000_td.dat",
        "set/train/clip_0000_bbox.npy", "set/train/clip_0000_td.dat",
        "set/train/clip_0001_bbox.npy", "set/train/clip_0001_td.dat",
        "set/val/clip_0000_bbox.npy", "set/val/clip_0000_td.dat",
    ]  # fmt: skip
    file = EventFile(tmp_path / "set/train/clip_0001_td.dat")
    expected = moving_clip([moving_boxes.VERSION, 5, 0, 1])
    window = file.window(0, 10**9)
    time, x, y, polarity = columns(expected)
    for found, given in zip(
        (window.times, *window.coordinates), (time, polarity, y, x), strict=True
    ):
        assert np.array_equal(found, given)
    boxes = read_boxes(tmp_path / "set/train/clip_0001_bbox.npy", MOVING_BOXES.frame, 2)
    assert len(boxes.times) + boxes.outside == len(expected.boxes)
    assert set(counts) == {"train", "val", "test"}
    with pytest.raises(DataError, match="is there already"):
        make_moving_boxes(tmp_path / "set", clips=(1, 1, 1))
    with pytest.raises(InvalidValueError, match="three numbers of at least 1"):
        make_moving_boxes(tmp_path / "other", clips=(1, 0, 1))


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    def stop(seed):
        raise KeyboardInterrupt

    monkeypatch.setattr(moving_boxes, "moving_clip", stop)
    with pytest.raises(KeyboardInterrupt):
        make_moving_boxes(tmp_path / "set", clips=(1, 1, 1))
    assert not list(tmp_path.iterdir())


def test_is_made_in_the_cache_once_and_taken_from_the_data_root_if_there(tmp_path, monkeypatch):
    cache, root = tmp_path / "cache", tmp_path / "data"
    options = {"cache": cache, "num_steps": 5, "bin_ms": 20.0}
    dataset = load_moving_boxes(root, clips=[6, 3, 3], **options)
    assert dataset.input_shape == (2, 64, 80)
    batch, boxes = dataset.train[[0, 1]]
    assert batch.dense().shape == (5, 2, 2, 64, 80) and boxes.shape[::2] == (2, 5)
    make_moving_boxes(root / "MovingBoxes", seed=2, clips=(4, 2, 2))
    monkeypatch.setattr(moving_boxes, "moving_clip", lambda seed: pytest.fail("made again"))
    again = load_moving_boxes(root, clips=[6, 3, 3], **options)
    assert (again.train.targets == dataset.train.targets).all()
    placed = load_moving_boxes(root, **options)
    assert len(placed.train) != len(dataset.train)
