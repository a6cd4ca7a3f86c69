"""Recordings of events as they lie on disk: what a reader is, and two of them.

A reader is a sequence of samples. What it hands out is raw: times in the
file's own unit and coordinates as stored, in the order of the sensor's axes.
Whether they make sense is checked in one place, by
:func:`bsnn_tha.data.binning.bin_recording`.

======================================  ==========================================
files                                   reader
======================================  ==========================================
one HDF5 file per part (SHD)            :class:`HDF5Recordings`
a data set of :mod:`tonic`              :class:`TonicRecordings`
one file per sample, in folders         :mod:`bsnn_tha.data.folders`
one file of a DVS128 for many gestures  :class:`bsnn_tha.data.gestures.GestureRecordings`
======================================  ==========================================
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from bsnn_tha.errors import DataError


class RawEvents(NamedTuple):
    """The events of one sample, unchecked."""

    times: np.ndarray
    """``[events]``, in the recordings' unit."""
    coordinates: tuple[np.ndarray, ...]
    """One array ``[events]`` for each axis of the sensor."""


class Recordings(Protocol):
    """Samples of events with their labels."""

    sensor: tuple[int, ...]
    """``(units,)``, or ``(polarities, height, width)`` of a camera."""
    microseconds: float
    """One unit of the times, in µs."""

    @property
    def labels(self) -> np.ndarray:
        """Class of each sample, ``[samples]``."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> RawEvents: ...

    def where(self, index: int) -> str:
        """Names a sample in error messages."""
        ...

    def fingerprint(self) -> list[Any]:
        """Changes when the files change: names, sizes and times of change."""
        ...


def stamp(path: Path) -> list[Any]:
    """Size and time of change of a file, for fingerprints."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


_SPELLINGS = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "p": ("p", "pol", "polarity", "polarities", "on"),
    "y": ("y", "ys"),
    "x": ("x", "xs"),
}
"""Of the fields of an event, in lower case."""


def named_fields(
    events: np.ndarray | Mapping[str, Any], wanted: tuple[str, ...], where: str
) -> tuple[np.ndarray, ...]:
    """Columns of events that come with names, however these are spelled.

    Args:
        events: an array of records, or a mapping of columns.
        wanted: any of t, p, y and x, in the order of the result.
        where: names the sample in error messages.

    Raises:
        DataError: a field is missing, or there under two spellings.

    Example:
        >>> records = np.array([(7, 1, True)], [("timestamp", int), ("x", int), ("Polarity", bool)])
        >>> [column.tolist() for column in named_fields(records, ("t", "p", "x"), "a")]
        [[7], [True], [1]]
    """
    if isinstance(events, Mapping):
        names = list(events)
    else:
        names = list(getattr(getattr(events, "dtype", None), "names", None) or ())
    columns = []
    for field in wanted:
        found = [name for name in names if str(name).lower() in _SPELLINGS[field]]
        if len(found) != 1:
            raise DataError(
                f"events of {where} must have one field {field} (or {_SPELLINGS[field][-1]}), but "
                f"have {', '.join(map(str, names)) or 'no named fields'}; rename the fields"
            )
        columns.append(np.asarray(events[found[0]]))
    return tuple(columns)


class HDF5Recordings:
    """SHD's layout: ``spikes/times`` (seconds), ``spikes/units``, ``labels``.

    The file is opened once, when the first sample is read. What is in other files is not
    read, although HDF5 could: a file from elsewhere cannot make this one's user read theirs.

    Args:
        path: of the ``.h5`` file.

    Raises:
        DataError: the file is missing, truncated or of another layout.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sensor: tuple[int, ...] = (700,)
        self.microseconds = 1e6
        if not path.is_file():
            raise DataError(f"there is no file {path}")

    @cached_property
    def _file(self) -> Any:
        import h5py

        try:
            file = h5py.File(self.path, "r")
            names = ["spikes/times", "spikes/units", "labels"]
            names += ["extra/speaker"] * ("extra/speaker" in file)
            for name in names:
                _check_inside(file, name)
            lengths = [len(file[name]) for name in names]
        except Exception as error:  # h5py raises many kinds for a damaged file
            raise self._damaged(error) from error
        if len(set(lengths)) != 1:
            raise DataError(f"{self.path} must hold as many {', '.join(names)}, but got {lengths}")
        return file

    def _damaged(self, error: Exception) -> DataError:
        return DataError(
            f"{self.path} is not a readable HDF5 file with spikes/times, spikes/units and labels "
            f"({' '.join(str(error).split())}); replace it, or delete it to have it fetched again"
        )

    def _values(self, name: str, index: Any) -> np.ndarray:
        try:
            return np.asarray(self._file[name][index])
        except DataError:
            raise
        except Exception as error:
            raise self._damaged(error) from error

    @cached_property
    def labels(self) -> np.ndarray:
        return self._values("labels", slice(None))

    @cached_property
    def speakers(self) -> np.ndarray | None:
        """Who speaks each sample, ``[samples]``; None if the file does not say."""
        if "extra/speaker" not in self._file:
            return None
        return self._values("extra/speaker", slice(None))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> RawEvents:
        return RawEvents(
            self._values("spikes/times", index), (self._values("spikes/units", index),)
        )

    def where(self, index: int) -> str:
        return f"sample {index} of {self.path}"

    def fingerprint(self) -> list[Any]:
        return [self.path.name, *stamp(self.path)]


def _check_inside(file: Any, name: str) -> None:
    """Raise ValueError if a dataset, or a group on its way, is in another file."""
    import h5py

    parts = name.split("/")
    for depth in range(1, len(parts) + 1):
        place = "/".join(parts[:depth])
        if isinstance(file.get(place, getlink=True), h5py.ExternalLink):
            raise ValueError(f"{place} is in another file")
    found = file[name]
    if isinstance(found, h5py.Dataset) and (found.external or found.is_virtual):
        raise ValueError(f"{name} is in another file")


class TonicRecordings:
    """Any data set of :mod:`tonic` that hands out ``(events, class index)``.

    Args:
        dataset: e.g. ``tonic.datasets.NCARS(...)``, without transforms: they
            would run only once, when the cache is built.
        name: under which its binned samples are cached; it stands for the
            files, whose changes are not noticed here.
        microseconds: one unit of its times; tonic's own data sets have 1.
    """

    def __init__(self, dataset: Any, name: str, microseconds: float = 1.0) -> None:
        self.dataset = dataset
        self.name = name
        self.microseconds = microseconds
        if dataset.sensor_size is None:  # recordings of different sizes
            raise DataError(f"{name} must have one sensor_size, but got None")
        width, height, polarities = dataset.sensor_size
        self.sensor: tuple[int, ...] = (
            (width,) if (height, polarities) == (1, 1) else (polarities, height, width)
        )

    @cached_property
    def labels(self) -> np.ndarray:
        targets = getattr(self.dataset, "targets", None)
        if targets is None or len(targets) != len(self.dataset):
            targets = [self.dataset[index][1] for index in range(len(self.dataset))]
        return np.asarray(targets)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> RawEvents:
        events, _ = self.dataset[index]
        axes = ("x",) if len(self.sensor) == 1 else ("p", "y", "x")
        times, *coordinates = named_fields(events, ("t", *axes), self.where(index))
        return RawEvents(times, tuple(coordinates))

    def where(self, index: int) -> str:
        return f"sample {index} of {self.name}"

    def fingerprint(self) -> list[Any]:
        return [self.name, len(self)]
