"""What weights are computed with: a quantizer by its name in a configuration.

A quantizer maps full-precision (latent) weights to the few values that the
forward pass sees, and brings the gradient that reaches them:

==========  ==================================================  =========================
``weights``  values                                             home
==========  ==================================================  =========================
``binary``  −1 and +1                                           :mod:`~bsnn_tha.equations.binarize`
``sawb``    2^bits equally spaced ones, as far as the clip α*   :mod:`~bsnn_tha.equations.sawb`
``float``   the latent weights themselves: no quantizer
==========  ==================================================  =========================
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

from torch import Tensor

from bsnn_tha.equations.binarize import Binary
from bsnn_tha.equations.sawb import SAWB
from bsnn_tha.errors import InvalidValueError

Weights = Literal["binary", "float", "sawb"]

SAWB_BITS = 4
"""As in LT-SNN's Table 4, where nothing else is asked for."""


class Quantizer(Protocol):
    """Latent weights in, quantized weights out, with a gradient; compares by value."""

    @property
    def bits(self) -> int:
        """Bits that one weight needs."""
        ...

    def __call__(self, latent: Tensor) -> Tensor:
        """Quantized weights, like ``latent``."""
        ...


def choose_quantizer(weights: Weights, weight_bits: int | None = None) -> Quantizer | None:
    """The quantizer of a configuration; None for full precision.

    Args:
        weights: ``"binary"``, ``"float"`` or ``"sawb"``.
        weight_bits: 2 to 8, for ``"sawb"`` only; 4 if None.

    Raises:
        InvalidValueError: another name, or bits that it cannot have.

    Example:
        >>> choose_quantizer("sawb", 2)
        SAWB(bits=2)
        >>> choose_quantizer("binary", 2)
        Traceback (most recent call last):
        bsnn_tha.errors.InvalidValueError: weight_bits is for weights='sawb', but got \
weight_bits=2 with weights='binary'; leave it out
    """
    if weights not in get_args(Weights):
        raise InvalidValueError(
            f"weights must be 'binary', 'float' or 'sawb', but got weights={weights!r}"
        )
    if weights == "sawb":
        return SAWB(SAWB_BITS if weight_bits is None else weight_bits)
    if weight_bits is not None:
        raise InvalidValueError(
            f"weight_bits is for weights='sawb', but got weight_bits={weight_bits} "
            f"with weights={weights!r}; leave it out"
        )
    return Binary() if weights == "binary" else None
