"""The event data sets by name: stand-ins, the published layouts, downloads, options."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from event_files import bin_bytes, hdf5_bytes, npy_bytes, write
from local_server import Server
from places import ROOT

from bsnn_tha.data import load_dataset
from bsnn_tha.data.dataset import Dataset
from bsnn_tha.data.event_split import EventSplit
from bsnn_tha.data.events import SHD
from bsnn_tha.errors import DataError, InvalidValueError

Load = Callable[..., Dataset]
ALL = "100% of the events in the windows"


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """From ``tmp_path / "data"``, with a cache of the test's own."""

    def load(name: str, **options: Any) -> Dataset:
        common = {"root": tmp_path / "data", "seed": 0, "validation": 0.0, "num_steps": 10}
        for key in common.keys() & options.keys():
            common[key] = options.pop(key)
        return load_dataset(name, cache=tmp_path / "cache", options=options, **common)

    return load


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def whole(part: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """All frames and targets of a split."""
    assert isinstance(part, EventSplit)
    batch, targets = part[list(range(len(part)))]
    return batch.dense(), targets


def lengths(data: Dataset) -> list[int | None]:
    return [None if p is None else len(p) for p in (data.train, data.validation, data.test)]


# ---------------------------------------------------------------------- stand-ins


@pytest.fixture(scope="module")
def stored(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Stand-ins from the real files, binned once for all tests of this module."""
    cache = tmp_path_factory.mktemp("cache")

    def load(name: str, num_steps: int, validation: float = 0.1, **options: Any) -> Dataset:
        title = {"spoken-digits": "SpokenDigits", "saccade-digits": "SaccadeDigits"}[name]
        if not (shared_data / title).is_dir():
            pytest.skip(f"no {title} in {shared_data}")
        return load_dataset(
            name,
            root=shared_data,
            cache=cache,
            seed=0,
            validation=validation,
            num_steps=num_steps,
            options=options,
        )

    return load


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("name", "steps", "shape", "classes", "sizes", "source"),
    [
        (
            "spoken-digits", 333, (700,), 20, [1800, 200, 500],
            "SpokenDigits, 1,800 training, 200 validation (stratified, seed 0), "
            "500 test recordings, bins of 3 ms, 99.9% of the events in the windows",
        ),
        (
            "saccade-digits", 300, (2, 34, 34), 10, [900, 100, 300],
            "SaccadeDigits, 900 training, 100 validation (stratified, seed 0), "
            "300 test recordings, bins of 1 ms, 100% of the events in the windows",
        ),
    ],
)  # fmt: skip
def test_stand_ins(
    stored: Load, name: str, steps: int, shape: Any, classes: int, sizes: list[int], source: str
) -> None:
    data = stored(name, steps)
    assert (data.name, data.input_shape, data.num_classes, data.static) == (
        name, shape, classes, False,
    )  # fmt: skip
    assert lengths(data) == sizes and data.source == source
    assert data.validation is not None and data.test is not None
    held = torch.bincount(data.validation.targets, minlength=classes)
    both = held + torch.bincount(data.train.targets, minlength=classes)
    assert held.tolist() == [round(0.1 * count) for count in both.tolist()]
    for part in (data.train, data.validation, data.test):
        batch, targets = part[[0, len(part) - 1]]
        frames = batch.dense()  # type: ignore[union-attr]
        assert frames.shape == (steps, 2, *shape) and frames.sum() > 0
        assert targets.tolist() == part.targets[[0, -1]].tolist()


def test_spoken_digits_fill_the_window_as_their_times_say(stored: Load, shared_data: Path) -> None:
    data = stored("spoken-digits", 333, 0.0)
    with h5py.File(shared_data / "SpokenDigits" / "shd_test.h5") as file:
        for index in (0, 100, 499):
            times = file["spikes/times"][index].astype(np.float64)
            bins = [round(time * 1e6) // 3000 for time in times]
            expected = [bins.count(step) for step in range(333)]
            assert data.test is not None
            frames = data.test[[index]][0].dense()[:, 0]  # type: ignore[union-attr]
            assert frames.sum(1).tolist() == expected
            # Published preprocessing fills only the first third of the window.
            assert sum(expected[111:]) > 0.1 * sum(expected)


def test_spoken_digits_are_told_apart_by_speakers(stored: Load, shared_data: Path) -> None:
    groups = stored("spoken-digits", 10).test_groups
    assert list(groups) == ["seen speakers", "unseen speakers"]
    seen, unseen = groups.values()
    assert (int(seen.sum()), int(unseen.sum())) == (260, 240)
    assert torch.equal(seen, ~unseen)
    with h5py.File(shared_data / "SpokenDigits" / "shd_test.h5") as file:
        speakers = file["extra/speaker"][:]
    assert set(speakers[unseen.numpy()]) == {16, 17, 18, 19}
    assert stored("saccade-digits", 10).test_groups == {}


def test_validation_does_not_change_what_is_binned(stored: Load) -> None:
    a, b = stored("saccade-digits", 20), stored("saccade-digits", 20, 0.0)
    assert a.validation is not None
    samples = [*a.train.samples, *a.validation.samples]  # type: ignore[attr-defined]
    assert sorted(samples) == list(range(1000)) and len(b.train) == 1000
    assert a.train.store.folder == b.train.store.folder  # type: ignore[attr-defined]
    assert a.train.targets.tolist() == b.train.targets[a.train.samples].tolist()  # type: ignore[attr-defined]


# ------------------------------------------------------------- published layouts


def write_gestures(root: Path, per_part: int = 11) -> dict[str, np.ndarray]:
    """DVS Gesture with clocks that start late; x, y, polarity, ms by class."""
    rng = np.random.default_rng(0)
    written = {}
    for part, users in (("ibmGestureTrain", (1, 2)), ("ibmGestureTest", (24,))):
        for user in users:
            for label in range(per_part):
                columns = [rng.integers(0, n, 500) for n in (128, 128, 2, 2000)]
                columns[3] = np.sort(columns[3]) + 10_000
                name = f"{part}/user{user:02d}_led/{label}.npy"
                written[name] = np.stack(columns, axis=1)
                write(root / "DVSGesture" / name, npy_bytes(written[name]))
    return written


@pytest.mark.usefixtures("offline")
def test_dvs_gesture_files_placed_by_hand(tmp_path: Path, load: Load) -> None:
    written = write_gestures(tmp_path / "data")
    data = load("dvs-gesture", num_steps=100, test_steps=360, validation=0.5)
    assert (data.input_shape, data.num_classes, data.static) == ((2, 32, 32), 11, False)
    assert lengths(data) == [11, 11, 11]
    assert data.source.startswith("DVSGesture, 11 training, 11 validation (stratified, seed 0), 11")
    assert data.source.endswith("bins of 5 ms, 46.6% of the events in the windows")
    assert data.test_groups == {}
    train, _ = whole(data.train)
    test, labels = whole(data.test)
    assert train.shape == (100, 11, 2, 32, 32) and test.shape == (360, 11, 2, 32, 32)
    for b, label in enumerate(labels.tolist()):
        expected = np.zeros((360, 2, 32, 32), np.float32)
        events = written[f"ibmGestureTest/user24_led/{label}.npy"]
        first = events[0, 3]
        for x, y, polarity, ms in events:
            if (step := (ms - first) // 5) < 360:
                expected[step, polarity, y // 4, x // 4] += 1
        assert np.array_equal(test[:, b], expected)


def write_shd(root: Path, labels: int = 20, **speakers: list[int]) -> dict[str, Path]:
    """Five spikes a sample; unit 10 * label + spike, at (spike + 0.5) * 3 ms."""
    content = {}
    for part in ("train", "test"):
        units = [[10 * label + spike for spike in range(5)] for label in range(labels)]
        times = [[(spike + 0.5) * 0.003 for spike in range(5)]] * labels
        data = hdf5_bytes(times, units, list(range(labels)), speakers.get(part))
        content[part] = write(root / "SHD" / f"shd_{part}.h5", data)
    return content


@pytest.mark.usefixtures("offline")
def test_shd_files_placed_by_hand(tmp_path: Path, load: Load) -> None:
    write_shd(tmp_path / "data", train=[1, 2] * 10, test=[2, 3, 3, 3] * 5)
    data = load("shd")
    assert (data.input_shape, data.num_classes, lengths(data)) == ((700,), 20, [20, None, 20])
    assert data.source == "SHD, 20 training, 20 test recordings, bins of 3 ms, " + ALL
    frames, targets = whole(data.test)
    expected = torch.zeros(10, 20, 700)
    for label in range(20):
        for spike in range(5):
            expected[spike, label, 10 * label + spike] = 1
    assert torch.equal(frames, expected) and targets.tolist() == list(range(20))
    assert {k: v.tolist() for k, v in data.test_groups.items()} == {
        "seen speakers": [True, False, False, False] * 5,
        "unseen speakers": [False, True, True, True] * 5,
    }


@pytest.mark.parametrize(
    ("train", "test"),
    [([1] * 20, [1] * 20), ([1] * 20, [2] * 20), (None, [1] * 20), ([1] * 20, None)],
    ids=["all seen", "none seen", "train unknown", "test unknown"],
)
def test_speakers_who_are_all_alike_make_no_groups(
    tmp_path: Path, load: Load, train: Any, test: Any
) -> None:
    write_shd(tmp_path / "data", train=train, test=test)
    assert load("shd").test_groups == {}


def write_nmnist(root: Path) -> Path:
    """Each class has a train and a test sample: an event at (label, polarity) a ms."""
    for part in ("Train", "Test"):
        for label in range(10):
            events = [(label, t % 34, t % 2, t * 1000) for t in range(20)]
            write(root / "NMNIST" / part / str(label) / "00001.bin", bin_bytes(events))
    return root


@pytest.mark.usefixtures("offline")
def test_nmnist_files_placed_by_hand(tmp_path: Path, load: Load) -> None:
    write_nmnist(tmp_path / "data")
    data = load("nmnist", num_steps=20)
    assert (data.input_shape, data.num_classes, lengths(data)) == ((2, 34, 34), 10, [10, None, 10])
    frames, targets = whole(data.train)
    assert targets.tolist() == list(range(10)) and frames.sum() == 200
    for label in range(10):
        for t in range(20):
            assert frames[t, label, t % 2, t % 34, label] == 1


def test_files_placed_by_hand_stay_as_they_are(tmp_path: Path, load: Load) -> None:
    write_nmnist(tmp_path / "data")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    load("nmnist")
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "data").rglob("*")} == before


# ------------------------------------------------------------------------ options


def test_windows_steps_and_counting_share_a_cache(tmp_path: Path, load: Load) -> None:
    write_nmnist(tmp_path / "data")
    base = load("nmnist", num_steps=20)
    stamp = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.bin")}
    for options in (
        {"num_steps": 7},
        {"start_ms": 3.0},
        {"counted": False},
        {"random_start": True},
        {"test_steps": 5},
        {"validation": 0.5, "seed": 3},
        {"bin_ms": 1.0, "downsample": 1, "origin": "zero", "invalid": "refuse"},
    ):
        other = load("nmnist", **options)
        assert other.train.store.folder == base.train.store.folder  # type: ignore[attr-defined]
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.bin")} == stamp


def test_options_reach_the_parts_they_are_for(tmp_path: Path, load: Load) -> None:
    write_gestures(tmp_path / "data")
    data = load(
        "dvs-gesture", validation=0.5, num_steps=40, test_steps=50, start_ms=15, random_start=True,
        counted=False, bin_ms=2.5, downsample=16,
    )  # fmt: skip
    parts: list[Any] = [data.train, data.validation, data.test]
    assert [p.num_steps for p in parts] == [40, 40, 50]
    assert [p.random_start for p in parts] == [True, False, False]
    assert [p.start for p in parts] == [6, 6, 6]
    assert [p.counted for p in parts] == [False] * 3
    assert data.input_shape == (2, 8, 8) and ", bins of 2.5 ms, " in data.source


def test_start_ms_skips_whole_bins(tmp_path: Path, load: Load) -> None:
    write_nmnist(tmp_path / "data")
    early, late = whole(load("nmnist", num_steps=20).test), whole(load("nmnist", start_ms=4).test)
    assert torch.equal(early[0][4:14], late[0])


def test_invalid_events_are_refused_or_dropped_and_counted(tmp_path: Path, load: Load) -> None:
    write_nmnist(tmp_path / "data")
    bad = tmp_path / "data" / "NMNIST" / "Test" / "3" / "00001.bin"
    write(bad, bin_bytes([(34, 0, 0, 0), (1, 1, 1, 500)]))
    with pytest.raises(DataError, match=r"x from 0 to 33, but event 0 has 34.*'drop'") as error:
        load("nmnist")
    assert str(bad) in one_line(error)
    data = load("nmnist", invalid="drop")
    assert data.source.endswith(", 1 invalid events left out")
    frames, _ = whole(data.test)
    assert frames[:, 3].sum() == frames[0, 3, 1, 1, 1] == 1


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"bin_ms": 0.0}, r"data\.options\.bin_ms must be greater than 0, but got 0"),
        ({"bin_ms": -1}, r"data\.options\.bin_ms must be greater than 0"),
        ({"bin_ms": float("nan")}, r"data\.options\.bin_ms must be .*, but got nan"),
        ({"bin_ms": float("inf")}, r"data\.options\.bin_ms must be a finite number"),
        ({"bin_ms": "3"}, r"data\.options\.bin_ms must be a valid number, but got '3'"),
        ({"bin_ms": True}, r"data\.options\.bin_ms must be a valid number"),
        ({"bin_ms": 0.0001}, r"bin_ms must be a whole number of µs, but got 0\.0001 ms"),
        ({"bin_ms": 1.0005}, r"bin_ms must be a whole number of µs, but got 1\.0005 ms"),
        ({"downsample": 0}, r"data\.options\.downsample must be greater than or equal to 1"),
        ({"downsample": 2.0}, r"data\.options\.downsample must be a valid integer"),
        ({"downsample": True}, r"data\.options\.downsample must be a valid integer"),
        ({"counted": 1}, r"data\.options\.counted must be a valid boolean"),
        ({"origin": "last"}, r"data\.options\.origin must be 'zero' or 'first', but got 'last'"),
        ({"start_ms": -1.0}, r"data\.options\.start_ms must be greater than or equal to 0"),
        ({"start_ms": 0.5}, r"start_ms must be a multiple of the bin width, 1 ms, but got 0\.5 ms"),
        ({"start_ms": 4.0, "bin_ms": 3.0}, r"start_ms must be a multiple of the bin width, 3 ms"),
        ({"start_ms": float("inf")}, r"data\.options\.start_ms must be a finite number"),
        ({"random_start": "yes"}, r"data\.options\.random_start must be a valid boolean"),
        ({"test_steps": 0}, r"data\.options\.test_steps must be greater than or equal to 1"),
        ({"invalid": "ignore"}, r"data\.options\.invalid must be 'refuse' or 'drop'"),
        ({"bin_width": 3}, r"data.options of nmnist has no key 'bin_width'"),
        ({"downsampel": 3}, r"no key 'downsampel'; did you mean 'downsample'\?"),
        ({"cache": "x"}, r"data.options of nmnist has no key 'cache'"),
        ({"validation": 1.0}, r"validation must be in \[0, 1\), but got validation=1"),
        ({"validation": float("nan")}, r"validation must be in \[0, 1\), but got validation=nan"),
        ({"bin_ms": 1e306}, "bin_ms"),
        ({"bin_ms": 1e20}, "bin_ms"),
        ({"start_ms": 1e306}, "start_ms"),
        ({"start_ms": 1e30}, "start_ms"),
    ],
    ids=str,
)
def test_bad_options_are_refused_in_one_line(
    tmp_path: Path, load: Load, options: dict[str, Any], rule: str
) -> None:
    write_nmnist(tmp_path / "data")
    with pytest.raises(InvalidValueError, match=rule) as error:
        whole(load("nmnist", **options).train)
    one_line(error)


def test_unknown_names_list_or_suggest(load: Load) -> None:
    with pytest.raises(InvalidValueError, match="did you mean 'dvs-gesture'"):
        load("dvs_gesture")


# ---------------------------------------------------------------------- downloads


@pytest.mark.parametrize("name", ["spoken-digits", "saccade-digits"])
@pytest.mark.usefixtures("offline")
def test_stand_ins_cannot_be_downloaded(tmp_path: Path, load: Load, name: str) -> None:
    with pytest.raises(DataError, match=r"cannot be downloaded.*--data-root or BSNN_THA") as error:
        load(name)
    title, part = {
        "spoken-digits": ("SpokenDigits", "shd_train.h5"),
        "saccade-digits": ("SaccadeDigits", "Train"),
    }[name]
    assert str(tmp_path / "data" / title / part) in one_line(error)
    assert not (tmp_path / "data").exists()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Remote:
    """The three published sets, small, at the addresses of ``tonic``, which are made ours."""

    def __init__(self, server: Server, source: Path, patch: pytest.MonkeyPatch) -> None:
        self.server, self.patch = server, patch
        datasets = pytest.importorskip("tonic.datasets")
        write_shd(source, train=[1] * 20, test=[1] * 20)
        write_gestures(source)
        write_nmnist(source)
        patch.setattr(datasets.SHD, "base_url", server.url("/shd/"))
        for part, title in (("train", "Train"), ("test", "Test")):
            name = f"shd_{part}.h5"
            shd = (source / "SHD" / name).read_bytes()
            self.serve(datasets.SHD, part, f"/shd/{name}.zip", zipped({name: shd}))
            files = contents(source / "NMNIST")
            ours = {k: v for k, v in files.items() if k.startswith(title)}
            self.serve(datasets.NMNIST, part, f"/nmnist/{part}", zipped(ours))
            files = contents(source / "DVSGesture")
            ours = {k: v for k, v in files.items() if k.startswith(f"ibmGesture{title}")}
            self.serve(datasets.DVSGesture, part, f"/figshare/{part}", tarred(ours))

    def serve(self, dataset: Any, part: str, path: str, data: bytes) -> None:
        self.server.contents[path] = data
        self.patch.setattr(dataset, f"{part}_md5", hashlib.md5(data).hexdigest())
        if not hasattr(dataset, f"{part}_zip"):
            self.patch.setattr(dataset, f"{part}_url", self.server.url(path))


@pytest.fixture
def remote(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    return Remote(server, tmp_path / "source", monkeypatch)


SETS = {
    "shd": ("SHD", ["shd_test.h5", "shd_train.h5"], "shd_train.h5.zip", "/shd/shd_train.h5.zip"),
    "nmnist": ("NMNIST", ["Test", "Train"], "train.zip", "/nmnist/train"),
    "dvs-gesture": (
        "DVSGesture", ["ibmGestureTest", "ibmGestureTrain"], "ibmGestureTrain.tar.gz",
        "/figshare/train",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_a_missing_set_is_downloaded_unpacked_and_then_used(
    remote: Remote, tmp_path: Path, load: Load, name: str
) -> None:
    title, parts, archive, _ = SETS[name]
    data = load(name)
    folder = tmp_path / "data" / title
    for part in parts:
        place, source = folder / part, tmp_path / "source" / title / part
        if source.is_dir():
            assert contents(place) == contents(source)
        else:
            assert place.read_bytes() == source.read_bytes()
    assert len(remote.server.requests) == 2
    names = [path.name for path in folder.iterdir()]
    assert archive in names and not [n for n in names if n.startswith(".")]
    again = load(name)
    assert len(remote.server.requests) == 2 and again.source == data.source
    by_hand = load(name, root=tmp_path / "source")
    for part in ("train", "test"):
        ours, theirs = whole(getattr(data, part)), whole(getattr(by_hand, part))
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", SETS)
def test_archives_placed_by_hand_are_unpacked(
    tmp_path: Path, load: Load, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoServer:
        contents: dict[str, bytes]

        def url(self, path: str) -> str:
            return f"http://127.0.0.1:9{path}"

    server: Any = NoServer()
    server.contents = {}
    Remote(server, tmp_path / "source", monkeypatch)
    title, _, archive, path = SETS[name]
    for part in ("train", "test"):
        other = archive.replace("train", part).replace("Train", part.capitalize())
        content = server.contents[path.replace("train", part)]
        write(tmp_path / "data" / title / other, content)
    assert len(load(name).train) > 0


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("failure", ["empty", "wrong", "gone"])
def test_a_failed_download_names_the_address_and_both_places(
    remote: Remote, tmp_path: Path, load: Load, name: str, failure: str
) -> None:
    title, parts, archive, path = SETS[name]
    if failure == "gone":
        del remote.server.contents[path]
    else:
        remote.server.contents[path] = b"" if failure == "empty" else b"rubbish"
    reason = {"empty": "empty file", "wrong": r"expected md5:\w{32} but got", "gone": "404"}
    with pytest.raises(DataError, match=reason[failure]) as error:
        load(name)
    message = one_line(error)
    folder = tmp_path / "data" / title
    assert remote.server.url(path) in message
    assert f"place the file by hand at {folder / archive}" in message
    assert f"or place its content at {folder / parts[1]}" in message
    assert not folder.exists()


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("damage", ["cut", "rubbish", "empty", "other member"])
def test_a_damaged_archive_is_named(
    remote: Remote, tmp_path: Path, load: Load, name: str, damage: str
) -> None:
    title, parts, archive, path = SETS[name]
    data = remote.server.contents[path]
    pack = tarred if archive.endswith("gz") else zipped
    bad = {
        "cut": data[: len(data) * 2 // 3],
        "rubbish": b"rubbish",
        "empty": b"",
        "other member": pack({"other": b"x"}),
    }[damage]
    placed = write(tmp_path / "data" / title / archive, bad)
    with pytest.raises(DataError, match=f"must be an archive that holds {parts[1]}") as error:
        load(name)
    assert one_line(error).startswith(str(placed))
    assert f"place {parts[1]} at {placed.parent / parts[1]}" in str(error.value)
    assert [p.name for p in placed.parent.iterdir()] == [archive]
    placed.unlink()  # as the message says
    assert len(load(name).train) > 0


@pytest.mark.parametrize("filters", [True, False], ids=["", "before Python 3.11.4"])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_archive_cannot_write_outside_its_folder(
    remote: Remote,
    tmp_path: Path,
    load: Load,
    pack: Callable[[dict[str, bytes]], bytes],
    filters: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not filters:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    name = "shd" if pack is zipped else "dvs-gesture"
    title, parts, archive, _ = SETS[name]
    member = parts[1] if pack is zipped else f"{parts[1]}/user01_led/0.npy"
    bad = pack({member: b"x", "../../outside": b"x", str(tmp_path / "absolute"): b"x"})
    write(tmp_path / "data" / title / archive, bad)
    with pytest.raises(DataError):
        load(name)
    assert not list(tmp_path.rglob("outside")) and not (tmp_path / "absolute").exists()


UNPACK = """
import sys
from pathlib import Path
import bsnn_tha.data.download as download
original = download.shutil.unpack_archive
def slow(*arguments, **options):
    original(*arguments, **options)
    print("unpacked", flush=True)
    sys.stdin.readline()
download.shutil.unpack_archive = slow
file = download.RemoteFile({archive!r}, "", ())
print(download.fetch_unpacked(file, Path({folder!r}), {member!r}))
"""


@pytest.mark.parametrize("name", ["shd", "nmnist"])
def test_processes_that_unpack_at_the_same_time_both_succeed(
    remote: Remote, tmp_path: Path, name: str
) -> None:
    title, parts, archive, path = SETS[name]
    folder = tmp_path / "data" / title
    write(folder / archive, remote.server.contents[path])
    program = UNPACK.format(archive=archive, folder=str(folder), member=parts[1])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "unpacked\n"
    answers = [process.communicate("\n", timeout=300) for process in processes]
    assert [out.strip() for out, _ in answers] == [str(folder / parts[1])] * 2
    assert sorted(p.name for p in folder.iterdir()) == sorted([archive, parts[1]])


def test_the_addresses_are_tonics_own() -> None:
    datasets = pytest.importorskip("tonic.datasets")
    from bsnn_tha.data.event_set import _remote_file
    from bsnn_tha.data.events import DVS_GESTURE, NMNIST

    for part, which in ((0, "train"), (1, "test")):
        shd = _remote_file(SHD.tonic or "", part)
        assert shd.urls == (f"https://zenkelab.org/datasets/shd_{which}.h5.zip",)
        assert (shd.name, shd.md5) == (f"shd_{which}.h5.zip", getattr(datasets.SHD, f"{which}_md5"))
        for ours, theirs in ((NMNIST, datasets.NMNIST), (DVS_GESTURE, datasets.DVSGesture)):
            file = _remote_file(ours.tonic or "", part)
            assert file.name == getattr(theirs, f"{which}_filename")
            assert file.urls == (getattr(theirs, f"{which}_url"),)
            assert file.md5 == getattr(theirs, f"{which}_md5")
