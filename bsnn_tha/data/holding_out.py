"""A validation part held out of training samples, and the sentence that says so."""

from __future__ import annotations

from typing import Generic, NamedTuple, Protocol, Self, TypeVar

from torch import Tensor

from bsnn_tha.data.dataset import stratified_split
from bsnn_tha.errors import InvalidValueError


class Divisible(Protocol):
    """Samples of which a part can be taken."""

    @property
    def targets(self) -> Tensor: ...

    def select(self, indices: Tensor, /) -> Self: ...


S = TypeVar("S", bound=Divisible)


class HeldOut(NamedTuple, Generic[S]):
    """Training samples, divided."""

    train: S
    validation: S | None
    note: str
    """For the data set's source, after the number of training samples."""


def check_validation(share: float) -> None:
    """Raise InvalidValueError unless the share to hold out is in [0, 1)."""
    if not 0 <= share < 1:
        raise InvalidValueError(f"validation must be in [0, 1), but got validation={share:g}")


def hold_out(train: S, share: float, seed: int) -> HeldOut[S]:
    """Hold out a share of the samples, class by class.

    Args:
        train: all of them.
        share: in [0, 1); 0 holds out none.
        seed: of the draw.

    Example:
        >>> import torch
        >>> from bsnn_tha.data.dataset import TensorSplit
        >>> whole = TensorSplit(torch.zeros(20, 3), torch.arange(20) % 2)
        >>> train, validation, note = hold_out(whole, 0.1, seed=0)
        >>> len(train), len(validation), note
        (18, 2, ' 2 validation (stratified, seed 0),')
    """
    check_validation(share)
    if not share:
        return HeldOut(train, None, "")
    kept, held = stratified_split(train.targets, share, seed)
    note = f" {len(held):,} validation (stratified, seed {seed}),"
    return HeldOut(train.select(kept), train.select(held), note)
