"""A data set of event recordings: found, binned, checked and divided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from bsnn_tha.data.binning import TIME_UNITS, Invalid, Origin, TimeUnit
from bsnn_tha.data.class_names import CLASS_NAMES
from bsnn_tha.data.coverage import check_coverage, together
from bsnn_tha.data.dataset import Dataset, stratified_split
from bsnn_tha.data.download import RemoteFile, fetch_unpacked, unpack_beside
from bsnn_tha.data.event_cache import Binning, EventStore, cached_events
from bsnn_tha.data.event_split import EventSplit
from bsnn_tha.data.holding_out import check_validation, hold_out
from bsnn_tha.data.recordings import Recordings
from bsnn_tha.errors import DataError, InvalidValueError

HOUR = 3_600_000.0
"""In ms; no option is longer."""
Milliseconds = Annotated[float, Field(gt=0, le=HOUR, allow_inf_nan=False)]
"""A width, which the sets of one's own have as well."""
StartMs = Annotated[float, Field(ge=0, le=HOUR, allow_inf_nan=False)]
"""A time after the origin, in ms, likewise."""

TEST_SHARE = 0.1
"""Of the recordings of a set that comes in one part."""
_TEST_SEED = 1998


@dataclass(frozen=True)
class EventSet:
    """A data set of event recordings in one of the known file layouts.

    Args:
        name: on the command line.
        title: its folder below the data root.
        parts: file or folder of the training and of the test recordings; or of all
            of them, of which :data:`TEST_SHARE` is then the test part.
        read: makes recordings of one of them.
        published: finds a part in another usual form that ``read`` takes; called with
            the data root, ``title`` and the part's number if the part is not there.
        num_classes: labels are below it.
        bin_ms: width of a time bin, unless a configuration says otherwise.
        downsample, size, origin: likewise.
        tonic: the class in ``tonic.datasets`` that knows the addresses; None
            for a set that cannot be downloaded from here.
        obtain: how to get the files of such a set.
    """

    name: str
    title: str
    parts: tuple[str, str] | tuple[str]
    read: Callable[[Path], Recordings]
    num_classes: int
    bin_ms: float
    downsample: int = 1
    size: int | None = None
    origin: Origin = "zero"
    published: Callable[[Path, str, int], Path | None] | None = None
    tonic: str | None = None
    obtain: str = "place the files there"

    def load(
        self,
        root: Path,
        *,
        cache: Path,
        validation: float,
        seed: int,
        num_steps: int,
        bin_ms: Milliseconds | None = None,
        downsample: Annotated[int, Field(ge=1)] | None = None,
        size: Annotated[int, Field(ge=1)] | None = None,
        counted: bool = True,
        origin: Origin | None = None,
        start_ms: StartMs = 0.0,
        random_start: bool = False,
        test_steps: Annotated[int, Field(ge=1)] | None = None,
        invalid: Invalid = "refuse",
        time_unit: TimeUnit | None = None,
        partial: bool = False,
    ) -> Dataset:
        """Windows of T time bins, from cached binned recordings.

        Args:
            root: data root; the files are in the folder named after the set.
            cache: folder for the binned recordings.
            validation: share of the training samples to hold out, in [0, 1),
                class by class.
            seed: of the draw of the validation part.
            num_steps: T in training and validation.
            bin_ms: width of a time bin, in ms; a whole number of µs.
            downsample: so many neighbouring rows and columns become one.
            size: scale to so many rows and columns (or units) instead, which need
                not divide the sensor's.
            counted: several events of a unit in one bin add up (as in the
                published code); otherwise they are one spike.
            origin: bins are counted from time ``"zero"`` of the recording or
                from its ``"first"`` event.
            start_ms: where windows start, in whole bins after the origin.
            random_start: draw training windows anew in every epoch, from
                anywhere in the recording after ``start_ms``.
            test_steps: T at test; by default ``num_steps``.
            invalid: ``"refuse"`` recordings with events that cannot be
                (outside the sensor, negative or NaN times), or ``"drop"``
                such events.
            time_unit: of the recordings' times, ``"us"``, ``"ms"`` or ``"s"``, if it
                is not the layout's own. Named here it is not doubted.
            partial: take what is there if classes are missing from a part.

        Raises:
            DataError: files are missing and cannot be downloaded, damaged, or
                hold invalid events or labels; classes are missing without
                ``partial``; windows see next to nothing.
            InvalidValueError: a setting breaks a rule.
        """
        _check_options(validation, size, downsample)
        binning = Binning(
            _microseconds(bin_ms or self.bin_ms),
            downsample or self.downsample,
            None if downsample else size or self.size,
            origin or self.origin,
            invalid,
        )
        start = _first_bin(start_ms, binning.bin_us)
        recordings = self._recordings(root, time_unit)
        names = ("train", "test") if len(recordings) == 2 else ("all",)
        title = self.title + "".join(
            self._missing(part, name, partial) for part, name in zip(recordings, names, strict=True)
        )
        stores = [
            cached_events(part, f"{self.name}-{name}", binning, self.num_classes, cache)
            for part, name in zip(recordings, names, strict=True)
        ]
        train = _split(stores[0], num_steps, start, counted, random_start)
        test = _split(stores[-1], test_steps or num_steps, start, counted)
        seen = [
            check_coverage(split, f"{self.name} ({name})", part.microseconds, time_unit is not None)
            for part, name, split in zip(recordings, names, (train, test), strict=False)
        ]
        if len(stores) == 1:
            kept, held = stratified_split(train.targets, TEST_SHARE, _TEST_SEED)
            train, test = train.select(kept), test.select(held)
        train, held_out, note = hold_out(train, validation, seed)
        if held_out is not None:
            held_out = replace(held_out, random_start=False)
        dropped = sum(store.dropped for store in stores)
        return Dataset(
            name=self.name,
            input_shape=stores[0].shape,
            num_classes=self.num_classes,
            static=False,
            train=train,
            validation=held_out,
            test=test,
            source=f"{title}, {len(train):,} training,{note} {len(test):,} test "
            f"recordings, bins of {binning.bin_us / 1000:g} ms, {together(seen)}"
            + (f", {dropped:,} invalid events left out" if dropped else ""),
            test_groups=_speakers(recordings[0], recordings[-1]),
            step_ms=binning.bin_us / 1000,
        )

    def _recordings(self, root: Path, time_unit: TimeUnit | None) -> list[Recordings]:
        """Of each part. All are located before the first is read: a failed download comes early."""
        paths = [self._locate(root, part) for part in range(len(self.parts))]
        recordings = [self.read(path) for path in paths]
        if time_unit is not None:
            for part in recordings:
                part.microseconds = TIME_UNITS[time_unit]
        return recordings

    def _missing(self, recordings: Recordings, part: str, partial: bool) -> str:
        """A note for the title on classes without a recording; an error unless asked for."""
        names = list(getattr(recordings, "class_names", CLASS_NAMES.get(self.name, ())))
        if len(names) > self.num_classes:
            raise DataError(
                f"{self.name} must have {self.num_classes} classes, but there are recordings in "
                f"{len(names)} folders: {_listed(names)}; move away what is no class"
            )
        labels = recordings.labels
        if labels.dtype.kind not in "iu" or not np.isin(labels, range(self.num_classes)).all():
            return ""  # the cache names such labels
        missing = np.setdiff1d(range(self.num_classes), labels).tolist()
        count = f"{self.num_classes - len(missing)} of {self.num_classes} classes"
        if missing and not partial:
            known = len(names) == self.num_classes
            raise DataError(
                f"{self.name} must have recordings of each of its classes, but its part {part!r} "
                f"has {count}"
                + (f", none of {_listed([names[label] for label in missing])}" if known else "")
                + "; place them, or use what is there with data.options.partial = true"
            )
        return f" ({part}: {count})" if missing else ""

    def find(self, root: Path, part: int) -> Path | None:
        """A part where it lies, in any of the usual forms; None if it is not there."""
        path = root / self.title / self.parts[part]
        if path.exists():
            return path
        return self.published(root, self.title, part) if self.published else None

    def _locate(self, root: Path, part: int) -> Path:
        folder, name = root / self.title, self.parts[part]
        path = folder / name
        if not path.exists() and unpack_beside(path):
            return path
        if found := self.find(root, part):
            return found
        if self.tonic is None:
            raise DataError(
                f"{self.name} cannot be downloaded and there is no {path}; {self.obtain}, "
                "or name the folder that holds them with --data-root or BSNN_THA_DATA"
            )
        return fetch_unpacked(_remote_file(self.tonic, part), folder, name)


def _check_options(validation: float, size: int | None, downsample: int | None) -> None:
    check_validation(validation)
    if size is not None and downsample is not None:
        raise InvalidValueError(
            "data.options.size takes the place of downsample, but got "
            f"size={size} and downsample={downsample}; leave one of them out"
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _remote_file(dataset: str, part: int) -> RemoteFile:
    """Address and checksum, of which tonic is the home."""
    from tonic import datasets

    facts = getattr(datasets, dataset)
    which = ("train", "test")[part]
    md5 = getattr(facts, f"{which}_md5")
    if hasattr(facts, f"{which}_zip"):
        name = getattr(facts, f"{which}_zip")
        return RemoteFile(name, md5, (f"{facts.base_url}{name}",))
    return RemoteFile(getattr(facts, f"{which}_filename"), md5, (getattr(facts, f"{which}_url"),))


def _microseconds(bin_ms: float) -> int:
    width = round(bin_ms * 1000)
    if width < 1 or abs(width - bin_ms * 1000) > 1e-6:
        raise InvalidValueError(
            f"data.options.bin_ms must be a whole number of µs, but got {bin_ms:g} ms"
        )
    return width


def _first_bin(start_ms: float, bin_us: int) -> int:
    first = round(start_ms * 1000 / bin_us)
    if abs(first * bin_us - start_ms * 1000) > 1e-6:
        raise InvalidValueError(
            "data.options.start_ms must be a multiple of the bin width, "
            f"{bin_us / 1000:g} ms, but got {start_ms:g} ms"
        )
    return first


def _split(
    store: EventStore, num_steps: int, start: int, counted: bool, random_start: bool = False
) -> EventSplit:
    return EventSplit(
        store, np.arange(len(store)), num_steps, start, random_start=random_start, counted=counted
    )


def _speakers(train: Recordings, test: Recordings) -> dict[str, Tensor]:
    """Test samples by speakers that training has heard and has not."""
    known, speakers = (getattr(recordings, "speakers", None) for recordings in (train, test))
    if known is None or speakers is None:
        return {}
    seen = torch.from_numpy(np.isin(speakers, known))
    if seen.all() or not seen.any():
        return {}
    return {"seen speakers": seen, "unseen speakers": ~seen}
