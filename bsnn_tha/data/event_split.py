"""One part of an event data set: windows of T time steps from a cache."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bsnn_tha.data.event_batch import EventBatch
from bsnn_tha.data.event_cache import EventStore


@dataclass(frozen=True)
class EventSplit:
    """Samples of a cache, each seen through a window of ``num_steps`` bins.

    A sample that ends before its window does is followed by silence; one that
    is longer is cut.

    Args:
        store: the cache.
        samples: which of its samples, ``[samples]``.
        num_steps: T.
        start: first bin of the window.
        random_start: draw the first bin anew each time a sample is taken, from
            torch's global generator, among those (from ``start`` on) whose
            window lies within the recording.
        counted: whether several events of a unit in one step add up.
    """

    store: EventStore
    samples: np.ndarray
    num_steps: int
    start: int = 0
    random_start: bool = False
    counted: bool = True

    @property
    def targets(self) -> Tensor:
        """Class indices ``[samples]``."""
        return torch.from_numpy(self.store.labels[self.samples])

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, indices: list[int]) -> tuple[EventBatch, Tensor]:
        samples = self.samples[indices]
        windows = [self.store.window(s, self._start(s), self.num_steps) for s in samples]
        per_bin = np.zeros((len(samples), self.num_steps), dtype=np.int64)
        for row, window in zip(per_bin, windows, strict=True):
            row[: len(window.per_bin)] = window.per_bin
        units = np.concatenate([np.zeros(0, np.int32), *(w.units for w in windows)]).astype(
            np.int32
        )
        batch = EventBatch(
            torch.from_numpy(per_bin), torch.from_numpy(units), self.store.shape, self.counted
        )
        return batch, torch.from_numpy(self.store.labels[samples])

    def select(self, positions: Tensor) -> EventSplit:
        """The part with these positions, in this order."""
        return replace(self, samples=self.samples[positions.numpy()])

    def _start(self, sample: int) -> int:
        spare = self.store.bins(sample) - self.start - self.num_steps
        if not self.random_start or spare <= 0:
            return self.start
        return self.start + int(torch.randint(spare + 1, ()))
