"""Folders of recordings, ``GROUP/FILE``, and one rule for what may lie in them.

* What an operating system puts there (hidden files, ``Thumbs.db``, ``__MACOSX``, ...)
  is passed over.
* A file with the ending of the layout is a recording. It lies in a folder of its group,
  has at least one byte, and its class is one of the set's: anything else is an error that
  names the first such file.
* Other files beside recordings are left out, which is said; files beside the groups
  (archives, notes) are of no concern.

Whether each class has a recording is checked where all data sets meet, by
:meth:`bsnn_tha.data.event_set.EventSet.load`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bsnn_tha.data.decoders import read_aedat, read_bin, read_dat, read_npy
from bsnn_tha.data.recordings import RawEvents, stamp
from bsnn_tha.errors import DataError
from bsnn_tha.suggest import did_you_mean

logger = logging.getLogger(__name__)

_SYSTEM = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
    *("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"),
}


def is_system_file(path: Path) -> bool:
    """Whether an operating system or file manager put a file or folder there.

    Example:
        >>> [is_system_file(Path(name)) for name in (".DS_Store", "Thumbs.db", "._1.bin", "1.bin")]
        [True, True, True, False]
    """
    return path.name.startswith(".") or path.name.lower() in _SYSTEM


class FolderRecordings:
    """One file per sample, all of one format, in folders.

    Args:
        folder: that holds the groups.
        suffixes: of the recordings' files, any of them but not two at once.
        read: the format.
        sensor, microseconds: see :class:`~bsnn_tha.data.recordings.Recordings`.
        classes: their names in the order of their numbers; None for those that are
            there, in alphabetical order.

    Raises:
        DataError: there are no recordings, or the rule of this module is broken.
    """

    def __init__(
        self,
        folder: Path,
        suffixes: tuple[str, ...],
        read: Callable[[Path], RawEvents],
        sensor: tuple[int, ...],
        microseconds: float = 1.0,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.folder, self.sensor, self.microseconds = folder, sensor, microseconds
        self._read = read
        self.paths = _recording_files(folder, suffixes)
        self._given = classes

    def class_of(self, path: Path) -> str:
        """Name of a recording's class."""
        return path.parent.name

    @cached_property
    def class_names(self) -> list[str]:
        """In the order of their numbers."""
        if self._given is not None:
            return list(self._given)
        return sorted({self.class_of(path) for path in self.paths})

    @cached_property
    def labels(self) -> np.ndarray:
        numbers = {name: number for number, name in enumerate(self.class_names)}
        found = [self.class_of(path) for path in self.paths]
        for path, name in zip(self.paths, found, strict=True):
            if name not in numbers:
                raise DataError(
                    f"{path} must be named after one of the {len(numbers)} classes, "
                    f"but got {name!r}{did_you_mean(name, numbers)}; rename it, or move it away"
                )
        return np.array([numbers[name] for name in found])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> RawEvents:
        return self._read(self.paths[index])

    def where(self, index: int) -> str:
        return str(self.paths[index])

    def fingerprint(self) -> list[Any]:
        return [[str(p.relative_to(self.folder)), *stamp(p)] for p in self.paths]


def _recording_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The recordings in the groups of a folder, by the rule of this module."""
    patterns = " or ".join(f"*{suffix}" for suffix in suffixes)
    entries = _entries(folder)
    loose = [path for path in entries if path.is_file() and _ends(path, suffixes)]
    if loose:
        raise DataError(
            f"recordings must lie in a folder of their class below {folder}, but {loose[0].name} "
            "lies beside the folders; move it"
        )
    inside = [path for group in entries if group.is_dir() for path in _entries(group)]
    paths = [path for path in inside if path.is_file() and _ends(path, suffixes)]
    if not paths:
        there = ", ".join(path.name for path in entries[:5]) or "nothing"
        more = ", …" if len(entries) > 5 else ""
        raise DataError(
            f"there are no files {folder / '*'} / {patterns}: the folder holds {there}{more}; "
            "unpack or move the recordings there"
        )
    used = {suffix for suffix in suffixes if any(_ends(path, (suffix,)) for path in paths)}
    if len(used) > 1:
        raise DataError(
            f"{folder} must hold each recording once, but has files of {' and '.join(sorted(used))}"
            "; move one kind away"
        )
    empty = [path for path in paths if not path.stat().st_size]
    if empty:
        raise DataError(
            f"each recording must have at least one byte, but {empty[0]} is empty"
            f"{_and_others(empty)}; replace it, or delete it"
        )
    others = [path for path in inside if path not in set(paths)]
    if others:
        logger.warning(
            "left out what is no recording (%s): %s%s", patterns, others[0], _and_others(others)
        )
    return paths


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not is_system_file(path))


def _ends(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.suffix.lower() in suffixes


def _and_others(paths: list[Path]) -> str:
    return f" (and {len(paths) - 1:,} others)" if len(paths) > 1 else ""


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


class BinRecordings(FolderRecordings):
    """N-MNIST's layout: ``CLASS/*.bin``, classes 0 to 9, microseconds."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, (".bin",), read_bin, (2, 34, 34), classes=_numbers(10))


class NpyRecordings(FolderRecordings):
    """DVS128 Gesture as tonic unpacks it: ``userNN_lighting/CLASS.npy``, milliseconds.

    Args:
        folder: ``ibmGestureTrain`` or ``ibmGestureTest``.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, (".npy",), read_npy, (2, 128, 128), 1e3, _numbers(11))

    def class_of(self, path: Path) -> str:
        return path.stem


class NamedBinRecordings(FolderRecordings):
    """N-Caltech101's layout: ``CLASS/*.bin``, microseconds."""

    def __init__(self, folder: Path, classes: Sequence[str] | None = None) -> None:
        super().__init__(folder, (".bin",), read_bin, (2, 180, 240), classes=classes)


class AedatRecordings(FolderRecordings):
    """DVS-CIFAR10: ``CLASS/*.aedat4`` as tonic unpacks it, or ``CLASS/*.aedat``, microseconds."""

    def __init__(self, folder: Path, classes: Sequence[str] | None = None) -> None:
        suffixes = (".aedat4", ".aedat")
        super().__init__(folder, suffixes, read_aedat, (2, 128, 128), classes=classes)


class DatRecordings(FolderRecordings):
    """N-Cars' layout: ``CLASS/*.dat``, microseconds."""

    def __init__(self, folder: Path, classes: Sequence[str] | None = None) -> None:
        super().__init__(folder, (".dat",), read_dat, (2, 100, 120), classes=classes)
