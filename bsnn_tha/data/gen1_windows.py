"""Samples of recordings with boxes: the events just before each moment that has some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bsnn_tha.data.gen1_files import BOXES, EVENTS, Boxes, EventFile, read_boxes
from bsnn_tha.data.recordings import RawEvents, stamp
from bsnn_tha.errors import DataError


class LabelledFrames(NamedTuple):
    """Moments of one recording that have boxes."""

    ends: np.ndarray
    """``[frames]``, int64: the moment, in µs."""
    boxes: list[np.ndarray]
    """Of each, ``[boxes, 5]`` in pixels."""


def labelled_frames(boxes: Boxes, tolerance_us: int) -> LabelledFrames:
    """Boxes joined to moments: those of a moment are at most so far from it.

    A moment is the time of the first box that belongs to none yet; boxes up to
    ``tolerance_us`` later belong to it. Of an object that has several of them, the nearest
    counts.

    Example:
        >>> each = np.zeros((3, 5), np.float32)
        >>> boxes = Boxes(np.array([0, 30_000, 80_000]), each, np.array([1, 2, 1]), 0)
        >>> frames = labelled_frames(boxes, 50_000)
        >>> frames.ends.tolist(), [len(rows) for rows in frames.boxes]
        ([0, 80000], [2, 1])
    """
    ends: list[int] = []
    joined: list[np.ndarray] = []
    first = 0
    while first < len(boxes.times):
        end = int(boxes.times[first])
        last = int(np.searchsorted(boxes.times, end + tolerance_us, side="right"))
        seen: set[int] = set()
        rows = []
        for index in range(first, last):
            track = int(boxes.tracks[index])
            if track >= 0 and track in seen:
                continue
            seen.add(track)
            rows.append(index)
        ends.append(end)
        joined.append(boxes.boxes[rows])
        first = last
    return LabelledFrames(np.array(ends, np.int64), joined)


class LabelledWindows:
    """Recordings of a folder as samples: the events just before each labelled moment.

    One of :class:`~bsnn_tha.data.recordings.Recordings`, so that it is binned and cached as
    all events are. A sample reads what its window needs of its file.

    Args:
        folder: that holds both files of each recording.
        frame: width and height of the sensor.
        classes: number of them.
        span_us: length of a window, in µs; it ends at the moment.
        tolerance_us: how far from the moment its boxes may be.

    Attributes:
        boxes: of each sample, ``[boxes, 5]`` in pixels.
        times: of each sample's moment, in µs from the recording's start.
        outside: boxes that were left out, being outside the frame.

    Raises:
        DataError: as listed in :mod:`bsnn_tha.data.gen1_files`; or there are no samples.
    """

    microseconds = 1.0

    def __init__(
        self,
        folder: Path,
        frame: tuple[int, int],
        classes: int,
        span_us: int,
        tolerance_us: int = 50_000,
    ) -> None:
        self.folder, self.span_us = folder, span_us
        width, height = frame
        self.sensor: tuple[int, ...] = (2, height, width)
        self.names = _recordings(folder)
        self.boxes: list[np.ndarray] = []
        self.outside = 0
        times, files = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for number, name in enumerate(self.names):
            read = read_boxes(folder / (name + BOXES), frame, classes)
            frames = labelled_frames(read, tolerance_us)
            self.boxes += frames.boxes
            self.outside += read.outside
            times.append(frames.ends)
            files.append(np.full(len(frames.ends), number))
        self.times, self._files = np.concatenate(times), np.concatenate(files)
        if not len(self.times):
            raise DataError(
                f"{folder} must have recordings with boxes, but has {len(self.names)} recordings "
                "and no box; place them there"
            )
        self._opened: tuple[int, EventFile] | None = None

    @property
    def labels(self) -> np.ndarray:
        """A number for each sample, which says nothing: boxes are in :attr:`boxes`."""
        return np.zeros(len(self), np.int64)

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, index: int) -> RawEvents:
        number, end = int(self._files[index]), int(self.times[index])
        file = self._open(number)
        if end - self.span_us > file.last_time():
            raise DataError(
                f"{file.path} must have events up to its last box, but ends at "
                f"{file.last_time():,} µs with a box at {end:,} µs: it is cut off, or "
                f"{self.names[number] + BOXES} is of another recording; replace them"
            )
        return file.window(end - self.span_us, end)

    def where(self, index: int) -> str:
        name = self.names[self._files[index]]
        return f"{self.folder / (name + EVENTS)} before {self.times[index]:,} µs"

    def fingerprint(self) -> list[Any]:
        paths = [self.folder / (name + end) for name in self.names for end in (EVENTS, BOXES)]
        span = [self.span_us, self.times.tolist()]
        return [span, *([path.name, *stamp(path)] for path in paths)]

    def _open(self, number: int) -> EventFile:
        if self._opened is None or self._opened[0] != number:
            self._opened = number, EventFile(self.folder / (self.names[number] + EVENTS))
        return self._opened[1]


def _recordings(folder: Path) -> Sequence[str]:
    """Names of the recordings of a folder, each of which must have both files."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; place the recordings there")
    files = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    found = {
        end: {name.removesuffix(end) for name in files if name.endswith(end)}
        for end in (EVENTS, BOXES)
    }
    for end, other in ((EVENTS, BOXES), (BOXES, EVENTS)):
        if lonely := sorted(found[end] - found[other]):
            raise DataError(
                f"{folder / (lonely[0] + end)} must lie beside {lonely[0] + other}, which is not "
                "there; place it, or take the file away"
            )
    if not found[EVENTS]:
        raise DataError(
            f"{folder} must hold recordings, NAME{EVENTS} and NAME{BOXES}, but has none; "
            "place them there"
        )
    return sorted(found[EVENTS])
