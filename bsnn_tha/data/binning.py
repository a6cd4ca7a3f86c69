"""From raw events to time bins, as compactly as a spike train allows.

A binned recording is two arrays: ``units``, the flattened sensor position of
every event, ordered by time bin; and ``ends``, for every bin the number of
events up to its end. Bin t holds ``units[ends[t - 1] : ends[t]]``; several
events of one unit in one bin are listed several times. That is two bytes per
event where a dense float32 frame needs four per unit and bin.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from bsnn_tha.data.recordings import RawEvents
from bsnn_tha.errors import DataError

MAX_BINS = 1 << 20
"""A recording of more bins has a broken clock: 17 minutes at 1 ms."""

Origin = Literal["zero", "first"]
"""Bins are counted from time 0, or from the recording's first event."""
Invalid = Literal["refuse", "drop"]
"""What to do about events that cannot be: raise an error, or leave them out."""


TimeUnit = Literal["us", "ms", "s"]
TIME_UNITS: dict[TimeUnit, float] = {"us": 1.0, "ms": 1e3, "s": 1e6}
"""Units that recordings have their times in, in µs."""


def unit_name(microseconds: float) -> str:
    """A unit of time in words.

    Example:
        >>> unit_name(1e3), unit_name(40)
        ('ms', 'units of 40 µs')
    """
    for name, value in TIME_UNITS.items():
        if value == microseconds:
            return name
    return f"units of {microseconds:g} µs"


class BinnedRecording(NamedTuple):
    """One sample in time bins."""

    ends: np.ndarray
    """``[bins]``, uint32: events up to the end of each bin."""
    units: np.ndarray
    """``[events]``: flattened index into the binned sensor, in order of time."""
    dropped: int
    """Invalid events that were left out."""


def binned_sensor(
    sensor: tuple[int, ...], downsample: int, size: int | None = None
) -> tuple[int, ...]:
    """Shape of a frame after spatial downsampling; the first axis of a camera stays.

    Example:
        >>> binned_sensor((2, 128, 128), 4), binned_sensor((700,), 1)
        ((2, 32, 32), (700,))
        >>> binned_sensor((2, 180, 240), 1, size=48)
        (2, 48, 48)
    """
    if size is not None:
        return (size,) if len(sensor) == 1 else (*sensor[:-2], size, size)
    *rest, height, width = (1, *sensor) if len(sensor) == 1 else sensor
    small = tuple(-(-length // downsample) for length in (height, width))
    return small[1:] if len(sensor) == 1 else (*rest, *small)


def bin_recording(
    events: RawEvents,
    sensor: tuple[int, ...],
    microseconds: float,
    *,
    bin_us: int,
    downsample: int = 1,
    size: int | None = None,
    origin: Origin = "zero",
    invalid: Invalid = "refuse",
    where: str = "the recording",
) -> BinnedRecording:
    """Sort the events of one sample into time bins.

    Events need not come in order of time. Within a bin their order is kept. Polarities
    may be 0 and 1 or, as many recordings have them, −1 (OFF, as 0) and 1.

    Args:
        events: as read.
        sensor: the shape their coordinates index.
        microseconds: one unit of their times, in µs.
        bin_us: width of a bin, in µs.
        downsample: so many neighbouring rows and columns become one.
        size: scale to so many rows and columns (or units) instead: of n places,
            place p goes to ⌊p · size / n⌋.
        origin: where bins are counted from.
        invalid: what to do about events with a time that is not a number or
            negative, or a coordinate outside the sensor.
        where: names the sample in error messages.

    Raises:
        DataError: an invalid event (unless they are dropped), or more than
            :data:`MAX_BINS` bins.

    Example:
        >>> times, units = np.array([0.0, 0.004, 0.0005]), np.array([5, 6, 5])
        >>> binned = bin_recording(RawEvents(times, (units,)), (700,), 1e6, bin_us=1000)
        >>> binned.ends.tolist(), binned.units.tolist()
        ([2, 2, 2, 2, 3], [5, 5, 6])
    """
    events = _with_off_as_zero(events, sensor)
    valid = _valid(events, sensor, invalid, where)
    dropped = 0
    if valid is not None:
        dropped = int(len(valid) - valid.sum())
        events = RawEvents(events.times[valid], tuple(c[valid] for c in events.coordinates))
    times = _whole_microseconds(events.times, microseconds)
    shape = binned_sensor(sensor, downsample, size)
    places = [c.astype(np.int64) for c in events.coordinates]
    # Not the polarity, the first of a camera's three axes.
    for axis in range(max(0, len(sensor) - 2), len(sensor)):
        if size is None:
            places[axis] //= downsample
        else:
            places[axis] = places[axis] * size // sensor[axis]
    units: np.ndarray = np.ravel_multi_index(tuple(places), shape).astype(_unit_type(shape))
    if not len(times):
        return BinnedRecording(np.zeros(0, np.uint32), units, dropped)
    bins = (times - times.min() if origin == "first" else times) // bin_us
    last = int(bins.max())
    if last >= MAX_BINS:
        raise DataError(
            f"{where} must be shorter than {MAX_BINS:,} bins of {bin_us / 1000:g} ms, but its last "
            f"event is in bin {last:,}; its clock is broken, data.options.bin_ms is too small, or "
            f"its times are not in {unit_name(microseconds)} (data.options.time_unit)"
        )
    if (np.diff(bins) < 0).any():
        units = units[np.argsort(bins, kind="stable")]
    ends = np.cumsum(np.bincount(bins, minlength=last + 1)).astype(np.uint32)
    return BinnedRecording(ends, units, dropped)


def _with_off_as_zero(events: RawEvents, sensor: tuple[int, ...]) -> RawEvents:
    """The same events with polarities −1 and 1 as 0 and 1.

    A recording that has −1 and 0 as well is left as it is: what its zeros mean is not known.
    """
    if len(sensor) != 3 or sensor[0] != 2 or len(events.coordinates) != 3:
        return events
    polarity, *places = events.coordinates
    if polarity.dtype.kind not in "if" or not (polarity == -1).any() or (polarity == 0).any():
        return events
    zeros_and_ones = np.where(polarity == -1, 0, polarity)
    return RawEvents(events.times, (zeros_and_ones, *places))


def _valid(
    events: RawEvents, sensor: tuple[int, ...], invalid: Invalid, where: str
) -> np.ndarray | None:
    """Which events can be; None if all. The first that cannot be is an error if refused."""
    lengths = {events.times.shape, *(c.shape for c in events.coordinates)}
    if len(lengths) != 1 or events.times.ndim != 1:
        raise DataError(
            f"{where} must have as many times as coordinates, but got {sorted(lengths)}"
        )
    names = ("unit",) if len(sensor) == 1 else ("polarity", "y", "x")
    checks = [("a time that is a number of at least 0", events.times, np.inf)] + [
        (f"{name} from 0 to {length - 1}", coordinate, length)
        for name, coordinate, length in zip(names, events.coordinates, sensor, strict=True)
    ]
    valid = np.ones(len(events.times), dtype=bool)
    for rule, values, limit in checks:
        if values.dtype.kind not in "biuf":
            raise DataError(f"each event of {where} must have {rule}, but got {values.dtype} data")
        # Comparisons with NaN are false, and infinity is not below infinity.
        ok = (values >= 0) & (values < limit)
        if invalid == "refuse" and not ok.all():
            first = int(np.argmin(ok))
            if values is events.coordinates[0] and values[first] == -1 and len(sensor) == 3:
                raise DataError(
                    f"polarities of {where} must be 0 and 1, or -1 and 1, but event {first} has "
                    "-1 and others have 0; write one number for OFF"
                )
            raise DataError(
                f"each event of {where} must have {rule}, but event {first} has {values[first]}; "
                "repair the file, or leave such events out with data.options.invalid = 'drop'"
            )
        valid &= ok
    return None if valid.all() else valid


def _whole_microseconds(times: np.ndarray, microseconds: float) -> np.ndarray:
    """Rounded to whole µs, so that bin edges do not depend on binary fractions."""
    if times.dtype.kind in "iu" and times.dtype != np.uint64 and microseconds == 1:
        return times.astype(np.int64)
    # Beyond int64 a cast is undefined; such a clock is refused by MAX_BINS.
    scaled = np.minimum(times.astype(np.float64), 2.0**62 / microseconds) * microseconds
    return np.rint(scaled).astype(np.int64)


def _unit_type(shape: tuple[int, ...]) -> type:
    return np.uint16 if np.prod(shape) <= 1 << 16 else np.uint32
