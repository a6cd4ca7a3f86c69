"""Sums of whole numbers, and convolutions in groups: each input goes to the places it reaches."""

from __future__ import annotations

from typing import Any

import numpy as np

from bsnn_tha.kernels.cpu.packed import columns as c
from bsnn_tha.kernels.cpu.packed.compiled import piece
from bsnn_tha.kernels.cpu.packed.lists import add_up, listed_units, listed_word
from bsnn_tha.kernels.cpu.packed.vectors import add_scaled, others_than


@piece
def others_than_zero(frame: Any, scale: int, ones: Any, more: Any) -> Any:
    """List the inputs that are 1, and those that are something else; how many there are of each."""
    size, count, others = len(frame), 0, 0
    whole = size - size % 64
    for at in range(0, whole, 64):
        some = others_than(frame, at, 0)
        if some:
            no_one = some & others_than(frame, at, 1)
            count = listed_word(some ^ no_one, scale, at * scale, ones, count)
            others = listed_word(no_one, scale, at * scale, more, others)
    for i in range(whole, size):
        if frame[i] == 1:
            ones[count] = i * scale
            count += 1
        elif frame[i] != 0:
            more[others] = i * scale
            others += 1
    return count, others


@piece
def dense(term: Any, lanes: int, frame: Any, signs: Any, ones: Any, more: Any, sums: Any) -> None:
    """A fully connected layer of the input; its rows of signs are in the input's order."""
    count, others = others_than_zero(frame, 1, ones, more)
    places = term[c.HEIGHT] * term[c.WIDTH] if term[c.SUMS_MAPS] else 1
    to, at = term[c.SUMS_AT], term[c.SIGNS_AT]
    for i in range(others):
        row, value = at + more[i] // places * lanes, frame[more[i]]
        for o in range(0, lanes, 16):
            add_scaled(sums, to + o, signs, row + o, value)
    for i in range(count):
        ones[i] = ones[i] // places * lanes
    rows = len(frame) // places
    add_up(signs, at, lanes, rows * lanes, term[c.MOST], ones, 0, count, sums, to)


@piece
def convolution(
    term: Any, lanes: int, frame: Any, reach: Any, signs: Any, ones: Any, more: Any, sums: Any,
    to: int,
) -> None:  # fmt: skip
    """A convolution of the input, summed over pooling windows as it goes."""
    count, others = others_than_zero(frame, 1, ones, more)
    for i in range(count):
        _send(term, lanes, reach[term[c.REACH_AT] + ones[i]], 1, signs, sums, to)
    for i in range(others):
        value = frame[more[i]]
        _send(term, lanes, reach[term[c.REACH_AT] + more[i]], value, signs, sums, to)


@piece
def groups(
    term: Any, lanes: int, spikes: Any, reach: Any, signs: Any, listed: Any, sums: Any, to: int
) -> None:
    """A convolution of spikes in groups, likewise."""
    units = term[c.HEIGHT] * term[c.WIDTH] * term[c.UNITS]
    count = listed_units(spikes, term[c.SPIKES_AT], units, 1, 0, listed, 0)
    for i in range(count):
        _send(term, lanes, reach[term[c.REACH_AT] + listed[i]], 1, signs, sums, to)


@piece
def _send(term: Any, lanes: int, reach: Any, value: int, signs: Any, sums: Any, to: int) -> None:
    """An input to the outputs of its group at its places."""
    first, outputs, right = reach[c.OUTPUT], term[c.OUTPUTS], reach[c.RIGHT]
    across, kernel = term[c.MAP_COLUMNS] * lanes, term[c.KERNEL]
    # From a place to the next one of its row the tap moves back.
    back = term[c.STEP] * term[c.ROWS_OF_TAP] * lanes
    place = to + reach[c.FIRST] * lanes + first
    row = term[c.SIGNS_AT] + reach[c.ROW_OF] * lanes + first
    for _ in range(reach[c.DOWN]):
        out, tap = place, row
        for _ in range(right):
            if outputs == lanes:
                add_scaled(sums, out, signs, tap, value)
                for o in range(c.UNIT, lanes, c.UNIT):
                    add_scaled(sums, out + o, signs, tap + o, value)
            else:
                for o in range(outputs):
                    sums[out + o] += np.int32(value) * np.int32(signs[tap + o])
            out += lanes
            tap -= back
        place += across
        row -= kernel * back
