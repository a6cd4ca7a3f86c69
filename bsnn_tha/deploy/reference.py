"""A deployed network, run in plain NumPy: the specification that everything else is equal to.

Written to be read, and fast enough for a test set: what has no memory (sums, pooling) takes a
whole window at once, only neurons walk through time, and with them what comes back to a recurrent
layer.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from bsnn_tha.deploy.network import Array, DeployedNetwork, Layer, Term
from bsnn_tha.errors import InvalidValueError

State = tuple[tuple[Array | None, Array], ...]
"""For each layer its synaptic current (None without one) and its membrane, ``[batch, ...]``."""


class Window(NamedTuple):
    """What a network did over a window of T time steps."""

    spikes: NDArray[np.uint8]
    """Of the output, ``[time, batch, outputs]``."""
    membranes: Array
    """Of the output at each step, likewise."""
    scores: Array
    """By the network's readout, ``[batch, outputs]``: the answer is the first of the largest."""
    layers: tuple[NDArray[np.uint8], ...]
    """Spikes of every layer, ``[time, batch, ...]``."""
    state: State
    """After the last step: where a next window starts."""


def run(
    network: DeployedNetwork,
    inputs: Array,
    num_steps: int | None = None,
    state: State | None = None,
) -> Window:
    """A window.

    Args:
        network: in whole numbers, or in floating point.
        inputs: as :meth:`~bsnn_tha.deploy.network.InputEncoding.encode` gives them,
            ``[time, batch, *shape]``; or, with ``num_steps``, ``[batch, *shape]``.
        num_steps: for how many time steps a constant input is seen.
        state: to start from, as an earlier window ended; zero if None.

    Example:
        One neuron that sees +1 and −1, forgets half of its membrane and fires at 3 · 2^4.

        >>> from bsnn_tha.deploy.network import InputEncoding
        >>> term = Term("dense", (), (2,), (1,), np.array([[1, -1]], np.int8), np.array([16]))
        >>> layer = Layer((term,), (1,), np.array([0]), np.array([48]), np.array(1 << 14), None,
        ...               "subtract", np.array([1 / 16]))
        >>> encoding = InputEncoding("events", (2,), 2, False, 1.0)
        >>> network = DeployedNetwork(encoding, (layer,), "spike_count", 3, 15, 32)
        >>> window = run(network, np.array([[[3, 1]], [[3, 1]], [[2, 0]]]))
        >>> window.membranes.ravel().tolist(), window.spikes.ravel().tolist()
        ([32, 48, 8], [0, 1, 0])
    """
    constant = num_steps is not None
    shape = inputs.shape[1 if constant else 2 :]
    if shape != network.input.shape or inputs.ndim != len(shape) + 2 - constant:
        lead = "[batch" if constant else "[time, batch"
        raise InvalidValueError(
            f"inputs must be {lead}, {', '.join(map(str, network.input.shape))}], "
            f"but got shape {list(inputs.shape)}"
        )
    spikes: list[NDArray[np.uint8]] = []
    final = []
    for index in range(len(network.layers)):
        currents = _current(network, index, inputs, spikes, num_steps)
        started = state[index] if state is not None else None
        fired, membranes, ended = _neurons(network, index, currents, started)
        spikes.append(fired)
        final.append(ended)
    counted = network.readout == "spike_count"
    scores = (fired if counted else membranes).sum(0, dtype=np.int64 if network.whole else None)
    return Window(fired, membranes, scores, tuple(spikes), tuple(final))


def sums(term: Term, inputs: Array) -> NDArray[np.int64]:
    """n of a term after pooling, ``[samples, *output_shape]``.

    Args:
        term: of a layer.
        inputs: whole numbers, ``[samples, *input_shape]``.
    """
    if term.weights is None:
        return inputs.astype(np.int64)
    # Products of whole numbers by the library of real ones, exact where those have the bits.
    most = max(int(inputs.max(initial=0)), -int(inputs.min(initial=0)))
    cells = term.input_shape[1] * term.input_shape[2] if term.sums_maps else 1
    dtype = np.float32 if most * term.fan_in * cells < 2**24 else np.float64
    values = inputs.astype(dtype)
    if term.kind == "dense":
        flat = len(values), math.prod(values.shape[1:])
        values = values.sum((2, 3)) if term.sums_maps else values.reshape(flat)
        return (values @ term.weights.T.astype(dtype)).astype(np.int64)
    maps = _filtered(term, values)
    if term.pool > 1:
        side = term.pool
        rows, columns = maps.shape[2] // side, maps.shape[3] // side
        whole = maps[:, :, : rows * side, : columns * side]
        windows = whole.reshape(*maps.shape[:2], rows, side, columns, side)
        maps = windows.sum((3, 5)) if term.pooling == "sum" else windows.max((3, 5))
    return np.ascontiguousarray(maps, np.int64)


def decayed(values: Array, decay: Array, decay_bits: int | None) -> Array:
    """β v, rounded as the specification says; exactly in floating point.

    Example:
        >>> decayed(np.array([3, -3]), np.array(1 << 14), 15)  # 1.5 and −1.5
        array([ 2, -1])
    """
    if decay_bits is None:
        return values * decay
    return (values * decay + (1 << (decay_bits - 1))) >> decay_bits


def _current(
    network: DeployedNetwork,
    index: int,
    inputs: Array,
    spikes: list[NDArray[np.uint8]],
    num_steps: int | None,
) -> Array:
    """I of every step but for what comes back, ``[time, batch, *output_shape]``."""
    layer = network.layers[index]
    total: Any = layer.each(layer.offset)
    for term in layer.terms:
        if term.comes_back_to(index):
            continue
        if not term.reads and num_steps is not None:  # once for all time steps
            once = sums(term, inputs)[None]
            counts = np.broadcast_to(once, (num_steps, *once.shape[1:]))
        else:
            given = inputs
            if term.reads:
                joined = [spikes[index] for index in term.reads]
                given = joined[0] if len(joined) == 1 else np.concatenate(joined, axis=2)
            steps, batch = given.shape[:2]
            flat = given.reshape(steps * batch, *given.shape[2:])
            counts = sums(term, flat).reshape(steps, batch, *layer.output_shape)
        total = total + layer.each(term.gain) * counts
    return np.asarray(total)


def _neurons(
    network: DeployedNetwork,
    index: int,
    currents: Array,
    start: tuple[Array | None, Array] | None,
) -> tuple[NDArray[np.uint8], Array, tuple[Array | None, Array]]:
    """Spikes and membranes of every step, and the state after the last."""
    layer = network.layers[index]
    back = [term for term in layer.terms if term.comes_back_to(index)]
    bits, threshold = network.decay_bits, layer.each(layer.threshold)
    zero = np.zeros(currents.shape[1:], np.int64 if network.whole else np.float64)
    synapse, membrane = (None, zero) if start is None else start
    if layer.synaptic_decay is not None and synapse is None:
        synapse = zero
    membranes = np.empty(currents.shape, zero.dtype)
    for step, current in enumerate(currents):
        fired = membrane >= threshold
        for term in back:
            current = current + layer.each(term.gain) * sums(term, fired)
        if synapse is not None:
            assert layer.synaptic_decay is not None
            synapse = _held(decayed(synapse, layer.synaptic_decay, bits) + current, layer, True)
            current = synapse
        if layer.reset == "zero":
            membrane = np.where(fired, 0, membrane)
        membrane = decayed(membrane, layer.decay, bits) + current
        if layer.reset == "subtract":
            membrane = membrane - fired * threshold
        membrane = membranes[step] = _held(membrane, layer, False)
    return (membranes >= threshold).astype(np.uint8), membranes, (synapse, membrane)


def _held(values: Array, layer: Layer, synaptic: bool) -> Array:
    widths = layer.widths
    if widths is None or not widths.saturates:
        return values
    width = widths.synapse if synaptic else widths.membrane
    assert width is not None
    return values.clip(width.low, width.high)


def _filtered(term: Term, values: Array) -> Array:
    """A convolution before pooling, ``[samples, channels, height, width]``."""
    assert term.weights is not None
    out, per_group, kernel, _ = term.weights.shape
    channels, rows, columns = term.filter_shape
    each, edge = out // term.groups, (term.padding, term.padding)
    # Channels last: a patch is then a few long rows.
    padded = np.pad(values.transpose(0, 2, 3, 1), ((0, 0), edge, edge, (0, 0)))
    windows = sliding_window_view(padded, (kernel, kernel), axis=(1, 2))
    windows = windows[:, :: term.stride, :: term.stride].transpose(0, 1, 2, 4, 5, 3)
    filters = term.weights.transpose(2, 3, 1, 0).astype(values.dtype)  # y, x, in, out
    maps = np.empty((len(values), rows, columns, channels), values.dtype)
    for first in range(0, len(values), _TOGETHER):
        some = slice(first, first + _TOGETHER)
        for group in range(term.groups):
            reads = slice(group * per_group, (group + 1) * per_group)
            makes = slice(group * each, (group + 1) * each)
            patches = windows[some, ..., reads].reshape(-1, kernel * kernel * per_group)
            product = patches @ filters[..., makes].reshape(-1, each)
            maps[some, ..., makes] = product.reshape(-1, rows, columns, each)
    return maps.transpose(0, 3, 1, 2)


_TOGETHER = 64
"""Samples whose patches are held at once."""
