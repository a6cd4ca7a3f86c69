"""Event data sets of the papers, and two synthetic stand-ins.

Each is an :class:`EventSet`, a few facts in one place; all share the readers
of :mod:`bsnn_tha.data.recordings`, the cache of
:mod:`bsnn_tha.data.event_cache` and one :meth:`EventSet.load`. Folders and
files are those of :mod:`tonic`, which also knows where to download the first
three sets and their checksums. (N-Cars is not in tonic: its files are as they come
in Prophesee's archive.)

==================  ===========  ==========  ===================  ==========
name                folder       sensor      bins                 classes
==================  ===========  ==========  ===================  ==========
``dvs-gesture``     DVSGesture   2×128×128   5 ms, 2×32×32        11
``shd``             SHD          700         3 ms                 20
``nmnist``          NMNIST       2×34×34     1 ms                 10
``dvs-cifar10``     CIFAR10DVS   2×128×128   43 ms, 2×48×48       10
``n-caltech101``    NCALTECH101  2×180×240   10 ms, 2×48×48       101
``n-cars``          NCARS        2×100×120   10 ms, 2×48×48       2
``spoken-digits``   SpokenDigits as ``shd``, synthetic speech
``saccade-digits``  SaccadeDigits as ``nmnist``, simulated camera
==================  ===========  ==========  ===================  ==========

Bins of ``dvs-gesture``, ``shd`` and ``nmnist`` are those of the papers. LT-SNN and
LTMD give numbers of time steps only: bins here are such that LT-SNN's 30 steps span
a recording of DVS-CIFAR10 (1.3 s; 43 ms) or N-Caltech101 (300 ms), and ten steps one
of N-Cars (100 ms). For T steps of DVS-CIFAR10 set ``bin_ms`` to about 1300 / T: 128
for 10 steps, 160 for 8, 185 for 7. Frames of 48 × 48 are what LT-SNN's counts of
parameters tell. Its frames are binary: ``counted = false``.

Files may also lie there as their authors published them: ``DvsGesture`` with its AEDAT 3.1
files and lists of trials, CIFAR10-DVS as ``.aedat``, ``shd_train.h5.gz``.

DVS-CIFAR10 and N-Caltech101 come in one part; a tenth of every class, the same
recordings whatever the seed, is the test part. The published files of these last
three sets were not at hand: their readers are tested on files made here after their
formats' descriptions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial as bound
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
from bsnn_tha.data.folders import (
    AedatRecordings,
    BinRecordings,
    DatRecordings,
    NamedBinRecordings,
)
from bsnn_tha.data.gestures import find_published, read_gestures
from bsnn_tha.data.recordings import HDF5Recordings, Recordings
from bsnn_tha.errors import DataError, InvalidValueError

HOUR = 3_600_000.0
"""In ms; no option is longer."""
Milliseconds = Annotated[float, Field(gt=0, le=HOUR, allow_inf_nan=False)]

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
        start_ms: Annotated[float, Field(ge=0, le=HOUR, allow_inf_nan=False)] = 0.0,
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
        if not 0 <= validation < 1:
            raise InvalidValueError(
                f"validation must be in [0, 1), but got validation={validation:g}"
            )
        if size is not None and downsample is not None:
            raise InvalidValueError(
                "data.options.size takes the place of downsample, but got "
                f"size={size} and downsample={downsample}; leave one of them out"
            )
        binning = Binning(
            _microseconds(bin_ms or self.bin_ms),
            downsample or self.downsample,
            None if downsample else size or self.size,
            origin or self.origin,
            invalid,
        )
        start = _first_bin(start_ms, binning.bin_us)
        # Both parts are located before the first is read: a failed download comes early.
        paths = [self._locate(root, part) for part in range(len(self.parts))]
        recordings = [self.read(path) for path in paths]
        names = ("train", "test") if len(self.parts) == 2 else ("all",)
        title = self.title
        for part, part_name in zip(recordings, names, strict=True):
            if time_unit is not None:
                part.microseconds = TIME_UNITS[time_unit]
            title += self._missing(part, part_name, partial)
        stores = [
            cached_events(r, f"{self.name}-{name}", binning, self.num_classes, cache)
            for r, name in zip(recordings, names, strict=True)
        ]
        whole = _split(stores[0], num_steps, start, counted)
        test = _split(stores[-1], test_steps or num_steps, start, counted)
        seen = [
            check_coverage(split, f"{self.name} ({name})", part.microseconds, time_unit is not None)
            for split, name, part in zip(
                (replace(whole, random_start=random_start), test)[: len(stores)],
                names,
                recordings,
                strict=True,
            )
        ]
        if len(stores) == 1:
            kept, held = stratified_split(whole.targets, TEST_SHARE, _TEST_SEED)
            whole, test = whole.select(kept), test.select(held)
        held_out, note = None, ""
        if validation:
            kept, held = stratified_split(whole.targets, validation, seed)
            whole, held_out = whole.select(kept), whole.select(held)
            note = f" {len(held):,} validation (stratified, seed {seed}),"
        dropped = sum(store.dropped for store in stores)
        return Dataset(
            name=self.name,
            input_shape=stores[0].shape,
            num_classes=self.num_classes,
            static=False,
            train=replace(whole, random_start=random_start),
            validation=held_out,
            test=test,
            source=f"{title}, {len(whole):,} training,{note} {len(test):,} test "
            f"recordings, bins of {binning.bin_us / 1000:g} ms, {together(seen)}"
            + (f", {dropped:,} invalid events left out" if dropped else ""),
            test_groups=_speakers(recordings[0], recordings[-1]),
            step_ms=binning.bin_us / 1000,
        )

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


def _split(store: EventStore, num_steps: int, start: int, counted: bool) -> EventSplit:
    return EventSplit(store, np.arange(len(store)), num_steps, start, counted=counted)


def _speakers(train: Recordings, test: Recordings) -> dict[str, Tensor]:
    """Test samples by speakers that training has heard and has not."""
    known, speakers = (getattr(recordings, "speakers", None) for recordings in (train, test))
    if known is None or speakers is None:
        return {}
    seen = torch.from_numpy(np.isin(speakers, known))
    if seen.all() or not seen.any():
        return {}
    return {"seen speakers": seen, "unseen speakers": ~seen}


_HDF5_PARTS = ("shd_train.h5", "shd_test.h5")

DVS_GESTURE = EventSet(
    name="dvs-gesture",
    title="DVSGesture",
    parts=("ibmGestureTrain", "ibmGestureTest"),
    read=read_gestures,
    num_classes=11,
    bin_ms=5.0,
    downsample=4,
    origin="first",
    published=find_published,
    tonic="DVSGesture",
)
SHD = EventSet(
    name="shd",
    title="SHD",
    parts=_HDF5_PARTS,
    read=HDF5Recordings,
    num_classes=20,
    bin_ms=3.0,
    tonic="SHD",
)
NMNIST = EventSet(
    name="nmnist",
    title="NMNIST",
    parts=("Train", "Test"),
    read=BinRecordings,
    num_classes=10,
    bin_ms=1.0,
    tonic="NMNIST",
)
DVS_CIFAR10 = EventSet(
    name="dvs-cifar10",
    title="CIFAR10DVS",
    parts=("",),
    read=bound(AedatRecordings, classes=CLASS_NAMES["dvs-cifar10"]),
    num_classes=10,
    bin_ms=43.0,
    size=48,
    origin="first",
    obtain="tonic.datasets.CIFAR10DVS(save_to=DATA_ROOT) gets it",
)
N_CALTECH101 = EventSet(
    name="n-caltech101",
    title="NCALTECH101",
    parts=("Caltech101",),
    read=NamedBinRecordings,
    num_classes=101,
    bin_ms=10.0,
    size=48,
    origin="first",
    obtain="tonic.datasets.NCALTECH101(save_to=DATA_ROOT) gets it",
)
N_CARS = EventSet(
    name="n-cars",
    title="NCARS",
    parts=("n-cars_train", "n-cars_test"),
    read=bound(DatRecordings, classes=("background", "cars")),
    num_classes=2,
    bin_ms=10.0,
    size=48,
    origin="first",
    obtain="unpack Prophesee's archive there",
)
SPOKEN_DIGITS = EventSet(
    name="spoken-digits",
    title="SpokenDigits",
    parts=_HDF5_PARTS,
    read=HDF5Recordings,
    num_classes=20,
    bin_ms=3.0,
)
SACCADE_DIGITS = EventSet(
    name="saccade-digits",
    title="SaccadeDigits",
    parts=("Train", "Test"),
    read=BinRecordings,
    num_classes=10,
    bin_ms=1.0,
)
