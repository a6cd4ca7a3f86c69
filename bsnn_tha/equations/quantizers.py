"""What weights are computed with: a quantizer by its name, or one of one's own.

A quantizer maps full-precision (latent) weights to the few values that the
forward pass sees, and brings the gradient that reaches them:

================  ===========================================  =================================
``weights``       values                                       home
================  ===========================================  =================================
``binary``        −1 and +1                                    :mod:`bsnn_tha.equations.binarize`
``sawb``          2^bits equally spaced ones, as far as the    :mod:`bsnn_tha.equations.sawb`
                  clip α*
``float``         the latent weights themselves
``module:Class``  yours: see :class:`Quantizer`
================  ===========================================  =================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from bsnn_tha.choices import Axis
from bsnn_tha.equations.binarize import Binary
from bsnn_tha.equations.sawb import SAWB


@runtime_checkable
class Quantizer(Protocol):
    """Latent weights in, quantized weights out, with a gradient; compares by value."""

    @property
    def bits(self) -> int:
        """Bits that one weight needs."""
        ...

    def __call__(self, latent: Tensor) -> Tensor:
        """Quantized weights, like ``latent``."""
        ...


QUANTIZERS: Axis[Quantizer] = Axis(
    "weights", {"binary": Binary, "sawb": SAWB, "float": None}, makes=Quantizer
)


def choose_quantizer(
    weights: str | Quantizer,
    weight_bits: int | None = None,
    weight_options: Mapping[str, Any] | None = None,
) -> Quantizer | None:
    """The quantizer of a configuration; None for full precision.

    Args:
        weights: a name from the table above, or a quantizer, which is returned.
        weight_bits: for a quantizer that has ``bits`` to choose.
        weight_options: its other arguments.

    Raises:
        InvalidValueError: another name, or a setting that it does not have.

    Example:
        >>> choose_quantizer("sawb", 2)
        SAWB(bits=2)
        >>> choose_quantizer("binary", 2)
        Traceback (most recent call last):
        bsnn_tha.errors.InvalidValueError: weights 'binary' has no setting 'weight_bits'; it takes \
none
    """
    settings = dict(weight_options or {})
    if weight_bits is not None:
        settings["bits"] = weight_bits
    return QUANTIZERS.chosen(weights, settings, written={"bits": "weight_bits"})
