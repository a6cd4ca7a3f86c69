"""Windows of a deployed network over packed bits: one compiled function for any network.

The loops of :class:`bsnn_tha.deploy.infer.Runner`, whose arrays :mod:`bsnn_tha.deploy.loop_tables`
lays out; how they compute is in :mod:`bsnn_tha.kernels.cpu.packed`. A table says where what lies in
arrays that are flat, so that a call takes samples, time steps and layers at once.
"""

from __future__ import annotations

from typing import Any

import numba

from bsnn_tha.kernels.cpu import kept
from bsnn_tha.kernels.cpu.packed import bits as counted
from bsnn_tha.kernels.cpu.packed import columns as c
from bsnn_tha.kernels.cpu.packed import lists, maps, neurons, values
from bsnn_tha.kernels.cpu.packed.compiled import OPTIONS, piece
from bsnn_tha.kernels.cpu.packed.lanes import clear

# What ways of a sum cost, in nanoseconds on the machine that they were measured on; only their
# ratios matter. Lists: a unit that is listed, a piece of a list, a row of signs and what it takes
# for 16 outputs. Counting: a row of a filter, a word of 32 spikes and what it takes likewise.
UNIT, PIECE, SPIKE, SPIKE_LANES = 1.2, 10.0, 0.1, 0.06
RUN, WORD, WORD_LANES = 1.2, 0.3, 0.25


def _windows(
    inputs: Any,
    num_steps: int,
    constant: bool,
    afresh: bool,
    layers: Any,
    terms: Any,
    reads: Any,
    reach: Any,
    bits: Any,
    signs: Any,
    numbers: Any,
    decay_bits: int,
    counts_spikes: bool,
    membranes: Any,
    synapses: Any,
    spikes: Any,
    room: Any,
    listed: Any,
    other_list: Any,
    patch: Any,
    active: Any,
    scores: Any,
    fired: Any,
) -> None:
    """Windows of samples, one after the other.

    Args:
        inputs: ``[frames, batch, values]``, whole numbers.
        num_steps: T.
        constant: whether the one frame is the input of every step.
        afresh: whether each sample starts from a state of 0; otherwise from the one there is.
        layers, terms: tables, ``[layers, LAYER_COLUMNS]`` and ``[terms, TERM_COLUMNS]``.
        reads: layers that terms read, one term's after the other's.
        reach: of inputs that go to their places, ``[inputs, REACH_COLUMNS]``.
        bits: weights to count with, ``[word of 32 inputs, output]`` of each term.
        signs: −1 and 1, or sums of them, ``[input, output]`` of each term.
        numbers: gains, offsets, thresholds and decays.
        decay_bits: of decays' fractions.
        counts_spikes: whether scores are counts of spikes; else they are sums of membranes.
        membranes, synapses: states, changed in place.
        spikes: of the last step, units of all layers, then of terms that read copies; likewise.
        room: to compute in: sums of all terms, then a map before it is pooled.
        listed, other_list: of spikes, likewise.
        patch: of units, likewise.
        active: how many neurons of each layer spiked last, likewise.
        scores: ``[batch, outputs]``, filled, with channels innermost.
        fired: ``[batch, T, units of all layers]``, filled with spikes; or empty, and left alone.
    """
    last = layers[len(layers) - 1]
    for sample in range(inputs.shape[1]):
        if afresh:
            membranes[:] = 0
            synapses[:] = 0
            spikes[:] = 0
            active[:] = 0
        for step in range(num_steps):
            frame = inputs[0 if constant else step, sample]
            for index in range(len(layers)):
                layer = layers[index]
                # A layer's own spikes are those of the step before, until its neurons have theirs.
                for t in range(layer[c.TERM_AT], layer[c.TERM_AT] + layer[c.TERMS]):
                    # A constant input is summed once.
                    if terms[t, c.READS] or not constant or step == 0:
                        _term(
                            terms[t], layer, frame, layers, reads, active, reach, bits, signs,
                            spikes, room, listed, other_list, patch,
                        )  # fmt: skip
                active[index] = neurons.step(
                    layer, terms, numbers, decay_bits, membranes, synapses, spikes, room
                )
            if len(fired):
                for unit in range(fired.shape[2]):
                    fired[sample, step, unit] = spikes[unit]
            _score(last, counts_spikes, membranes, spikes, scores[sample])


window: Any = numba.njit(nogil=True, **OPTIONS)(_windows)
kept.keep(window, _windows)
"""The compiled function."""


@piece
def _term(
    term: Any, layer: Any, frame: Any, layers: Any, reads: Any, active: Any, reach: Any, bits: Any,
    signs: Any, spikes: Any, room: Any, listed: Any, other_list: Any,
    patch: Any,
) -> None:  # fmt: skip
    """Pooled sums of a term, into its part of ``room``."""
    lanes, kind, to = layer[c.LANES], term[c.KIND], term[c.MADE_AT]
    if kind == c.SPIKES:
        maps.spikes_as_sums(term, lanes, layers, reads, frame, spikes, room)
        return
    for at in range(to, to + term[c.MAP_ROWS] * term[c.MAP_COLUMNS] * lanes, c.UNIT):
        clear(room, at)
    if term[c.READS] == 0:
        if kind == c.DENSE:
            values.dense(term, lanes, frame, signs, listed, other_list, room)
        else:
            values.convolution(term, lanes, frame, reach, signs, listed, other_list, room, to)
    else:
        if term[c.COPIED]:
            maps.copy_spikes(term, layers, reads, spikes)
        if kind == c.GROUPS:
            values.groups(term, lanes, spikes, reach, signs, listed, room, to)
        elif _counting_is_faster(term, lanes, reads, active):
            counted.sums_of_bits(term, lanes, spikes, bits, patch, room, to)
        elif kind == c.DENSE:
            lists.dense(term, lanes, spikes, signs, listed, room)
        else:
            lists.convolution(term, lanes, spikes, signs, listed, other_list, room, to)

    if term[c.POOL] > 1:
        maps.pool(term, lanes, room)


@piece
def _counting_is_faster(term: Any, lanes: int, reads: Any, active: Any) -> bool:
    """Whether to count ones, by what the spikes of this step would cost as lists."""
    if term[c.BITS_AT] < 0:
        return False
    spikes = 0
    for r in range(term[c.READS_AT], term[c.READS_AT] + term[c.READS]):
        spikes += active[reads[r]]
    rows, places = term[c.MAP_ROWS], term[c.MAP_ROWS] * term[c.MAP_COLUMNS]
    inputs, vectors = term[c.HEIGHT] * term[c.WIDTH], lanes / c.UNIT
    if term[c.KIND] == c.DENSE:
        listed, reached, runs, taps = inputs, spikes, 1, inputs
    else:
        kernel, plain = term[c.KERNEL], term[c.PLAIN_KERNEL]
        listed = rows * kernel * term[c.WIDTH]
        reached = spikes * places * kernel**2 / inputs
        runs, taps = plain, plain**2
    by_lists = listed * term[c.UNITS] * UNIT + places * PIECE
    by_lists += reached * (SPIKE + SPIKE_LANES * vectors)
    words = taps * term[c.UNITS] / 2
    by_bits = places * term[c.SIDE] ** 2 * (runs * RUN + words * (WORD + WORD_LANES * vectors))
    return by_bits < by_lists


@piece
def _score(layer: Any, counts_spikes: bool, membranes: Any, spikes: Any, scores: Any) -> None:
    """Add a step of the output to its scores."""
    lanes, channels = layer[c.LANES], layer[c.CHANNELS]
    for place in range(layer[c.PLACES]):
        for channel in range(channels):
            neuron = place * lanes + channel
            if counts_spikes:
                unit = spikes[layer[c.BITS_FROM] + neuron // c.UNIT]
                scores[place * channels + channel] += (unit >> (neuron % c.UNIT)) & 1
            else:
                scores[place * channels + channel] += membranes[layer[c.STATE_AT] + neuron]
