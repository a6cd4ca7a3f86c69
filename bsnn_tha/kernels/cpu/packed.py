"""A deployed network over packed bits: sums by popcount or event by event, then neurons.

The loops of :class:`bsnn_tha.deploy.infer.Runner`, which lays out the arrays. All are flat;
a table of whole numbers says where what begins, so that one compiled function takes any network
and a window is one call. Maps lie with channels innermost, ``[row, column, channel]``, so that
what is done for all filters of a place is one run of vector instructions.

Spikes are 0 and 1, so a sum of signs is n = 2 · popcount(spikes & signs) − popcount(spikes). It
takes the same time however many spikes there are; adding the signs of each spike's weights takes
less where there are few. Costs that were measured decide, layer by layer and step by step.

This file stands alone: numba's own cache, which looks at the file of a loop only, is enough for
it. It must not import torch, which those who run a packed file may not have.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

# What ways of a sum cost, in nanoseconds on the machine that they were measured on; only their
# ratios matter: a tap of a spike, an input that is looked at, a word cut out of a map, and how
# many outputs an addition and a popcount take in one.
EVENT, SCAN, CUT, LANES, WORD_LANES = 4.0, 0.7, 3.0, 24.0, 12.0

# Columns of a term's row in the table.
KIND, READS_AT, READS, ROWS, COLUMNS, CHANNELS, KERNEL, STRIDE, PADDING = range(9)
GROUPS, POOL, MAXIMUM, SUMS_MAPS, BITS_AT, WORDS, SIGNS_AT, GAIN_AT, MAP_ROWS = range(9, 18)
MAP_COLUMNS, SUMS_AT, ROW_WORDS = range(18, 21)
TERM_COLUMNS = 21
DENSE, CONV, SPIKES = range(3)

# Columns of a layer's row.
TERM_AT, TERMS, PLACES, OUTPUTS, STATE_AT, SPIKES_AT, SYNAPTIC = range(7)
OFFSET_AT, THRESHOLD_AT, THRESHOLD_EACH, DECAY_AT, DECAY_EACH, SYNAPSE_AT = range(7, 13)
SYNAPSE_EACH, RESET, SATURATES, LOW, HIGH, SYNAPSE_LOW, SYNAPSE_HIGH = range(13, 20)
ROW = 20
LAYER_COLUMNS = 21
SUBTRACT, ZERO, NONE = range(3)


@intrinsic
def _count_ones(typing: Any, value: Any) -> Any:
    def code(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return numba.uint64(numba.uint64), code


_popcount: Any = _count_ones
_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


@_compiled
def window(
    inputs: Any,
    num_steps: int,
    constant: bool,
    layers: Any,
    terms: Any,
    reads: Any,
    bits: Any,
    signs: Any,
    numbers: Any,
    decay_bits: int,
    membranes: Any,
    synapses: Any,
    spikes: Any,
    sums: Any,
    given: Any,
    patch: Any,
    maps: Any,
    boxes: Any,
    cuts: Any,
    values: Any,
    which: Any,
    currents: Any,
    counts: Any,
    totals: Any,
    fired: Any,
) -> None:
    """A window of one sample.

    Args:
        inputs: ``[frames, values]``, channels innermost, int32.
        num_steps: T.
        constant: whether the one frame is the input of every step.
        layers, terms: tables, ``[layers, LAYER_COLUMNS]`` and ``[terms, TERM_COLUMNS]``.
        reads: layers that terms read, one term's after the other's.
        bits: of popcount, ``[word, output]`` of each term.
        signs: −1 and 1, ``[input, output]`` of each term.
        numbers: gains, offsets, thresholds and decays.
        decay_bits: of decays' fractions.
        membranes, synapses: states, changed in place.
        spikes: of the step, of all layers, likewise.
        sums, given, patch, maps, boxes, cuts, values, which, currents: room to compute in.
        counts, totals: of the output, spikes and membranes, summed over the window.
        fired: ``[T, neurons]``, filled with all spikes; or with no columns, and left alone.
    """
    record = fired.shape[1] > 0
    last = len(layers) - 1
    for step in range(num_steps):
        frame = inputs[0 if constant else step]
        for index in range(len(layers)):
            layer = layers[index]
            for t in range(layer[TERM_AT], layer[TERM_AT] + layer[TERMS]):
                # A constant input is summed once.
                if terms[t, READS] or not constant or step == 0:
                    _term(
                        t, layer, frame, layers, terms, reads, bits, signs, spikes, sums, given,
                        patch, maps, boxes, cuts, values, which,
                    )  # fmt: skip
            _neurons(
                layer, terms, numbers, decay_bits, membranes, synapses, spikes, sums, currents
            )  # fmt: skip
        if record:
            fired[step, :] = spikes
        state, at = layers[last, STATE_AT], layers[last, SPIKES_AT]
        for neuron in range(len(counts)):
            counts[neuron] += spikes[at + neuron]
            totals[neuron] += membranes[state + neuron]


@_compiled
def _term(
    t: int,
    layer: Any,
    frame: Any,
    layers: Any,
    terms: Any,
    reads: Any,
    bits: Any,
    signs: Any,
    spikes: Any,
    sums: Any,
    given: Any,
    patch: Any,
    maps: Any,
    boxes: Any,
    cuts: Any,
    values: Any,
    which: Any,
) -> None:
    """Pooled sums of a term, into its part of ``sums``."""
    term = terms[t]
    places = term[ROWS] * term[COLUMNS]
    size = places * term[CHANNELS]
    active = 0
    if term[READS]:
        # The channels of the layers that it reads, one after the other at each place.
        first = 0
        for r in range(term[READS_AT], term[READS_AT] + term[READS]):
            at, channels = layers[reads[r], SPIKES_AT], layers[reads[r], OUTPUTS]
            for place in range(places):
                for channel in range(channels):
                    value = spikes[at + place * channels + channel]
                    given[place * term[CHANNELS] + first + channel] = value
                    active += value
            first += channels
    else:
        for i in range(size):
            given[i] = frame[i]
            active += frame[i] != 0
    outputs, out_at = layer[OUTPUTS], term[SUMS_AT]
    if term[KIND] == SPIKES:
        for i in range(size):
            sums[out_at + i] = given[i]
    elif term[KIND] == DENSE:
        _dense(term, outputs, size, active, given, bits, signs, cuts, values, which, sums)
    else:
        _convolution(
            term, outputs, active, given, bits, signs, patch, maps, boxes, cuts, values, which, sums
        )


@_compiled
def _dense(
    term: Any, outputs: int, size: int, active: int, given: Any, bits: Any, signs: Any, cuts: Any,
    values: Any, which: Any, sums: Any,
) -> None:  # fmt: skip
    out = sums[term[SUMS_AT] : term[SUMS_AT] + outputs]
    if term[SUMS_MAPS]:
        channels = term[CHANNELS]
        for place in range(1, term[ROWS] * term[COLUMNS]):
            for channel in range(channels):
                given[channel] += given[place * channels + channel]
        size = channels
    words = term[WORDS]
    if words and words * (64 * SCAN + outputs / WORD_LANES) < active * (SCAN + outputs / LANES):
        for word in range(words):
            gathered = np.uint64(0)
            for bit in range(min(64, size - 64 * word)):
                gathered |= np.uint64(given[64 * word + bit]) << np.uint64(bit)
            cuts[word] = gathered
        _add_words(out, cuts, words, _rows(bits, term[BITS_AT], words, outputs))
        return
    count = 0
    for i in range(size):
        values[count], which[count] = given[i], i
        count += given[i] != 0
    _add_values(out, values, which, count, _rows(signs, term[SIGNS_AT], size, outputs))


@_compiled
def _add_words(out: Any, cuts: Any, count: int, bits: Any) -> None:
    """n of every output from words of spikes, four at a time; ``cuts`` has room for three more."""
    for spare in range(count, count + 3):
        cuts[spare] = 0
    ones = np.int32(0)
    for word in range(count):
        ones += np.int32(_popcount(cuts[word]))
    for o in range(len(out)):
        out[o] = 0
    last = len(bits) - 1
    for word in range(0, count, 4):
        a, b, c, d = cuts[word], cuts[word + 1], cuts[word + 2], cuts[word + 3]
        if a | b | c | d:
            p, q, r = min(word + 1, last), min(word + 2, last), min(word + 3, last)
            for o in range(len(out)):
                counted = _popcount(a & bits[word, o]) + _popcount(b & bits[p, o])
                counted += _popcount(c & bits[q, o]) + _popcount(d & bits[r, o])
                out[o] += np.int32(counted)
    for o in range(len(out)):
        out[o] = 2 * out[o] - ones


@_compiled
def _add_values(out: Any, values: Any, which: Any, count: int, weights: Any) -> None:
    """n of every output from the inputs that are not 0, four at a time; room for three more."""
    for spare in range(count, count + 3):
        values[spare] = which[spare] = 0
    for o in range(len(out)):
        out[o] = 0
    for i in range(0, count, 4):
        a, b, c, d = values[i], values[i + 1], values[i + 2], values[i + 3]
        p, q, r, s = which[i], which[i + 1], which[i + 2], which[i + 3]
        if a == 1 and b == 1 and c == 1 and d == 1:
            for o in range(len(out)):
                out[o] += np.int32(weights[p, o] + weights[q, o] + weights[r, o] + weights[s, o])
        else:
            for o in range(len(out)):
                out[o] += (
                    a * np.int32(weights[p, o]) + b * np.int32(weights[q, o])
                    + c * np.int32(weights[r, o]) + d * np.int32(weights[s, o])
                )  # fmt: skip


@_compiled
def _rows(values: Any, at: int, rows: int, columns: int) -> Any:
    """Part of a flat array as a matrix: counted from 0, inner loops over it become vectors."""
    return values[at : at + rows * columns].reshape(rows, columns)


@_compiled
def _convolution(
    term: Any, outputs: int, active: int, given: Any, bits: Any, signs: Any, patch: Any, maps: Any,
    boxes: Any, cuts: Any, values: Any, which: Any, sums: Any,
) -> None:  # fmt: skip
    """The pooled map, by the way that takes the fewest instructions for these spikes."""
    places, taps = term[MAP_ROWS] * term[MAP_COLUMNS], term[KERNEL] * term[KERNEL]
    side, channels = term[POOL], term[CHANNELS]
    pooled = (term[MAP_ROWS] // side) * (term[MAP_COLUMNS] // side)
    out = _rows(sums, term[SUMS_AT], pooled, outputs)
    whole = out if side == 1 else _rows(maps, 0, places, outputs)
    summed = side > 1 and not term[MAXIMUM]
    reached = pooled if summed else places
    density = min(
        1.0, active * (side * side if summed else 1) / (term[ROWS] * term[COLUMNS] * channels)
    )
    by_events = active * taps * (EVENT + outputs / LANES)
    by_places = reached * taps * channels * (SCAN + density * outputs / LANES)
    by_bits = places * term[KERNEL] * term[WORDS] * (CUT + outputs / WORD_LANES)
    if term[WORDS] and by_bits < min(by_events, by_places):
        _by_bits(term, given, _rows(bits, term[BITS_AT], term[KERNEL] * term[WORDS], outputs),
                 patch, cuts, whole)  # fmt: skip
    elif term[GROUPS] > 1 or by_events < by_places:
        _by_events(
            term, side if summed else 1, given, signs, (out if summed else whole).ravel(), outputs,
            which,
        )  # fmt: skip
        if summed:
            return
    else:
        weights = _rows(signs, term[SIGNS_AT], taps * channels, outputs)
        if summed:
            # The sum over a window's places is one place on sums over windows of the input.
            _box(term, given, boxes)
            _by_places(term, side * term[STRIDE], side * term[STRIDE], boxes, weights,
                       term[MAP_COLUMNS] // side, values, which, out)  # fmt: skip
            return
        _pad(term, given, boxes)
        _by_places(term, term[STRIDE], term[STRIDE], boxes, weights, term[MAP_COLUMNS], values,
                   which, whole)  # fmt: skip
    if side > 1:
        _pool(term, whole, out)


@_compiled
def _pad(term: Any, given: Any, boxes: Any) -> None:
    """The input with its border of zeros."""
    padding, channels = term[PADDING], term[CHANNELS]
    width, length = term[COLUMNS] + 2 * padding, term[COLUMNS] * channels
    boxes[: (term[ROWS] + 2 * padding) * width * channels] = 0
    for row in range(term[ROWS]):
        to = ((row + padding) * width + padding) * channels
        boxes[to : to + length] = given[row * length : (row + 1) * length]


@_compiled
def _box(term: Any, given: Any, boxes: Any) -> None:
    """Sums over the inputs that a tap meets in the places of a pooling window."""
    padding, channels, stride = term[PADDING], term[CHANNELS], term[STRIDE]
    width, length = term[COLUMNS] + 2 * padding, term[COLUMNS] * channels
    size = (term[ROWS] + 2 * padding) * width * channels
    boxes[:size] = 0
    for row in range(term[ROWS]):
        source = given[row * length : (row + 1) * length]
        for dy in range(term[POOL]):
            for dx in range(term[POOL]):
                # What is at r counts for the windows that begin at r − d · stride.
                top = row + padding - dy * stride
                skip = max(0, dx * stride - padding) * channels
                if top < 0:
                    continue
                to = (top * width + padding - dx * stride) * channels + skip
                here = boxes[to : to + length - skip]
                for i in range(length - skip):
                    here[i] += source[skip + i]


@_compiled
def _by_places(
    term: Any, down: int, right: int, padded: Any, weights: Any, columns: int, values: Any,
    which: Any, out: Any,
) -> None:  # fmt: skip
    """Each place takes what its filters reach and is not 0."""
    channels, kernel = term[CHANNELS], term[KERNEL]
    width, length = term[COLUMNS] + 2 * term[PADDING], kernel * channels
    for place in range(out.shape[0]):
        count = 0
        for dy in range(kernel):
            at = ((place // columns * down + dy) * width + place % columns * right) * channels
            for i in range(length):
                value = padded[at + i]
                values[count], which[count] = value, dy * length + i
                count += value != 0
        _add_values(out[place], values, which, count, weights)


@_compiled
def _by_events(
    term: Any, side: int, given: Any, signs: Any, out: Any, outputs: int, column_of: Any
) -> None:
    """Each input that is not 0 goes to the places that it reaches; ``side`` of them are one."""
    channels, kernel, stride, taps = term[CHANNELS], term[KERNEL], term[STRIDE], term[SIGNS_AT]
    each, per_group = outputs // term[GROUPS], channels // term[GROUPS]
    rows, columns = term[MAP_ROWS] // side, term[MAP_COLUMNS] // side
    out[:] = 0
    # Divisions are what a tap would cost most: once for all of them.
    for x in range(term[COLUMNS] + term[PADDING]):
        column_of[x] = x // stride // side
        if x % stride or column_of[x] >= columns:
            column_of[x] = -1
    for place in range(term[ROWS] * term[COLUMNS]):
        row, column = place // term[COLUMNS], place % term[COLUMNS]
        for channel in range(channels):
            value = given[place * channels + channel]
            if value == 0:
                continue
            group = channel // per_group
            for dy in range(kernel):
                y = row + term[PADDING] - dy
                if y < 0 or y % stride or y // stride // side >= rows:
                    continue
                to_row = y // stride // side * columns
                for dx in range(kernel):
                    x = column + term[PADDING] - dx
                    if x < 0 or column_of[x] < 0:
                        continue
                    to = (to_row + column_of[x]) * outputs + group * each
                    at = (dy * kernel + dx) * per_group + channel - group * per_group
                    at = taps + at * outputs + group * each
                    here, weights = out[to : to + each], signs[at : at + each]
                    for o in range(each):
                        here[o] += value * np.int32(weights[o])


@_compiled
def _by_bits(term: Any, given: Any, bits: Any, patch: Any, cuts: Any, out: Any) -> None:
    """Rows of maps as bits; a row of a filter is a few words cut out of them."""
    channels, kernel, stride = term[CHANNELS], term[KERNEL], term[STRIDE]
    row_words, words, padding = term[ROW_WORDS], term[WORDS], term[PADDING]
    length, columns = kernel * channels, term[MAP_COLUMNS]
    patch[: term[ROWS] * row_words] = 0
    for row in range(term[ROWS]):
        for i in range(term[COLUMNS] * channels):
            bit = padding * channels + i
            value = np.uint64(given[row * term[COLUMNS] * channels + i])
            patch[row * row_words + (bit >> 6)] |= value << np.uint64(bit & 63)
    for place in range(out.shape[0]):
        for dy in range(kernel):
            row = place // columns * stride + dy - padding
            inside = 0 <= row < term[ROWS]
            for word in range(words):
                begin = place % columns * stride * channels + 64 * word
                cut = np.uint64(0)
                if inside:
                    at, shift = row * row_words + (begin >> 6), np.uint64(begin & 63)
                    cut = patch[at] >> shift
                    if shift:
                        cut |= patch[at + 1] << (np.uint64(64) - shift)
                    rest = length - 64 * word
                    if rest < 64:
                        cut &= (np.uint64(1) << np.uint64(rest)) - np.uint64(1)
                cuts[dy * words + word] = cut
        _add_words(out[place], cuts, kernel * words, bits)


@_compiled
def _pool(term: Any, maps: Any, out: Any) -> None:
    side, columns, outputs = term[POOL], term[MAP_COLUMNS], out.shape[1]
    for place in range(out.shape[0]):
        y, x = place // (columns // side) * side, place % (columns // side) * side
        for cell in range(side * side):
            at = (y + cell // side) * columns + x + cell % side
            if cell == 0:
                for o in range(outputs):
                    out[place, o] = maps[at, o]
            elif term[MAXIMUM]:
                for o in range(outputs):
                    out[place, o] = max(out[place, o], maps[at, o])
            else:
                for o in range(outputs):
                    out[place, o] += maps[at, o]


@_compiled
def _neurons(
    layer: Any, terms: Any, numbers: Any, decay_bits: int, membranes: Any, synapses: Any,
    spikes: Any, sums: Any, currents: Any,
) -> None:  # fmt: skip
    """A step of a layer's neurons, as :mod:`bsnn_tha.deploy.network` has it."""
    # Numbers of channels are repeated for the places of a row, so that rows are long.
    outputs = layer[ROW]
    places = layer[PLACES] * layer[OUTPUTS] // outputs
    first, second = layer[TERM_AT], layer[TERM_AT] + layer[TERMS] - 1
    offset = numbers[layer[OFFSET_AT] : layer[OFFSET_AT] + outputs]
    half = np.int64(1) << (decay_bits - 1)
    subtract, zero = layer[RESET] == SUBTRACT, layer[RESET] == ZERO
    saturates, low, high = layer[SATURATES], layer[LOW], layer[HIGH]
    for place in range(places):
        here = place * outputs
        at = layer[STATE_AT] + here
        membrane, spike = membranes[at : at + outputs], spikes[at : at + outputs]
        current = currents[:outputs]
        _current(terms[first], here, numbers, sums, offset, current)
        if second != first:
            _current(terms[second], here, numbers, sums, current, current)
        if layer[SYNAPTIC]:
            synapse = synapses[at : at + outputs]
            for o in range(outputs):
                kept = numbers[layer[SYNAPSE_AT] + (here + o) * layer[SYNAPSE_EACH]]
                value = ((np.int64(synapse[o]) * kept + half) >> decay_bits) + current[o]
                if saturates:
                    value = min(max(value, layer[SYNAPSE_LOW]), layer[SYNAPSE_HIGH])
                synapse[o] = current[o] = value
        begin = layer[THRESHOLD_AT] + here * layer[THRESHOLD_EACH]
        threshold = numbers[begin : begin + outputs]
        begin = layer[DECAY_AT] + here * layer[DECAY_EACH]
        decay = numbers[begin : begin + outputs]  # a shared one is repeated for the outputs
        for o in range(outputs):
            value, limit = np.int64(membrane[o]), threshold[o]
            over = value >= limit
            value = np.int64(0) if zero and over else value
            value = ((value * decay[o] + half) >> decay_bits) + current[o]
            value -= limit if subtract and over else np.int64(0)
            if saturates:
                value = min(max(value, low), high)
            membrane[o] = value
            spike[o] = value >= limit


@_compiled
def _current(term: Any, here: int, numbers: Any, sums: Any, offset: Any, out: Any) -> None:
    gain = numbers[term[GAIN_AT] : term[GAIN_AT] + len(out)]
    counts = sums[term[SUMS_AT] + here : term[SUMS_AT] + here + len(out)]
    for o in range(len(out)):
        out[o] = offset[o] + gain[o] * np.int64(counts[o])
