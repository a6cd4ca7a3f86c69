"""The cache of binned recordings: keys, damage, interruptions, other processes, memory."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_files import (
    MemoryRecordings,
    bin_bytes,
    frames_of,
    hdf5_bytes,
    left_in,
    random_recordings,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from places import HELPERS, ROOT

from bsnn_tha.data import event_cache
from bsnn_tha.data.binning import bin_recording
from bsnn_tha.data.event_cache import Binning, EventStore, cached_events
from bsnn_tha.data.folders import BinRecordings
from bsnn_tha.data.recordings import HDF5Recordings
from bsnn_tha.errors import DataError

BINNING = Binning(1000)
FILES = ["bins.bin", "ends.bin", "events.bin", "labels.bin", "units.bin"]


def build(recordings: Any, cache: Path, binning: Binning = BINNING, classes: int = 3) -> EventStore:
    return cached_events(recordings, "made-up", binning, classes, cache)


def content(store: EventStore) -> list[tuple[Any, ...]]:
    """Everything a store hands out."""
    windows = [store.window(i, 0, store.bins(i)) for i in range(len(store))]
    return [(w.per_bin.tolist(), w.units.tolist()) for w in windows] + [
        (store.labels.tolist(), store.shape, store.dropped)
    ]


def expected(recordings: MemoryRecordings, binning: Binning = BINNING) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for events in recordings.samples:
        binned = bin_recording(
            events, recordings.sensor, recordings.microseconds, bin_us=binning.bin_us
        )
        rows.append((np.diff(binned.ends, prepend=0).tolist(), binned.units.tolist()))
    return [*rows, (recordings.labels.tolist(), recordings.sensor, 0)]


# ----------------------------------------------------------------------- contents


def test_a_store_holds_what_was_binned(tmp_path: Path) -> None:
    recordings = random_recordings(samples=20)
    store = build(recordings, tmp_path / "new" / "cache")
    assert content(store) == expected(recordings)
    assert len(store) == 20 and store.labels.dtype == np.int64
    assert recordings.reads == list(range(20))
    size = sum((store.folder / name).stat().st_size for name in FILES)
    assert store.bytes_per_sample == size / 20


@pytest.mark.parametrize("samples", [[], [([], [])], [([], [])] * 3], ids=["none", "one", "three"])
def test_recordings_without_events_are_kept(tmp_path: Path, samples: list[Any]) -> None:
    samples = [(np.zeros(0, int), np.zeros(0, int)) for _ in samples]
    for _ in range(2):
        store = build(MemoryRecordings(samples), tmp_path)
        assert len(store) == len(samples)
        for index in range(len(samples)):
            assert store.bins(index) == 0
            window = store.window(index, 3, 10)
            assert (len(window.per_bin), len(window.units)) == (0, 0)


WINDOWED = random_recordings(samples=6, seed=4)


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> EventStore:
    return build(WINDOWED, tmp_path_factory.mktemp("cache"))


@settings(max_examples=300, deadline=None)
@given(sample=st.integers(0, 5), start=st.integers(0, 30), steps=st.integers(0, 30))
def test_a_window_is_a_slice_of_the_frames(
    windowed: EventStore, sample: int, start: int, steps: int
) -> None:
    binned = bin_recording(WINDOWED.samples[sample], (10,), 1.0, bin_us=1000)
    frames = frames_of(binned.ends, binned.units, (10,))[start : start + steps]
    for number in (int, np.int64):
        window = windowed.window(number(sample), start, steps)
        assert window.per_bin.dtype == np.int64
        found = frames_of(np.cumsum(window.per_bin), window.units, (10,))
        assert np.array_equal(found, frames)


def test_a_store_is_mapped_from_disk(tmp_path: Path) -> None:
    store = build(random_recordings(), tmp_path)
    window = store.window(0, 0, 10)
    assert isinstance(window.units, np.memmap) and not window.units.flags.writeable
    assert isinstance(store._ends, np.memmap) and isinstance(store._units, np.memmap)


# -------------------------------------------------------------------------- keys


def test_a_second_run_reads_no_recordings(tmp_path: Path) -> None:
    first = build(random_recordings(), tmp_path)
    again = random_recordings()
    assert content(build(again, tmp_path)) == content(first)
    assert again.reads == [] and len(left_in(tmp_path)) == 1


@pytest.mark.parametrize(
    "change",
    [{"bin_us": 2000}, {"downsample": 2}, {"size": 4}, {"origin": "first"}, {"invalid": "drop"}],
    ids=lambda change: next(iter(change)),
)
def test_each_field_of_the_binning_has_a_cache_of_its_own(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    build(random_recordings(), tmp_path)
    other = random_recordings()
    assert build(other, tmp_path, replace(BINNING, **change)).folder.is_dir()
    assert other.reads and len(left_in(tmp_path)) == 2


@pytest.mark.parametrize(
    "change", [{"stamp": 1}, {"sensor": (11,)}, {"microseconds": 2.0}], ids=lambda c: next(iter(c))
)
def test_other_recordings_have_a_cache_of_their_own(tmp_path: Path, change: dict[str, Any]) -> None:
    build(random_recordings(), tmp_path)
    other = random_recordings()
    other.__dict__.update(change)
    build(other, tmp_path)
    assert other.reads and len(left_in(tmp_path)) == 2


def test_every_field_of_the_binning_is_tried_above() -> None:
    fields = {"bin_us", "downsample", "size", "origin", "invalid"}
    assert set(Binning.__dataclass_fields__) == fields


def test_another_format_of_the_cache_is_another_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(random_recordings(), tmp_path)
    monkeypatch.setattr(event_cache, "FORMAT", event_cache.FORMAT + 1)
    other = random_recordings()
    build(other, tmp_path)
    assert other.reads


@pytest.mark.parametrize("change", ["content", "mtime", "touched back"])
@pytest.mark.parametrize("layout", ["hdf5", "bin"])
def test_a_changed_file_is_binned_again(tmp_path: Path, layout: str, change: str) -> None:
    def files(count: int) -> bytes:
        if layout == "hdf5":
            return hdf5_bytes([[0.001] * count], [[1] * count], [0])
        return bin_bytes([(1, 1, 0, 5)] * count)

    path = tmp_path / "data" / ("a.h5" if layout == "hdf5" else "0/00001.bin")

    def load() -> EventStore:
        reader = HDF5Recordings(path) if layout == "hdf5" else BinRecordings(tmp_path / "data")
        return build(reader, tmp_path / "cache")

    write(path, files(2))
    os.utime(path, ns=(10**18, 10**18))
    first = load()
    path.unlink()  # the HDF5 library would take it for the file that it has open
    if change == "mtime":
        write(path, files(2))
        os.utime(path, ns=(10**18, 10**18 + 1))
    else:
        write(path, files(5000))
        if change == "touched back":
            os.utime(path, ns=(10**18, 10**18))
    assert load().folder != first.folder
    events = len(load().window(0, 0, 10).units)
    assert events == (2 if change == "mtime" else 5000)


# ------------------------------------------------------------------------ damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * 8)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def missing(path: Path) -> None:
    path.unlink()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [cut, flip, longer, empty, missing, folder])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_noticed_and_made_again(
    tmp_path: Path, name: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    whole = content(build(random_recordings(), tmp_path))
    (cache,) = left_in(tmp_path)
    damage(tmp_path / cache / name)
    again = random_recordings()
    assert content(build(again, tmp_path)) == whole
    assert f"cache {tmp_path / cache} is damaged" in caplog.text
    assert again.reads and left_in(tmp_path) == [cache]
    assert sorted(os.listdir(tmp_path / cache)) == sorted([*FILES, "meta.json"])
    caplog.clear()
    build(again, tmp_path)
    assert caplog.text == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "3",
        "{}",
        '"shape"',
        '{"shape": 3}',
        '{"shape": [10], "dropped": 0, "units": "uint16"}',
        '{"shape": [10], "dropped": 0, "units": "uint16", "files": {}}',
        '{"shape": [10], "dropped": 0, "units": "uint16", "files": []}',
        '{"shape": [10], "dropped": 0, "units": "uint16", "files": {"labels": {}}}',
        '{"shape": [10], "dropped": 0, "units": "uint16", "files": {"labels": 3}}',
        '{"shape": [10], "dropped": 0, "units": "uint99", "files": {"labels": 3}}',
        "\udcff",
        "[" * 100_000,
    ],
)
def test_a_description_of_rubbish_is_made_again(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = content(build(random_recordings(), tmp_path))
    (cache,) = left_in(tmp_path)
    meta = tmp_path / cache / "meta.json"
    meta.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert content(build(random_recordings(), tmp_path)) == whole
    assert "is damaged" in caplog.text and left_in(tmp_path) == [cache]


@pytest.mark.parametrize("units", ["object", "float64", "int16", "uint8", "uint32", "U1", ""])
def test_another_type_of_units_is_noticed(tmp_path: Path, units: str) -> None:
    whole = content(build(random_recordings(), tmp_path))
    (cache,) = left_in(tmp_path)
    meta = json.loads((tmp_path / cache / "meta.json").read_text())
    (tmp_path / cache / "meta.json").write_text(json.dumps(meta | {"units": units}))
    assert content(build(random_recordings(), tmp_path)) == whole


@pytest.mark.parametrize("change", [{"shape": [90]}, {"shape": [9]}, {"dropped": 5}])
def test_a_changed_description_is_noticed(tmp_path: Path, change: dict[str, Any]) -> None:
    whole = content(build(random_recordings(), tmp_path))
    (cache,) = left_in(tmp_path)
    meta = json.loads((tmp_path / cache / "meta.json").read_text())
    (tmp_path / cache / "meta.json").write_text(json.dumps(meta | change, indent=2) + "\n")
    assert content(build(random_recordings(), tmp_path)) == whole


def test_damage_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cut(build(random_recordings(), tmp_path).folder / "units.bin")
    build(random_recordings(), tmp_path)
    assert [r.levelno for r in caplog.records].count(logging.WARNING) == 1


def test_large_files_are_measured_but_not_summed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(random_recordings(), tmp_path)
    monkeypatch.setattr(event_cache, "CHECKED_BYTES", 16)
    flip(first.folder / "units.bin")
    again = random_recordings()
    build(again, tmp_path)
    assert again.reads == []
    cut(first.folder / "units.bin")
    build(again, tmp_path)
    assert again.reads


def test_a_file_in_the_place_of_the_cache_is_named(tmp_path: Path) -> None:
    where = build(random_recordings(), tmp_path).folder
    shutil.rmtree(where)
    where.write_text("not a folder")
    with pytest.raises(DataError, match="cannot write the cache") as error:
        build(random_recordings(), tmp_path)
    assert str(where) in str(error.value) and "\n" not in str(error.value)


# ------------------------------------------------------------------ failed builds


class Failing(MemoryRecordings):
    """Its third sample cannot be read."""

    error: BaseException = DataError("sample 2 is broken")

    def __getitem__(self, index: int) -> Any:
        if index == 2:
            raise self.error
        return super().__getitem__(index)


def failing(error: BaseException) -> Failing:
    whole = random_recordings()
    recordings = Failing([], labels=whole.labels)
    recordings.samples, recordings.error = whole.samples, error
    return recordings


@pytest.mark.parametrize("error", [DataError("x"), KeyboardInterrupt(), ZeroDivisionError()])
def test_an_error_during_the_build_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        build(failing(error), tmp_path)
    assert left_in(tmp_path) == []


def test_a_failed_build_lets_the_next_one_start_at_once(tmp_path: Path) -> None:
    # As in a notebook, where the error stays alive with all its frames.
    with pytest.raises(DataError, match="broken") as kept:
        build(failing(DataError("broken")), tmp_path)
    previous = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("waits for its own lock"))
    signal.alarm(120)
    try:
        build(random_recordings(), tmp_path)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    assert kept.value is not None


@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 0], [0, -1, 0, 0, 0]])
def test_labels_beyond_the_classes_are_refused_before_anything_is_written(
    tmp_path: Path, labels: list[int]
) -> None:
    recordings = random_recordings()
    recordings.labels = np.array(labels)
    with pytest.raises(DataError, match="labels must be from 0 to 2, but sample [13] has"):
        build(recordings, tmp_path)
    assert recordings.reads == [] and left_in(tmp_path) == []


def test_a_file_in_the_place_of_the_cache_folder(tmp_path: Path) -> None:
    write(tmp_path / "file", b"")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        recordings = random_recordings()
        with pytest.raises(DataError, match=r"folder .* must be writable.*BSNN_THA_CACHE") as e:
            build(recordings, place)
        assert str(place) in str(e.value) and "\n" not in str(e.value)
        assert recordings.reads == []


@pytest.mark.parametrize("victim", ["units", "labels", "meta"])
def test_a_full_disk_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    original = event_cache._Writer.write

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write_unless_full(writer: Any, values: np.ndarray) -> None:
        is_victim = writer._file.name.endswith(f"{victim}.bin")
        (full if is_victim else original)(writer, values)

    monkeypatch.setattr(event_cache._Writer, "write", write_unless_full)
    if victim == "meta":
        monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(DataError, match="No space left on device; free some space") as error:
        build(random_recordings(), tmp_path)
    assert "\n" not in str(error.value) and left_in(tmp_path) == []
    monkeypatch.undo()
    build(random_recordings(), tmp_path)


def test_a_real_limit_on_file_sizes_is_survived(tmp_path: Path) -> None:
    """The kernel refuses to write: buffered bytes fail late, when the file is closed."""
    recordings = random_recordings(samples=50, events=400)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(DataError, match="cannot write the cache .*: File too large"):
            build(recordings, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert left_in(tmp_path) == []


# --------------------------------------------------------------- other processes


PROGRAM = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from event_files import random_recordings
from bsnn_tha.data.event_cache import Binning, cached_events

class Slow(type(random_recordings())):
    def __getitem__(self, index):
        with open({log!r}, "a") as log:
            log.write(f"{{index}}\\n")
        time.sleep({pause})
        return super().__getitem__(index)

recordings = random_recordings()
recordings.__class__ = Slow
store = cached_events(recordings, "made-up", Binning(1000), 3, Path({cache!r}))
print([store.window(i, 0, 99).units.tolist() for i in range(len(store))])
"""


def start(tmp_path: Path, pause: float, program: str = PROGRAM) -> subprocess.Popen[str]:
    text = program.format(
        tests=str(HELPERS),
        log=str(tmp_path / "log"),
        pause=pause,
        cache=str(tmp_path / "cache"),
    )
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Callable[[], list[int]]]:
    path = tmp_path / "log"

    def read() -> list[int]:
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    yield read


def wait_for(condition: Callable[[], object], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


def test_a_killed_build_is_never_seen_and_cleared_away(
    tmp_path: Path, log: Callable[[], list[int]]
) -> None:
    process = start(tmp_path, pause=60)
    try:
        wait_for(log)
        half_made = left_in(tmp_path / "cache")
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(half_made) == 1 and half_made[0].endswith(".tmp")
    assert left_in(tmp_path / "cache") == half_made
    recordings = random_recordings()
    assert content(build(recordings, tmp_path / "cache")) == expected(recordings)
    (name,) = left_in(tmp_path / "cache")
    assert name.startswith("made-up-")


def test_processes_that_start_together_build_once(
    tmp_path: Path, log: Callable[[], list[int]]
) -> None:
    processes = [start(tmp_path, pause=0.1) for _ in range(3)]
    answers = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert log() == [0, 1, 2, 3, 4]
    whole = [units for _, units in expected(random_recordings())[:-1]]
    assert answers == [f"{whole}\n"] * 3
    assert len(left_in(tmp_path / "cache")) == 1


# ------------------------------------------------------------------------ memory


MEMORY = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import numpy as np
from bsnn_tha.data.binning import bin_recording
from bsnn_tha.data.event_cache import Binning, cached_events
from bsnn_tha.data.event_split import EventSplit
from bsnn_tha.data.recordings import RawEvents

def megabytes():
    # Not VmRSS: it counts pages of mapped files, which the kernel takes back at will.
    line = next(l for l in open("/proc/self/status") if l.startswith("RssAnon"))
    return int(line.split()[1]) / 1024

seen = []

class Many:
    # 300 MB of units on disk: 150 samples of a million events.
    sensor, microseconds, labels = (700,), 1.0, np.zeros(150, int)
    times = np.arange(1_000_000, dtype=np.int64)
    def __len__(self): return 150
    def __getitem__(self, i):
        seen.append(megabytes())
        return RawEvents(self.times, (self.times % 700,))
    def where(self, i): return str(i)
    def fingerprint(self): return ["many"]

many = Many()
bin_recording(many[0], many.sensor, 1.0, bin_us=1000)
before = megabytes()
store = cached_events(many, "many", Binning(1000), 1, Path({cache!r}))
split = EventSplit(store, np.arange(150), num_steps=10, start=500)
for i in range(150):
    batch, _ = split[[i]]
    assert len(batch.units) == 10_000
    seen.append(megabytes())
print(store.bytes_per_sample * 150 / 1e6, max(seen) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_building_and_reading_take_a_small_part_of_the_cache_in_memory(tmp_path: Path) -> None:
    for _ in range(2):  # built, then opened
        process = start(tmp_path, 0, MEMORY)
        size, grown = map(float, process.communicate(timeout=300)[0].split())
        assert process.returncode == 0
        assert size > 300 and grown < 50
