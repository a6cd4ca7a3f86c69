"""How far packed inference is from what this machine could do.

The least that a window costs is its arithmetic: a sum takes, for the spikes that there are, the
cheaper of its two ways (an addition for each spike and output that it reaches, where pooling sums
outputs for each of those sums; or a popcount for each word and output), and every neuron is
updated once a step. The rates are those of the loops themselves on data in the first-level cache,
measured in this process. What is above the limit is everything else: finding spikes, laying out
what a place reaches, and data further away.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from bsnn_tha.deploy.infer import Runner
from bsnn_tha.deploy.loop_tables import aligned_zeros
from bsnn_tha.deploy.network import Array, DeployedNetwork, Layer, Term
from bsnn_tha.kernels.cpu.packed import bits, lists, neurons
from bsnn_tha.kernels.cpu.packed import columns as c
from bsnn_tha.kernels.cpu.packed.columns import UNIT

OUTPUTS, ROWS, ROUNDS = 64, 256, 2000
WORD = 32
"""Spikes of a word."""


def limit_seconds(network: DeployedNetwork, inputs: Array, num_steps: int | None) -> float:
    """The least processor time of these windows, in seconds.

    Args:
        network: in whole numbers.
        inputs: as :meth:`bsnn_tha.deploy.infer.Runner.run` takes them.
        num_steps: likewise.
    """
    addition, word, update = _additions(), _words(), _updates()
    fired = Runner(network).run(inputs, num_steps, record=True).layers
    assert fired is not None
    steps, batch = fired[0].shape[:2]
    frames = inputs[None] if num_steps else inputs
    total = 0.0
    for layer in network.layers:
        total += steps * batch * layer.neurons * update
        for term in layer.terms:
            if term.weights is None:
                continue
            seen = [fired[read] for read in term.reads] or [frames]
            given = np.concatenate(seen, 2) if len(seen) > 1 else seen[0]
            by_spikes = _reached(term, layer, given) * addition
            by_words = given.shape[0] * batch * _words_of(term, layer) * word
            total += min(by_spikes, by_words) if term.reads else by_spikes
    return total


def _reached(term: Term, layer: Layer, given: Array) -> float:
    """Additions: pairs of an input that is not 0 and an output that it reaches."""
    assert term.weights is not None
    on = np.asarray(given) != 0
    if term.kind == "dense":
        return float(on.sum()) * layer.output_shape[0]
    each = term.weights.shape[0] // term.groups
    # A sum over a window's places is one place of a filter as wide as what all of them reach.
    side = term.pool if term.pooling == "sum" else 1
    kernel = term.weights.shape[-1] + (side - 1) * term.stride
    taps = [
        np.array([_places(at + term.padding, kernel, side * term.stride, places // side)
                  for at in range(length)])
        for length, places in zip(term.input_shape[1:], term.filter_shape[1:], strict=True)
    ]  # fmt: skip
    maps = on.reshape(-1, *term.input_shape).sum((0, 1))
    return float((maps * np.outer(*taps)).sum()) * each


def _places(at: int, kernel: int, step: int, places: int) -> int:
    """To how many of so many places, ``step`` apart, filters bring an input, along one axis."""
    return sum(0 <= at - step * place < kernel for place in range(places))


def _words_of(term: Term, layer: Layer) -> int:
    """Words of inputs, for all outputs and places of a step."""
    words = -(-term.fan_in // WORD)
    if term.kind == "dense":
        return words * layer.output_shape[0]
    return words * int(np.prod(term.filter_shape))


def _rate(call: Callable[[], Any], operations: int) -> float:
    """Seconds of one operation, at best."""
    call()
    best = float("inf")
    for _ in range(20):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best / operations


def _additions() -> float:
    listed = aligned_zeros((ROWS + lists.SPARE,), np.int32)
    listed[:] = np.arange(len(listed)) * OUTPUTS
    signs = aligned_zeros(((ROWS + lists.SPARE) * OUTPUTS,), np.int8)
    arguments = signs, listed, aligned_zeros((OUTPUTS,), np.int32)
    return _rate(lambda: _add(*arguments), ROUNDS * ROWS * OUTPUTS)


@numba.njit
def _add(signs: Any, listed: Any, sums: Any) -> None:
    for _ in range(ROUNDS):
        lists.add_up(signs, 0, OUTPUTS, ROWS * OUTPUTS, 124, listed, 0, ROWS, sums, 0)


def _words() -> float:
    units = ROWS * WORD // UNIT
    patch = np.full(units + 4, 0x5555, np.uint16)
    weights, sums = aligned_zeros((ROWS * OUTPUTS,), np.int32), aligned_zeros((OUTPUTS,), np.int32)
    return _rate(lambda: _count(weights, patch, units, sums), ROUNDS * ROWS * OUTPUTS)


@numba.njit
def _count(weights: Any, patch: Any, units: int, sums: Any) -> None:
    for _ in range(ROUNDS):
        bits.count_up(weights, 0, OUTPUTS, patch, units, sums, 0)


def _updates() -> float:
    layer, terms = np.zeros(c.LAYER_COLUMNS, np.int64), np.zeros((1, c.TERM_COLUMNS), np.int64)
    layer[c.TERMS], layer[c.PLACES], layer[c.LANES] = 1, ROWS, UNIT
    numbers, sums, membranes = (aligned_zeros((ROWS * UNIT,), np.int32) for _ in range(3))
    arguments = layer, terms, numbers + 1, sums, membranes, np.zeros(ROWS, np.uint16)
    return _rate(lambda: _update(*arguments), ROUNDS * ROWS * UNIT)


@numba.njit
def _update(layer: Any, terms: Any, numbers: Any, sums: Any, membranes: Any, spikes: Any) -> None:
    for _ in range(ROUNDS):
        neurons.step(layer, terms, numbers, 20, membranes, membranes, spikes, sums)
