"""Recordings of one's own as an event data set: windows, bins and cache are the known sets'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bsnn_tha.data.dataset import Dataset
from bsnn_tha.data.events import EventSet
from bsnn_tha.data.own.parts import drawn_for_test
from bsnn_tha.data.recordings import RawEvents, Recordings


@dataclass
class Picked:
    """Some of the samples of recordings.

    Args:
        whole: of which.
        indices: which, in this order.
        class_names: in the order of the labels.
    """

    whole: Recordings
    indices: np.ndarray
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        self.sensor, self.microseconds = self.whole.sensor, self.whole.microseconds

    @property
    def labels(self) -> np.ndarray:
        return self.whole.labels[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> RawEvents:
        return self.whole[int(self.indices[index])]

    def where(self, index: int) -> str:
        return self.whole.where(int(self.indices[index]))

    def fingerprint(self) -> list[Any]:
        return [self.whole.fingerprint(), self.indices.tolist()]


class _OwnSet(EventSet):
    """An event set whose recordings are there already."""

    def _locate(self, root: Path, part: int) -> Path:
        return Path(self.parts[part])


def halves(
    whole: Recordings, names: Sequence[str], test: np.ndarray | None, share: float, what: str
) -> tuple[Picked, Picked]:
    """Training and test recordings.

    Args:
        whole: all of them.
        names: of their classes.
        test: which are for the test, ``[samples]`` bool; None to draw them.
        share: of each class that is drawn.
        what: names them in errors.
    """
    if test is None:
        kept, held = drawn_for_test(torch.from_numpy(whole.labels.astype(np.int64)), share, what)
        indices = kept.numpy(), held.numpy()
    else:
        indices = np.flatnonzero(~test), np.flatnonzero(test)
    train, tested = (Picked(whole, part, tuple(names)) for part in indices)
    return train, tested


def load_own(
    name: str,
    title: str,
    train: Recordings,
    test: Recordings,
    class_names: Sequence[str],
    root: Path,
    *,
    bin_ms: float,
    **options: Any,
) -> Dataset:
    """Both parts as windows of time bins: see :meth:`bsnn_tha.data.events.EventSet.load`."""
    parts = {Path("train"): train, Path("test"): test}
    own = _OwnSet(name, title, ("train", "test"), parts.__getitem__, len(class_names), bin_ms)
    return replace(own.load(root, **options), class_names=tuple(class_names))
