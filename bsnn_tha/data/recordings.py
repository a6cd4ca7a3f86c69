"""Recordings of events as they lie on disk: one reader per file layout.

A reader is a sequence of samples. What it hands out is raw: times in the
file's own unit and coordinates as stored, in the order of the sensor's axes.
Whether they make sense is checked in one place, by
:func:`bsnn_tha.data.binning.bin_recording`.

=============  ======================================  ====================
layout         files                                   reader
=============  ======================================  ====================
SHD            one HDF5 file per part                  :class:`HDF5Recordings`
N-MNIST        ``CLASS/NNNNN.bin``                     :class:`BinRecordings`
DVS128         ``userNN_lighting/CLASS.npy``           :class:`NpyRecordings`
N-Caltech101   ``CLASS/image_NNNN.bin``                :class:`NamedBinRecordings`
DVS-CIFAR10    ``CLASS/*.aedat4``                      :class:`AedatRecordings`
N-Cars         ``CLASS/*.dat``                         :class:`DatRecordings`
any other      a data set of :mod:`tonic`              :class:`TonicRecordings`
=============  ======================================  ====================
"""

from __future__ import annotations

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


def _stamp(path: Path) -> list[Any]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


class HDF5Recordings:
    """SHD's layout: ``spikes/times`` (seconds), ``spikes/units``, ``labels``.

    The file is opened once, when the first sample is read.

    Args:
        path: of the ``.h5`` file.

    Raises:
        DataError: the file is missing, truncated or of another layout.
    """

    sensor: tuple[int, ...] = (700,)
    microseconds = 1e6

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise DataError(f"there is no file {path}")

    @cached_property
    def _file(self) -> Any:
        import h5py

        try:
            file = h5py.File(self.path, "r")
            names = ["spikes/times", "spikes/units", "labels"]
            names += ["extra/speaker"] * ("extra/speaker" in file)
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
        return [self.path.name, *_stamp(self.path)]


class _FolderRecordings:
    """One file per sample, found by a pattern."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self.folder = folder
        self.paths = sorted(folder.glob(pattern))
        if not self.paths:
            raise DataError(f"there are no files {folder / pattern}")

    def __len__(self) -> int:
        return len(self.paths)

    def where(self, index: int) -> str:
        return str(self.paths[index])

    def fingerprint(self) -> list[Any]:
        return [[str(p.relative_to(self.folder)), *_stamp(p)] for p in self.paths]


class BinRecordings(_FolderRecordings):
    """N-MNIST's layout: ``CLASS/*.bin``, five bytes an event, microseconds.

    Not read through tonic, which takes time quadratic in the overflow events
    and fails on a file that is cut off; on whole files both agree.

    Args:
        folder: with one folder for each class.
    """

    sensor: tuple[int, ...] = (2, 34, 34)
    microseconds = 1.0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "[0-9]*/*.bin")

    @cached_property
    def labels(self) -> np.ndarray:
        return np.array([_class_number(path.parent.name, path) for path in self.paths])

    def __getitem__(self, index: int) -> RawEvents:
        return _read_bin(self.paths[index])


def _read_bin(path: Path) -> RawEvents:
    data = _bytes(path)
    if len(data) % 5:
        raise DataError(
            f"{path} must hold five bytes for each event, but has {len(data):,} bytes: "
            "it is cut off; replace it"
        )
    x, y, high, middle, low = data.reshape(-1, 5).T.astype(np.int64)
    # Not an event of a pixel: from here on the clock is 2^13 µs further.
    overflow = y == 240
    times = (high & 127) << 16 | middle << 8 | low
    times += np.cumsum(overflow) << 13
    return RawEvents(times[~overflow], tuple(c[~overflow] for c in (high >> 7, y, x)))


def _bytes(path: Path) -> np.ndarray:
    try:
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


class NpyRecordings(_FolderRecordings):
    """DVS128 Gesture as tonic unpacks it: ``userNN_lighting/CLASS.npy``.

    Each file is an array ``[events, 4]`` with the columns x, y, polarity and
    time in milliseconds.

    Args:
        folder: ``ibmGestureTrain`` or ``ibmGestureTest``.
    """

    sensor: tuple[int, ...] = (2, 128, 128)
    microseconds = 1e3

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "user*/*.npy")

    @cached_property
    def labels(self) -> np.ndarray:
        return np.array([_class_number(path.stem, path) for path in self.paths])

    def __getitem__(self, index: int) -> RawEvents:
        path = self.paths[index]
        try:
            events = np.load(path, allow_pickle=False)
        except Exception as error:  # also of zipfile, or out of memory for a made-up shape
            raise DataError(
                f"{path} is not a readable array file ({' '.join(str(error).split())}); replace it"
            ) from error
        if not isinstance(events, np.ndarray) or events.ndim != 2 or events.shape[1] != 4:
            raise DataError(
                f"{path} must hold an array of x, y, polarity and time, [events, 4], but got "
                f"{getattr(events, 'shape', 'no array')}"
            )
        x, y, polarity, times = events.T
        return RawEvents(times, (polarity, y, x))


class _NamedFolders(_FolderRecordings):
    """One folder for each class, with its name; classes are numbered in alphabetical order."""

    microseconds = 1.0

    @cached_property
    def class_names(self) -> list[str]:
        return sorted({path.parent.name for path in self.paths})

    @cached_property
    def labels(self) -> np.ndarray:
        numbers = {name: number for number, name in enumerate(self.class_names)}
        return np.array([numbers[path.parent.name] for path in self.paths])


class NamedBinRecordings(_NamedFolders):
    """N-Caltech101's layout: ``CLASS/*.bin``, files as N-MNIST's.

    Args:
        folder: ``Caltech101``, with one folder for each class.
    """

    sensor: tuple[int, ...] = (2, 180, 240)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "*/*.bin")

    def __getitem__(self, index: int) -> RawEvents:
        return _read_bin(self.paths[index])


class AedatRecordings(_NamedFolders):
    """DVS-CIFAR10 as tonic unpacks it: ``CLASS/*.aedat4``, microseconds.

    Args:
        folder: with one folder for each class.
    """

    sensor: tuple[int, ...] = (2, 128, 128)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "*/*.aedat4")

    def __getitem__(self, index: int) -> RawEvents:
        from tonic.io import read_aedat4

        path = self.paths[index]
        try:
            events = read_aedat4(str(path))
            times, x, y, polarity = (events[name] for name in events.dtype.names)
        except ImportError as error:
            raise DataError(
                f"reading {path} needs the package aedat, which is not installed; pip install aedat"
            ) from error
        except Exception as error:  # of the decoder, for a damaged file
            raise DataError(
                f"{path} is not a readable AEDAT 4 file ({' '.join(str(error).split())}); "
                "replace it"
            ) from error
        return RawEvents(times, (polarity, y, x))


class DatRecordings(_NamedFolders):
    """N-Cars' layout: ``CLASS/*.dat``, Prophesee's event files of version 2.

    After lines of text that start with ``%``, two bytes (an event's type and size),
    then eight bytes an event, little-endian: 32 bits time in µs, 14 bits x, 14 bits
    y, 4 bits polarity.

    Args:
        folder: ``n-cars_train`` or ``n-cars_test``.
    """

    sensor: tuple[int, ...] = (2, 100, 120)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "*/*.dat")

    def __getitem__(self, index: int) -> RawEvents:
        path = self.paths[index]
        version, size, events = _dat_parts(_bytes(path).tobytes())
        if version != "2" or size != 8 or len(events) % 8:
            raise DataError(
                f"{path} must be an event file of version 2 with eight bytes for each event, but "
                f"has version {version}, {size} bytes for each event and {len(events):,} bytes of "
                "events; replace it"
            )
        times, places = np.frombuffer(events, "<u4").reshape(-1, 2).T.astype(np.int64)
        x, y, polarity = places & 0x3FFF, places >> 14 & 0x3FFF, places >> 28
        return RawEvents(times, (polarity, y, x))


def _dat_parts(data: bytes) -> tuple[str, int, bytes]:
    """Version, bytes of an event, and the bytes of all events."""
    start, version = 0, ""
    while data[start : start + 1] == b"%":
        end = data.find(b"\n", start) + 1 or len(data)
        words = data[start + 1 : end].decode("ascii", "replace").split()
        if len(words) == 2 and words[0].lower() == "version":
            version = words[1]
        start = end
    size = data[start + 1] if len(data) > start + 1 else 0
    return version, size, data[start + 2 :]


class TonicRecordings:
    """Any data set of :mod:`tonic` that hands out ``(events, class index)``.

    Args:
        dataset: e.g. ``tonic.datasets.NCARS(...)``, without transforms: they
            would run only once, when the cache is built.
        name: under which its binned samples are cached; it stands for the
            files, whose changes are not noticed here.
    """

    microseconds = 1.0

    def __init__(self, dataset: Any, name: str) -> None:
        self.dataset = dataset
        self.name = name
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
        return RawEvents(events["t"], tuple(events[axis] for axis in axes))

    def where(self, index: int) -> str:
        return f"sample {index} of {self.name}"

    def fingerprint(self) -> list[Any]:
        return [self.name, len(self)]


def _class_number(text: str, path: Path) -> int:
    if not text.isascii() or not text.isdigit():
        raise DataError(f"{path} must be named after its class, a number, but got {text!r}")
    return int(text)
