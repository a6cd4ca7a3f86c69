"""One rule for what may lie in a folder of recordings, whatever the data set."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
from event_files import aedat2_bytes, bin_bytes, dat_bytes, hdf5_bytes, npy_bytes, write

from bsnn_tha.data import load_dataset
from bsnn_tha.data.folders import (
    AedatRecordings,
    BinRecordings,
    DatRecordings,
    NamedBinRecordings,
    NpyRecordings,
)
from bsnn_tha.errors import DataError

EVENTS = [(3, 30, 1, 1000), (30, 0, 0, 70_000)]
ROWS = [[3, 30, 1, 1], [30, 0, 0, 70]]
LAYOUTS = {
    "nmnist": (BinRecordings, "{}/00001.bin", bin_bytes(EVENTS), "7", "seven"),
    "dvs-gesture": (NpyRecordings, "user01_led/{}.npy", npy_bytes(ROWS), "7", "seven"),
    "n-caltech101": (NamedBinRecordings, "{}/a.bin", bin_bytes(EVENTS), "ant", None),
    "dvs-cifar10": (AedatRecordings, "{}/a.aedat", aedat2_bytes(EVENTS), "cat", None),
    "n-cars": (DatRecordings, "{}/a.dat", dat_bytes(EVENTS), "cars", None),
}
EVERY = pytest.mark.parametrize(
    ("reader", "path", "content", "name", "wrong"), list(LAYOUTS.values()), ids=list(LAYOUTS)
)
"""Every reader of a folder, with a recording of one class, and a name that is no class."""


@EVERY
def test_system_files_are_passed_over(tmp_path, caplog, reader, path, content, name, wrong):
    recording = write(tmp_path / path.format(name), content)
    for junk in (".DS_Store", "Thumbs.db", "desktop.ini", f"._{recording.name}"):
        write(tmp_path / junk, b"junk")
        write(recording.parent / junk, b"")
    write(tmp_path / "__MACOSX" / recording.name, b"junk")
    write(tmp_path / ".ipynb_checkpoints" / recording.name, b"junk")
    recordings = reader(tmp_path)
    assert recordings.paths == [recording] and len(recordings.labels) == 1
    assert not caplog.records


@EVERY
def test_other_files_are_left_out_and_named(tmp_path, caplog, reader, path, content, name, wrong):
    recording = write(tmp_path / path.format(name), content)
    write(tmp_path / "README.txt", b"beside the groups")
    notes = write(recording.parent / "notes.txt", b"no recording")
    write(recording.parent / f"{recording.name}.part", content)
    with caplog.at_level(logging.WARNING, "bsnn_tha"):
        assert reader(tmp_path).paths == [recording]
    (record,) = caplog.records
    assert "left out what is no recording" in record.getMessage()
    assert f"{recording}.part (and 1 others)" in record.getMessage()
    assert notes.exists()


@EVERY
def test_empty_files_are_refused(tmp_path, reader, path, content, name, wrong):
    recording = write(tmp_path / path.format(name), content)
    empty = write(recording.parent / f"9{recording.name}", b"")
    message = f"each recording must have at least one byte, but {empty} is empty; replace it"
    with pytest.raises(DataError, match=f"^{re.escape(message)}"):
        reader(tmp_path)


@EVERY
def test_recordings_beside_the_folders_are_refused(tmp_path, reader, path, content, name, wrong):
    recording = write(tmp_path / path.format(name), content)
    loose = write(tmp_path / recording.name, content)
    with pytest.raises(DataError, match=f"{loose.name} lies beside the folders; move it"):
        reader(tmp_path)


@EVERY
def test_endings_in_capitals_are_recordings(tmp_path, reader, path, content, name, wrong):
    upper = (tmp_path / path.format(name)).with_suffix(path[path.rindex(".") :].upper())
    write(upper, content)
    assert reader(tmp_path).paths == [upper]


@EVERY
def test_a_folder_without_recordings_says_what_is_there(
    tmp_path, reader, path, content, name, wrong
):
    write(tmp_path / "airplane.zip", b"PK")
    with pytest.raises(DataError, match=r"there are no files .*: the folder holds airplane\.zip;"):
        reader(tmp_path)


@pytest.mark.parametrize("name", ["nmnist", "dvs-gesture"])
def test_misnamed_classes_are_refused(tmp_path, name):
    reader, path, content, _, wrong = LAYOUTS[name]
    misnamed = write(tmp_path / path.format(wrong), content)
    with pytest.raises(DataError, match=f"^{re.escape(str(misnamed))} must be named after one of"):
        reader(tmp_path).labels  # noqa: B018


def test_misnamed_classes_get_the_nearest_name(tmp_path):
    write(tmp_path / "car" / "a.dat", dat_bytes(EVENTS))
    with pytest.raises(DataError, match=r"but got 'car'; did you mean 'cars'\?"):
        DatRecordings(tmp_path, classes=("background", "cars")).labels  # noqa: B018


def test_both_forms_of_a_set_would_count_it_twice(tmp_path):
    for suffix in ("aedat", "aedat4"):
        write(tmp_path / "cat" / f"a.{suffix}", aedat2_bytes(EVENTS))
    with pytest.raises(DataError, match=r"has files of \.aedat and \.aedat4; move one kind away"):
        AedatRecordings(tmp_path)


# Classes without a recording, in every data set alike


def place(root, name, classes):
    """Both parts of a data set with recordings of some classes only."""
    if name == "shd":
        times, units = [[0.001, 0.03]] * len(classes), [[1, 2]] * len(classes)
        for part in ("train", "test"):
            write(root / "SHD" / f"shd_{part}.h5", hdf5_bytes(times, units, classes))
        return
    _, path, content, _, _ = LAYOUTS[name]
    folders = {
        "nmnist": ("NMNIST/Train", "NMNIST/Test"),
        "dvs-gesture": ("DVSGesture/ibmGestureTrain", "DVSGesture/ibmGestureTest"),
        "n-cars": ("NCARS/n-cars_train", "NCARS/n-cars_test"),
        "dvs-cifar10": ("CIFAR10DVS",),
    }[name]
    for folder in folders:
        for label in classes:
            file = write(root / folder / path.format(label), content)
            if name == "dvs-cifar10":  # one part: a sample to train with, one to test
                write(file.with_name("b.aedat"), content)


@pytest.mark.parametrize(
    ("name", "classes", "count"),
    [
        ("nmnist", list(range(9)), "9 of 10 classes"),
        ("dvs-gesture", list(range(10)), "10 of 11 classes"),
        ("shd", list(range(19)), "19 of 20 classes"),
        ("n-cars", ["background"], "1 of 2 classes"),
        ("dvs-cifar10", ["cat", "truck"], "2 of 10 classes"),
    ],
)
def test_missing_classes_are_refused_unless_a_part_is_asked_for(tmp_path, name, classes, count):
    place(tmp_path, name, classes)
    common = {"root": tmp_path, "cache": tmp_path / "c", "seed": 0, "validation": 0.0}
    message = f"{name} must have recordings of each of its classes, but its part '(train|all)' has"
    with pytest.raises(DataError, match=rf"^{message} {count}, none of .*data.options.partial"):
        load_dataset(name, num_steps=20, **common)
    data = load_dataset(name, num_steps=20, options={"partial": True}, **common)
    assert count in data.source
    if name == "dvs-cifar10":  # numbers do not shift
        assert np.unique(data.train.targets).tolist() == [3, 9]
