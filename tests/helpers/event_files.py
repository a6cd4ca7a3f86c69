"""Event recordings for tests: written from the formats' descriptions, binned by plain loops."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bsnn_tha.data.recordings import RawEvents

Event = tuple[int, int, int, int]
"""x, y, polarity and time of one event of a camera."""


def hdf5_bytes(
    times: Sequence[Any],
    units: Sequence[Any],
    labels: Sequence[int],
    speakers: Sequence[int] | None = None,
) -> bytes:
    """SHD's layout: variable-length float16 seconds and uint16 units."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, dtype, samples in (
            ("spikes/times", np.float16, times),
            ("spikes/units", np.uint16, units),
        ):
            data = file.create_dataset(name, (len(samples),), h5py.vlen_dtype(dtype))
            for index, values in enumerate(samples):
                data[index] = np.asarray(values, dtype)
        file["labels"] = np.asarray(labels, np.uint16)
        if speakers is not None:
            file["extra/speaker"] = np.asarray(speakers, np.uint16)
            file["extra/keys"] = [b"zero", b"one"]
    return buffer.getvalue()


def bin_bytes(events: Iterable[Event]) -> bytes:
    """N-MNIST's layout, big-endian: 8 bits x, 8 bits y, 1 bit polarity, 23 bits µs."""
    return b"".join((x << 32 | y << 24 | p << 23 | t).to_bytes(5, "big") for x, y, p, t in events)


def dat_bytes(events: Iterable[Event], header: str = "% Version 2\n", size: int = 8) -> bytes:
    """N-Cars' layout, little-endian: 32 bits µs; 14 bits x, 14 bits y, 4 bits polarity."""
    words = (t | (x | y << 14 | p << 28) << 32 for x, y, p, t in events)
    body = b"".join(word.to_bytes(8, "little") for word in words)
    return header.encode() + bytes([0, size]) + body


def aedat2_bytes(events: Iterable[Event]) -> bytes:
    """CIFAR10-DVS as published, big-endian: an address of a DVS128 and µs; bit 0 is OFF."""
    words = (((127 - x) << 8 | (127 - y) << 1 | 1 - p, t) for x, y, p, t in events)
    body = b"".join(address.to_bytes(4, "big") + t.to_bytes(4, "big") for address, t in words)
    return b"#!AER-DAT2.0\r\n# a comment\r\n" + body


def aedat3_packet(events: Iterable[Event], kind: int = 1, overflow: int = 0) -> bytes:
    """Valid polarity events of DVS128 Gesture as published, little-endian."""
    words = [(1 | p << 1 | y << 2 | x << 17, t) for x, y, p, t in events]
    header = struct.pack("<HHiiiiii", kind, 0, 8, 4, overflow, 2 * len(words), *[len(words)] * 2)
    return header + b"".join(struct.pack("<II", *word) for word in words)


def aedat3_bytes(*packets: bytes) -> bytes:
    header = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
    return header + b"".join(packets)


def npy_bytes(events: Any, dtype: Any = np.float64) -> bytes:
    """DVS Gesture's layout: the columns x, y, polarity, ms."""
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(events, dtype).reshape(-1, 4))
    return buffer.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def left_in(folder: Path) -> list[str]:
    """Names in a cache folder, but for the empty files that serve as locks."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(path.name for path in paths if path.suffix != ".lock")


def frames_by_loops(
    times: Iterable[Any],
    coordinates: Sequence[Sequence[Any]],
    sensor: tuple[int, ...],
    microseconds: int,
    bin_us: int,
    downsample: int = 1,
    origin: str = "zero",
) -> np.ndarray:
    """Counts ``[bins, *sensor]``, one event after the other."""
    whole = [round(time.item() * microseconds) for time in times]
    offset = min(whole, default=0) if origin == "first" else 0
    bins = [(time - offset) // bin_us for time in whole]
    scales = [1, downsample, downsample][-len(sensor) :] if len(sensor) > 1 else [downsample]
    shape = [math.ceil(length / scale) for length, scale in zip(sensor, scales, strict=True)]
    frames = np.zeros((max(bins, default=-1) + 1, *shape), dtype=int)
    for index, step in enumerate(bins):
        place = [int(c[index]) // scale for c, scale in zip(coordinates, scales, strict=True)]
        frames[(step, *place)] += 1
    return frames


def frames_of(ends: np.ndarray, units: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Counts ``[bins, *shape]`` of the compact form, bin by bin."""
    frames = np.zeros((len(ends), math.prod(shape)), dtype=int)
    before = 0
    for frame, end in zip(frames, ends.tolist(), strict=True):
        for unit in units[before:end].tolist():
            frame[unit] += 1
        before = end
    assert before == len(units)
    return frames.reshape(len(ends), *shape)


class MemoryRecordings:
    """Recordings that lie in memory, and count how often each is read."""

    def __init__(
        self,
        samples: Sequence[tuple[Any, ...]],
        labels: Any = None,
        sensor: tuple[int, ...] = (10,),
        microseconds: float = 1.0,
        stamp: Any = 0,
    ) -> None:
        """``samples`` are tuples of times and one sequence for each axis."""
        self.samples = [
            RawEvents(np.asarray(times), tuple(map(np.asarray, places)))
            for times, *places in samples
        ]
        self.labels = np.zeros(len(samples), int) if labels is None else np.asarray(labels)
        self.sensor, self.microseconds, self.stamp = sensor, microseconds, stamp
        self.reads: list[int] = []

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> RawEvents:
        self.reads.append(index)
        return self.samples[index]

    def where(self, index: int) -> str:
        return f"sample {index}"

    def fingerprint(self) -> list[Any]:
        return [self.stamp]


def random_recordings(
    samples: int = 5, units: int = 10, events: int = 60, microseconds: int = 20_000, seed: int = 0
) -> MemoryRecordings:
    """Of different lengths, one of them without events."""
    rng = np.random.default_rng(seed)
    counts = [0 if i == 1 else int(rng.integers(1, events)) for i in range(samples)]
    return MemoryRecordings(
        [(np.sort(rng.integers(0, microseconds, n)), rng.integers(0, units, n)) for n in counts],
        labels=np.arange(samples) % 3,
        sensor=(units,),
    )
