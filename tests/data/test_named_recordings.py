"""DVS-CIFAR10, N-Caltech101 and N-Cars: layouts, one part or two, scaled frames.

The published files are not at hand: everything here is made after their formats'
descriptions, and AEDAT 4 files are decoded by a stand-in for the package aedat.
"""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from event_files import bin_bytes, dat_bytes, frames_by_loops, frames_of, write
from hypothesis import given
from hypothesis import strategies as st

from bsnn_tha.data import load_dataset
from bsnn_tha.data.binning import bin_recording, binned_sensor
from bsnn_tha.data.folders import AedatRecordings, DatRecordings, NamedBinRecordings
from bsnn_tha.data.recordings import RawEvents
from bsnn_tha.errors import DataError, InvalidValueError

CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
EVENTS = [(3, 90, 1, 1000), (119, 0, 0, 1500), (0, 99, 1, 70_000)]
"""x, y, polarity, µs."""


@pytest.fixture
def load(tmp_path):
    def load(name, **options):
        common = {"root": tmp_path, "seed": 0, "validation": 0.0, "num_steps": 10}
        for key in common.keys() & options.keys():
            common[key] = options.pop(key)
        return load_dataset(name, cache=tmp_path / "cache", options=options, **common)

    return load


@pytest.fixture
def aedat(monkeypatch):
    """The package's interface as tonic uses it; a file is its events in plain text."""

    class Decoder:
        def __init__(self, path):
            self.lines = Path(path).read_text().splitlines()
            if not all(re.fullmatch(r"\d+( \d+){3}", line) for line in self.lines):
                raise RuntimeError("the file has\nno magic number")

        def id_to_stream(self):
            return {0: {"type": "frame"}, 1: {"type": "events"}}

        def __iter__(self):
            dtype = [("t", "u8"), ("x", "u2"), ("y", "u2"), ("on", "?")]
            rows = [tuple(map(int, line.split())) for line in self.lines]
            yield {"stream_id": 0}
            for row in rows:  # one packet each
                yield {"stream_id": 1, "events": np.array([row], dtype)}

    module = types.ModuleType("aedat")
    module.Decoder = Decoder
    monkeypatch.setitem(sys.modules, "aedat", module)


def aedat_bytes(events):
    return "\n".join(f"{t} {x} {y} {p}" for x, y, p, t in events).encode()


def assert_events(raw: RawEvents, expected) -> None:
    polarity, y, x = raw.coordinates
    rows = list(zip(x, y, polarity, raw.times, strict=True))
    assert [tuple(map(int, row)) for row in rows] == expected


# Readers


@pytest.mark.parametrize(
    ("reader", "suffix", "encode"),
    [
        (NamedBinRecordings, "bin", bin_bytes),
        (AedatRecordings, "aedat4", aedat_bytes),
        (DatRecordings, "dat", dat_bytes),
    ],
    ids=["n-caltech101", "dvs-cifar10", "n-cars"],
)
def test_events_and_labels_by_folder(tmp_path, aedat, reader, suffix, encode):
    for name in ("zebra", "ant", "Faces_easy"):
        for number in range(2):
            write(tmp_path / name / f"image_{number}.{suffix}", encode(EVENTS[: 2 + number]))
    write(tmp_path / "ant" / "notes.txt", b"not a recording")
    recordings = reader(tmp_path)
    assert recordings.class_names == ["Faces_easy", "ant", "zebra"]
    assert recordings.labels.tolist() == [0, 0, 1, 1, 2, 2] and len(recordings) == 6
    assert_events(recordings[1], EVENTS)
    assert_events(recordings[2], EVENTS[:2])
    assert "image_1" in recordings.where(1)


def test_dat_headers_of_several_lines_and_no_events(tmp_path):
    header = "% Data file containing CD events.\n% Version 2\n% Date 2017-1-1 10:00:00\n"
    write(tmp_path / "cars" / "a.dat", dat_bytes(EVENTS, header))
    write(tmp_path / "cars" / "b.dat", dat_bytes([], header))
    recordings = DatRecordings(tmp_path)
    assert_events(recordings[0], EVENTS)
    assert_events(recordings[1], [])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (dat_bytes(EVENTS)[:-1], "has version 2, 8 bytes for each event and 23 bytes of events"),
        (dat_bytes(EVENTS, "% Version 1\n"), "has version 1, 8 bytes for each event"),
        (dat_bytes(EVENTS, "% Height 100\n"), "has version , 8 bytes for each event"),
        (dat_bytes(EVENTS, size=16), "has version 2, 16 bytes for each event"),
        (b"% Version 2", "has version 2, 0 bytes for each event"),
    ],
    ids=["cut", "version", "no_version", "size", "header_only"],
)
def test_damaged_dat_files(tmp_path, content, problem):
    path = write(tmp_path / "cars" / "a.dat", content)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))} must be .* {problem}"):
        DatRecordings(tmp_path)[0]


def test_damaged_aedat_files_and_the_missing_package(tmp_path, aedat, monkeypatch):
    path = write(tmp_path / "cat" / "a.aedat4", b"rubbish")
    recordings = AedatRecordings(tmp_path)
    with pytest.raises(DataError, match=r"not a readable AEDAT 4 file \(the file has no magic"):
        recordings[0]
    monkeypatch.setitem(sys.modules, "aedat", None)  # importing it fails
    message = f"reading {path} needs the package aedat, which is not installed; pip install aedat"
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        recordings[0]


# Sets


def test_one_part_is_split_by_class_whatever_the_seed(tmp_path, aedat, load):
    for label, name in enumerate(CIFAR):
        for number in range(20):
            events = [(label * 12, number, 1, 5_000_000), (0, 0, 0, 5_050_000)]
            path = tmp_path / "CIFAR10DVS" / name / f"cifar10_{name}_{number}.aedat4"
            write(path, aedat_bytes(events))
    data = load("dvs-cifar10", num_steps=3, validation=0.25)
    sizes = [len(part) for part in (data.train, data.validation, data.test)]
    assert sizes == [140, 40, 20] and data.num_classes == 10
    assert data.test.targets.bincount().tolist() == [2] * 10
    assert data.input_shape == (2, 48, 48) and data.step_ms == 43
    assert "140 training, 40 validation (stratified, seed 0), 20 test recordings" in data.source
    other = load("dvs-cifar10", num_steps=3, validation=0.25, seed=5)
    assert np.array_equal(other.test.samples, data.test.samples)
    assert not np.array_equal(other.train.samples, data.train.samples)
    shared = {*data.train.samples, *data.validation.samples} & set(data.test.samples)
    assert not shared
    batch, targets = data.test[list(range(20))]
    frames = batch.dense()
    for sample, label in enumerate(targets.tolist()):
        # Time starts with the first event; x = 12 · label of 128 is column x · 48 / 128 of 48.
        column = 12 * label * 48 // 128
        assert frames[0, sample, 1].sum() == frames[0, sample, 1, :, column].sum() == 1
        assert frames[1, sample, 0, 0, 0] == 1


def test_n_cars_in_two_parts(tmp_path, load):
    for part, count in (("n-cars_train", 3), ("n-cars_test", 2)):
        for name in ("background", "cars"):
            for number in range(count):
                path = tmp_path / "NCARS" / part / name / f"obj_{number}_td.dat"
                write(path, dat_bytes(EVENTS))
    data = load("n-cars", counted=False)
    assert (len(data.train), len(data.test)) == (6, 4)
    assert data.train.targets.tolist() == [0, 0, 0, 1, 1, 1]
    frames = data.train[[0]][0].dense()
    assert frames.sum() == 3
    # Bins of 10 ms from the first event, 120 × 100 places scaled to 48 × 48.
    assert frames[0, 0, 1, 90 * 48 // 100, 3 * 48 // 120] == 1
    assert frames[6, 0, 1, 99 * 48 // 100, 0] == 1


def test_n_caltech101_needs_all_its_classes(tmp_path, load):
    folder = tmp_path / "NCALTECH101" / "Caltech101"
    for number in range(101):
        for image in range(3):
            write(folder / f"class_{number:03d}" / f"image_{image}.bin", bin_bytes(EVENTS))
    data = load("n-caltech101")
    assert data.num_classes == 101 and len(data.test) == 101 and len(data.train) == 202
    (folder / "class_003").rename(tmp_path / "elsewhere")
    message = "n-caltech101 must have recordings of each of its classes, but its part 'all' has 100"
    with pytest.raises(DataError, match=f"^{message} of 101 classes; place them"):
        load("n-caltech101")
    for name in ("class_003", "extra"):
        write(folder / name / "image_0.bin", bin_bytes(EVENTS))
    message = (
        "n-caltech101 must have 101 classes, but there are recordings in 102 folders: class_000"
    )
    with pytest.raises(DataError, match=f"^{message}, .*, …; move away what is no class$"):
        load("n-caltech101")


@pytest.mark.parametrize(
    ("name", "place", "obtain"),
    [
        ("dvs-cifar10", "CIFAR10DVS", "tonic.datasets.CIFAR10DVS(save_to=DATA_ROOT) gets it"),
        ("n-caltech101", "NCALTECH101/Caltech101", "tonic.datasets.NCALTECH101(save_to=DATA_ROOT)"),
        ("n-cars", "NCARS/n-cars_train", "unpack Prophesee's archive there"),
    ],
)
@pytest.mark.usefixtures("offline")
def test_missing_files_are_named_with_where_they_come_from(tmp_path, load, name, place, obtain):
    message = f"{name} cannot be downloaded and there is no {tmp_path / place}; {obtain}"
    with pytest.raises(DataError, match=f"^{re.escape(message)}"):
        load(name)


# Scaled frames


def test_size_takes_the_place_of_downsampling(tmp_path, load):
    for part in ("n-cars_train", "n-cars_test"):
        for name in ("background", "cars"):
            write(tmp_path / "NCARS" / part / name / "a.dat", dat_bytes(EVENTS))
    assert load("n-cars", size=10).input_shape == (2, 10, 10)
    assert load("n-cars", downsample=2).input_shape == (2, 50, 60)
    with pytest.raises(InvalidValueError, match="size takes the place of downsample, but got size"):
        load("n-cars", size=10, downsample=2)


def test_units_in_a_row_are_scaled_as_well():
    raw = RawEvents(np.array([0, 1, 2]), (np.array([0, 349, 699]),))
    binned = bin_recording(raw, (700,), 1.0, bin_us=10, size=140)
    assert binned.units.tolist() == [0, 69, 139] and binned_sensor((700,), 1, 140) == (140,)


@given(
    events=st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 4), st.integers(0, 1), st.integers(0, 99)),
        max_size=20,
    ),
    size=st.integers(1, 9),
)
def test_scaled_frames_equal_loops(events, size):
    sensor = (2, 5, 7)
    x, y, p, t = (np.array([event[i] for event in events], dtype=int) for i in range(4))
    binned = bin_recording(RawEvents(t, (p, y, x)), sensor, 1.0, bin_us=10, size=size)
    scaled = (p, y * size // 5, x * size // 7)
    expected = frames_by_loops(t, scaled, (2, size, size), 1, 10)
    shape = binned_sensor(sensor, 1, size)
    assert shape == (2, size, size)
    assert np.array_equal(frames_of(binned.ends, binned.units, shape), expected)


def test_frames_reach_a_network(tmp_path, load):
    from bsnn_tha import SpikingNetwork

    for part in ("n-cars_train", "n-cars_test"):
        for name in ("background", "cars"):
            write(tmp_path / "NCARS" / part / name / "a.dat", dat_bytes(EVENTS))
    data = load("n-cars", num_steps=4, size=8)
    network = SpikingNetwork("4C3P-4R-GAP-2", data.input_shape, beta=0.5, norm="tdbn")
    batch, _ = data.train[[0, 1]]
    assert network(batch.dense()).spikes.shape == torch.Size([4, 2, 2])
