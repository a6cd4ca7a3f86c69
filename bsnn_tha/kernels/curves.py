"""Surrogates as compiled scans take them: the name of a curve, and two numbers.

With x = u − centre, a curve is a function of ``narrowness`` · x times ``height``:

================  ===================  =============  =========
name              curve at y           narrowness     height
================  ===================  =============  =========
``fast_sigmoid``  1 / (1 + |y|)²       k              s
``sigmoid``       σ(y) σ(−y)           k              s k
``arctan``        1 / (1 + y²)         π/2 · k        s k / 2
``exponential``   exp(−|y|)            k              s k
``rectangle``     1 if |y| < ½ else 0  k              s
``triangle``      max(0, 1 − |y|)      k              s
================  ===================  =============  =========
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from bsnn_tha.equations.surrogate import (
    ArcTan,
    Exponential,
    FastSigmoid,
    Rectangle,
    Sigmoid,
    Surrogate,
    Triangle,
)


class Curve(NamedTuple):
    """A surrogate as a compiled scan takes it."""

    name: str
    narrowness: float
    height: float


_CURVES: dict[type, Callable[[Any], Curve]] = {
    FastSigmoid: lambda its: Curve("fast_sigmoid", its.slope, its.scale),
    Sigmoid: lambda its: Curve("sigmoid", its.slope, its.scale * its.slope),
    ArcTan: lambda its: Curve("arctan", math.pi / 2 * its.slope, its.scale * its.slope / 2),
    Exponential: lambda its: Curve("exponential", its.slope, its.scale * its.slope),
    Rectangle: lambda its: Curve("rectangle", its.slope, its.scale),
    Triangle: lambda its: Curve("triangle", its.slope, its.scale),
}


def differentiates(surrogate: Surrogate) -> bool:
    """Whether the compiled scans know the surrogate.

    Example:
        >>> differentiates(FastSigmoid()), differentiates(lambda membrane, centre: membrane)
        (True, False)
    """
    # Not isinstance: a derived class may compute something else.
    return type(surrogate) in _CURVES


def curve_of(surrogate: Surrogate) -> Curve:
    """The curve of a surrogate that :func:`differentiates` knows.

    Example:
        >>> curve_of(Exponential(slope=0.5, scale=3.0))
        Curve(name='exponential', narrowness=0.5, height=1.5)
    """
    return _CURVES[type(surrogate)](surrogate)
