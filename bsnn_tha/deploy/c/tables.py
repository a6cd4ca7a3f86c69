"""Constants of the C program: arrays in flash, and numbers that need none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bsnn_tha.deploy.c.layout import places_last

_PER_LINE = 92
"""Characters of an array's line."""


@dataclass(frozen=True)
class Table:
    """A constant array of the C program.

    Attributes:
        name: in C.
        values: of the dtype it has there.
    """

    name: str
    values: NDArray[Any]

    @property
    def type(self) -> str:
        """In C.

        Example:
            >>> Table("offset_0", np.zeros(3, np.int16)).type
            'int16_t'
        """
        return f"{self.values.dtype.name}_t"

    @property
    def nbytes(self) -> int:
        """In flash."""
        return self.values.nbytes

    def lines(self) -> Iterator[str]:
        """The values as C writes them, some to a line."""
        line = ""
        for text in map(_literal, self.values.ravel()):
            if len(line) + len(text) > _PER_LINE:
                yield line
                line = ""
            line += f"{text}, "
        yield line.rstrip(" ")


@dataclass(frozen=True)
class Number:
    """What a layer has one of, or each channel, or each neuron.

    Attributes:
        text: the value in C; with a table, an element of it.
        table: where the values differ.
        values: all of them.
    """

    text: str
    table: Table | None
    values: NDArray[Any]

    def is_always(self, value: int) -> bool:
        """Whether there is only this one."""
        return self.table is None and bool((self.values == value).all())


def number(name: str, values: NDArray[Any], shape: tuple[int, ...]) -> Number:
    """The shortest way to give every neuron its value.

    Args:
        name: of a table, if there has to be one.
        values: whole numbers: ``[]``, ``[channels]``, or what broadcasts against ``shape``.
        shape: of the neurons, channels first.

    Example:
        >>> number("theta_0", np.array([7, 7]), (2,)).text
        '7'
        >>> number("theta_0", np.array([7, -300]), (2, 4, 4)).table.values
        array([   7, -300], dtype=int16)
    """
    values = np.asarray(values, np.int64)
    if values.size == 1 or (values == values.flat[0]).all():
        return Number(_literal(values.flat[0]), None, values)
    if values.shape == (shape[0],):
        table = Table(name, narrowed(values))
        return Number(f"{name}[channel]", table, values)
    every = places_last(np.broadcast_to(values, shape), shape).ravel()
    return Number(f"{name}[neuron]", Table(name, narrowed(every)), values)


def narrowed(values: NDArray[np.int64]) -> NDArray[Any]:
    """Whole numbers in the shortest signed type that holds them."""
    for dtype in (np.int8, np.int16, np.int32):
        bound = np.iinfo(dtype)
        if bound.min <= values.min() and values.max() <= bound.max:
            return values.astype(dtype)
    return values


def _literal(value: Any) -> str:
    """A whole number in C; the smallest of 32 bits has no literal of its own.

    Example:
        >>> _literal(np.uint32(7)), _literal(np.int32(-(2**31)))
        ('0x7u', '(-2147483647 - 1)')
    """
    if isinstance(value, np.unsignedinteger):
        return f"{int(value):#x}u"
    return "(-2147483647 - 1)" if value == -(2**31) else str(int(value))
