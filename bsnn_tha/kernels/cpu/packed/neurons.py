"""A step of a layer's neurons, as :mod:`bsnn_tha.deploy.network` has it."""

from __future__ import annotations

from typing import Any

from bsnn_tha.kernels.cpu.packed import columns as c
from bsnn_tha.kernels.cpu.packed.compiled import piece
from bsnn_tha.kernels.cpu.packed.lanes import (
    at_least,
    held,
    leaked,
    load,
    only_where,
    store,
    widened,
)
from bsnn_tha.kernels.cpu.packed.vectors import ones_of


@piece
def step(
    layer: Any, terms: Any, numbers: Any, bits: int, membranes: Any, synapses: Any, spikes: Any,
    sums: Any,
) -> int:  # fmt: skip
    """Bring the states and the spikes of a layer to the next step; returns how many spike.

    Currents and what becomes of membranes are proven to fit 32 bits; only the product with a
    decay does not, and states that are held within bounds because nothing is proven of them.
    """
    # What the table says is read once: for all that a compiler knows, each store might change it.
    lanes, places, active = layer[c.LANES], layer[c.PLACES], 0
    state_at, unit_at = layer[c.STATE_AT], layer[c.BITS_FROM]
    threshold_at, threshold_each = layer[c.THRESHOLD_AT], layer[c.THRESHOLD_EACH]
    decay_at, decay_each = layer[c.DECAY_AT], layer[c.DECAY_EACH]
    first, second = terms[layer[c.TERM_AT]], terms[layer[c.TERM_AT] + layer[c.TERMS] - 1]
    sums_at, other_sums_at = first[c.SUMS_AT], second[c.SUMS_AT]
    two, synaptic, saturates = layer[c.TERMS] > 1, layer[c.SYNAPTIC], layer[c.SATURATES]
    subtract, zero = layer[c.RESET] == c.SUBTRACT, layer[c.RESET] == c.ZERO
    for o in range(0, lanes, c.UNIT):
        offset = load(numbers, layer[c.OFFSET_AT] + o)
        gain, other_gain = load(numbers, first[c.GAIN_AT] + o), load(numbers, second[c.GAIN_AT] + o)
        for place in range(places):
            here = place * lanes + o
            at = state_at + here
            current = offset + gain * load(sums, sums_at + here)
            if two:
                current = current + other_gain * load(sums, other_sums_at + here)
            if synaptic:
                kept = load(numbers, layer[c.SYNAPSE_AT] + o + place * layer[c.SYNAPSE_EACH])
                synapse = leaked(load(synapses, at), kept, bits)
                if saturates:
                    low, high = layer[c.SYNAPSE_LOW], layer[c.SYNAPSE_HIGH]
                    current = held(widened(synapse) + widened(current), low, high)
                else:
                    current = synapse + current
                store(synapses, at, current)
            threshold = load(numbers, threshold_at + o + place * threshold_each)
            decay = load(numbers, decay_at + o + place * decay_each)
            membrane = load(membranes, at)
            over = at_least(membrane, threshold)
            if zero:
                membrane = only_where(~over, membrane)
            membrane = leaked(membrane, decay, bits)
            taken = only_where(over if subtract else 0, threshold)
            if saturates:
                wide = widened(membrane) + widened(current) - widened(taken)
                membrane = held(wide, layer[c.LOW], layer[c.HIGH])
            else:
                membrane = membrane + current - taken
            store(membranes, at, membrane)
            unit = at_least(membrane, threshold)
            spikes[unit_at + here // c.UNIT] = unit
            active += ones_of(unit)
    return active
