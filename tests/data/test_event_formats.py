"""Event recordings in the forms in which their authors published them."""

from __future__ import annotations

import gzip
import io
import re
import struct
import tarfile

import pytest
from event_files import (
    aedat2_bytes,
    aedat3_bytes,
    aedat3_packet,
    hdf5_bytes,
    write,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bsnn_tha.data import load_dataset
from bsnn_tha.data.decoders import read_aedat, read_aedat3
from bsnn_tha.errors import DataError

pytestmark = pytest.mark.usefixtures("offline")
EVENTS = [(3, 90, 1, 1000), (127, 0, 0, 1500), (0, 127, 1, 2**20)]


def rows(raw):
    polarity, y, x = raw.coordinates
    return [tuple(map(int, row)) for row in zip(x, y, polarity, raw.times, strict=True)]


def load(root, name, **options):
    common = {"root": root, "cache": root / "cache", "seed": 0, "validation": 0.0, "num_steps": 10}
    return load_dataset(name, options=options, **common)


# CIFAR10-DVS, AEDAT 2.0


def test_aedat2(tmp_path):
    assert rows(read_aedat(write(tmp_path / "a.aedat", aedat2_bytes(EVENTS)))) == EVENTS
    # By hand: address 0x7FFF is the DVS128's corner (127, 127), OFF, and stands top left here.
    content = b"#!AER-DAT2.0\n" + bytes.fromhex("00007fff 00000102")
    assert rows(read_aedat(write(tmp_path / "b.aedat", content))) == [(0, 0, 0, 258)]


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (aedat2_bytes(EVENTS)[:-3], "must hold eight bytes for each event, but has 21 bytes"),
        (b"#!AER-DAT3.1\r\n", "must be of AEDAT version 2 or 4, but has version 3"),
    ],
)
def test_other_aedat_files_are_named(tmp_path, content, rule):
    path = write(tmp_path / "a.aedat", content)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))} {rule}"):
        read_aedat(path)


def test_dvs_cifar10_as_published(tmp_path):
    from bsnn_tha.data.class_names import CLASS_NAMES

    for name in CLASS_NAMES["dvs-cifar10"]:
        for number in range(2):
            events = [(number, 0, 1, 5_000_000), (0, 0, 1, 5_400_000)]
            path = tmp_path / "CIFAR10DVS" / name / f"cifar10_{name}_{number}.aedat"
            write(path, aedat2_bytes(events))
    data = load(tmp_path, "dvs-cifar10")
    assert len(data.train) == len(data.test) == 10
    assert data.train[[0]][0].dense().sum() == 2


# DVS128 Gesture, AEDAT 3.1


def test_aedat3_packets_overflows_and_events_of_other_kinds(tmp_path):
    invalid = bytearray(aedat3_packet(EVENTS[:1]))
    invalid[28] &= 0xFE
    packets = [
        aedat3_packet(EVENTS[:2]),
        aedat3_packet([(0, 0, 0, 7)], kind=0),  # special events
        bytes(invalid),
        aedat3_packet(EVENTS[2:], overflow=1),
    ]
    x, y, p, t = EVENTS[2]
    found = rows(read_aedat3(write(tmp_path / "a.aedat", aedat3_bytes(*packets))))
    assert found == [*EVENTS[:2], (x, y, p, t + 2**31)]
    assert rows(read_aedat3(write(tmp_path / "b.aedat", aedat3_bytes()))) == []


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (aedat3_bytes(aedat3_packet(EVENTS))[:-1], "ends within one: it is cut off"),
        (aedat3_bytes(aedat3_packet(EVENTS)[:20]), "ends within one: it is cut off"),
        (
            aedat3_bytes(struct.pack("<HHiiiiii", 1, 0, -8, 4, 0, 1, 1, 1)),
            "ends within one: it is cut off",
        ),
        (aedat2_bytes(EVENTS), "must be of AEDAT version 3, but has no such header"),
        (b"", "must be of AEDAT version 3"),
    ],
)
def test_damaged_aedat3_files(tmp_path, content, rule):
    path = write(tmp_path / "a.aedat", content)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))} .*{rule}"):
        read_aedat3(path)


def gestures(root):
    """Two users; gesture k of user u is 60 events at x = k, each ms from u · k s on."""
    for part, user in (("train", 1), ("test", 2)):
        name = f"user{user:02d}_led"
        lines, events = ["class,startTime_usec,endTime_usec"], []
        for number in range(1, 12):
            start = user * number * 1_000_000
            lines.append(f"{number},{start},{start + 60_000}")
            events += [(number, user, 1, start + 1000 * step) for step in range(60)]
            events.append((99, 99, 0, start + 500_000))  # between two gestures
        write(root / f"{name}.aedat", aedat3_bytes(aedat3_packet(events)))
        write(root / f"{name}_labels.csv", "\n".join(lines).encode())
        write(root / f"trials_to_{part}.txt", f"{name}.aedat\n\n".encode())
    return root


@pytest.mark.parametrize("folder", ["DVSGesture/DvsGesture", "DVSGesture", "DvsGesture", "archive"])
def test_dvs_gesture_as_published(tmp_path, folder):
    root = gestures(tmp_path / folder)
    if folder == "archive":
        (tmp_path / "DVSGesture").mkdir()
        with tarfile.open(tmp_path / "DVSGesture" / "DvsGesture.tar.gz", "w:gz") as archive:
            archive.add(root, "DvsGesture")
    data = load(tmp_path, "dvs-gesture")
    assert (len(data.train), len(data.test)) == (11, 11)
    assert data.source.endswith("83.3% of the events in the windows")
    frames, labels = data.test[list(range(11))]
    assert labels.tolist() == list(range(11))
    dense = frames.dense()
    for sample in range(11):
        assert dense[:, sample].sum() == dense[:, sample, 1, 0, (sample + 1) // 4].sum() == 50
        assert (dense[:, sample].sum((1, 2, 3)) == 5).all()


def test_what_is_missing_beside_the_gestures_is_named(tmp_path):
    root = gestures(tmp_path / "DVSGesture")
    (root / "user02_led_labels.csv").write_text("class,start,end\n1,2\n")
    with pytest.raises(DataError, match=r"user02_led_labels\.csv must have lines of class, start"):
        load(tmp_path, "dvs-gesture")
    (root / "user02_led.aedat").unlink()
    with pytest.raises(DataError, match=r"trials_to_test\.txt names user02_led\.aedat, but there"):
        load(tmp_path, "dvs-gesture")
    (root / "trials_to_train.txt").unlink()
    with pytest.raises(DataError, match=r"holds DVS128 Gesture's rec.*, but no trials_to_train"):
        load(tmp_path, "dvs-gesture")


@pytest.mark.parametrize(
    ("read", "whole"),
    [(read_aedat, aedat2_bytes(EVENTS)), (read_aedat3, aedat3_bytes(aedat3_packet(EVENTS)))],
    ids=["aedat2", "aedat3"],
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_of_any_kind_is_read_or_named(tmp_path, read, whole, data):
    content = bytearray(whole)
    for place in data.draw(st.lists(st.integers(12, len(whole) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path = write(tmp_path / "a.aedat", bytes(content[: data.draw(st.integers(16, len(whole)))]))
    try:
        read(path)
    except DataError as error:
        assert str(path) in str(error) and "\n" not in str(error)


# SHD, gzip


def test_shd_packed_with_gzip(tmp_path):
    content = hdf5_bytes([[0.001, 0.02]] * 20, [[1, 2]] * 20, list(range(20)))
    for part in ("train", "test"):
        write(tmp_path / "SHD" / f"shd_{part}.h5.gz", gzip.compress(content))
    assert len(load(tmp_path, "shd").train) == 20
    names = sorted(path.name for path in (tmp_path / "SHD").iterdir())
    assert names == ["shd_test.h5", "shd_test.h5.gz", "shd_train.h5", "shd_train.h5.gz"]
    assert (tmp_path / "SHD" / "shd_train.h5").read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [b"rubbish", b"", gzip.compress(bytes(1000), mtime=0)[:-9]],
    ids=["rubbish", "empty", "cut"],
)
def test_a_damaged_gzip_file_leaves_nothing(tmp_path, content):
    packed = write(tmp_path / "SHD" / "shd_train.h5.gz", content)
    with pytest.raises(DataError, match=f"^{re.escape(str(packed))} must be an intact gzip"):
        load(tmp_path, "shd")
    assert [path.name for path in packed.parent.iterdir()] == [packed.name]


def test_an_archive_whose_member_is_a_link_is_refused(tmp_path):
    write(tmp_path / "secret" / "trials_to_train.txt", b"x")
    (tmp_path / "DVSGesture").mkdir()
    with tarfile.open(tmp_path / "DVSGesture" / "DvsGesture.tar.gz", "w:gz") as archive:
        inner = tarfile.TarInfo("other/trials_to_train.txt")
        archive.addfile(inner, io.BytesIO())
        link = tarfile.TarInfo("DvsGesture")
        link.type, link.linkname = tarfile.SYMTYPE, "other"
        archive.addfile(link)
    with pytest.raises(DataError, match="is a link"):
        load(tmp_path, "dvs-gesture")
    assert not any(p.is_symlink() for p in (tmp_path / "DVSGesture").iterdir())
