"""Sums of signs by counting ones: n = 2 · ones of (spikes & weights) − ones of spikes.

The spikes that a filter reaches are runs of units, one for each of its rows. Laid end to end
they are the words of a patch, which all outputs are counted with.
"""

from __future__ import annotations

from typing import Any

from bsnn_tha.kernels.cpu.packed import columns as c
from bsnn_tha.kernels.cpu.packed.compiled import piece
from bsnn_tha.kernels.cpu.packed.vectors import add_counted, ones_of, store_word, word_of


@piece
def count_up(
    bits: Any, at: int, lanes: int, patch: Any, count: int, sums: Any, to: int
) -> None:  # fmt: skip
    """Add the sums of a patch of ``count`` units; after them it has room for a word."""
    store_word(patch, count, 0)
    ones = 0
    for unit in range(0, count, 4):
        ones += ones_of(word_of(patch, unit))
    if not ones:
        return
    words, o = (count + 1) >> 1, 0
    while lanes - o >= 64:
        add_counted(sums, to + o, bits, at + o, patch, 0, words, lanes, ones, 4)
        o += 64
    while lanes - o >= 16:
        add_counted(sums, to + o, bits, at + o, patch, 0, words, lanes, ones, 1)
        o += 16


@piece
def sums_of_bits(
    term: Any, lanes: int, spikes: Any, bits: Any, patch: Any, sums: Any, to: int
) -> None:
    """A convolution, summed over pooling windows as it goes; or a fully connected layer."""
    width, units, kernel = term[c.WIDTH], term[c.UNITS], term[c.PLAIN_KERNEL]
    side, stride, run = term[c.SIDE], term[c.STRIDE], kernel * units
    if term[c.KIND] == c.DENSE:
        kernel, run = 1, units * term[c.HEIGHT] * width
    for y in range(term[c.MAP_ROWS]):
        for x in range(term[c.MAP_COLUMNS]):
            place = to + (y * term[c.MAP_COLUMNS] + x) * lanes
            for cell in range(side * side):
                top = (y * side + cell // side) * stride
                left = (x * side + cell % side) * stride
                for dy in range(kernel):
                    at = term[c.SPIKES_AT] + ((top + dy) * width + left) * units
                    for unit in range(0, run, 4):
                        store_word(patch, dy * run + unit, word_of(spikes, at + unit))
                count_up(bits, term[c.BITS_AT], lanes, patch, kernel * run, sums, place)
