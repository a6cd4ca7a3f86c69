"""Numbers of 16 bits in compiled loops: bfloat16, which numpy does not know, and whole ones.

bfloat16 numbers are the upper halves of float32 numbers, and come as unsigned 16-bit
integers; signed ones are whole numbers. These functions exist in compiled loops only.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.extending import overload, register_jitable


def widened(value: Any) -> Any:
    """The float32 of 16 bits; any other number as it is."""


@overload(widened)
def _compile_widened(value):  # type: ignore[no-untyped-def]
    if value == numba.types.uint16:
        return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
    if value == numba.types.int16:
        return lambda value: np.float32(value)
    return lambda value: value


def narrowed(value: Any, array: Any) -> Any:
    """The value as the array holds it: rounded to nearest, ties to even, for bfloat16."""


@overload(narrowed)
def _compile_narrowed(value, array):  # type: ignore[no-untyped-def]
    if array.dtype != numba.types.uint16:
        return lambda value, array: value
    return lambda value, array: _upper_half(value)


def rounded(value: Any, like: Any) -> Any:
    """The value as it would come back from where ``like``, a number as it is held, is from."""


@overload(rounded)
def _compile_rounded(value, like):  # type: ignore[no-untyped-def]
    if like != numba.types.uint16:
        return lambda value, like: value
    return lambda value, like: widened(_upper_half(value))


@register_jitable
def _upper_half(value):  # type: ignore[no-untyped-def]
    bits = np.float32(value).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)  # to nearest, ties to even
    upper = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    # NaN stays NaN: the lower half is empty, whether from bfloat16 or the processor's own.
    return np.uint16(upper)
