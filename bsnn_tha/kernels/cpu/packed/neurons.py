"""A step of a layer's neurons, as :mod:`bsnn_tha.deploy.network` has it."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from bsnn_tha.kernels.cpu.packed import columns as c
from bsnn_tha.kernels.cpu.packed.vectors import ones_of, reached


@numba.njit(error_model="numpy")
def step(
    layer: Any, terms: Any, numbers: Any, decay_bits: int, membranes: Any, synapses: Any,
    spikes: Any, room: Any,
) -> int:  # fmt: skip
    """Bring the states and the spikes of a layer to the next step; returns how many spike.

    Numbers of channels are repeated for the places of a row, so that rows are long. Currents and
    what becomes of membranes are proven to fit 32 bits; only the product with a decay does not.
    Room begins with what currents need.
    """
    row = layer[c.ROW]
    first, second = layer[c.TERM_AT], layer[c.TERM_AT] + layer[c.TERMS] - 1
    offset = numbers[layer[c.OFFSET_AT] : layer[c.OFFSET_AT] + row]
    current = room[:row]
    active = 0
    for here in range(0, layer[c.PLACES] * layer[c.LANES], row):
        at = layer[c.STATE_AT] + here
        membrane = membranes[at : at + row]
        _current(terms[first], here, numbers, room, offset, current)
        if second != first:
            _current(terms[second], here, numbers, room, current, current)
        if layer[c.SYNAPTIC]:
            _synapse(layer, here, numbers, decay_bits, synapses[at : at + row], current)
        begin = layer[c.THRESHOLD_AT] + here * layer[c.THRESHOLD_EACH]
        threshold = numbers[begin : begin + row]
        begin = layer[c.DECAY_AT] + here * layer[c.DECAY_EACH]
        decay = numbers[begin : begin + row]
        _membrane(layer, decay_bits, decay, threshold, current, membrane)
        to = layer[c.BITS_FROM] + here // c.UNIT
        for o in range(0, row, c.UNIT):
            unit = reached(membrane, o, threshold, o)
            spikes[to + o // c.UNIT] = unit
            active += ones_of(unit)
    return active


@numba.njit(error_model="numpy")
def _current(term: Any, here: int, numbers: Any, sums: Any, offset: Any, out: Any) -> None:
    gain = numbers[term[c.GAIN_AT] : term[c.GAIN_AT] + len(out)]
    counts = sums[term[c.SUMS_AT] + here : term[c.SUMS_AT] + here + len(out)]
    for o in range(len(out)):
        out[o] = offset[o] + gain[o] * counts[o]


@numba.njit(error_model="numpy")
def _synapse(
    layer: Any, here: int, numbers: Any, decay_bits: int, synapse: Any, current: Any
) -> None:
    half = np.int64(1) << (decay_bits - 1)
    begin = layer[c.SYNAPSE_AT] + here * layer[c.SYNAPSE_EACH]
    for o in range(len(synapse)):
        kept = np.int64(numbers[begin + o])
        value = ((np.int64(synapse[o]) * kept + half) >> decay_bits) + current[o]
        if layer[c.SATURATES]:
            value = min(max(value, layer[c.SYNAPSE_LOW]), layer[c.SYNAPSE_HIGH])
        synapse[o] = current[o] = value


@numba.njit(error_model="numpy")
def _membrane(
    layer: Any, decay_bits: int, decay: Any, threshold: Any, current: Any, membrane: Any
) -> None:
    half = np.int64(1) << (decay_bits - 1)
    subtract, zero = layer[c.RESET] == c.SUBTRACT, layer[c.RESET] == c.ZERO
    saturates, low, high = layer[c.SATURATES], layer[c.LOW], layer[c.HIGH]
    for o in range(len(membrane)):
        value, limit = np.int64(membrane[o]), np.int64(threshold[o])
        over = value >= limit
        value = np.int64(0) if zero and over else value
        value = ((value * np.int64(decay[o]) + half) >> decay_bits) + current[o]
        value -= limit if subtract and over else np.int64(0)
        if saturates:
            value = min(max(value, low), high)
        membrane[o] = value
