"""A table of event files: one line a recording, with its class and, if wanted, its part.

::

    file,label,split
    a/walk-1.npy,walk,train
    a/walk-2.npy,walk,test

Paths are relative to the table. Separators are commas, semicolons or tabs. Files are of the
formats of :mod:`bsnn_tha.data.decoders`, or ``.csv`` with named columns t, x, y, p.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from bsnn_tha.data.binning import TIME_UNITS, Invalid, Origin, TimeUnit
from bsnn_tha.data.dataset import Dataset
from bsnn_tha.data.decoders import read_aedat, read_bin, read_dat, read_npy
from bsnn_tha.data.event_set import Milliseconds, StartMs
from bsnn_tha.data.own.events import halves, load_own
from bsnn_tha.data.own.parts import TEST_SHARE, TestShare, located
from bsnn_tha.data.recordings import RawEvents, named_fields, stamp
from bsnn_tha.errors import DataError, InvalidValueError

PARTS = ("train", "test")


def load_event_table(
    root: Path,
    *,
    cache: Path,
    validation: float,
    seed: int,
    num_steps: int,
    path: str,
    sensor: Annotated[
        list[Annotated[int, Field(ge=1)]],
        Field(min_length=1, max_length=3, examples=[[2, 128, 128]]),
    ],
    bin_ms: Milliseconds,
    time_unit: TimeUnit,
    downsample: Annotated[int, Field(ge=1)] | None = None,
    size: Annotated[int, Field(ge=1)] | None = None,
    counted: bool = True,
    origin: Origin = "zero",
    start_ms: StartMs = 0.0,
    random_start: bool = False,
    test_steps: Annotated[int, Field(ge=1)] | None = None,
    invalid: Invalid = "refuse",
    partial: bool = False,
    test_share: TestShare = TEST_SHARE,
) -> Dataset:
    """Windows of T time bins of the recordings in a table.

    Args:
        root: data root, where ``path`` is looked for as well.
        cache: folder for the binned recordings.
        validation, seed, num_steps: as for :meth:`bsnn_tha.data.events.EventSet.load`.
        path: of the table.
        sensor: ``[polarities, height, width]``, or ``[units]``.
        bin_ms: width of a time bin, in ms.
        time_unit: of the times, ``"us"``, ``"ms"`` or ``"s"``.
        downsample, size, counted, origin, start_ms, random_start, test_steps, invalid,
            partial: likewise.
        test_share: of each class, where the table has no column ``split``.

    Raises:
        DataError: the table, or a file that it names, cannot be meant; the message names
            the file, and the line of the table.
    """
    if len(sensor) == 2:
        raise InvalidValueError(
            "data.options.sensor must be [units] or [polarities, height, width], but got "
            f"{sensor}; a camera without polarity is [1, height, width]"
        )
    table = located(path, root)
    whole = TableRecordings(table, tuple(sensor), time_unit)
    train, test = halves(whole, whole.class_names, whole.test, test_share, str(table))
    return load_own(
        table.stem,
        f"recordings in {table}",
        train,
        test,
        whole.class_names,
        root,
        cache=cache,
        validation=validation,
        seed=seed,
        num_steps=num_steps,
        bin_ms=bin_ms,
        downsample=downsample,
        size=size,
        counted=counted,
        origin=origin,
        start_ms=start_ms,
        random_start=random_start,
        test_steps=test_steps,
        invalid=invalid,
        time_unit=time_unit,
        partial=partial,
    )


class TableRecordings:
    """The recordings that a table names, in its order.

    Args:
        table: its path.
        sensor: the shape that the events' coordinates index.
        time_unit: of their times.

    Attributes:
        test: which are for the test, ``[samples]`` bool; None if the table does not say.

    Raises:
        DataError: a column or a file is missing, a line has no class or an unknown part.
    """

    def __init__(self, table: Path, sensor: tuple[int, ...], time_unit: TimeUnit) -> None:
        self.table, self.sensor, self.microseconds = table, sensor, TIME_UNITS[time_unit]
        rows = read_table(table)
        self.paths = [table.parent / row["file"] for row in rows]
        for line, found in enumerate(self.paths, start=2):
            if not found.is_file():
                raise DataError(f"line {line} of {table} names {found}, which is not there")
            if found.suffix.lower() not in _READERS:
                raise DataError(
                    f"line {line} of {table} names {found}, which must end in one of "
                    f"{', '.join(_READERS)}"
                )
        classes = [row["label"] for row in rows]
        numbers = all(name.isdigit() for name in classes)
        self.class_names = sorted(set(classes), key=int if numbers else None)
        self.labels = np.array([self.class_names.index(name) for name in classes])
        self.test = _tested(table, rows)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> RawEvents:
        path = self.paths[index]
        axes = ("x",) if len(self.sensor) == 1 else ("p", "y", "x")
        events = _READERS[path.suffix.lower()](path, axes)
        if len(events.coordinates) != len(self.sensor):
            raise DataError(
                f"events of {path} must have {len(self.sensor)} coordinates, as data.options.sensor"
                f" = {list(self.sensor)} says, but have {len(events.coordinates)}"
            )
        return events

    def where(self, index: int) -> str:
        return str(self.paths[index])

    def fingerprint(self) -> list[Any]:
        return [[str(path), *stamp(path)] for path in self.paths]


def read_table(table: Path) -> list[dict[str, str]]:
    """Lines of a table by column: ``file``, ``label`` and perhaps ``split``.

    Raises:
        DataError: it cannot be read, lacks a column or a line lacks a value.
    """
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table} is not a readable table ({error})") from error
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count)
    rows = [
        {(key or "").strip().lower(): (value or "").strip() for key, value in row.items()}
        for row in csv.DictReader(text.splitlines(), delimiter=separator)
    ]
    columns = set(rows[0]) if rows else {name.strip().lower() for name in head.split(separator)}
    if not {"file", "label"} <= columns:
        raise DataError(
            f"{table} must have the columns file and label (and split, if wanted), but has "
            f"{', '.join(sorted(columns)) or 'none'}"
        )
    if not rows:
        raise DataError(f"{table} must name recordings, but has no lines below its head")
    for line, row in enumerate(rows, start=2):
        for column in ("file", "label"):
            if not row[column]:
                raise DataError(f"line {line} of {table} has no {column}")
    return rows


def _tested(table: Path, rows: Sequence[dict[str, str]]) -> np.ndarray | None:
    if "split" not in rows[0]:
        return None
    for line, row in enumerate(rows, start=2):
        if row["split"] not in PARTS:
            raise DataError(
                f"split in line {line} of {table} must be train or test, but is {row['split']!r}"
            )
    test = np.array([row["split"] == "test" for row in rows])
    if test.all() or not test.any():
        raise DataError(f"the column split of {table} must name both train and test")
    return test


def _npy(path: Path, axes: tuple[str, ...]) -> RawEvents:
    if axes != ("x",):
        return read_npy(path)
    try:
        events = np.load(path, allow_pickle=False)
    except Exception as error:
        raise DataError(
            f"{path} is not a readable array file ({' '.join(str(error).split())})"
        ) from error
    if events.dtype.names:
        times, units = named_fields(events, ("t", "x"), str(path))
    elif events.ndim == 2 and events.shape[1] == 2:
        times, units = events.T
    else:
        raise DataError(
            f"{path} must hold time and unit, [events, 2] or fields t and x, but got shape "
            f"{list(events.shape)}"
        )
    return RawEvents(times, (units,))


def _csv(path: Path, axes: tuple[str, ...]) -> RawEvents:
    try:
        with path.open(encoding="utf-8-sig") as file:
            names = [name.strip() for name in file.readline().split(",")]
            values = np.loadtxt(file, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a readable table of events ({error})") from error
    if not values.size:
        values = values.reshape(0, len(names))
    columns = dict(zip(names, values.T, strict=False))
    times, *coordinates = named_fields(columns, ("t", *axes), str(path))
    return RawEvents(times, tuple(coordinates))


_READERS: dict[str, Callable[[Path, tuple[str, ...]], RawEvents]] = {
    ".npy": _npy,
    ".csv": _csv,
    ".bin": lambda path, axes: read_bin(path),
    ".dat": lambda path, axes: read_dat(path),
    ".aedat": lambda path, axes: read_aedat(path),
    ".aedat4": lambda path, axes: read_aedat(path),
}
