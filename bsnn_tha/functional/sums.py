"""Currents that have not been made numbers of yet."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Sums(NamedTuple):
    """A window's currents as whole numbers of 16 bits.

    Spikes times signs are whole numbers, and so are their means over 2 × 2 places in a unit of 1/4:
    exact, in half the memory of float32. Autograd knows no gradient of whole numbers, so that
    another tensor stands for the currents in its graph.
    """

    values: Tensor
    """int16 ``[samples, C, height, width]``, channels innermost in memory."""
    unit: float
    """A power of two: currents are values times it."""
    dtype: torch.dtype
    """That they would have as numbers, and are computed with."""
    node: Tensor
    """Of the same shape, without memory of its own or meaning: whoever reads the values gives it
    the currents' gradient."""
