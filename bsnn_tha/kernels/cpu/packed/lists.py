"""Sums of signs from lists of spikes: rows of signs of those that a place reaches, added up.

A list holds where the row of signs of each spike begins.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bsnn_tha.kernels.cpu.packed import columns as c
from bsnn_tha.kernels.cpu.packed.compiled import piece
from bsnn_tha.kernels.cpu.packed.vectors import PUSHES, add_listed, list_unit, ones_of

POSITIONS = np.zeros(256 * 8, np.uint8)
"""Of the ones of each byte, eight numbers for each."""
for _byte in range(256):
    _ones = [bit for bit in range(8) if _byte >> bit & 1]
    POSITIONS[8 * _byte : 8 * _byte + len(_ones)] = _ones

SPARE = 16
"""Numbers of a list beyond its end that may be written to."""

MOST_VECTORS = 16 if PUSHES else 4
"""Of 64 outputs, that registers hold beside each other."""


@piece
def listed_word(word: int, scale: int, base: int, listed: Any, count: int) -> int:
    """Append the ones of four units to a list; returns its length."""
    while word:
        unit = word & 0xFFFF
        list_unit(listed, count, POSITIONS, unit, scale, base)
        count += ones_of(unit)
        word = (word >> 16) & 0xFFFFFFFFFFFF
        base += c.UNIT * scale
    return count


@piece
def listed_units(
    spikes: Any, at: int, units: int, scale: int, base: int, listed: Any, count: int
) -> int:
    """Append the ones of units, of which many have none."""
    for unit in range(units):
        word = np.int64(spikes[at + unit])
        if word:
            list_unit(listed, count, POSITIONS, word, scale, base + unit * c.UNIT * scale)
            count += ones_of(word)
    return count


@piece
def add_up(
    signs: Any, at: int, lanes: int, nothing: int, most: int, listed: Any, first: int, last: int,
    sums: Any, to: int,
) -> None:  # fmt: skip
    """Add the rows of a piece of a list to the sums of a place.

    ``nothing`` is where a row of zeros begins, which fills the piece up to a multiple of four
    for as long as this takes; ``most`` rows fit sums of 8 bits.
    """
    a, b, d = listed[last], listed[last + 1], listed[last + 2]
    listed[last] = listed[last + 1] = listed[last + 2] = nothing
    for begin in range(first, last, most):
        fours = (min(most, last - begin) + 3) >> 2
        o = 0
        while lanes - o >= 64 * MOST_VECTORS:
            add_listed(sums, to + o, signs, at + o, listed, begin, fours, MOST_VECTORS, 64)
            o += 64 * MOST_VECTORS
        while lanes - o >= 64:
            add_listed(sums, to + o, signs, at + o, listed, begin, fours, 1, 64)
            o += 64
        if lanes - o >= 32:
            add_listed(sums, to + o, signs, at + o, listed, begin, fours, 1, 32)
            o += 32
        if lanes - o >= 16:
            add_listed(sums, to + o, signs, at + o, listed, begin, fours, 1, 16)
    listed[last], listed[last + 1], listed[last + 2] = a, b, d


@piece
def dense(term: Any, lanes: int, spikes: Any, signs: Any, listed: Any, sums: Any) -> None:
    """A fully connected layer: one place that reaches all spikes."""
    units, places = term[c.UNITS], term[c.HEIGHT] * term[c.WIDTH]
    # Where maps are summed, the same channel of all places has one row of signs.
    if not term[c.SUMS_MAPS]:
        units, places = units * places, 1
    count = 0
    for place in range(places):
        at = term[c.SPIKES_AT] + place * units
        count = listed_units(spikes, at, units, lanes, 0, listed, count)
    nothing = units * c.UNIT * lanes
    signs_at, most, to = term[c.SIGNS_AT], term[c.MOST], term[c.SUMS_AT]
    add_up(signs, signs_at, lanes, nothing, most, listed, 0, count, sums, to)


@piece
def convolution(
    term: Any, lanes: int, spikes: Any, signs: Any, listed: Any, starts: Any, sums: Any, to: int
) -> None:
    """A convolution, summed over pooling windows as it goes.

    A row of places reaches some rows of the map: those are listed column by column, so that
    what a place reaches is one piece of the list. ``starts`` has where each column's begins.
    """
    width, units, kernel, step = term[c.WIDTH], term[c.UNITS], term[c.KERNEL], term[c.STEP]
    spikes_at, signs_at, most = term[c.SPIKES_AT], term[c.SIGNS_AT], term[c.MOST]
    map_columns = term[c.MAP_COLUMNS]
    column = units * c.UNIT * lanes
    nothing = kernel * kernel * column
    for y in range(term[c.MAP_ROWS]):
        count, top = 0, spikes_at + y * step * width * units
        for x in range(width):
            starts[x] = count
            for dy in range(kernel):
                at, base = top + (dy * width + x) * units, (dy * kernel + x) * column
                for unit in range(units):
                    word = np.int64(spikes[at + unit])
                    list_unit(listed, count, POSITIONS, word, lanes, base + unit * c.UNIT * lanes)
                    count += ones_of(word)
        starts[width] = count
        for x in range(map_columns):
            # The list counts columns from the map's first one, rows of signs from the place's.
            moved = x * step * column
            first, last = starts[x * step], starts[x * step + kernel]
            place = to + (y * map_columns + x) * lanes
            add_up(
                signs, signs_at - moved, lanes, nothing + moved, most, listed, first, last, sums,
                place,
            )  # fmt: skip
