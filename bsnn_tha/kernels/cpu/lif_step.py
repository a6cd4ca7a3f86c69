r"""Eq. 1, 2 and 8 and their gradients in compiled loops: one neuron, one time step.

Whatever loop on the CPU has neurons in it calls these functions, and the compiler puts them
in its place: the scans of :mod:`bsnn_tha.kernels.cpu.lif_scans`, those behind batch norm
(:mod:`~bsnn_tha.kernels.cpu.norm_lif`) and the layers in one pass
(:mod:`~bsnn_tha.kernels.cpu.sparse_lif_scans`,
:mod:`~bsnn_tha.kernels.cpu.sparse_conv_lif`).
They are to be read beside :mod:`bsnn_tha.equations.lif`. Every operation is the one
written there, in the same order, and rounded once: the same bits.

``subtract`` and ``zero`` say which reset there is, and are constants of the loop, as
are the surrogate's ``curve`` and the ``window`` of θ's gradient. Both are functions of one
number and written once for float32 and float64
(:mod:`bsnn_tha.kernels.cpu.arithmetic`); a loop is vectorized with them.

All arguments are numbers: a loop that hands an array on is not vectorized, and takes
1.3 to 2.7 times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.extending import register_jitable

from bsnn_tha.kernels.cpu.arithmetic import HALF, NOTHING, ONE, exponential_of, half_turns_of
from bsnn_tha.kernels.cpu.bfloat16 import rounded, widened

# Forward


@register_jitable
def fires(u, theta):  # type: ignore[no-untyped-def]
    """z (Eq. 2), as a float32: a NaN does not fire."""
    return ONE if u >= theta else NOTHING


@register_jitable
def integrate(u, current, decay, theta, subtract, zero):  # type: ignore[no-untyped-def]
    """u[t+1] (Eq. 1) of u[t] and I[t+1]; rounded after each operation as I is, if to bfloat16."""
    z = fires(u, theta)
    if zero:
        u *= ONE - z
    u = rounded(decay * u, current)
    u = rounded(u + widened(current), current)
    if subtract:
        u = rounded(u - z * theta, current)
    return u


# Backward. g is the gradient that reaches u[t], which is also the current's.


@register_jitable
def to_membrane(g_z, u, centre, narrowness, height, curve):  # type: ignore[no-untyped-def]
    """What a spike's gradient gives u (Eq. 8): g_z s(u, centre)."""
    return curve((u - centre) * narrowness, height) * g_z


@register_jitable
def from_threshold(through, u, theta, window, fired_only):  # type: ignore[no-untyped-def]
    """What a spike's gradient takes from θ, of what :func:`to_membrane` gave u."""
    factor = window(u - theta)
    if fired_only:
        factor *= fires(u, theta)
    return through * factor


@register_jitable
def to_before(g, before, decay, theta, zero):  # type: ignore[no-untyped-def]
    """What the step before gets: g ∂u[t]/∂u[t−1], with the reset detached."""
    g = decay * g
    return g * (ONE - fires(before, theta)) if zero else g


@register_jitable
def to_decay(g, before, theta, zero):  # type: ignore[no-untyped-def]
    """What β gets: g u[t−1], or nothing where that was reset to zero."""
    return g * (before * (ONE - fires(before, theta))) if zero else g * before


@register_jitable
def from_threshold_by_reset(g, before, theta):  # type: ignore[no-untyped-def]
    """What a reset by subtraction takes from θ."""
    return g * fires(before, theta)


# Surrogates: curves of :mod:`bsnn_tha.kernels.curves`, with y = narrowness · (u − centre)


@register_jitable
def _fast_sigmoid(y, height):  # type: ignore[no-untyped-def]
    width = abs(y) + ONE
    return ONE / (width * width) * height


@register_jitable
def _sigmoid(y, height):  # type: ignore[no-untyped-def]
    # From the side where the exponential cannot overflow.
    small = exponential_of(-abs(y))
    return small / ((ONE + small) * (ONE + small)) * height


@register_jitable
def _arctan(y, height):  # type: ignore[no-untyped-def]
    return ONE / (ONE + y * y) * height


@register_jitable
def _exponential(y, height):  # type: ignore[no-untyped-def]
    return exponential_of(-abs(y)) * height


@register_jitable
def _rectangle(y, height):  # type: ignore[no-untyped-def]
    size = abs(y)
    outside = NOTHING if size >= HALF else y  # what is neither is a NaN
    return height if size < HALF else outside


@register_jitable
def _triangle(y, height):  # type: ignore[no-untyped-def]
    left = ONE - abs(y)
    return (NOTHING if left < NOTHING else left) * height


SURROGATES: dict[str, Callable[..., Any]] = {
    "fast_sigmoid": _fast_sigmoid,
    "sigmoid": _sigmoid,
    "arctan": _arctan,
    "exponential": _exponential,
    "rectangle": _rectangle,
    "triangle": _triangle,
}


# Windows of :class:`bsnn_tha.equations.threshold_gradient.ThresholdGradient`, with x = u − θ


@register_jitable
def _no_window(x):  # type: ignore[no-untyped-def]
    return ONE


@register_jitable
def _sigmoid_window(x):  # type: ignore[no-untyped-def]
    small = exponential_of(-abs(x))
    return (small if x < NOTHING else ONE) / (ONE + small)


@register_jitable
def _arctan_window(x):  # type: ignore[no-untyped-def]
    return HALF + half_turns_of(x)


@register_jitable
def _triangle_window(x):  # type: ignore[no-untyped-def]
    return _triangle(x, ONE)


@register_jitable
def _piecewise_window(x):  # type: ignore[no-untyped-def]
    raised = x + HALF
    raised = NOTHING if raised < NOTHING else raised
    return ONE if raised > ONE else raised


WINDOWS: dict[str, Callable[..., Any]] = {
    "none": _no_window,
    "sigmoid": _sigmoid_window,
    "arctan": _arctan_window,
    "triangle": _triangle_window,
    "piecewise": _piecewise_window,
}
