"""Batches for Lightning's loops, taken from a split by lists of indices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import BatchSampler, DataLoader, Sampler

from bsnn_tha.data.dataset import Split
from bsnn_tha.errors import InvalidValueError


class ShuffledSampler(Sampler[int]):
    """Chosen samples in a new order each epoch, drawn from one seed.

    Args:
        indices: which samples.
        seed: of the sequence of orders.
    """

    def __init__(self, indices: Sequence[int], seed: int) -> None:
        self.indices = indices
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(len(self.indices), generator=self.generator)
        return (self.indices[position] for position in order.tolist())

    def __len__(self) -> int:
        return len(self.indices)


def training_batches(
    split: Split, batch_size: int, seed: int, subset: int | None = None
) -> DataLoader:
    """Shuffled batches of a split, or of a part of it.

    Args:
        split: the training samples.
        batch_size: samples per batch; the last one may be smaller.
        seed: of the order, and of the choice of the subset.
        subset: number of samples, drawn once and kept for all epochs.

    Raises:
        InvalidValueError: a subset larger than the split.
    """
    if subset is not None and subset > len(split):
        raise InvalidValueError(
            f"data.subset must be at most the {len(split)} training samples, but got {subset}"
        )
    indices: Sequence[int] = range(len(split))
    if subset is not None:
        generator = torch.Generator().manual_seed(seed)
        indices = torch.randperm(len(split), generator=generator)[:subset].tolist()
    return _loader(split, ShuffledSampler(indices, seed), batch_size)


def evaluation_batches(split: Split, batch_size: int) -> DataLoader:
    """All samples of a split, in order."""
    return _loader(split, range(len(split)), batch_size)


def _loader(split: Split, order: Sampler[int] | range, batch_size: int) -> DataLoader:
    # One index list per batch, so that a split builds it in one operation.
    batches = BatchSampler(order, batch_size, drop_last=False)
    return DataLoader(split, sampler=batches, batch_size=None)  # type: ignore[arg-type]
