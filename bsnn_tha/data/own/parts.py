"""What all data of one's own has in common: where it is, and what is held for the test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from torch import Tensor

from bsnn_tha.data.dataset import stratified_split
from bsnn_tha.errors import DataError

TEST_SHARE = 0.2
"""Of the samples of each class, where the data has no test part of its own."""
TestShare = Annotated[float, Field(gt=0, lt=1)]
_TEST_SEED = 1998  # fixed, so that every run is tested on the same samples


def located(path: str, root: Path) -> Path:
    """A path as it is, or below the data root.

    Raises:
        DataError: it is in neither place.
    """
    given = Path(path).expanduser()
    for place in (given, root / given):
        if place.exists():
            return place
    raise DataError(f"there is no {given}, also not below the data root {root}")


def drawn_for_test(targets: Tensor, share: float, what: str) -> tuple[Tensor, Tensor]:
    """Indices for training and for the test, class by class, the same in every run.

    Raises:
        DataError: a class has a single sample, which cannot be in both.
    """
    numbers, counts = targets.unique(return_counts=True)
    if len(targets) == 0:
        raise DataError(f"{what} must have samples, but has none")
    if (counts < 2).any():
        raise DataError(
            f"each class of {what} must have at least two samples, one for training and one for "
            f"the test, but class {int(numbers[counts < 2][0])} has one; add samples, or a test "
            "part"
        )
    return stratified_split(targets, share, _TEST_SEED)
