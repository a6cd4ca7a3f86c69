"""Prophesee's automotive layout: what files of it contain, read window by window."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from event_files import left_in
from gen1_recordings import FRAME, HEADER, box_records, random_events, write_recording

from bsnn_tha.data import gen1_files
from bsnn_tha.data.gen1 import GEN1, BoxOptions, load_gen1
from bsnn_tha.data.gen1_files import EventFile, read_boxes
from bsnn_tha.data.gen1_windows import LabelledWindows, labelled_frames
from bsnn_tha.detection.boxes import NONE
from bsnn_tha.errors import DataError, InvalidValueError

CAR = (100_000, 10.0, 20.0, 30.0, 40.0, 0, 1)


def boxes_file(tmp_path, boxes, **options):
    path = tmp_path / "a_bbox.npy"
    np.save(path, box_records(boxes, **options))
    return path


@pytest.mark.parametrize("disorder_us", [0, 3_000])
def test_windows_are_those_of_loops_over_all_events(tmp_path, disorder_us):
    events = random_events(1, 60_000, 400_000, disorder_us)
    write_recording(tmp_path, "a", events, [CAR])
    file = EventFile(tmp_path / "a_td.dat")
    assert file.events == len(events) > 3 * gen1_files._BLOCK
    assert file.last_time() == max(time for time, *_ in events)
    for start, end in [(0, 1_000), (95_000, 105_000), (0, 400_000), (-5_000, 100), (500_000, 9**9)]:
        found = file.window(start, end)
        polarity, y, x = found.coordinates
        given = list(zip(found.times + start, x, y, polarity, strict=True))
        assert given == [event for event in events if start <= event[0] < end]


def test_a_window_reads_its_own_part_of_the_file(tmp_path, monkeypatch):
    write_recording(tmp_path, "a", random_events(2, 400_000, 4_000_000), [CAR])
    file, read = EventFile(tmp_path / "a_td.dat"), []
    once = file._read
    monkeypatch.setattr(file, "_read", lambda *part: read.append(len(once(*part))) or once(*part))
    file.last_time()
    assert sum(read) == 400_000 and max(read) <= gen1_files._READ  # one pass, in pieces
    read.clear()
    inside = len(file.window(2_000_000, 2_050_000).times)
    assert inside > 4_000
    assert sum(read) <= inside + 2 * gen1_files._BLOCK


def test_boxes_are_sorted_cut_to_the_frame_and_counted_where_outside(tmp_path):
    given = [
        (300, -5.0, 20.0, 15.0, 10.0, 1, 7),  # reaches out on the left
        (100, 290.0, 230.0, 30.0, 30.0, 0, 8),  # and at the right lower corner
        (200, 304.0, 5.0, 9.0, 9.0, 0, 9),  # touches the frame from outside
    ]
    found = read_boxes(boxes_file(tmp_path, given), FRAME, 2)
    assert found.times.tolist() == [100, 300]
    assert found.boxes.tolist() == [[290, 230, 14, 10, 0], [0, 20, 10, 10, 1]]
    assert found.tracks.tolist() == [8, 7]
    assert found.outside == 1


@pytest.mark.parametrize("spelling", ["ts", "t"])
@pytest.mark.parametrize("tracks", [True, False])
def test_both_spellings_of_time_are_read(tmp_path, spelling, tracks):
    path = boxes_file(tmp_path, [CAR], time_field=spelling, tracks=tracks)
    assert read_boxes(path, FRAME, 2).times.tolist() == [100_000]


@pytest.mark.parametrize(
    ("box", "rule"),
    [
        ((0, np.nan, 1.0, 5.0, 5.0, 0, 1), "must have a number for x, but box 1 has nan"),
        ((0, 1.0, 1.0, np.nan, 5.0, 0, 1), "must have a number for w"),
        ((0, 1.0, 1.0, np.inf, 5.0, 0, 1), "must have a number for w"),
        ((0, 1.0, 1.0, 0.0, 5.0, 0, 1), "must have w above 0, but box 1 has 0"),
        ((0, 1.0, 1.0, 5.0, -2.0, 0, 1), "must have h above 0, but box 1 has -2"),
        ((0, 1.0, 1.0, 5.0, 5.0, 2, 1), "must have a class_id from 0 to 1, but box 1 has 2"),
    ],
)
def test_boxes_that_cannot_be_are_refused_by_name(tmp_path, box, rule):
    path = boxes_file(tmp_path, [CAR, box])
    with pytest.raises(DataError, match=rf"^each box of {re.escape(str(path))} {rule}"):
        read_boxes(path, FRAME, 2)


@pytest.mark.parametrize(
    ("field", "kind", "value", "rule"),
    [
        ("ts", "<f8", np.nan, "must have a number for ts, but box 1 has nan"),
        ("ts", "<i8", -5, "must have a time of at least 0, but box 1 has -5"),
        ("class_id", "<f4", 0.5, "must have a class_id from 0 to 1, but box 1 has 0.5"),
        ("x", "<U3", "ten", "must hold records with a field x of numbers"),
    ],
)
def test_fields_of_other_kinds_are_refused_by_name(tmp_path, field, kind, value, rule):
    path = boxes_file(tmp_path, [CAR, CAR])
    records = np.load(path)
    kinds = [(name, kind if name == field else its) for name, its in records.dtype.descr]
    records = records.astype(kinds)
    records[field][1] = value
    np.save(path, records)
    with pytest.raises(DataError, match=rf"{re.escape(str(path))} {rule}"):
        read_boxes(path, FRAME, 2)


def test_damaged_box_files_are_refused_by_name(tmp_path):
    path = boxes_file(tmp_path, [CAR, CAR])
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(DataError, match=f"{re.escape(str(path))} is not a readable array file"):
        read_boxes(path, FRAME, 2)
    np.save(path, np.zeros((3, 5)))
    with pytest.raises(DataError, match="a field ts or t of numbers, but has no named fields"):
        read_boxes(path, FRAME, 2)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (HEADER + b"\x0c\x08" + b"123456789", "9 bytes of events: it is cut off"),
        (HEADER.replace(b"Version 2", b"Version 3") + b"\x0c\x08", "has version 3"),
        (b"", "has version none and 0 bytes"),
        (HEADER + b"\x0c\x10", "and 16 bytes"),
    ],
)
def test_damaged_event_files_are_refused_by_name(tmp_path, content, rule):
    path = tmp_path / "a_td.dat"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))} .*{rule}"):
        EventFile(path)


def test_labels_are_joined_within_their_tolerance():
    def frames(times, tracks):
        rows = np.zeros((len(times), 5), np.float32)
        rows[:, 0] = np.arange(len(times))
        boxes = gen1_files.Boxes(np.array(times), rows, np.array(tracks), 0)
        joined = labelled_frames(boxes, 50_000)
        return [(e, b[:, 0].tolist()) for e, b in zip(joined.ends, joined.boxes, strict=True)]

    # 50 ms still belong together, 51 do not; then counting begins anew.
    assert frames([0, 50_000, 50_001], [1, 2, 3]) == [(0, [0, 1]), (50_001, [2])]
    # An object counts once, as it was nearest to the moment; without tracks all do.
    assert frames([0, 20_000, 40_000], [1, 2, 1]) == [(0, [0, 1])]
    assert frames([0, 20_000, 40_000], [-1, -1, -1]) == [(0, [0, 1, 2])]
    assert frames([], []) == []


def a_set(root, boxes=(CAR,), count=4_000):
    for number, part in enumerate(("train", "val", "test")):
        folder = root / "Gen1" / part
        write_recording(folder, "b", random_events(number, count, 1_200_000, 2_000), list(boxes))
    return root


def test_a_sample_is_the_events_before_its_moment_with_boxes_in_shares(tmp_path):
    late = (1_000_000, 76.0, 60.0, 152.0, 60.0, 1, 2)
    root = a_set(tmp_path / "data", [late, CAR])
    write_recording(root / "Gen1" / "train", "a", [(5, 1, 1, 1)], [])  # no boxes: no samples
    dataset = load_gen1(root, cache=tmp_path / "cache", num_steps=4, bin_ms=50.0, downsample=8)
    assert dataset.input_shape == (2, 30, 38)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (2, 2, 2)
    assert dataset.train.times.tolist() == [0.1, 1.0]
    batch, boxes = dataset.train[[1, 0]]
    expected = np.zeros((4, 2, 2, 30, 38))
    for time, x, y, p in random_events(0, 4_000, 1_200_000, 2_000):
        for row, end in enumerate((1_000_000, 100_000)):
            step = (time - (end - 200_000)) // 50_000
            if 0 <= step < 4:
                expected[step, row, p, y // 8, x // 8] = 1  # one spike, however many events
    assert expected[:, 1].any() and not expected[:2, 1].any()  # silence before it began
    np.testing.assert_array_equal(batch.dense().numpy(), expected)
    torch.testing.assert_close(
        boxes[:, 0],
        torch.tensor([[1 / 4, 1 / 4, 1 / 2, 1 / 4, 1], [10 / 304, 1 / 12, 30 / 304, 1 / 6, 0]]),
    )
    assert dataset.boxes.frame == FRAME and dataset.num_classes is None
    assert dataset.class_names == ("car", "pedestrian")


def test_samples_with_fewer_boxes_are_filled_up(tmp_path):
    root = a_set(tmp_path, [CAR, (1_000_000, 1.0, 1.0, 9.0, 9.0, 0, 1),
                            (1_000_000, 50.0, 1.0, 9.0, 9.0, 1, 2)])  # fmt: skip
    dataset = load_gen1(root, cache=tmp_path / "cache", num_steps=2)
    assert dataset.train.targets[:, :, 4].tolist() == [[0, NONE], [0, 1]]


@pytest.mark.parametrize(
    ("harm", "rule"),
    [
        (lambda f: (f / "test" / "b_bbox.npy").unlink(), "b_td.dat must lie beside b_bbox.npy"),
        (lambda f: (f / "test" / "b_td.dat").unlink(), "b_bbox.npy must lie beside b_td.dat"),
        (lambda f: [p.unlink() for p in (f / "val").iterdir()], "val must hold recordings"),
        (lambda f: np.save(f / "val" / "b_bbox.npy", box_records([])), "and no box"),
        (
            lambda f: np.save(f / "train" / "b_bbox.npy", box_records([(9 * 10**6, *CAR[1:])])),
            "must have events up to its last box.*b_bbox.npy is of another recording",
        ),
        (
            lambda f: write_recording(f / "train", "b", [(99_000, 304, 0, 0)], [CAR]),
            "b_td.dat before 100,000 µs must have x from 0 to 303, but event 0 has 304",
        ),
    ],
)
def test_sets_that_cannot_be_are_refused_by_name_and_leave_nothing(tmp_path, harm, rule):
    root = a_set(tmp_path / "data")
    harm(root / "Gen1")
    with pytest.raises(DataError, match=rule) as caught:
        load_gen1(root, cache=tmp_path / "cache", num_steps=2)
    assert "\n" not in str(caught.value) and str(root) in str(caught.value)
    left = [name for name in left_in(tmp_path / "cache") if not name.startswith("gen1-")]
    assert not left


def test_invalid_events_are_dropped_if_asked_for_and_parts_must_be_there(tmp_path):
    root = a_set(tmp_path / "data")
    write_recording(root / "Gen1" / "train", "b", [(99_000, 304, 0, 0), (99_500, 1, 0, 0)], [CAR])
    dataset = load_gen1(root, cache=tmp_path / "cache", num_steps=2, invalid="drop")
    assert "1 invalid events left out" in dataset.source
    with pytest.raises(DataError, match="needs the folders train, val, test below"):
        load_gen1(tmp_path, cache=tmp_path / "cache", num_steps=2)


def test_options_that_do_not_divide_are_refused(tmp_path):
    with pytest.raises(InvalidValueError, match="must divide the frame of 304 × 240, but got 7"):
        GEN1.load(tmp_path, tmp_path, BoxOptions(2, 10.0, 7))
    with pytest.raises(InvalidValueError, match="whole number of µs"):
        GEN1.load(tmp_path, tmp_path, BoxOptions(2, 0.0015, 1))


_MEASURE = """
import resource, sys
from pathlib import Path
import numpy as np
from bsnn_tha.data.gen1_windows import LabelledWindows
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
windows = LabelledWindows(Path(sys.argv[1]), (304, 240), 2, 100_000)
before = peak()
events = sum(len(windows[i].times) for i in range(len(windows)))
print(events, peak() - before)
"""


def peak_growth(folder):
    """Events in all windows, and by how many MB reading them raised the most memory used."""
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(folder)], capture_output=True, text=True, check=True
    )
    return map(int, run.stdout.split())


def test_memory_does_not_grow_with_the_recording(tmp_path):
    """320 MB, most of them a hole in the file: events at time 0."""
    write_recording(tmp_path, "a", b"", [(1_000_000, *CAR[1:]), (2_000_000, *CAR[1:])])
    with (tmp_path / "a_td.dat").open("r+b") as file:
        file.truncate(len(HEADER) + 2 + 8 * 40_000_000)
        file.seek(0, 2)
        tail = np.zeros((40_000, 2), "<u4")
        tail[:, 0] = np.linspace(900_000, 2_000_000, 40_000)
        file.write(tail.tobytes())
    events, growth = peak_growth(tmp_path)
    assert events == sum(
        ((tail[:, 0] >= e - 10**5) & (tail[:, 0] < e)).sum() for e in (10**6, 2 * 10**6)
    )
    assert growth < 40


@pytest.mark.slow
def test_two_gigabytes_stream_in_flat_memory(tmp_path):
    """A minute of 268 million events, with a box every 250 ms."""
    boxes = [(time, *CAR[1:]) for time in range(250_000, 60_000_000, 250_000)]
    write_recording(tmp_path, "a", b"", boxes)
    draw, count, piece = np.random.default_rng(0), 1 << 28, 1 << 22
    with (tmp_path / "a_td.dat").open("ab") as file:
        for first in range(0, count, piece):
            events = np.empty((piece, 2), "<u4")
            events[:, 0] = (np.arange(first, first + piece) * (60e6 / count)).astype("<u4")
            x, y = draw.integers(0, 304, piece), draw.integers(0, 240, piece)
            events[:, 1] = x | y << 14 | draw.integers(0, 2, piece) << 28
            file.write(events.tobytes())
    assert (tmp_path / "a_td.dat").stat().st_size > 2 * 2**30
    events, growth = peak_growth(tmp_path)
    assert events == pytest.approx(len(boxes) * 0.1 * count / 60, rel=1e-3)
    assert growth < 120  # a window of 100 ms has 450,000 events


def test_windows_are_a_reader_like_all_others(tmp_path):
    write_recording(tmp_path, "a", random_events(3, 100, 200_000), [CAR])
    windows = LabelledWindows(tmp_path, FRAME, 2, 50_000)
    before = windows.fingerprint()
    assert windows.sensor == (2, 240, 304) and len(windows) == len(windows.labels) == 1
    write_recording(tmp_path, "a", random_events(4, 101, 200_000), [CAR])
    assert LabelledWindows(tmp_path, FRAME, 2, 50_000).fingerprint() != before
    assert LabelledWindows(tmp_path, FRAME, 2, 60_000).fingerprint() != before
