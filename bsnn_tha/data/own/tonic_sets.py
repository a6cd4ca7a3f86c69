"""Any event data set of :mod:`tonic`, by the name of its class.

A name, never ``module:Class``: options of a configuration run no code of others.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from bsnn_tha.data.binning import TIME_UNITS, Invalid, Origin, TimeUnit
from bsnn_tha.data.dataset import Dataset
from bsnn_tha.data.event_set import Milliseconds, StartMs
from bsnn_tha.data.own.events import halves, load_own
from bsnn_tha.data.own.parts import TEST_SHARE, TestShare
from bsnn_tha.data.recordings import Recordings, TonicRecordings
from bsnn_tha.errors import DataError, InvalidValueError
from bsnn_tha.suggest import did_you_mean


def load_tonic(
    root: Path,
    *,
    cache: Path,
    validation: float,
    seed: int,
    num_steps: int,
    dataset: str,
    bin_ms: Milliseconds,
    time_unit: TimeUnit = "us",
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
    """Windows of T time bins of one of tonic's sets, which tonic finds or downloads.

    Args:
        root: data root, tonic's ``save_to``.
        cache: folder for the binned recordings.
        validation, seed, num_steps: as for :meth:`bsnn_tha.data.events.EventSet.load`.
        dataset: e.g. ``"POKERDVS"``: a class of ``tonic.datasets``.
        bin_ms: width of a time bin, in ms.
        time_unit: of its times.
        downsample, size, counted, origin, start_ms, random_start, test_steps, invalid,
            partial: likewise.
        test_share: of each class, of a set that comes in one part.

    Raises:
        InvalidValueError: tonic has no such set.
        DataError: tonic cannot give it, or its samples cannot be meant.
    """
    made = _make(_class(dataset), root, dataset)
    recordings = [TonicRecordings(part, f"{dataset}-{n}") for n, part in enumerate(made)]
    for part in recordings:
        part.microseconds = TIME_UNITS[time_unit]
    names = _named(recordings, made[0])
    train, test = (
        recordings
        if len(recordings) == 2
        else halves(recordings[0], names, None, test_share, dataset)
    )
    return load_own(
        dataset,
        f"{dataset} (tonic)",
        _checked(train, dataset),
        test,
        names,
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


def tonic_names() -> list[str]:
    """Classes of ``tonic.datasets``."""
    from tonic import Dataset as TonicDataset
    from tonic import datasets

    return sorted(
        name
        for name, value in vars(datasets).items()
        if inspect.isclass(value) and issubclass(value, TonicDataset)
    )


def _class(name: str) -> Any:
    from tonic import datasets

    if name not in tonic_names():
        raise InvalidValueError(
            f"tonic has no data set {name!r}{did_you_mean(name, tonic_names())}"
        )
    return getattr(datasets, name)


def _make(maker: Any, root: Path, name: str) -> list[Any]:
    """Its training and test part, or all of it."""
    accepted = inspect.signature(maker).parameters
    parts: list[dict[str, Any]] = (
        [{"train": True}, {"train": False}] if "train" in accepted else [{}]
    )
    try:
        made = [maker(save_to=str(root), **part) for part in parts]
    except Exception as error:  # of tonic, of whatever it downloads with
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"tonic cannot give {name} in {root}: {reason}") from error
    return made


def _named(recordings: list[TonicRecordings], made: Any) -> list[str]:
    """Names of the classes; labels that are names become numbers."""
    labels = np.concatenate([part.labels for part in recordings])
    if labels.dtype.kind in "iu":
        given: Any = getattr(made, "classes", None)
        count = int(labels.max()) + 1
        known = isinstance(given, list | tuple) and len(given) == count
        return [str(name) for name in given] if known else [str(n) for n in range(count)]
    names = sorted({str(label) for label in labels})
    for part in recordings:
        part.labels = np.array([names.index(str(label)) for label in part.labels])
    return names


def _checked(recordings: Recordings, name: str) -> Recordings:
    if not len(recordings):
        raise DataError(f"{name} must have recordings, but tonic gives none")
    return recordings
