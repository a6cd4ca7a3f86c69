r"""The loops of :mod:`bsnn_tha.kernels.cpu.lif`, and the functions in them.

All in one file, but for the format of bfloat16, which does not change: numba keeps
compiled loops on disk and looks for changes only in the file of the loop itself.

Surrogates and windows are functions of one number. They are written once, for
float32 and float64: their constants are float32 numbers that are exact, which
takes nothing from a float64 and does not promote a float32. A loop is compiled
around one surrogate and one window, and vectorized with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from numba.extending import overload, register_jitable

from bsnn_tha.equations.lif import Reset
from bsnn_tha.equations.threshold_gradient import ThresholdGradient
from bsnn_tha.kernels.cpu.bfloat16 import narrowed, rounded, widened

# What a dtype is computed in.
REALS: dict[torch.dtype, Any] = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.bfloat16: np.float32,
}

_NOTHING, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)


# Exponential and arctangent. For float32 as arithmetic, which is vectorized where a call is not.


_LOG2_E = np.float32(1 / math.log(2))
_LN_2 = np.float32(355 / 512)  # nine bits: times an exponent it is exact
_LN_2_REST = np.float32(math.log(2) - 355 / 512)
_LOWEST, _HIGHEST = np.float32(-104), np.float32(89)  # where exp is 0 and inf
_C2, _C3, _C4, _C5, _C6, _C7 = (np.float32(1 / math.factorial(n)) for n in range(2, 8))
# Added to a small number it leaves an integer, in the lowest bits of the sum.
_SHIFT = np.float32(1.5 * 2**23)


@register_jitable
def _power_of_2(shifted):  # type: ignore[no-untyped-def]
    """2^n of n + _SHIFT, for a normal result: n in the bits of an exponent."""
    exponent = (np.float32(shifted).view(np.uint32) + np.uint32(127)) << np.uint32(23)
    return np.uint32(exponent).view(np.float32)


def exponential_of(value: Any) -> Any:
    """exp(value): float32 within 2 units in the last place, float64 by the system's library."""


@overload(exponential_of)
def _compile_exponential_of(value):  # type: ignore[no-untyped-def]
    if value == numba.types.float64:
        return lambda value: math.exp(value)

    def exponential(value):  # type: ignore[no-untyped-def]
        # Comparisons that leave a NaN alone.
        value = _LOWEST if value < _LOWEST else value
        value = _HIGHEST if value > _HIGHEST else value
        # exp(value) = 2^n exp(r) with |r| ≤ ln(2) / 2, where Taylor's next term is 5e-9.
        n = (value * _LOG2_E + _SHIFT) - _SHIFT
        r = (value - n * _LN_2) - n * _LN_2_REST
        series = _C4 + r * (_C5 + r * (_C6 + r * _C7))
        series = _ONE + r * (_ONE + r * (_C2 + r * (_C3 + r * series)))
        # Half the exponent at a time: 2^-149 and 2^128 are no normal numbers.
        half = n * _HALF + _SHIFT
        rest = (n - (half - _SHIFT)) + _SHIFT
        return series * _power_of_2(half) * _power_of_2(rest)

    return exponential


_TAN = np.float32(math.tan(math.pi / 8))
_A0, _A1, _A2, _A3, _A4, _A5, _A6, _A7, _A8 = (
    np.float32((-1) ** n / (2 * n + 1) / math.pi) for n in range(9)
)
_EIGHTH = np.float32(1 / 8)


def half_turns_of(value: Any) -> Any:
    """arctan(value) / π: float32 within 1e-7, float64 by the system's library."""


@overload(half_turns_of)
def _compile_half_turns_of(value):  # type: ignore[no-untyped-def]
    if value == numba.types.float64:
        return lambda value: math.atan(value) / math.pi

    def half_turns(value):  # type: ignore[no-untyped-def]
        size = abs(value)
        steep = size > _ONE
        tangent = _ONE / size if steep else size
        # Taylor's series of the angle to π/8: |t| ≤ tan(π/8), the next term is 2e-9.
        t = (tangent - _TAN) / (_ONE + tangent * _TAN)
        z = t * t
        series = _A4 + z * (_A5 + z * (_A6 + z * (_A7 + z * _A8)))
        turns = _EIGHTH + t * (_A0 + z * (_A1 + z * (_A2 + z * (_A3 + z * series))))
        turns = _HALF - turns if steep else turns
        return -turns if value < _NOTHING else turns

    return half_turns


# Surrogates: curves of :mod:`bsnn_tha.kernels.curves`, with y = narrowness · x


@register_jitable
def _fast_sigmoid(y, height):  # type: ignore[no-untyped-def]
    width = abs(y) + _ONE
    return _ONE / (width * width) * height


@register_jitable
def _sigmoid(y, height):  # type: ignore[no-untyped-def]
    # From the side where the exponential cannot overflow.
    small = exponential_of(-abs(y))
    return small / ((_ONE + small) * (_ONE + small)) * height


@register_jitable
def _arctan(y, height):  # type: ignore[no-untyped-def]
    return _ONE / (_ONE + y * y) * height


@register_jitable
def _exponential(y, height):  # type: ignore[no-untyped-def]
    return exponential_of(-abs(y)) * height


@register_jitable
def _rectangle(y, height):  # type: ignore[no-untyped-def]
    size = abs(y)
    outside = _NOTHING if size >= _HALF else y  # what is neither is a NaN
    return height if size < _HALF else outside


@register_jitable
def _triangle(y, height):  # type: ignore[no-untyped-def]
    left = _ONE - abs(y)
    return (_NOTHING if left < _NOTHING else left) * height


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
    return _ONE


@register_jitable
def _sigmoid_window(x):  # type: ignore[no-untyped-def]
    small = exponential_of(-abs(x))
    return (small if x < _NOTHING else _ONE) / (_ONE + small)


@register_jitable
def _arctan_window(x):  # type: ignore[no-untyped-def]
    return _HALF + half_turns_of(x)


@register_jitable
def _triangle_window(x):  # type: ignore[no-untyped-def]
    return _triangle(x, _ONE)


@register_jitable
def _piecewise_window(x):  # type: ignore[no-untyped-def]
    raised = x + _HALF
    raised = _NOTHING if raised < _NOTHING else raised
    return _ONE if raised > _ONE else raised


WINDOWS: dict[str, Callable[..., Any]] = {
    "none": _no_window,
    "sigmoid": _sigmoid_window,
    "arctan": _arctan_window,
    "triangle": _triangle_window,
    "piecewise": _piecewise_window,
}


# The scans. What is fixed for a layer is a constant in them; None is compiled away.


def forward_scan(reset: Reset, dtype: torch.dtype) -> Callable[..., None]:
    """The forward scan."""
    real = REALS[dtype]
    one, nothing = real(1), real(0)
    subtract, zero = reset == "subtract", reset == "zero"

    def scan(  # type: ignore[no-untyped-def]
        current, time_stride, row_stride,
        beta, threshold, state,
        spikes, membranes,
        steps, neurons, length, block, first, last,
    ):  # fmt: skip
        per_row = (length + block - 1) // block
        for index in range(first, last):
            row, column = index // per_row, index % per_row * block
            size = min(block, length - column)
            at, of = row * row_stride + column, row * length + column
            decay, theta = beta[of : of + size], threshold[of : of + size]
            membrane = state[of : of + size]
            for _ in range(steps):
                inputs = current[at : at + size]
                fired = spikes[of : of + size]
                if membranes is not None:
                    kept = membranes[of : of + size]
                for i in range(size):
                    u = membrane[i]
                    z = one if u >= theta[i] else nothing
                    if zero:
                        u *= one - z
                    u = rounded(decay[i] * u, current)
                    u = rounded(u + widened(inputs[i]), current)
                    if subtract:
                        u = rounded(u - z * theta[i], current)
                    membrane[i] = u
                    fired[i] = narrowed(one if u >= theta[i] else nothing, spikes)
                    if membranes is not None:
                        kept[i] = narrowed(u, current)
                at += time_stride
                of += neurons

    return scan


def backward_scan(
    surrogate: str, threshold_gradient: ThresholdGradient, reset: Reset, dtype: torch.dtype
) -> Callable[..., None]:
    """The backward scan around a curve of :mod:`bsnn_tha.kernels.curves`."""
    curve, window = SURROGATES[surrogate], WINDOWS[threshold_gradient.window]
    fired_only = threshold_gradient.fired_only
    real = REALS[dtype]
    one, nothing = real(1), real(0)
    subtract, zero = reset == "subtract", reset == "zero"

    def scan(  # type: ignore[no-untyped-def]
        g_spikes, spikes_time_stride, spikes_row_stride,
        g_membranes, membranes_time_stride, membranes_row_stride,
        start, beta, threshold, centre,
        membranes, kept_time_stride, kept_row_stride,
        narrowness, height,
        g_current, time_stride, row_stride,
        carried, g_beta, g_threshold,
        steps, neurons, length, block, first, last,
    ):  # fmt: skip
        per_row = (length + block - 1) // block
        for index in range(first, last):
            row, column = index // per_row, index % per_row * block
            size = min(block, length - column)
            of = row * length + column
            decay, theta = beta[of : of + size], threshold[of : of + size]
            peak, initial = centre[of : of + size], start[of : of + size]
            carry = carried[of : of + size]
            for t in range(steps - 1, -1, -1):
                at = t * kept_time_stride + row * kept_row_stride + column
                now = membranes[at : at + size]
                at = max(t - 1, 0) * kept_time_stride + row * kept_row_stride + column
                earlier = membranes[at : at + size]
                at = t * time_stride + row * row_stride + column
                g_now = g_current[at : at + size]
                if g_spikes is not None:
                    at = t * spikes_time_stride + row * spikes_row_stride + column
                    g_z = g_spikes[at : at + size]
                if g_membranes is not None:
                    at = t * membranes_time_stride + row * membranes_row_stride + column
                    g_m = g_membranes[at : at + size]
                if g_beta is not None:
                    g_decay = g_beta[of : of + size]
                if g_threshold is not None:
                    g_theta = g_threshold[of : of + size]
                for i in range(size):
                    u = widened(now[i])
                    before = widened(earlier[i]) if t > 0 else initial[i]
                    g = carry[i]
                    if g_membranes is not None:
                        g += widened(g_m[i])
                    if g_spikes is not None:
                        through = curve((u - peak[i]) * narrowness, height) * widened(g_z[i])
                        g += through
                        if g_threshold is not None:
                            factor = window(u - theta[i])
                            if fired_only:
                                factor *= one if u >= theta[i] else nothing
                            g_theta[i] -= through * factor
                    g_now[i] = narrowed(g, g_current)
                    # A NaN has not fired, as in the forward pass.
                    z = one if before >= theta[i] else nothing
                    if g_beta is not None:
                        g_decay[i] += g * (before * (one - z)) if zero else g * before
                    if subtract and g_threshold is not None:
                        g_theta[i] -= g * z
                    g = decay[i] * g
                    carry[i] = g * (one - z) if zero else g

    return scan
