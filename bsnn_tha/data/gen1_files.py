"""Prophesee's automotive files: events in ``NAME_td.dat``, boxes in ``NAME_bbox.npy``.

An event file is lines of text that start with ``%``, two bytes (an event's type and size),
then eight bytes an event, little-endian: 32 bits of time in µs; x in 14 bits, y in 14, the
polarity from bit 28 on. A recording is a minute and may have gigabytes, so nothing here holds
more of it than a block, or than the window that is asked for.

A file of boxes is an array of records: the time in µs (``ts``, in later files ``t``), ``x``,
``y``, ``w``, ``h`` in pixels from the left upper corner, ``class_id``, and more.

What files of this kind contain, and what becomes of it:

================================================  ==============================================
events out of order of time                       found all the same
boxes out of order of time                        sorted
boxes that reach out of the frame                 cut to it
boxes wholly outside the frame                    left out, counted
time spelled ``ts`` or ``t``                      both read
no boxes                                          no samples
a file that is cut off                            refused
an event file without boxes, and the reverse      refused
sizes that are not numbers above 0                refused
times that are not numbers of at least 0          refused
a class that the set does not have                refused
boxes long after the last event                   refused: boxes of another recording
================================================  ==============================================

Every error names the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bsnn_tha.data.recordings import RawEvents
from bsnn_tha.errors import DataError

EVENTS, BOXES = "_td.dat", "_bbox.npy"
"""Endings of a recording's two files."""
EVENT = np.dtype([("time", "<u4"), ("place", "<u4")])
"""Of an event file: the time in µs, and where, packed into 32 bits."""
_BLOCK = 1 << 14
"""Events whose first and last time are noted together."""
_READ = 16 * _BLOCK
"""Events read at once: 2 MB."""
_HEADER = 1 << 16
"""Bytes among which the header ends."""


class EventFile:
    """One recording's events, read window by window.

    Args:
        path: of ``NAME_td.dat``.

    Attributes:
        events: how many there are.

    Raises:
        DataError: it cannot be read, is of another version, or is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                head = file.read(_HEADER)
            size = path.stat().st_size
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        version, start = _header(head)
        width = head[start + 1] if len(head) > start + 1 else 0
        if version != "2" or width != 8:
            raise DataError(
                f"{path} must be an event file of version 2 with eight bytes for each event, but "
                f"has version {version or 'none'} and {width} bytes; replace it"
            )
        self._start = start + 2
        body = size - self._start
        if body % 8:
            raise DataError(
                f"{path} must hold eight bytes for each event, but has {body:,} bytes of events: "
                "it is cut off; replace it"
            )
        self.events = body // 8
        self._ranges: tuple[np.ndarray, np.ndarray] | None = None

    def last_time(self) -> int:
        """The latest time of an event, in µs; −1 if there are none."""
        return int(self._times()[1].max(initial=-1))

    def window(self, start: int, end: int) -> RawEvents:
        """The events with ``start <= time < end``, in µs, in the order of the file.

        Reads the blocks that can hold such events, whatever the order within them. Times
        are counted from ``start``.
        """
        first, last = self._times()
        blocks = np.flatnonzero((first < end) & (last >= start))
        found = [np.zeros(0, EVENT)]
        # Neighbouring blocks are read at once, but never more than _READ events.
        for run in _runs(blocks, _READ // _BLOCK):
            events = self._read(run[0] * _BLOCK, len(run) * _BLOCK)
            times = events["time"].astype(np.int64)
            found.append(events[(times >= start) & (times < end)])
        events = np.concatenate(found)
        place = events["place"].astype(np.int64)
        return RawEvents(
            events["time"].astype(np.int64) - start,
            (place >> 28, place >> 14 & 0x3FFF, place & 0x3FFF),
        )

    def _times(self) -> tuple[np.ndarray, np.ndarray]:
        """First and last time of each block: one pass through the file, made once."""
        if self._ranges is None:
            first, last = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
            for place in range(0, self.events, _READ):
                times = self._read(place, _READ)["time"].astype(np.int64)
                starts = np.arange(0, len(times), _BLOCK)
                first.append(np.minimum.reduceat(times, starts))
                last.append(np.maximum.reduceat(times, starts))
            self._ranges = np.concatenate(first), np.concatenate(last)
        return self._ranges

    def _read(self, first: int, count: int) -> np.ndarray:
        # Not mapped: pages of a map stay in memory as long as the system likes.
        count = min(count, self.events - first)
        return np.fromfile(self.path, EVENT, count, offset=self._start + 8 * first)


def _header(data: bytes) -> tuple[str, int]:
    """Version that the lines of text state, and where they end."""
    start, version = 0, ""
    while data[start : start + 1] == b"%":
        end = data.find(b"\n", start) + 1 or len(data)
        words = data[start + 1 : end].decode("ascii", "replace").split()
        if len(words) == 2 and words[0].lower() == "version":
            version = words[1]
        start = end
    return version, start


def _runs(blocks: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Neighbouring numbers together, at most so many."""
    for run in np.split(blocks, np.flatnonzero(np.diff(blocks) != 1) + 1):
        yield from (run[i : i + most] for i in range(0, len(run), most))


class Boxes(NamedTuple):
    """Boxes of one recording in order of time, cut to the frame."""

    times: np.ndarray
    """``[boxes]``, int64, in µs."""
    boxes: np.ndarray
    """``[boxes, 5]``, float32: x, y, width, height in pixels, and the class."""
    tracks: np.ndarray
    """``[boxes]``, int64: which object it is; −1 where the file does not say."""
    outside: int
    """Boxes that were left out, being wholly outside the frame."""


_FIELDS = {"time": ("ts", "t"), "x": ("x",), "y": ("y",), "w": ("w",), "h": ("h",),
           "class": ("class_id",)}  # fmt: skip


def read_boxes(path: Path, frame: tuple[int, int], classes: int) -> Boxes:
    """A file of boxes.

    Args:
        path: of ``NAME_bbox.npy``.
        frame: width and height of the sensor.
        classes: number of them.

    Raises:
        DataError: as listed in :mod:`bsnn_tha.data.gen1_files`.
    """
    try:
        records = np.load(path, allow_pickle=False)
    except Exception as error:  # many kinds, for a damaged file
        raise DataError(
            f"{path} is not a readable array file ({' '.join(str(error).split())}); replace it"
        ) from error
    columns = {name: _column(records, name, path) for name in _FIELDS}
    for name, values in columns.items():
        _check(path, values, np.isfinite(values), f"a number for {_FIELDS[name][0]}")
    _check(path, columns["time"], columns["time"] >= 0, "a time of at least 0")
    for name in ("w", "h"):
        _check(path, columns[name], columns[name] > 0, f"{name} above 0")
    label = columns["class"]
    known = np.isin(label, np.arange(classes))
    _check(path, label, known, f"a class_id from 0 to {classes - 1}")
    width, height = frame
    low = np.stack([columns["x"], columns["y"]], 1).astype(np.float64)
    high = low + np.stack([columns["w"], columns["h"]], 1)
    low, high = low.clip(0, [width, height]), high.clip(0, [width, height])
    seen = (high > low).all(1)
    boxes = np.concatenate([low, high - low, label[:, None]], 1).astype(np.float32)
    tracks = np.full(len(records), -1, np.int64)
    if "track_id" in (records.dtype.names or ()):
        tracks = records["track_id"].astype(np.int64)
    times = columns["time"].astype(np.int64)
    order = np.argsort(times[seen], kind="stable")
    return Boxes(times[seen][order], boxes[seen][order], tracks[seen][order], int((~seen).sum()))


def _column(records: np.ndarray, name: str, path: Path) -> np.ndarray:
    known = getattr(records.dtype, "names", None) or ()
    for spelling in _FIELDS[name]:
        if spelling in known and records.ndim == 1 and records.dtype[spelling].kind in "iuf":
            return records[spelling]
    raise DataError(
        f"{path} must hold records with a field {' or '.join(_FIELDS[name])} of numbers, "
        f"but has {', '.join(known) or 'no named fields'}; replace it"
    )


def _check(path: Path, values: np.ndarray, ok: np.ndarray, rule: str) -> None:
    if not ok.all():
        first = int(np.argmin(ok))
        raise DataError(
            f"each box of {path} must have {rule}, but box {first} has {values[first]:g}; "
            "repair the file"
        )
