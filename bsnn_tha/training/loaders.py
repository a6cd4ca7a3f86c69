"""Which samples come together in a batch, and when.

Batches are drawn as a whole and then shared out among the processes that
train together, so that ``data.batch_size`` is the joint batch however many
processes there are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch.distributed import get_rank, get_world_size, is_available, is_initialized
from torch.utils.data import DataLoader, Sampler

from bsnn_tha.data.dataset import Split
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.training.seeding import epoch_seed


class Batches(Sampler[list[int]]):
    """This process's share of each batch, as lists of sample indices.

    A last batch with fewer samples than processes joins the one before it, so that
    no process is left without a sample as long as there is one for each.

    Args:
        indices: which samples.
        batch_size: samples in a joint batch; the last one may be smaller.
        seed: shuffle anew in every epoch, see
            :func:`~bsnn_tha.training.seeding.epoch_seed`; None keeps the order.

    Example:
        >>> list(Batches(range(5), batch_size=2))
        [[0, 1], [2, 3], [4]]
    """

    def __init__(self, indices: Sequence[int], batch_size: int, seed: int | None = None) -> None:
        self.indices = indices
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._borders()) - 1

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.indices)
        if self.seed is not None:
            generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch))
            order = [order[i] for i in torch.randperm(len(order), generator=generator).tolist()]
        rank, processes = _process()
        borders = self._borders()
        for first, last in itertools.pairwise(borders):
            yield order[first:last][rank::processes]

    def _borders(self) -> list[int]:
        """Where batches begin and end."""
        samples = len(self.indices)
        borders = [*range(0, samples, self.batch_size), samples]
        if len(borders) > 2 and borders[-1] - borders[-2] < _process()[1]:
            del borders[-2]
        return borders


def _process() -> tuple[int, int]:
    """Rank of this process, and how many there are."""
    if is_available() and is_initialized():
        return get_rank(), get_world_size()
    return 0, 1


def training_batches(
    split: Split, batch_size: int, seed: int, subset: int | None = None
) -> DataLoader:
    """Shuffled batches of a split, or of a part of it.

    Args:
        split: the training samples.
        batch_size: samples per joint batch; the last one may be smaller.
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
    return _loader(split, Batches(indices, batch_size, seed))


def evaluation_batches(split: Split, batch_size: int) -> DataLoader:
    """All samples of a split, in order."""
    return _loader(split, Batches(range(len(split)), batch_size))


def _loader(split: Split, batches: Batches) -> DataLoader:
    # One index list per batch, so that a split builds it in one operation.
    # A generator of its own: beginning an epoch must not draw from what dropout draws from.
    return DataLoader(
        split,  # type: ignore[arg-type]
        sampler=batches,
        batch_size=None,
        generator=torch.Generator(),
    )
