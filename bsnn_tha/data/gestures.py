"""DVS128 Gesture as its authors published it: one AEDAT 3.1 file for many gestures.

``userNN_lighting.aedat`` holds what the camera saw of one person under one light, and
``userNN_lighting_labels.csv`` when each gesture was made: lines of class (1 to 11), start
and end in µs, below a header. ``trials_to_train.txt`` and ``trials_to_test.txt`` name the
files of the two parts. A gesture that was made twice is two samples, where the arrays that
tonic downloads have one.
"""

from __future__ import annotations

import csv
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bsnn_tha.data.decoders import read_aedat3
from bsnn_tha.data.download import RemoteFile, fetch_unpacked
from bsnn_tha.data.folders import NpyRecordings
from bsnn_tha.data.recordings import RawEvents, Recordings, stamp
from bsnn_tha.errors import DataError

FOLDER = "DvsGesture"
"""That the authors' archive, ``DvsGesture.tar.gz``, unpacks to."""


class GestureRecordings:
    """The gestures of one part; times start with each gesture, in µs.

    Args:
        part: ``trials_to_train.txt`` or ``trials_to_test.txt``, beside the files it names.

    Raises:
        DataError: a file is missing or damaged.
    """

    def __init__(self, part: Path) -> None:
        self.part = part
        self.sensor: tuple[int, ...] = (2, 128, 128)
        self.microseconds = 1.0
        names = [line.strip() for line in _text(part).splitlines() if line.strip()]
        self.paths = [part.parent / Path(name).name for name in names]
        for path in self.paths:
            if not path.is_file():
                raise DataError(f"{part} names {path.name}, but there is no {path}; place it there")
        self._trials = [trial for path in self.paths for trial in _trials(path)]
        if not self._trials:
            raise DataError(f"{part} must name recordings with gestures, but there are none")
        self._last: tuple[Path, RawEvents] | None = None

    @cached_property
    def labels(self) -> np.ndarray:
        return np.array([label for _, label, _, _ in self._trials])

    def __len__(self) -> int:
        return len(self._trials)

    def __getitem__(self, index: int) -> RawEvents:
        path, _, start, end = self._trials[index]
        if self._last is None or self._last[0] != path:  # a file is read once for its gestures
            self._last = path, read_aedat3(path)
        times, places = self._last[1]
        inside = (times >= start) & (times < end)
        return RawEvents(times[inside] - start, tuple(place[inside] for place in places))

    def where(self, index: int) -> str:
        path, label, start, _ = self._trials[index]
        return f"gesture {label + 1} at {start:,} µs of {path}"

    def fingerprint(self) -> list[Any]:
        files = [self.part, *self.paths, *map(_labels_of, self.paths)]
        return ["gestures", *([path.name, *stamp(path)] for path in files)]


def _labels_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}_labels.csv")


def _trials(path: Path) -> list[tuple[Path, int, int, int]]:
    """File, class from 0, start and end of each gesture."""
    labels = _labels_of(path)
    try:
        rows = [[int(cell) for cell in row] for row in list(csv.reader(_text(labels).split()))[1:]]
        return [(path, number - 1, start, end) for number, start, end in rows]
    except (ValueError, csv.Error) as error:
        raise DataError(
            f"{labels} must have lines of class, start and end in µs below a header, but: {error}; "
            "replace it"
        ) from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} must be text, but is not ({error.reason}); replace it") from error


def read_gestures(part: Path) -> Recordings:
    """Recordings of a part in either form: a list of AEDAT files, or tonic's folder of arrays."""
    return GestureRecordings(part) if part.is_file() else NpyRecordings(part)


def find_published(root: Path, title: str, part: int) -> Path | None:
    """The list of a part's files below a data root, unpacked if only the archive is there.

    Args:
        root: data root.
        title: the data set's folder below it.
        part: 0 for training, 1 for test.

    Raises:
        DataError: there are such recordings, but not the list of this part.
    """
    folder = root / title
    archive = RemoteFile(f"{FOLDER}.tar.gz", "", ())
    if (folder / archive.name).is_file():
        fetch_unpacked(archive, folder, FOLDER)
    name = f"trials_to_{('train', 'test')[part]}.txt"
    for place in (folder / FOLDER, folder, root / FOLDER):
        if (place / name).is_file():
            return place / name
        if any(place.glob("user*.aedat")):
            raise DataError(
                f"{place} holds DVS128 Gesture's recordings, but no {name}, which says which are "
                "for this part; place it there, from the same archive"
            )
    return None
