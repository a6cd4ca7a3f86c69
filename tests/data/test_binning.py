"""Time bins: against plain loops, against tonic, and what malformed events do."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_files import frames_by_loops, frames_of
from hypothesis import given, settings
from hypothesis import strategies as st

from bsnn_tha.data.binning import MAX_BINS, bin_recording, binned_sensor
from bsnn_tha.data.folders import BinRecordings
from bsnn_tha.data.recordings import HDF5Recordings, RawEvents
from bsnn_tha.errors import DataError

MS = 1000
"""µs"""


def unit_events(times: Any, units: Any) -> RawEvents:
    return RawEvents(np.asarray(times), (np.asarray(units),))


def bin_units(times: Any, units: Any = None, microseconds: float = 1.0, **options: Any) -> Any:
    """Of a sensor of 700 units, in bins of 1 ms unless told otherwise."""
    times = np.asarray(times)
    units = np.zeros(len(times), int) if units is None else units
    options = {"bin_us": MS, **options}
    return bin_recording(unit_events(times, units), (700,), microseconds, **options)


def bins_of(binned: Any) -> list[int]:
    """Bin of each event."""
    return np.repeat(np.arange(len(binned.ends)), np.diff(binned.ends, prepend=0)).tolist()


# ------------------------------------------------------------ against plain loops


CLOCKS = {
    "float16 s": (np.float16, 1_000_000, st.floats(0, 2, width=16)),
    "float32 s": (np.float32, 1_000_000, st.floats(0, 2, width=32)),
    "float64 s": (np.float64, 1_000_000, st.floats(0, 2)),
    "float64 ms": (np.float64, 1000, st.floats(0, 2000)),
    "int ms": (np.int16, 1000, st.integers(0, 2000)),
    "uint16 µs": (np.uint16, 1, st.integers(0, 2**16 - 1)),
    "int64 µs": (np.int64, 1, st.integers(0, 2_000_000)),
    "uint64 µs": (np.uint64, 1, st.integers(0, 2_000_000)),
    "float64 µs": (np.float64, 1, st.floats(0, 2e6)),
}


@st.composite
def recordings(draw: st.DrawFn) -> dict[str, Any]:
    size = st.integers(1, 9)
    sensor = draw(st.tuples(size) | st.tuples(st.integers(1, 2), size, size))
    dtype, microseconds, clock = CLOCKS[draw(st.sampled_from(sorted(CLOCKS)))]
    place = st.tuples(*(st.integers(0, length - 1) for length in sensor))
    events = draw(st.lists(st.tuples(clock, place), max_size=30))
    events += draw(st.lists(st.sampled_from(events), max_size=5)) if events else []
    kinds = st.sampled_from([np.uint8, np.uint16, np.int64, np.float64])
    return {
        "times": np.array([time for time, _ in events], dtype),
        "coordinates": tuple(
            np.array([place[axis] for _, place in events], draw(kinds))
            for axis in range(len(sensor))
        ),
        "sensor": sensor,
        "microseconds": microseconds,
        "bin_us": draw(st.sampled_from([1000, 3000, 5000, 777, 100_000])),
        "downsample": draw(st.integers(1, 5)),
        "origin": draw(st.sampled_from(["zero", "first"])),
    }


@settings(max_examples=300, deadline=None)
@given(recordings())
def test_every_event_is_counted_in_its_bin_and_unit_as_by_plain_loops(case: dict[str, Any]) -> None:
    events = RawEvents(case.pop("times"), case.pop("coordinates"))
    sensor, microseconds = case.pop("sensor"), case.pop("microseconds")
    before = [array.copy() for array in (events.times, *events.coordinates)]
    binned = bin_recording(events, sensor, microseconds, **case)
    expected = frames_by_loops(*events, sensor, microseconds, **case)
    shape = binned_sensor(sensor, case["downsample"])
    assert expected.shape[1:] == shape
    assert frames_of(binned.ends, binned.units, shape).tolist() == expected.tolist()
    assert (binned.ends.dtype, binned.units.dtype, binned.dropped) == ("uint32", "uint16", 0)
    after = (events.times, *events.coordinates)  # tonic's ToFrame overwrites the caller's
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 9)), max_size=40))
def test_events_of_one_bin_keep_their_order(events: list[tuple[int, int]]) -> None:
    binned = bin_units([t for t, _ in events], np.array([u for _, u in events], int))
    assert binned.units.tolist() == [u for _, u in sorted(events, key=lambda e: e[0] // MS)]


def test_bins_end_with_the_last_event() -> None:
    assert bin_units([0]).ends.tolist() == [1]
    assert bin_units([2999]).ends.tolist() == [0, 0, 1]
    assert bin_units([3000]).ends.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("bin_us", [1000, 3000, 5000, 100, 7])
@pytest.mark.parametrize(
    ("dtype", "microseconds"),
    [(np.int64, 1), (np.float64, 1), (np.float64, 1000), (np.float64, 1_000_000)],
    ids=["int µs", "float µs", "float ms", "float s"],
)
def test_an_event_on_an_edge_belongs_to_the_bin_that_begins_there(
    dtype: type, microseconds: int, bin_us: int
) -> None:
    edges = np.arange(2000) * bin_us
    times = (edges / microseconds).astype(dtype)
    assert bins_of(bin_units(times, None, microseconds, bin_us=bin_us)) == list(range(2000))
    just_before = ((edges[1:] - 1) / microseconds).astype(dtype)
    binned = bin_units(just_before, None, microseconds, bin_us=bin_us)
    assert bins_of(binned) == list(range(1999))


def test_half_precision_seconds_are_read_as_what_they_hold() -> None:
    # 0.033 s is stored as 32,990 µs and belongs to bin 10, however it was meant.
    times = np.array([0.003, 0.033, 0.3, 0.9, 1.2, 1.999], np.float16)
    stored = [3000, 32990, 300049, 899902, 1200195, 1999023]
    assert [round(time.item() * 1e6) for time in times] == stored
    binned = bin_units(times, None, 1e6, bin_us=3000)
    assert bins_of(binned) == [1, 10, 100, 299, 400, 666]


def test_bins_count_from_the_first_event_wherever_it_stands() -> None:
    assert bins_of(bin_units([7500, 5100, 6099, 6100], origin="first")) == [0, 0, 1, 2]


def test_downsampling_leaves_polarities_alone_and_rounds_the_last_rows_up() -> None:
    assert binned_sensor((2, 34, 33), 4) == (2, 9, 9)
    events = RawEvents(np.array([0, 0]), (np.array([1, 0]), np.array([33, 3]), np.array([32, 4])))
    binned = bin_recording(events, (2, 34, 33), 1.0, bin_us=MS, downsample=4)
    assert binned.units.tolist() == [81 + 8 * 9 + 8, 0 * 9 + 1]


def test_sensors_of_more_than_65536_units_need_wider_numbers() -> None:
    for width, dtype in ((256, np.uint16), (257, np.uint32)):
        last = (np.array([0]), np.array([255]), np.array([width - 1]))
        binned = bin_recording(RawEvents(np.array([0]), last), (1, 256, width), 1.0, bin_us=MS)
        assert binned.units.dtype == dtype and binned.units.tolist() == [256 * width - 1]


def test_a_million_events() -> None:
    rng = np.random.default_rng(0)
    times, units = rng.integers(0, 6_000_000, 1_000_000), rng.integers(0, 700, 1_000_000)
    binned = bin_units(times, units, bin_us=5000)
    cells = np.sort(times // 5000 * 700 + units)
    per_bin = np.diff(binned.ends, prepend=0)
    found = np.repeat(np.arange(len(per_bin)), per_bin) * 700 + binned.units
    assert np.array_equal(np.sort(found), cells)


# ---------------------------------------------------------------- against tonic


def by_tonic(events: RawEvents, sensor: tuple[int, ...], bin_us: int, **options: Any) -> Any:
    """Frames ``[bins, *sensor]`` of ToFrame, which wants events in order of time.

    Without ``include_incomplete`` it leaves out the last bin; with it, only if
    the last event stands on an edge. A single-polarity sensor gets an axis more.
    """
    transforms = pytest.importorskip("tonic.transforms")
    names = ("x",) if len(sensor) == 1 else ("p", "y", "x")
    rows = np.zeros(len(events.times), [(name, np.int64) for name in ("x", "y", "t", "p")])
    rows["t"] = events.times
    for name, values in zip(names, events.coordinates, strict=True):
        rows[name] = values
    size = (700, 1, 1) if len(sensor) == 1 else sensor[::-1]
    frames = transforms.ToFrame(
        sensor_size=size, time_window=bin_us, include_incomplete=True, **options
    )(rows)
    return frames.reshape(len(frames), *sensor)


@pytest.mark.parametrize("origin", ["zero", "first"])
@pytest.mark.parametrize(("title", "bin_us"), [("SpokenDigits", 3000), ("SaccadeDigits", 1000)])
def test_frames_of_stored_recordings_are_tonics(
    shared_data: Path, title: str, bin_us: int, origin: Any
) -> None:
    if not (shared_data / title).is_dir():
        pytest.skip(f"no {title} in {shared_data}")
    stored = (
        HDF5Recordings(shared_data / title / "shd_test.h5")
        if title == "SpokenDigits"
        else BinRecordings(shared_data / title / "Test")
    )
    for index in (0, 7, 123, 299):
        events = stored[index]
        scaled = events.times.astype(np.float64) * stored.microseconds
        whole = events._replace(times=np.rint(scaled).astype(np.int64))
        start = {"start_time": 0} if origin == "zero" else {}
        expected = by_tonic(whole, stored.sensor, bin_us, **start)
        binned = bin_recording(
            events, stored.sensor, stored.microseconds, bin_us=bin_us, origin=origin
        )
        last_on_edge = (whole.times[-1] - (0 if start else whole.times[0])) % bin_us == 0
        assert len(binned.ends) == len(expected) + last_on_edge
        found = frames_of(binned.ends, binned.units, stored.sensor)
        assert np.array_equal(found[: len(expected)], expected)
        assert found.sum() == len(events.times)


# -------------------------------------------------------------- malformed events


NAN, INF = float("nan"), float("inf")


def test_an_empty_sample_has_no_bins() -> None:
    for dtype in (np.float16, np.float64, np.int64):
        binned = bin_units(np.array([], dtype), np.array([], np.uint16))
        assert (len(binned.ends), len(binned.units), binned.dropped) == (0, 0, 0)
        assert binned.units.dtype == np.uint16
    none = np.array([], int)
    camera = bin_recording(RawEvents(none, (none,) * 3), (2, 4, 4), 1.0, bin_us=MS, origin="first")
    assert (len(camera.ends), len(camera.units)) == (0, 0)


@pytest.mark.parametrize(
    ("times", "units", "rule"),
    [
        ([5, -1], [0, 0], "a time that is a number of at least 0, but event 1 has -1"),
        ([-1e-9], [0], "a time that is a number of at least 0, but event 0 has -1e-09"),
        ([0.0, NAN], [0, 0], "a time that is a number of at least 0, but event 1 has nan"),
        ([INF, 0.0], [0, 0], "a time that is a number of at least 0, but event 0 has inf"),
        ([-INF], [0], "a time that is a number of at least 0, but event 0 has -inf"),
        ([0, 0, 0], [0, 700, 800], "unit from 0 to 699, but event 1 has 700"),
        ([0], [65535], "unit from 0 to 699, but event 0 has 65535"),
        ([0], [-1], "unit from 0 to 699, but event 0 has -1"),
        ([0], [NAN], "unit from 0 to 699, but event 0 has nan"),
        (np.array(["a"]), [0], "a time .*, but got <U1 data"),
        (np.array([b"a"]), [0], r"a time .*, but got \|S1 data"),
        (np.array([None]), [0], "a time .*, but got object data"),
        (np.array([1j]), [0], "a time .*, but got complex128 data"),
        ([0], np.array(["1"]), "unit from 0 to 699, but got <U1 data"),
        (np.array([0], "datetime64[us]"), [0], r"a time .*, but got datetime64\[us\] data"),
        ([0, 1], [0], "as many times as coordinates"),
        ([], [0], "as many times as coordinates"),
        ([[0, 1]], [[0, 1]], "as many times as coordinates"),
        (3.0, 5, "as many times as coordinates"),
    ],
)
def test_events_that_cannot_be_are_refused_by_name(times: Any, units: Any, rule: str) -> None:
    with pytest.raises(DataError, match=rule) as error:
        bin_recording(unit_events(times, units), (700,), 1.0, bin_us=MS, where="sample 3 of a.h5")
    assert "\n" not in str(error.value) and "sample 3 of a.h5" in str(error.value)


@pytest.mark.parametrize(
    ("axis", "value", "rule"),
    [
        (0, 2, "polarity from 0 to 1, but event 1 has 2"),
        (1, 34, "y from 0 to 33, but event 1 has 34"),
        (2, 33, "x from 0 to 32, but event 1 has 33"),
    ],
)
def test_places_outside_a_camera_are_refused_by_axis(axis: int, value: int, rule: str) -> None:
    places = np.zeros((3, 3), int)
    places[axis, 1] = value
    events = RawEvents(np.arange(3), tuple(places))
    with pytest.raises(DataError, match=f"{rule}.*data.options.invalid = 'drop'"):
        bin_recording(events, (2, 34, 33), 1.0, bin_us=MS, downsample=40)


@pytest.mark.parametrize("invalid", ["refuse", "drop"])
@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32])
def test_a_polarity_of_minus_one_is_off(dtype: type, invalid: Any) -> None:
    """Dropping such events would leave no OFF event."""
    places = (np.array([-1, 1, -1], dtype), np.array([0, 1, 2]), np.array([3, 2, 1]))
    binned = bin_recording(
        RawEvents(np.arange(3), places), (2, 4, 4), 1.0, bin_us=MS, invalid=invalid
    )
    assert binned.units.tolist() == [0 + 3, 16 + 4 + 2, 8 + 1] and binned.dropped == 0
    assert places[0].tolist() == [-1, 1, -1]
    one_kind = (np.array([-1], dtype), np.array([0]), np.array([3]))
    assert bin_recording(
        RawEvents(np.arange(1), one_kind), (2, 4, 4), 1.0, bin_us=MS
    ).units.tolist() == [3]


def test_polarities_with_two_numbers_for_off_are_not_to_be_dropped() -> None:
    events = RawEvents(np.arange(3), (np.array([0, 1, -1]), np.zeros(3, int), np.zeros(3, int)))
    with pytest.raises(
        DataError, match="must be 0 and 1, or -1 and 1, but event 2 has -1"
    ) as error:
        bin_recording(events, (2, 4, 4), 1.0, bin_us=MS)
    assert "drop" not in str(error.value)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 0.02) | st.sampled_from([-1.0, NAN, INF, -INF, -0.0]),
            st.integers(-2, 12),
        ),
        max_size=30,
    ),
    st.sampled_from(["zero", "first"]),
)
def test_dropping_leaves_out_exactly_the_events_that_cannot_be(
    events: list[tuple[float, int]], origin: Any
) -> None:
    def binned(chosen: list[tuple[float, int]], invalid: Any) -> Any:
        raw = unit_events(np.array([t for t, _ in chosen]), np.array([u for _, u in chosen], int))
        return bin_recording(raw, (10,), 1e6, bin_us=MS, origin=origin, invalid=invalid)

    possible = [(t, u) for t, u in events if 0 <= t < INF and 0 <= u < 10]
    found, expected = binned(events, "drop"), binned(possible, "refuse")
    assert found.ends.tolist() == expected.ends.tolist()
    assert found.units.tolist() == expected.units.tolist()
    assert found.dropped == len(events) - len(possible)


@pytest.mark.parametrize("invalid", ["refuse", "drop"])
@pytest.mark.parametrize(
    ("times", "microseconds"),
    [
        ([0, MAX_BINS * MS], 1),
        ([0, 2**62], 1),
        (np.array([0, 2**63 - 1]), 1),
        (np.array([0, 2**63 + 5], np.uint64), 1),
        ([0.0, 1e308], 1e6),
        ([0.0, 1e20], 1),
        (np.array([0.0, 65504], np.float16), 1e6),
    ],
)
def test_a_broken_clock_is_refused_without_a_gigantic_array(
    times: Any, microseconds: float, invalid: Any
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=r"shorter than 1,048,576 bins of 1 ms.*clock") as error:
            bin_units(times, None, microseconds, invalid=invalid)
    assert "\n" not in str(error.value)


def test_the_longest_recording_has_max_bins() -> None:
    assert len(bin_units([0, MAX_BINS * MS - 1]).ends) == MAX_BINS
    late = 10**15  # a clock that started long ago matters only to origin "zero"
    assert bin_units([late, late + 1500], origin="first").ends.tolist() == [1, 2]
    with pytest.raises(DataError, match="clock"):
        bin_units([late])
