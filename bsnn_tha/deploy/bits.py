"""±1 weights as bits: 1 stands for +1, 0 for −1.

Each output's weights lie in the order of the array, begin at a whole byte, and fill bytes from
the lowest bit: weight j is bit j % 8 of byte j // 8. On a little-endian machine the same bytes
are words of any length with weight j at bit j. Bits left over in a row's last byte are 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def packed(weights: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Bits of −1 and +1, ``[out, bytes]``.

    Example:
        >>> packed(np.array([[1, -1, -1, 1, 1, -1, -1, -1, 1]], np.int8))
        array([[25,  1]], dtype=uint8)
    """
    rows = weights.reshape(len(weights), -1) > 0
    return np.packbits(rows, axis=1, bitorder="little")


def unpacked(bits: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.int8]:
    """−1 and +1 in the given shape, ``[out, ...]``: what :func:`packed` was given.

    Example:
        >>> unpacked(np.array([[25, 1]], np.uint8), (1, 9))
        array([[ 1, -1, -1,  1,  1, -1, -1, -1,  1]], dtype=int8)
    """
    fan_in = int(np.prod(shape[1:], dtype=np.int64))
    rows = np.unpackbits(bits, axis=1, count=fan_in, bitorder="little")
    return (rows.astype(np.int8) * 2 - 1).reshape(shape)


def bytes_per_output(fan_in: int) -> int:
    """Of one row.

    Example:
        >>> bytes_per_output(9)
        2
    """
    return -(-fan_in // 8)
