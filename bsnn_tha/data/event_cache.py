"""Binned recordings on disk: compact, memory-mapped, made once.

A cache is a folder of flat arrays and a ``meta.json`` with their lengths and
checksums; its name ends in a hash of everything that shapes its content. It
is written under a temporary name and renamed when complete, so a reader never
sees half of one; a lock lets one process build while others wait. Whatever
does not match its ``meta.json`` is built again.

Whole recordings are kept, not windows of T steps: how long a window is, where
it starts and whether events are counted is decided when a batch is taken, and
all these choices share a cache. Samples are mapped from disk, so a data set
may be larger than memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from bsnn_tha.data.binning import Invalid, Origin, bin_recording, binned_sensor
from bsnn_tha.data.recordings import Recordings
from bsnn_tha.errors import DataError

logger = logging.getLogger(__name__)

FORMAT = 2
"""Of the folder's content; a change makes all older caches unknown."""
CHECKED_BYTES = 1 << 30
"""Files up to this size are checksummed when opened, larger ones measured only."""


@dataclass(frozen=True)
class Binning:
    """What shapes the binned form of recordings."""

    bin_us: int
    """Width of a time bin in µs."""
    downsample: int = 1
    """So many neighbouring rows and columns of a camera become one."""
    size: int | None = None
    """Rows and columns (or units) that the sensor is scaled to instead."""
    origin: Origin = "zero"
    invalid: Invalid = "refuse"


class EventWindow(NamedTuple):
    """A part of one sample."""

    per_bin: np.ndarray
    """``[bins]``, int64: events in each bin; may be shorter than asked for."""
    units: np.ndarray
    """``[events]``: flattened sensor positions, in order of time."""


class EventStore:
    """Opened cache: the binned samples of one part of a data set.

    Args:
        folder: a complete cache.

    Attributes:
        shape: of a frame, e.g. ``(700,)`` or ``(2, 32, 32)``.
        labels: ``[samples]``, int64.
        dropped: invalid events that were left out.
    """

    def __init__(self, folder: Path) -> None:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if meta.pop("crc32") != _checksum(meta):
            raise ValueError("meta.json has another checksum")
        self.folder = folder
        self.shape: tuple[int, ...] = tuple(meta["shape"])
        self.dropped: int = meta["dropped"]
        types = {"labels": "int64", "bins": "int64", "events": "int64", "ends": "uint32"}
        types["units"] = meta["units"]
        arrays = {}
        for name, dtype in types.items():
            path = folder / f"{name}.bin"
            _check(path, **meta["files"][name])
            arrays[name] = _map(path, dtype)
        self.labels = np.array(arrays["labels"])
        self._bins = np.concatenate([[0], np.cumsum(arrays["bins"])])
        self._events = np.concatenate([[0], np.cumsum(arrays["events"])])
        self._ends, self._units = arrays["ends"], arrays["units"]
        if self._bins[-1] != len(self._ends) or self._events[-1] != len(self._units):
            raise ValueError("lengths of samples and arrays differ")

    def __len__(self) -> int:
        return len(self.labels)

    def bins(self, sample: int) -> int:
        """Time bins up to the sample's last event."""
        return int(self._bins[sample + 1] - self._bins[sample])

    def lengths(self) -> np.ndarray:
        """Time bins of every sample, ``[samples]``."""
        return np.diff(self._bins)

    def events_before(self, bins: int | np.ndarray) -> np.ndarray:
        """Events of every sample in its first bins, ``[samples]``, int64."""
        lengths = self.lengths()
        taken = np.minimum(lengths, bins)
        counts = np.zeros(len(self), np.int64)
        some = taken > 0
        counts[some] = self._ends[(self._bins[:-1] + taken - 1)[some]]
        return counts

    def window(self, sample: int, start: int, steps: int) -> EventWindow:
        """Up to ``steps`` bins of a sample from bin ``start`` on."""
        first, last = self._bins[sample], self._bins[sample + 1]
        begin, end = min(first + start, last), min(first + start + steps, last)
        ends = self._ends[begin:end].astype(np.int64)
        before = int(self._ends[begin - 1]) if begin > first else 0
        after = int(ends[-1]) if len(ends) else before
        offset = self._events[sample]
        units = self._units[offset + before : offset + after]
        return EventWindow(np.diff(ends, prepend=before), units)

    @property
    def bytes_per_sample(self) -> float:
        """On disk, all arrays together."""
        size = sum(path.stat().st_size for path in self.folder.glob("*.bin"))
        return size / max(1, len(self))


def cached_events(
    recordings: Recordings, name: str, binning: Binning, num_classes: int, cache: Path
) -> EventStore:
    """The binned form of recordings, from the cache or made now.

    Args:
        recordings: what to bin.
        name: of the cache, for people who look into the folder.
        binning: how.
        num_classes: labels must be below it.
        cache: folder of all caches; created if needed.

    Raises:
        DataError: an invalid recording or label, or the cache cannot be
            written. Nothing is left behind.
    """
    key = {
        "format": FORMAT,
        "binning": asdict(binning),
        "sensor": recordings.sensor,
        "microseconds": recordings.microseconds,
        "recordings": recordings.fingerprint(),
    }
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    folder = cache / f"{name}-{digest}"
    store = _open(folder, logging.DEBUG)  # the second look below will say it
    if store is None:
        with _building(cache, folder):
            # While this process waited, another may have built it.
            store = _open(folder, logging.WARNING)
            if store is None:
                _build(recordings, name, binning, num_classes, folder)
                store = EventStore(folder)
    return store


def _open(folder: Path, level: int) -> EventStore | None:
    if not folder.exists():
        return None
    try:
        return EventStore(folder)
    except Exception as error:  # whatever rubbish in its files can lead to
        logger.log(level, "cache %s is damaged (%s): building it again", folder, error)
        return None


@contextlib.contextmanager
def _building(cache: Path, folder: Path) -> Iterator[None]:
    from filelock import FileLock

    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = FileLock(cache / f".{folder.name}.lock")
        lock.acquire()
    except OSError as error:
        raise DataError(
            f"the cache folder {cache} must be writable, but got {error.strerror or error}; "
            "choose another one, for example with the environment variable BSNN_THA_CACHE"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _build(
    recordings: Recordings, name: str, binning: Binning, num_classes: int, folder: Path
) -> None:
    labels = recordings.labels
    if len(labels) and (labels.dtype.kind not in "iu" or labels.ndim != 1):
        raise DataError(
            f"labels of {name} must be whole numbers, one for each recording, but got "
            f"{labels.dtype} data of shape {labels.shape}"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        raise DataError(
            f"labels must be from 0 to {num_classes - 1}, but {recordings.where(int(wrong[0]))} "
            f"has {labels[wrong[0]]}"
        )
    for stale in folder.parent.glob(f".{folder.name}.*.tmp"):  # of a killed process
        shutil.rmtree(stale, ignore_errors=True)
    try:
        temporary = Path(
            tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp")
        )
        try:
            _write(recordings, name, binning, temporary)
            if folder.exists():
                shutil.rmtree(folder)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"cannot write the cache {folder}: {error.strerror or error}; free some space, or "
            "choose another folder with the environment variable BSNN_THA_CACHE"
        ) from error


def _write(recordings: Recordings, name: str, binning: Binning, folder: Path) -> None:
    bins, events, dropped = [], [], 0
    unit_type = "uint16"
    with _Writer(folder, "ends") as ends, _Writer(folder, "units") as units:
        for index in _progress(len(recordings), name):
            binned = bin_recording(
                recordings[index],
                recordings.sensor,
                recordings.microseconds,
                **asdict(binning),
                where=recordings.where(index),
            )
            ends.write(binned.ends)
            units.write(binned.units)
            unit_type = binned.units.dtype.name
            bins.append(len(binned.ends))
            events.append(len(binned.units))
            dropped += binned.dropped
    files = {"ends": ends.facts(), "units": units.facts()}
    for key, values in (("labels", recordings.labels), ("bins", bins), ("events", events)):
        with _Writer(folder, key) as writer:
            writer.write(np.asarray(values, dtype=np.int64))
        files[key] = writer.facts()
    meta = {
        "shape": binned_sensor(recordings.sensor, binning.downsample, binning.size),
        "units": unit_type,
        "dropped": dropped,
        "files": files,
    }
    text = json.dumps({**meta, "crc32": _checksum(meta)}, indent=2)
    (folder / "meta.json").write_text(text + "\n", encoding="utf-8")


def _checksum(meta: dict[str, object]) -> int:
    return zlib.crc32(json.dumps(meta, sort_keys=True).encode())


class _Writer:
    """A flat array on disk, written piece by piece, with its length and checksum."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file: BinaryIO = (folder / f"{name}.bin").open("wb")
        self._size = self._crc = 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def write(self, values: np.ndarray) -> None:
        data = values.tobytes()
        self._file.write(data)
        self._size += len(data)
        self._crc = zlib.crc32(data, self._crc)

    def facts(self) -> dict[str, int]:
        return {"size": self._size, "crc32": self._crc}


def _check(path: Path, size: int, crc32: int) -> None:
    found = path.stat().st_size
    if found != size:
        raise ValueError(f"{path.name} has {found:,} bytes instead of {size:,}")
    if size > CHECKED_BYTES:
        return
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            crc = zlib.crc32(chunk, crc)
    if crc != crc32:
        raise ValueError(f"{path.name} has another checksum")


def _map(path: Path, dtype: str) -> np.ndarray:
    # An empty file cannot be mapped.
    return np.memmap(path, dtype, mode="r") if path.stat().st_size else np.zeros(0, dtype)


def _progress(samples: int, name: str) -> Iterator[int]:
    """Sample numbers, under a bar on a terminal."""
    logger.info("binning %d recordings of %s, once", samples, name)
    if sys.stderr is None or not sys.stderr.isatty():
        yield from range(samples)
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(range(samples), name, console=Console(stderr=True), transient=True)
