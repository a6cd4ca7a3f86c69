"""A deployed network on a CPU: compiled loops over packed bits, without torch.

    packed = bsnn_tha.deploy.packed.read("mnist.safetensors")
    runner = Runner(packed.network)
    runner.run(images, num_steps=6).scores.argmax(-1)

    runner.reset()
    for frame in stream:                    # a time step in, spikes out, state kept
        spikes = runner.step(frame)

What it computes is what :mod:`bsnn_tha.deploy.reference` computes, to the last bit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bsnn_tha.deploy.network import Array, DeployedNetwork, Layer, Shape, Term
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.kernels.cpu import packed as loops

_KINDS = {"dense": loops.DENSE, "conv": loops.CONV, "spikes": loops.SPIKES}
_RESETS = {"subtract": loops.SUBTRACT, "zero": loops.ZERO, "none": loops.NONE}


class Answers(NamedTuple):
    """What a network made of several samples."""

    scores: NDArray[np.int64]
    """By its readout, ``[batch, outputs]``: the answer is the first of the largest."""
    layers: tuple[NDArray[np.uint8], ...] | None
    """Spikes of every layer, ``[time, batch, ...]``, if they were asked for."""


class Runner:
    """A network laid out for the loops, and its state.

    Args:
        network: in whole numbers.

    Example:
        >>> from bsnn_tha import zoo
        >>> runner = Runner(zoo.packed("digits").network)
        >>> runner.run(np.zeros((2, 1, 8, 8), np.int64), num_steps=6).scores.shape
        (2, 10)
    """

    def __init__(self, network: DeployedNetwork) -> None:
        if network.decay_bits is None:
            raise InvalidValueError(
                "a network in whole numbers is run here, but this one is in floating point; "
                "give integer_network(...) of it"
            )
        self.network = network
        plan = _Layout(network)
        self._tables = (
            np.array(plan.layers, np.int64),
            np.array(plan.terms, np.int64),
            np.array([*plan.reads, 0], np.int64),
            np.concatenate([*plan.bits, np.zeros(1, np.uint64)]),
            np.concatenate([*plan.signs, np.zeros(1, np.int8)]),
            np.concatenate(plan.numbers),
            network.decay_bits,
        )
        neurons = sum(layer.neurons for layer in network.layers)
        self._membranes = np.zeros(neurons, np.int32)
        self._synapses = np.zeros(neurons, np.int32)
        self._spikes = np.zeros(neurons, np.uint8)
        self._room = (
            np.zeros(plan.sums, np.int32),
            np.zeros(plan.given, np.int32),
            np.zeros(plan.patch + 2, np.uint64),
            np.zeros(plan.maps, np.int32),
            np.zeros(plan.boxes, np.int32),
            np.zeros(plan.reached + 3, np.uint64),
            np.zeros(plan.reached + 4, np.int32),
            np.zeros(plan.reached + 4, np.int64),
            np.zeros(max(row[loops.ROW] for row in plan.layers), np.int64),
        )
        self._unseen = np.zeros((0, 0), np.uint8)

    def reset(self) -> None:
        """Start a window anew: all states are 0."""
        for state in (self._membranes, self._synapses, self._spikes):
            state[:] = 0

    def step(self, frame: Array) -> NDArray[np.uint8]:
        """One time step of one sample; the state is kept.

        Args:
            frame: of the input, ``[*shape]``, in whole numbers.

        Returns:
            Spikes of the output.
        """
        self._check(frame.shape)
        self._window(self._frames(frame[None]), 1, False, self._unseen)
        return self._output(self._spikes).copy()

    @property
    def membranes(self) -> NDArray[np.int32]:
        """Of the output, after the last step."""
        return self._output(self._membranes).copy()

    def run(self, inputs: Array, num_steps: int | None = None, record: bool = False) -> Answers:
        """Windows of several samples, each from a state of 0.

        Args:
            inputs: ``[time, batch, *shape]``; or, with ``num_steps``, ``[batch, *shape]``.
            num_steps: for how many time steps a constant input is seen.
            record: also return the spikes of every layer.
        """
        constant = num_steps is not None
        self._check(inputs.shape[1 if constant else 2 :])
        steps = len(inputs) if num_steps is None else num_steps
        samples = self._frames(inputs[None] if constant else inputs)
        batch = samples.shape[1]
        scores = np.zeros((batch, self.network.layers[-1].neurons), np.int64)
        fired = np.zeros((batch, steps if record else 0, len(self._spikes) * record), np.uint8)
        for sample in range(batch):
            self.reset()
            frames = samples[:, sample]
            scores[sample] = self._window(frames, steps, constant, fired[sample])
        return Answers(scores, self._by_layer(fired) if record else None)

    def _window(self, frames: Array, steps: int, constant: bool, fired: Array) -> Array:
        outputs = self.network.layers[-1].neurons
        counts, totals = np.zeros(outputs, np.int64), np.zeros(outputs, np.int64)
        states = self._membranes, self._synapses, self._spikes
        loops.window(
            np.ascontiguousarray(frames), steps, constant, *self._tables, *states, *self._room,
            counts, totals, fired,
        )  # fmt: skip
        counted = self.network.readout == "spike_count"
        return _channels_first(counts if counted else totals, self.network.layers[-1].output_shape)

    def _check(self, shape: Shape) -> None:
        if shape != self.network.input.shape:
            raise InvalidValueError(
                f"a frame must be of shape {list(self.network.input.shape)}, but got {list(shape)}"
            )

    def _frames(self, inputs: Array) -> NDArray[np.int32]:
        """``[time, batch, values]``, channels innermost."""
        values = np.moveaxis(inputs, -len(self.network.input.shape), -1)
        lead = inputs.shape[: inputs.ndim - len(self.network.input.shape)]
        return np.ascontiguousarray(values, np.int32).reshape(*lead, -1)

    def _output(self, values: Array) -> Array:
        last = self.network.layers[-1]
        return _channels_first(values[-last.neurons :], last.output_shape).reshape(
            last.output_shape
        )

    def _by_layer(self, fired: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
        layers, at = [], 0
        for layer in self.network.layers:
            part = fired[:, :, at : at + layer.neurons]
            maps = part.reshape(*fired.shape[:2], *layer.output_shape[1:], layer.channels)
            layers.append(np.moveaxis(maps, -1, 2).swapaxes(0, 1))
            at += layer.neurons
        return tuple(layers)


class _Layout:
    """Tables and arrays of :func:`bsnn_tha.kernels.cpu.packed.window`, as they come about."""

    def __init__(self, network: DeployedNetwork) -> None:
        self.layers: list[list[int]] = []
        self.terms: list[list[int]] = []
        self.reads: list[int] = []
        self.bits: list[Array] = []
        self.signs: list[Array] = []
        self.numbers: list[Array] = []
        self.sums = self.given = self.patch = self.maps = self.boxes = self.reached = 1
        self._ends = {"bits": 0, "signs": 0, "numbers": 0}
        neurons = 0
        for layer in network.layers:
            self._layer(layer, neurons)
            neurons += layer.neurons

    def _layer(self, layer: Layer, neurons: int) -> None:
        widths, row = layer.widths, [0] * loops.LAYER_COLUMNS
        assert widths is not None
        row[loops.TERM_AT], row[loops.TERMS] = len(self.terms), len(layer.terms)
        for term in layer.terms:
            self._term(term, layer)
        row[loops.PLACES], row[loops.OUTPUTS] = layer.neurons // layer.channels, layer.channels
        row[loops.STATE_AT] = row[loops.SPIKES_AT] = neurons
        times = _places_of_row(layer)
        row[loops.ROW] = times * layer.channels
        row[loops.OFFSET_AT] = self._add("numbers", np.tile(layer.offset, times))
        threshold = _channels_last(layer.threshold)
        if layer.threshold.shape == (layer.channels,):
            threshold = np.tile(threshold, times)
        row[loops.THRESHOLD_AT] = self._add("numbers", threshold)
        row[loops.THRESHOLD_EACH] = int(layer.threshold.shape != (layer.channels,))
        row[loops.DECAY_EACH] = int(layer.decay.ndim > 0)
        decay = layer.decay if layer.decay.ndim else np.repeat(layer.decay, row[loops.ROW])
        row[loops.DECAY_AT] = self._add("numbers", _channels_last(decay))
        if layer.synaptic_decay is not None:
            assert widths.synapse is not None
            row[loops.SYNAPTIC] = 1
            row[loops.SYNAPSE_AT] = self._add("numbers", _channels_last(layer.synaptic_decay))
            row[loops.SYNAPSE_EACH] = int(layer.synaptic_decay.ndim > 0)
            row[loops.SYNAPSE_LOW] = widths.synapse.low
            row[loops.SYNAPSE_HIGH] = widths.synapse.high
        row[loops.RESET], row[loops.SATURATES] = _RESETS[layer.reset], int(widths.saturates)
        row[loops.LOW], row[loops.HIGH] = widths.membrane.low, widths.membrane.high
        self.layers.append(row)

    def _term(self, term: Term, layer: Layer) -> None:
        row = [0] * loops.TERM_COLUMNS
        channels, rows, columns = (*term.input_shape, 1, 1)[:3]
        row[loops.KIND] = _KINDS[term.kind]
        row[loops.READS_AT], row[loops.READS] = len(self.reads), len(term.reads)
        self.reads += term.reads
        row[loops.ROWS], row[loops.COLUMNS], row[loops.CHANNELS] = rows, columns, channels
        row[loops.SUMS_AT], row[loops.GAIN_AT] = (
            self.sums,
            self._add("numbers", np.tile(term.gain, _places_of_row(layer))),
        )
        self.sums += layer.neurons
        self.given = max(self.given, rows * columns * channels)
        reached = math.prod(term.input_shape) if term.kind == "dense" else term.fan_in
        self.reached = max(self.reached, reached, columns + 2 * term.padding)
        if term.kind == "dense":
            self._dense(row, term, (channels, rows, columns))
        elif term.kind == "conv":
            self._convolution(row, term)
        self.terms.append(row)

    def _dense(self, row: list[int], term: Term, shape: Shape) -> None:
        weights = term.weights
        assert weights is not None
        row[loops.SUMS_MAPS] = int(term.sums_maps)
        if not term.sums_maps:  # inputs in the order in which they lie here
            maps = weights.reshape(-1, *shape)
            weights = np.moveaxis(maps, 1, -1).reshape(len(weights), -1)
            # Input values are no bits, nor are sums of maps.
            if term.reads:
                row[loops.WORDS] = -(-weights.shape[1] // 64)
                row[loops.BITS_AT] = self._add("bits", _words(weights))
        row[loops.SIGNS_AT] = self._add("signs", weights.T)

    def _convolution(self, row: list[int], term: Term) -> None:
        weights = term.weights
        assert weights is not None
        kernel, channels = weights.shape[-1], row[loops.CHANNELS]
        row[loops.KERNEL], row[loops.STRIDE], row[loops.PADDING] = kernel, term.stride, term.padding
        row[loops.GROUPS], row[loops.POOL] = term.groups, term.pool
        row[loops.MAXIMUM] = int(term.pooling == "max")
        row[loops.MAP_ROWS], row[loops.MAP_COLUMNS] = term.filter_shape[1:]
        self.maps = max(self.maps, math.prod(term.filter_shape))
        rows, columns = (row[key] + 2 * term.padding for key in (loops.ROWS, loops.COLUMNS))
        self.boxes = max(self.boxes, rows * columns * row[loops.CHANNELS])
        taps = weights.transpose(2, 3, 1, 0)  # y, x, in, out
        row[loops.SIGNS_AT] = self._add("signs", taps)
        if term.reads and term.groups == 1:
            filters = weights.transpose(2, 0, 3, 1).reshape(kernel * len(weights), -1)
            words = _words(filters).reshape(-1, kernel, len(weights)).swapaxes(0, 1)
            row[loops.WORDS] = words.shape[1]
            row[loops.BITS_AT] = self._add("bits", words)
            row[loops.ROW_WORDS] = -(-columns * channels // 64)
            self.patch = max(self.patch, row[loops.ROWS] * row[loops.ROW_WORDS])

    def _add(self, kind: str, values: Array) -> int:
        """Append to one of the flat arrays; returns where it begins."""
        at = self._ends[kind]
        flat = np.ascontiguousarray(values).ravel()
        getattr(self, kind).append(flat)
        self._ends[kind] = at + len(flat)
        return at


def _places_of_row(layer: Layer) -> int:
    """How many places' neurons are updated in one run of vector instructions."""
    places = layer.neurons // layer.channels
    return max(
        n
        for n in range(1, places + 1)
        if places % n == 0 and (n == 1 or n * layer.channels <= _ROW)
    )


_ROW = 512
"""Neurons of such a run: long enough to pay, and its numbers stay in the nearest cache."""


def _words(weights: NDArray[np.int8]) -> NDArray[np.uint64]:
    """Bits of ``[out, in]`` as ``[word, out]``, weight j at bit j % 64 of word j // 64."""
    rows = np.zeros((len(weights), -(-weights.shape[1] // 64) * 8), np.uint8)
    packed = np.packbits(weights > 0, axis=1, bitorder="little")
    rows[:, : packed.shape[1]] = packed
    return np.ascontiguousarray(rows.view("<u8").T).astype(np.uint64)


def _channels_last(values: Array) -> Array:
    return np.moveaxis(values, 0, -1) if values.ndim == 3 else values


def _channels_first(values: Array, shape: Shape) -> Array:
    maps = values.reshape(*shape[1:], shape[0])
    return np.moveaxis(maps, -1, 0).reshape(-1)
