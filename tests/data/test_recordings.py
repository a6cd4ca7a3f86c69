"""Readers of event files: each layout, every kind of damage, and random bytes."""

from __future__ import annotations

import contextlib
import io
import itertools
import pickle
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from event_files import bin_bytes, hdf5_bytes, left_in, npy_bytes, write
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bsnn_tha.data.binning import bin_recording
from bsnn_tha.data.event_cache import Binning, cached_events
from bsnn_tha.data.folders import BinRecordings, NpyRecordings
from bsnn_tha.data.recordings import HDF5Recordings, Recordings, TonicRecordings
from bsnn_tha.errors import DataError


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def rule_only(value: Any) -> str:
    """Test names without the files' bytes."""
    return value if isinstance(value, str) else "file"


def read_all(recordings: Recordings) -> None:
    """What building a cache reads, and what the report of speakers does."""
    assert recordings.labels is not None
    getattr(recordings, "speakers", None)
    assert recordings.fingerprint()
    for index in range(len(recordings)):
        bin_recording(
            recordings[index],
            recordings.sensor,
            recordings.microseconds,
            bin_us=5000,
            where=recordings.where(index),
        )


def build(recordings: Any, cache: Path, classes: int = 10, **options: Any) -> Any:
    return cached_events(recordings, "x", Binning(1000, **options), classes, cache)


# ------------------------------------------------------------------ SHD's layout


TIMES = [[0.001, 0.25, 1.2], [], [0.5]]
UNITS = [[0, 699, 5], [], [7]]
SHD_FILE = hdf5_bytes(TIMES, UNITS, labels=[3, 0, 19], speakers=[4, 5, 4])


def test_hdf5_hands_out_what_was_written(tmp_path: Path) -> None:
    path = write(tmp_path / "shd_train.h5", SHD_FILE)
    recordings = HDF5Recordings(path)
    assert len(recordings) == 3 and recordings.labels.tolist() == [3, 0, 19]
    assert recordings.speakers is not None and recordings.speakers.tolist() == [4, 5, 4]
    assert (recordings.sensor, recordings.microseconds) == ((700,), 1e6)
    for index in range(3):
        times, (units,) = recordings[index]
        assert times.tolist() == np.float16(TIMES[index]).tolist()
        assert units.tolist() == UNITS[index]
    assert recordings.where(2) == f"sample 2 of {path}"
    read_all(recordings)


def test_hdf5_speakers_may_be_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", hdf5_bytes(TIMES, UNITS, labels=[1, 2, 3]))
    assert HDF5Recordings(path).speakers is None


def test_hdf5_is_opened_once_and_only_when_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    original = h5py.File

    def counting(*arguments: Any) -> Any:
        opened.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(h5py, "File", counting)
    recordings = HDF5Recordings(write(tmp_path / "a.h5", SHD_FILE))
    recordings.fingerprint()
    assert opened == []
    read_all(recordings)
    assert len(opened) == 1


def hdf5(**contents: Any) -> bytes:
    """A file of these datasets; a name's ``__`` stands for a slash."""
    good = {"spikes__times": np.zeros((2, 3)), "spikes__units": np.zeros((2, 3)), "labels": [0, 1]}
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, value in {**good, **contents}.items():
            if isinstance(value, str):
                file.create_group(name.replace("__", "/"))
            elif value is not None:
                file[name.replace("__", "/")] = value
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "not a readable HDF5 file"),
        (b"rubbish", "not a readable HDF5 file"),
        (SHD_FILE[:100], "not a readable HDF5 file"),
        (SHD_FILE[: len(SHD_FILE) // 2], "not a readable HDF5 file.*truncated"),
        (SHD_FILE[:-1], "not a readable HDF5 file.*truncated"),
        (hdf5(labels=None), "not a readable HDF5 file with spikes/times.*labels"),
        (hdf5(spikes__times=None), "not a readable HDF5 file with spikes/times"),
        (hdf5(spikes__units=None), "not a readable HDF5 file with spikes/times"),
        (hdf5(labels=3), "not a readable HDF5 file"),
        (hdf5(labels="group"), "as many .*labels"),
        (hdf5(spikes__times="group"), "as many spikes/times"),
        (hdf5(labels=[1]), r"as many spikes/times, spikes/units, labels, but got \[2, 2, 1\]"),
        (hdf5(extra__speaker=[1]), r"as many .*, extra/speaker, but got \[2, 2, 2, 1\]"),
        (hdf5(extra__speaker=1), "not a readable HDF5 file"),
        (hdf5(spikes__times=[0.0, 0.1]), "as many times as coordinates"),
        (hdf5(spikes__times=["a", "b"]), "as many times as coordinates"),
        (hdf5(spikes__times=[[b"a"] * 3] * 2), "a time that is a number"),
        (hdf5(spikes__units=[[b"a"] * 3] * 2), "unit from 0 to 699"),
        (hdf5(spikes__units=np.zeros((2, 4))), "as many times as coordinates"),
        (hdf5(labels=[b"a", b"b"]), "labels of x must be whole numbers"),
        (hdf5(labels=["a", "b"]), "labels of x must be whole numbers"),
        (hdf5(labels=[0.0, float("nan")]), "labels of x must be whole numbers"),
        (hdf5(labels=[[0], [1]]), "labels of x must be whole numbers"),
        (hdf5(labels=[0, 10]), "labels must be from 0 to 9, but sample 1 of .* has 10"),
        (hdf5(labels=[-1, 0]), "labels must be from 0 to 9, but sample 0 of .* has -1"),
    ],
    ids=rule_only,
)
def test_hdf5_damage_is_named_and_leaves_no_cache(
    tmp_path: Path, content: bytes, rule: str
) -> None:
    path = write(tmp_path / "data" / "a.h5", content)
    with pytest.raises(DataError, match=rule) as error:
        build(HDF5Recordings(path), tmp_path / "cache")
    assert str(path) in one_line(error) or "labels of x" in one_line(error)
    assert left_in(tmp_path / "cache") == []


def test_hdf5_missing(tmp_path: Path) -> None:
    for path in (tmp_path / "a.h5", tmp_path):
        with pytest.raises(DataError, match="there is no file") as error:
            HDF5Recordings(path)
        assert str(path) in one_line(error)


SIGNATURES = [m.start() for m in re.finditer(b"HEAP|TREE|SNOD|GCOL|HDF", SHD_FILE)]


@pytest.mark.parametrize("place", SIGNATURES)
def test_hdf5_with_a_damaged_structure_is_refused(tmp_path: Path, place: int) -> None:
    content = SHD_FILE[:place] + b"XXX" + SHD_FILE[place + 3 :]
    with pytest.raises(DataError, match="not a readable HDF5 file"):
        read_all(HDF5Recordings(write(tmp_path / "a.h5", content)))


# -------------------------------------------------------------- N-MNIST's layout


BIN_EVENTS = [(0, 0, 0, 0), (33, 1, 1, 5), (2, 33, 0, 2**16 + 2**8 + 1), (7, 8, 1, 300_000)]


def bin_folder(root: Path, content: bytes, name: str = "7/00001.bin") -> Path:
    write(root / name, content)
    return root


def test_bin_hands_out_what_was_written(tmp_path: Path) -> None:
    bin_folder(tmp_path, bin_bytes(BIN_EVENTS))
    overflow = (0, 240, 0, 0)
    bin_folder(tmp_path, bin_bytes([overflow]), "0/00002.bin")
    write(tmp_path / "README.txt", b"no recording")
    recordings = BinRecordings(tmp_path)
    assert len(recordings) == 2 and recordings.labels.tolist() == [0, 7]
    assert (recordings.sensor, recordings.microseconds) == ((2, 34, 34), 1.0)
    assert len(recordings[0].times) == 0
    times, (polarity, y, x) = recordings[1]
    assert list(zip(x, y, polarity, times, strict=True)) == BIN_EVENTS
    assert recordings.where(1) == str(tmp_path / "7" / "00001.bin")
    read_all(recordings)


def test_bin_overflow_events_move_all_later_times_by_8192_microseconds(tmp_path: Path) -> None:
    overflow = (0, 240, 0, 0)
    events = [(1, 1, 1, 10), overflow, (2, 2, 0, 20), overflow, overflow, (3, 3, 1, 30)]
    recordings = BinRecordings(bin_folder(tmp_path, bin_bytes(events)))
    assert recordings[0].times.tolist() == [10, 8192 + 20, 3 * 8192 + 30]
    assert recordings[0].coordinates[2].tolist() == [1, 2, 3]


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_bin_cut_off_within_an_event_is_named(tmp_path: Path, cut: int) -> None:
    recordings = BinRecordings(bin_folder(tmp_path / "data", bin_bytes(BIN_EVENTS)[:-cut]))
    with pytest.raises(DataError, match=f"has {20 - cut} bytes: it is cut off") as error:
        build(recordings, tmp_path / "cache")
    assert str(tmp_path / "data" / "7" / "00001.bin") in one_line(error)
    assert left_in(tmp_path / "cache") == []


def test_bin_places_outside_the_sensor_are_named(tmp_path: Path) -> None:
    recordings = BinRecordings(bin_folder(tmp_path / "data", bin_bytes([(34, 0, 0, 0)])))
    with pytest.raises(DataError, match=r"00001.bin must have x from 0 to 33, but event 0 has 34"):
        build(recordings, tmp_path / "cache")
    assert build(recordings, tmp_path / "cache", invalid="drop").dropped == 1


def test_a_recording_that_cannot_be_read_is_not_taken_for_a_cache_that_cannot_be_written(
    tmp_path: Path,
) -> None:
    recordings = BinRecordings(bin_folder(tmp_path / "data", bin_bytes(BIN_EVENTS)))
    recordings.fingerprint = lambda: []  # type: ignore[method-assign]
    (tmp_path / "data" / "7" / "00001.bin").unlink()
    with pytest.raises(DataError, match=r"00001\.bin") as error:
        build(recordings, tmp_path / "cache")
    assert "write the cache" not in one_line(error)


@pytest.mark.parametrize("read", [BinRecordings, NpyRecordings])
def test_folders_without_recordings(tmp_path: Path, read: Callable[[Path], Recordings]) -> None:
    for folder in (tmp_path, tmp_path / "missing", write(tmp_path / "file", b"")):
        with pytest.raises(DataError, match="there are no files") as error:
            read(folder)
        assert str(folder) in one_line(error)


# ---------------------------------------------------------- DVS Gesture's layout


NPY_EVENTS = [[0, 127, 1, 0], [5, 6, 0, 17], [127, 0, 1, 6000]]


def npy_folder(root: Path, content: bytes, name: str = "user02_fluorescent/4.npy") -> Path:
    write(root / name, content)
    return root


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint16])
def test_npy_hands_out_what_was_written(tmp_path: Path, dtype: type) -> None:
    npy_folder(tmp_path, npy_bytes(NPY_EVENTS, dtype))
    npy_folder(tmp_path, npy_bytes([], dtype), "user10_led/0.npy")
    recordings = NpyRecordings(tmp_path)
    assert recordings.labels.tolist() == [4, 0]
    assert (recordings.sensor, recordings.microseconds) == ((2, 128, 128), 1e3)
    times, (polarity, y, x) = recordings[0]
    assert np.stack([x, y, polarity, times], axis=1).tolist() == NPY_EVENTS
    assert len(recordings[1].times) == 0
    read_all(recordings)


GOOD_NPY = npy_bytes(NPY_EVENTS)
TOO_LARGE = GOOD_NPY.replace(b"(3, 4), }" + b" " * 12, b"(3" + b"0" * 12 + b", 4), }")
assert len(TOO_LARGE) == len(GOOD_NPY) and TOO_LARGE != GOOD_NPY


def saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, value, **options)
    return buffer.getvalue()


class Explosive:
    """Unpickling it would be noticed."""

    def __reduce__(self) -> Any:
        return (pytest.fail, ("a pickle was loaded",))


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros((2, 4)))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"rubbish", "not a readable array file"),
        (GOOD_NPY[:50], "not a readable array file"),
        (GOOD_NPY[:-1], "not a readable array file"),
        (GOOD_NPY[:128], "not a readable array file"),
        (pickle.dumps(Explosive()), "not a readable array file"),
        (saved(np.array([Explosive()] * 4)[None], allow_pickle=True), "not a readable array file"),
        (b"PK\x03\x04garbage", "not a readable array file"),  # zipfile.BadZipFile
        (GOOD_NPY.replace(b"(3, 4)", b"(3**40,4)"), "not a readable array file"),
        (GOOD_NPY.replace(b"(3, 4), }", b"(99999, 4), }"), "not a readable array"),
        (TOO_LARGE, "not a readable array file"),  # MemoryError
        (npz(), r"\[events, 4\], but got no array"),
        (saved(np.zeros(4)), r"\[events, 4\], but got \(4,\)"),
        (saved(np.zeros(())), r"\[events, 4\], but got \(\)"),
        (saved(np.zeros((3, 5))), r"\[events, 4\], but got \(3, 5\)"),
        (saved(np.zeros((4, 3, 4))), r"\[events, 4\], but got \(4, 3, 4\)"),
        (saved(np.full((2, 4), "a")), "a time that is a number"),
        (saved(np.zeros((2, 4), [("x", int), ("t", int)])), "must have one field p"),
        (npy_bytes([[0, 0, 2, 0]]), "polarity from 0 to 1, but event 0 has 2"),
        (npy_bytes([[128, 0, 0, 0]]), "x from 0 to 127, but event 0 has 128"),
        (npy_bytes([[0, 128, 0, 0]]), "y from 0 to 127, but event 0 has 128"),
        (npy_bytes([[0, 0, 0, float("nan")]]), "a time that is a number"),
        (npy_bytes([[0, 0, 0, 1e300]]), "its clock is broken"),
    ],
    ids=rule_only,
)
def test_npy_damage_is_named(tmp_path: Path, content: bytes, rule: str) -> None:
    recordings = NpyRecordings(npy_folder(tmp_path, content))
    with pytest.raises(DataError, match=rule) as error:
        read_all(recordings)
    assert str(tmp_path / "user02_fluorescent" / "4.npy") in one_line(error)


@pytest.mark.parametrize("name", ["a", "-1", "1.0", "²", "0_", "11"])
@pytest.mark.parametrize(
    ("read", "path", "content"),
    [
        (BinRecordings, "{}/1.bin", bin_bytes(BIN_EVENTS)),
        (NpyRecordings, "user01_lab/{}.npy", GOOD_NPY),
    ],
    ids=["bin", "npy"],
)
def test_recordings_are_named_after_a_class_of_the_set(
    tmp_path: Path, read: Callable[[Path], Recordings], path: str, content: bytes, name: str
) -> None:
    write(tmp_path / "data" / path.format(name), content)
    rule = rf"{path.format(name)} must be named after one of the \d+ classes, but got '{name}'"
    with pytest.raises(DataError, match=rule) as error:
        build(read(tmp_path / "data"), tmp_path / "cache")
    one_line(error)


# ------------------------------------------------------------ data sets of tonic


CAMERA = np.dtype([("x", "i2"), ("y", "i2"), ("t", "i8"), ("p", "?")])


class LikeTonic:
    """Its interface: a sensor of width, height and polarities, events and a class."""

    def __init__(self, size: Any, samples: list[Any], **attributes: Any) -> None:
        self.sensor_size, self.samples = size, samples
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]


def test_a_tonic_camera_keeps_its_axes_apart() -> None:
    events = np.array([(5, 2, 1500, True), (0, 1, 10, False)], CAMERA)
    recordings = TonicRecordings(LikeTonic((6, 3, 2), [(events, 4)]), "fake")
    assert recordings.sensor == (2, 3, 6)
    binned = bin_recording(recordings[0], recordings.sensor, recordings.microseconds, bin_us=1000)
    assert binned.ends.tolist() == [1, 2]
    assert binned.units.tolist() == [0 * 18 + 1 * 6 + 0, 1 * 18 + 2 * 6 + 5]
    assert recordings.where(0) == "sample 0 of fake" and recordings.fingerprint() == ["fake", 1]


@pytest.mark.parametrize(
    "names", [("x", "y", "t", "p"), ("X", "Y", "timestamp", "polarity"), ("x", "y", "ts", "pol")]
)
@pytest.mark.parametrize("records", [True, False], ids=["records", "columns"])
def test_fields_of_events_in_the_spellings_people_have(names: Any, records: bool) -> None:
    columns = dict(zip(names, ([5, 0], [2, 1], [1500, 10], [1, -1]), strict=True))
    events: Any = columns
    if records:
        events = np.zeros(2, [(name, "i4") for name in names])
        for name, values in columns.items():
            events[name] = values
    recordings = TonicRecordings(LikeTonic((6, 3, 2), [(events, 4)]), "fake", microseconds=1000)
    binned = bin_recording(recordings[0], recordings.sensor, recordings.microseconds, bin_us=10**6)
    assert binned.ends.tolist() == [1, 2]
    assert binned.units.tolist() == [0 * 18 + 1 * 6 + 0, 1 * 18 + 2 * 6 + 5]


@pytest.mark.parametrize("names", [("x", "y", "t"), ("x", "y", "t", "p", "pol")])
def test_fields_that_are_missing_or_there_twice_are_named(names: Any) -> None:
    events = np.zeros(2, [(name, "i4") for name in names])
    recordings = TonicRecordings(LikeTonic((6, 3, 2), [(events, 4)]), "fake")
    rule = f"events of sample 0 of fake must have one field p .* have {', '.join(names)};"
    with pytest.raises(DataError, match=rule) as error:
        recordings[0]
    one_line(error)


def test_npy_files_of_records(tmp_path: Path) -> None:
    events = np.array([(5, 6, 1, 17)], [("x", "u2"), ("y", "u2"), ("p", "?"), ("t", "f8")])
    times, (polarity, y, x) = NpyRecordings(npy_folder(tmp_path, saved(events)))[0]
    assert [times[0], polarity[0], y[0], x[0]] == [17, True, 6, 5]


@pytest.mark.parametrize("kind", ["link", "virtual", "external"])
def test_hdf5_does_not_read_other_files(tmp_path: Path, kind: str) -> None:
    secret = write(tmp_path / "secret.h5", hdf5(labels=[3, 4]))
    path = write(tmp_path / "a.h5", hdf5(labels=None))
    with h5py.File(path, "a") as file:
        if kind == "link":
            file["labels"] = h5py.ExternalLink(str(secret), "labels")
        elif kind == "virtual":
            layout = h5py.VirtualLayout((2,), "i8")
            layout[:] = h5py.VirtualSource(str(secret), "labels", (2,))
            file.create_virtual_dataset("labels", layout)
        else:
            file.create_dataset("labels", (2,), "i8", external=[(str(secret), 0, 16)])
    with pytest.raises(DataError, match="labels is in another file"):
        read_all(HDF5Recordings(path))


def test_a_tonic_sensor_of_one_row_has_one_axis() -> None:
    events = np.array([(7, 3)], [("t", int), ("x", int)])
    recordings = TonicRecordings(LikeTonic((64, 1, 1), [(events, 4)]), "fake")
    assert recordings.sensor == (64,)
    assert [c.tolist() for c in recordings[0].coordinates] == [[3]]


@pytest.mark.parametrize("attributes", [{}, {"targets": []}, {"targets": [9, 1]}])
def test_tonic_labels_come_from_targets_or_from_the_samples(attributes: Any) -> None:
    none = np.zeros(0, CAMERA)
    dataset = LikeTonic((6, 3, 2), [(none, 9), (none, np.int64(1))], **attributes)
    assert TonicRecordings(dataset, "fake").labels.tolist() == [9, 1]


def test_tonic_data_sets_without_one_sensor_size_are_refused() -> None:
    with pytest.raises(DataError, match="sensor_size") as error:
        TonicRecordings(LikeTonic(None, []), "ncaltech101")
    assert "ncaltech101" in one_line(error)


def test_tonics_own_classes_give_the_frames_of_the_readers(tmp_path: Path) -> None:
    datasets = pytest.importorskip("tonic.datasets")

    class DVSGesture(datasets.DVSGesture):
        def _check_exists(self) -> bool:
            return True

    folder = tmp_path / "DVSGesture" / "ibmGestureTrain"
    rng = np.random.default_rng(0)
    for label in range(3):
        events = np.stack([rng.integers(0, n, 200) for n in (128, 128, 2, 500)], axis=1)
        npy_folder(folder, npy_bytes(events), f"user0{label}_led/{label}.npy")
    # Middles of bins of 7 ms: tonic cuts fractions of a µs off, which may cross an edge.
    times, units = np.sort(rng.integers(0, 128, 50) * 7 + 3) / 1000, rng.integers(0, 700, 50)
    write(tmp_path / "SHD" / "shd_train.h5", hdf5_bytes([times], [units], [2], [1]))
    write(tmp_path / "SHD" / "shd_train.h5.zip", b"tonic only looks for its name")
    for dataset, ours in (
        (DVSGesture(str(tmp_path)), NpyRecordings(folder)),
        (datasets.SHD(str(tmp_path)), HDF5Recordings(tmp_path / "SHD" / "shd_train.h5")),
    ):
        theirs = TonicRecordings(dataset, "x")
        assert theirs.sensor == ours.sensor and len(theirs) == len(ours)
        assert sorted(theirs.labels.tolist()) == sorted(ours.labels.tolist())
        for index, label in enumerate(theirs.labels):
            same = ours.labels.tolist().index(label)
            # 7 ms: tonic cuts fractions of a µs off, which must not cross an edge here.
            a, b = (
                bin_recording(r[i], r.sensor, r.microseconds, bin_us=7000)
                for r, i in ((theirs, index), (ours, same))
            )
            assert a.ends.tolist() == b.ends.tolist() and a.units.tolist() == b.units.tolist()


# ---------------------------------------------------------------- random damage


def mutations(whole: bytes, places: list[int] | None = None) -> st.SearchStrategy[bytes]:
    """A valid file with some bytes changed, then cut or made longer."""
    place = st.sampled_from(places) if places else st.integers(0, len(whole) - 1)
    edits = st.lists(st.tuples(place, st.integers(0, 255)), max_size=4)

    def mutate(edits: list[tuple[int, int]], length: int, tail: bytes) -> bytes:
        content = bytearray(whole)
        for position, value in edits:
            content[position] = value
        return bytes(content[:length]) + tail

    lengths = st.integers(0, len(whole)) | st.just(len(whole))
    return st.builds(mutate, edits, lengths, st.binary(max_size=6))


NUMBERS = itertools.count()
FUZZ = settings(max_examples=300, deadline=timedelta(seconds=10))


@pytest.fixture(scope="module")
def fuzz_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def reads_or_data_error(read: Callable[[], Recordings]) -> None:
    try:
        read_all(read())
    except DataError as error:
        assert "\n" not in str(error)


# Bytes of values, not of HDF5's structure: some damage to that makes the HDF5
# library itself loop for ever or crash, for any program that opens the file.
VALUES = [
    place
    for pattern in (np.float16(TIMES[0]), np.uint16(UNITS[0]), np.uint16([3, 0, 19]))
    for place in range(SHD_FILE.index(pattern.tobytes()), SHD_FILE.index(pattern.tobytes()) + 6)
]


@FUZZ
@given(content=st.binary(max_size=200) | mutations(SHD_FILE, VALUES))
@example(content=SHD_FILE[:8] + bytes(200))
def test_hdf5_fuzz(fuzz_folder: Path, content: bytes) -> None:
    path = write(fuzz_folder / f"{next(NUMBERS)}.h5", content)
    reads_or_data_error(lambda: HDF5Recordings(path))
    path.unlink()


@FUZZ
@given(content=st.binary(max_size=60) | mutations(bin_bytes(BIN_EVENTS)))
@example(content=b"\xf0" * 500)
def test_bin_fuzz(fuzz_folder: Path, content: bytes) -> None:
    reads_or_data_error(lambda: BinRecordings(bin_folder(fuzz_folder / "bin", content)))


@FUZZ
@given(content=st.binary(max_size=60) | mutations(GOOD_NPY))
@example(content=b"PK\x03\x04garbage")
@example(content=b"PK\x05\x06" + bytes(18))
@example(content=TOO_LARGE)
@example(content=GOOD_NPY.replace(b"<f8", b"<M8"))
@example(content=GOOD_NPY.replace(b"<f8", b"<c8"))
@example(content=GOOD_NPY.replace(b"(3, 4)", b"((((("))
def test_npy_fuzz(fuzz_folder: Path, content: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        (fuzz_folder / "npy" / "user02_fluorescent" / "4.npy").unlink()
    reads_or_data_error(lambda: NpyRecordings(npy_folder(fuzz_folder / "npy", content)))
