"""Numbers in compiled loops: exponential and arctangent, as arithmetic where that is faster.

For float32 they are arithmetic, which is vectorized where a call is not. Constants are
float32 numbers that are exact: they take nothing from a float64 and do not promote a
float32.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numba.extending import overload, register_jitable

NOTHING, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)

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
        series = ONE + r * (ONE + r * (_C2 + r * (_C3 + r * series)))
        # Half the exponent at a time: 2^-149 and 2^128 are no normal numbers.
        half = n * HALF + _SHIFT
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
        steep = size > ONE
        tangent = ONE / size if steep else size
        # Taylor's series of the angle to π/8: |t| ≤ tan(π/8), the next term is 2e-9.
        t = (tangent - _TAN) / (ONE + tangent * _TAN)
        z = t * t
        series = _A4 + z * (_A5 + z * (_A6 + z * (_A7 + z * _A8)))
        turns = _EIGHTH + t * (_A0 + z * (_A1 + z * (_A2 + z * (_A3 + z * series))))
        turns = HALF - turns if steep else turns
        return -turns if value < NOTHING else turns

    return half_turns
