"""Sums of signs from lists of spikes: rows of signs of those that a place reaches, added up.

A list holds where the row of signs of each spike begins. Spikes of a map are listed once, row by
row; what a place reaches of a row of the map is then a piece of that list.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from bsnn_tha.kernels.cpu.packed import columns as c
from bsnn_tha.kernels.cpu.packed.lanes import COUNT
from bsnn_tha.kernels.cpu.packed.vectors import add_listed, copy_moved, list_ones, ones_of

POSITIONS = np.zeros(256 * 8, np.uint8)
"""Of the ones of each byte, eight numbers for each."""
for _byte in range(256):
    _ones = [bit for bit in range(8) if _byte >> bit & 1]
    POSITIONS[8 * _byte : 8 * _byte + len(_ones)] = _ones

SPARE = 40
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


@numba.njit(error_model="numpy", forceinline=True)
def listed_unit(word: Any, scale: int, base: int, listed: Any, count: int) -> int:
    """Append the ones of a unit, without a branch."""
    low, high = word & 255, word >> 8
    list_ones(listed, count, POSITIONS, low, scale, base)
    count += ones_of(low)
    list_ones(listed, count, POSITIONS, high, scale, base + 8 * scale)
    return count + ones_of(high)


@numba.njit(error_model="numpy", forceinline=True)
def listed_units(
    spikes: Any, at: int, units: int, scale: int, base: int, listed: Any, count: int
) -> int:
    """Append the ones of units."""
    for unit in range(units):
        word = np.int64(spikes[at + unit])
        if word:
            count = listed_unit(word, scale, base + unit * c.UNIT * scale, listed, count)
    return count


@numba.njit(error_model="numpy", forceinline=True)
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
    map_rows, map_columns = term[c.MAP_ROWS], term[c.MAP_COLUMNS]
    spikes_at, signs_at, most = term[c.SPIKES_AT], term[c.SIGNS_AT], term[c.MOST]
    column = units * c.UNIT * lanes
    _list_rows(spikes, spikes_at, term[c.HEIGHT], width, units, lanes, rows, starts)
    nothing = kernel * kernel * column
    for y in range(map_rows):
        for x in range(map_columns):
            found = 0
            for dy in range(kernel):
                row = (y * step + dy) * (width + 1) + x * step
                first, last = starts[row], starts[row + kernel]
                moved = (dy * kernel - x * step) * column
                # Mostly once: a branch that is always the same costs nothing.
                for i in range(0, last - first, 2 * COUNT):
                    copy_moved(listed, found + i, rows, first + i, moved)
                    copy_moved(listed, found + i + COUNT, rows, first + i + COUNT, moved)
                found += last - first
            place = to + (y * map_columns + x) * lanes
            add_up(signs, signs_at, lanes, nothing, most, listed, found, sums, place)


@numba.njit(error_model="numpy", forceinline=True)
def _list_rows(
    spikes: Any, at: int, height: int, width: int, units: int, lanes: int, rows: Any, starts: Any
) -> None:
    """Lists of a map's rows, one after the other; ``starts`` has where each column's begin."""
    count = 0
    for y in range(height):
        for x in range(width):
            starts[y * (width + 1) + x] = count
            for unit in range(units):
                word = np.int64(spikes[at + (y * width + x) * units + unit])
                count = listed_unit(word, lanes, (x * units + unit) * c.UNIT * lanes, rows, count)
        starts[y * (width + 1) + width] = count
