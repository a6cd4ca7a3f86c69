"""Sums of signs from lists of spikes: rows of signs of those that a place reaches, added up.

A list holds where the row of signs of each spike begins. Spikes of a map are listed once, row by
row; what a place reaches of a row of the map is then a piece of that list.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from bsnn_tha.kernels.cpu.packed import columns as c
from bsnn_tha.kernels.cpu.packed.vectors import add_listed, copy_moved, list_ones, ones_of

POSITIONS = np.zeros(256 * 8, np.uint8)
"""Of the ones of each byte, eight numbers for each."""
for _byte in range(256):
    _ones = [bit for bit in range(8) if _byte >> bit & 1]
    POSITIONS[8 * _byte : 8 * _byte + len(_ones)] = _ones

SPARE = 16
"""Numbers of a list beyond its end that may be written to."""


@numba.njit(error_model="numpy")
def listed_word(word: int, scale: int, base: int, listed: Any, count: int) -> int:
    """Append the ones of a unit, or of several of them, to a list; returns its length."""
    while word:
        byte = word & 255
        list_ones(listed, count, POSITIONS, byte, scale, base)
        count += ones_of(byte)
        word = (word >> 8) & 0xFFFFFFFFFFFFFF
        base += 8 * scale
    return count


@numba.njit(error_model="numpy")
def listed_units(
    spikes: Any, at: int, units: int, scale: int, base: int, listed: Any, count: int
) -> int:
    """Append the ones of units."""
    for unit in range(units):
        word = np.int64(spikes[at + unit])
        if word:
            first = base + unit * c.UNIT * scale
            list_ones(listed, count, POSITIONS, word & 255, scale, first)
            count += ones_of(word & 255)
            list_ones(listed, count, POSITIONS, word >> 8, scale, first + 8 * scale)
            count += ones_of(word >> 8)
    return count


@numba.njit(error_model="numpy")
def add_up(
    signs: Any, at: int, lanes: int, nothing: int, most: int, listed: Any, count: int, sums: Any,
    to: int,
) -> None:  # fmt: skip
    """Add the rows of a list to the sums of a place.

    ``nothing`` is where a row of zeros begins, which fills the list up to a multiple of four;
    ``most`` rows fit sums of 8 bits.
    """
    for spare in range(4):
        listed[count + spare] = nothing
    for first in range(0, count, most):
        fours = (min(most, count - first) + 3) >> 2
        o = 0
        while lanes - o >= 256:
            add_listed(sums, to + o, signs, at + o, listed, first, fours, 4, 64)
            o += 256
        while lanes - o >= 64:
            add_listed(sums, to + o, signs, at + o, listed, first, fours, 1, 64)
            o += 64
        if lanes - o >= 32:
            add_listed(sums, to + o, signs, at + o, listed, first, fours, 1, 32)
            o += 32
        if lanes - o >= 16:
            add_listed(sums, to + o, signs, at + o, listed, first, fours, 1, 16)


@numba.njit(error_model="numpy")
def dense(term: Any, lanes: int, spikes: Any, signs: Any, listed: Any, sums: Any) -> None:
    """A fully connected layer: one place that reaches all spikes."""
    units, places = term[c.UNITS], term[c.HEIGHT] * term[c.WIDTH]
    # Where maps are summed, the same channel of all places has one row of signs.
    step = 0 if term[c.SUMS_MAPS] else units * c.UNIT * lanes
    if not term[c.SUMS_MAPS]:
        units, places = units * places, 1
    count = 0
    for place in range(places):
        at = term[c.SPIKES_AT] + place * units
        count = listed_units(spikes, at, units, lanes, place * step, listed, count)
    rows = units * c.UNIT
    add_up(
        signs, term[c.SIGNS_AT], lanes, rows * lanes, term[c.MOST], listed, count, sums,
        term[c.SUMS_AT],
    )  # fmt: skip


@numba.njit(error_model="numpy")
def convolution(
    term: Any, lanes: int, spikes: Any, signs: Any, rows: Any, starts: Any, listed: Any, sums: Any,
    to: int,
) -> None:  # fmt: skip
    """A convolution, summed over pooling windows as it goes."""
    width, units, kernel, step = term[c.WIDTH], term[c.UNITS], term[c.KERNEL], term[c.STEP]
    column = units * c.UNIT * lanes
    count = 0
    for y in range(term[c.HEIGHT]):
        for x in range(width):
            starts[y * (width + 1) + x] = count
            at = term[c.SPIKES_AT] + (y * width + x) * units
            count = listed_units(spikes, at, units, lanes, x * column, rows, count)
        starts[y * (width + 1) + width] = count
    nothing = kernel * kernel * column
    for y in range(term[c.MAP_ROWS]):
        for x in range(term[c.MAP_COLUMNS]):
            found = 0
            for dy in range(kernel):
                row = (y * step + dy) * (width + 1) + x * step
                first, last = starts[row], starts[row + kernel]
                moved = (dy * kernel - x * step) * column
                for i in range(0, last - first, 16):
                    copy_moved(listed, found + i, rows, first + i, moved)
                found += last - first
            add_up(
                signs, term[c.SIGNS_AT], lanes, nothing, term[c.MOST], listed, found, sums,
                to + (y * term[c.MAP_COLUMNS] + x) * lanes,
            )  # fmt: skip
