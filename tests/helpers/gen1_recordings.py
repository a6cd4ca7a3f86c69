"""Recordings in Prophesee's automotive layout, written from its description."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np

HEADER = (
    b"% Data file containing CD events.\n% Version 2\n% Date 2017-03-29\n"
    b"% Height 240\n% Width 304\n"
)
FRAME = (304, 240)


def event_bytes(events: Iterable[tuple[int, int, int, int]]) -> bytes:
    """Of (µs, x, y, polarity)."""
    return b"".join(struct.pack("<II", t, x | y << 14 | p << 28) for t, x, y, p in events)


def box_records(boxes, time_field="ts", tracks=True):
    """Of (µs, x, y, w, h, class, track)."""
    fields = [(time_field, "<u8"), ("x", "<f4"), ("y", "<f4"), ("w", "<f4"), ("h", "<f4"),
              ("class_id", "u1"), ("confidence", "<f4"), ("track_id", "<u4")]  # fmt: skip
    records = np.zeros(len(boxes), fields if tracks else fields[:-1])
    for record, (time, x, y, w, h, label, track) in zip(records, boxes, strict=True):
        record[time_field], record["x"], record["y"] = time, x, y
        record["w"], record["h"], record["class_id"] = w, h, label
        if tracks:
            record["track_id"] = track
    return records


def write_recording(folder: Path, name: str, events, boxes, **options) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    body = events if isinstance(events, bytes) else event_bytes(events)
    (folder / f"{name}_td.dat").write_bytes(HEADER + b"\x0c\x08" + body)
    np.save(folder / f"{name}_bbox.npy", box_records(boxes, **options))


def random_events(seed: int, count: int, duration_us: int, disorder_us: int = 0):
    """As tuples, nearly in order of time: each up to ``disorder_us`` from its place."""
    draw = np.random.default_rng(seed)
    order = np.sort(draw.integers(0, duration_us, count))
    times = np.clip(order + draw.integers(-disorder_us, disorder_us + 1, count), 0, None)
    columns = (times, draw.integers(0, 304, count), draw.integers(0, 240, count),
               draw.integers(0, 2, count))  # fmt: skip
    return list(zip(*(column.tolist() for column in columns), strict=True))
