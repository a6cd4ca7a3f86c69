"""Maps of spikes as terms read them, and sums as they are pooled where no sum did it."""

from __future__ import annotations

from typing import Any

from bsnn_tha.kernels.cpu.packed import columns as c
from bsnn_tha.kernels.cpu.packed.compiled import piece


@piece
def copy_spikes(term: Any, layers: Any, reads: Any, spikes: Any) -> None:
    """Units of the layers that a term reads, side by side, within its border of zeros."""
    width, units, padding = term[c.WIDTH], term[c.UNITS], term[c.PADDING]
    rows, columns, first = term[c.HEIGHT] - 2 * padding, width - 2 * padding, 0
    for r in range(term[c.READS_AT], term[c.READS_AT] + term[c.READS]):
        each = layers[reads[r], c.LANES] // c.UNIT
        at = layers[reads[r], c.BITS_FROM]
        for y in range(rows):
            to = term[c.SPIKES_AT] + ((y + padding) * width + padding) * units + first
            for x in range(columns):
                for unit in range(each):
                    spikes[to + x * units + unit] = spikes[at + (y * columns + x) * each + unit]
        first += each


@piece
def spikes_as_sums(
    term: Any, lanes: int, layers: Any, reads: Any, frame: Any, spikes: Any, sums: Any
) -> None:
    """What a term hands on as it is: spikes of layers, or the input."""
    places, first = term[c.HEIGHT] * term[c.WIDTH], term[c.SUMS_AT]
    if term[c.READS] == 0:
        for i in range(len(frame)):
            sums[first + i % places * lanes + i // places] = frame[i]
    for r in range(term[c.READS_AT], term[c.READS_AT] + term[c.READS]):
        units = layers[reads[r], c.LANES] // c.UNIT
        channels, at = layers[reads[r], c.CHANNELS], layers[reads[r], c.BITS_FROM]
        for place in range(places):
            for channel in range(channels):
                unit = spikes[at + place * units + channel // c.UNIT]
                sums[first + place * lanes + channel] = (unit >> (channel % c.UNIT)) & 1
        first += channels


@piece
def pool(term: Any, lanes: int, sums: Any) -> None:
    """Sums or maxima of windows of the map that a term made, to where its sums are."""
    side, columns = term[c.POOL], term[c.MAP_COLUMNS]
    across = columns // side
    for place in range(term[c.MAP_ROWS] // side * across):
        to = term[c.SUMS_AT] + place * lanes
        out = sums[to : to + lanes]
        for cell in range(side * side):
            y = place // across * side + cell // side
            at = term[c.MADE_AT] + (y * columns + place % across * side + cell % side) * lanes
            here = sums[at : at + lanes]
            if cell == 0:
                for o in range(lanes):
                    out[o] = here[o]
            elif term[c.MAXIMUM]:
                for o in range(lanes):
                    out[o] = max(out[o], here[o])
            else:
                for o in range(lanes):
                    out[o] += here[o]
