"""What windows see of recordings: said, and refused where it cannot be meant."""

from __future__ import annotations

import re

import numpy as np
import pytest
from event_files import MemoryRecordings, bin_bytes, dat_bytes, hdf5_bytes, npy_bytes, write

from bsnn_tha.data import load_dataset
from bsnn_tha.data.coverage import Coverage, coverage
from bsnn_tha.data.event_cache import Binning, cached_events
from bsnn_tha.data.event_set import EventSet
from bsnn_tha.data.event_split import EventSplit
from bsnn_tha.data.recordings import TonicRecordings
from bsnn_tha.errors import DataError


@pytest.fixture
def load(tmp_path):
    def load(name, num_steps, **options):
        return load_dataset(
            name,
            root=tmp_path / "data",
            cache=tmp_path / "cache",
            seed=0,
            validation=0.0,
            num_steps=num_steps,
            options=options,
        )

    return load


def place_shd(root, scale):
    """Twenty recordings of 0.9 s, 30 events each, with times in seconds · scale."""
    times = [np.linspace(0.001, 0.9, 30) * scale] * 20
    for part in ("train", "test"):
        content = hdf5_bytes(times, [[5] * 30] * 20, list(range(20)))
        write(root / "data" / "SHD" / f"shd_{part}.h5", content)


def place_gestures(root, scale, seconds=0.5):
    """Eleven recordings with 2,000 events, with times in ms · scale."""
    times = np.linspace(1, 1000 * seconds, 2000, endpoint=False)
    rows = np.stack([np.full(2000, 3), np.full(2000, 4), np.arange(2000) % 2, times * scale], 1)
    for part in ("ibmGestureTrain", "ibmGestureTest"):
        for label in range(11):
            path = root / "data" / "DVSGesture" / part / "user01_led" / f"{label}.npy"
            write(path, npy_bytes(rows))


def place_cars(root, last):
    events = [(1, 2, 1, time) for time in np.linspace(0, last, 1000).astype(int).tolist()]
    for part in ("n-cars_train", "n-cars_test"):
        for name in ("background", "cars"):
            write(root / "data" / "NCARS" / part / name / "a.dat", dat_bytes(events))


def test_the_right_unit_is_said_and_accepted(tmp_path, load):
    place_shd(tmp_path, 1)
    place_gestures(tmp_path, 1)
    assert load("shd", 333).source.endswith("bins of 3 ms, 100% of the events in the windows")
    data = load("dvs-gesture", 50)
    assert data.source.endswith("bins of 5 ms, 50.1% of the events in the windows")


def test_microseconds_where_milliseconds_are_expected(tmp_path, load):
    place_gestures(tmp_path, 1000)
    message = (
        "windows of dvs-gesture (train) (100 steps from bin 0 on) must have at least 0.5% of its "
        "events, but have 33 of 22,000: its times look like us, but are read as ms; set "
        "data.options.time_unit = 'us'; change data.options.start_ms or bin_ms, or set "
        "data.options.time_unit = 'ms' if this is meant"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        load("dvs-gesture", 100)
    with pytest.raises(DataError, match="its times look like us"):
        load("dvs-gesture", 100, random_start=True)
    right = load("dvs-gesture", 100, time_unit="us")
    assert right.source.endswith("100% of the events in the windows")
    assert right.train[[0]][0].dense().sum() == 2000
    meant = load("dvs-gesture", 100, time_unit="ms")
    assert meant.source.endswith("0.15% of the events in the windows")


def test_milliseconds_where_seconds_are_expected(tmp_path, load):
    place_shd(tmp_path, 1000)
    with pytest.raises(DataError, match=r"shd \(train\).*look like ms, but are read as s"):
        load("shd", 333)
    right = load("shd", 333, time_unit="ms")
    assert right.source.endswith("100% of the events in the windows")


def test_a_larger_unit_than_expected(tmp_path, load):
    place_gestures(tmp_path, 1e-3)
    rule = (
        r"windows of dvs-gesture \(train\) .* must be filled to more than 2%, but half of the "
        "recordings end by bin 1: their times look like a larger unit than ms; name it"
    )
    with pytest.raises(DataError, match=rule):
        load("dvs-gesture", 100)
    assert load("dvs-gesture", 100, time_unit="s").train[[0]][0].dense().sum() == 2000


def test_a_clock_that_is_too_fast_to_bin_names_the_unit(tmp_path, load):
    place_gestures(tmp_path, 1000, seconds=6)
    rule = (
        r"shorter than 1,048,576 bins of 5 ms.*its times are not in ms \(data.options.time_unit\)"
    )
    with pytest.raises(DataError, match=rule):
        load("dvs-gesture", 100)


@pytest.mark.parametrize(
    ("last", "rule"),
    [
        (100_000_000, "have 2 of 2,000; change data.options.start_ms or bin_ms, or set"),
        (100, "half of the recordings end by bin 1: their times look like a larger unit than us"),
    ],
    ids=["too long", "too short"],
)
def test_formats_with_one_unit_too(tmp_path, load, last, rule):
    place_cars(tmp_path, last)
    with pytest.raises(DataError, match=rf"n-cars \(train\).*{rule}"):
        load("n-cars", 10)


def test_data_sets_of_tonic_too(tmp_path):
    class Milliseconds:
        """As tonic hands out events, but for their unit."""

        sensor_size, targets = (700, 1, 1), [0, 1]

        def __len__(self):
            return 2

        def __getitem__(self, index):
            events = np.zeros(900, [("t", int), ("x", int), ("p", int)])
            events["t"] = np.arange(900)
            return events, index

    def load(**arguments):
        made = EventSet(
            name="mine",
            title="Mine",
            parts=("train", "test"),
            read=lambda path: TonicRecordings(Milliseconds(), f"mine-{path.name}", **arguments),
            num_classes=2,
            bin_ms=10.0,
        )
        common = {"cache": tmp_path, "validation": 0.0, "seed": 0, "num_steps": 90}
        return made.load(tmp_path, **common)

    for part in ("train", "test"):
        (tmp_path / "Mine" / part).mkdir(parents=True)
    with pytest.raises(DataError, match=r"mine \(train\).* look like a larger unit than us"):
        load()
    data = load(microseconds=1000.0)
    assert data.source.endswith("bins of 10 ms, 100% of the events in the windows")
    assert data.train[[0]][0].dense()[:, 0].sum(1).tolist() == [10] * 90


def test_windows_that_start_after_the_end(tmp_path, load):
    place_cars(tmp_path, 100_000)
    rule = (
        r"windows of n-cars \(train\) \(10 steps from bin 50 on\) must have events, but all 2 are "
        r"empty, the longest recording has 11 bins; change data\.options\.start_ms or bin_ms"
    )
    for options in ({}, {"random_start": True}, {"time_unit": "us"}):
        with pytest.raises(DataError, match=f"^{rule}$"):
            load("n-cars", 10, start_ms=500.0, **options)


def test_empty_samples_are_counted(tmp_path, load):
    for part in ("Train", "Test"):
        for label in range(10):
            late = 5000 if label in (3, 4) else 0
            events = [(1, 1, 1, late + time * 100) for time in range(20)]
            write(tmp_path / "data" / "NMNIST" / part / str(label) / "1.bin", bin_bytes(events))
    assert load("nmnist", 5).source.endswith(
        "bins of 1 ms, 80% of the events in the windows, 4 of 20 samples empty"
    )
    # As if seen by the test part alone.
    data = load("nmnist", 5, test_steps=10)
    assert data.source.endswith("90% of the events in the windows, 2 of 20 samples empty")


@pytest.mark.parametrize("random_start", [False, True])
def test_coverage_equals_counting_the_windows(tmp_path, random_start):
    rng = np.random.default_rng(0)
    lengths = [12, 5, 0, 20, 8, 1]
    samples = [
        (rng.integers(0, length * 1000, 3 * length), np.zeros(3 * length, int))
        for length in lengths
    ]
    store = cached_events(MemoryRecordings(samples), "x", Binning(1000), 1, tmp_path)
    for start, steps in ((0, 4), (3, 7), (0, 30), (19, 2)):
        split = EventSplit(store, np.array([0, 1, 2, 3, 5]), steps, start, random_start)
        found = coverage(split)
        if random_start:
            after = [int((samples[s][0] >= start * 1000).sum()) for s in split.samples]
            spans = [min(1, steps / max(1, store.bins(s) - start)) for s in split.samples]
            assert found.seen == pytest.approx(np.dot(after, spans))
            assert found.empty == after.count(0)
        else:
            counts = split[list(range(5))][0].dense().sum((0, 2))
            assert found == Coverage(
                sum(3 * lengths[s] for s in split.samples),
                counts.sum(),
                5,
                int((counts == 0).sum()),
            )
