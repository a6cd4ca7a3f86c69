"""A network laid out for :mod:`bsnn_tha.kernels.cpu.packed_window`: tables and flat arrays."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bsnn_tha.deploy.network import Array, DeployedNetwork, Layer, Term
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.kernels.cpu.packed import columns as c
from bsnn_tha.kernels.cpu.packed.lists import SPARE

_RESETS = {"subtract": c.SUBTRACT, "zero": c.ZERO, "none": c.NONE}
_NEVER = 2**31 - 1
"""A threshold that no state reaches."""
_LINE = 64
"""Bytes of a line of the cache: a vector that lies across two of them costs twice."""
_SUMS_OF_8_BITS = 127
_FOUR = 4
"""Rows of signs are added four at a time."""


class LoopTables(NamedTuple):
    """Arguments of the loops, by their names there."""

    layers: NDArray[np.int64]
    terms: NDArray[np.int64]
    reads: NDArray[np.int64]
    reach: NDArray[np.int32]
    bits: NDArray[np.int32]
    signs: NDArray[np.int8]
    numbers: NDArray[np.int32]


class Room(NamedTuple):
    """How much the loops need to compute in, likewise."""

    neurons: int
    units: int
    """Of all layers; ``spikes`` of layers and of what terms copy are more."""
    spikes: int
    room: int
    lists: int
    patch: int


def padded(channels: int) -> int:
    """Outputs filled up to whole units, many of them to whole lines of the cache.

    Example:
        >>> padded(10), padded(64), padded(1000)
        (16, 64, 1024)
    """
    whole = _LINE if channels > 4 * _LINE else c.UNIT
    return -(-channels // whole) * whole


def loop_tables(network: DeployedNetwork) -> tuple[LoopTables, Room]:
    """Lay out a network in whole numbers.

    Raises:
        InvalidValueError: a layer's weights are more than positions of 32 bits reach.
    """
    made = _Layout(network)
    tables = LoopTables(
        np.array(made.layers, np.int64),
        np.array(made.terms, np.int64),
        np.array([*made.reads, 0], np.int64),
        made.joined("reach", np.int32).reshape(-1, c.REACH_COLUMNS),
        made.joined("bits", np.int32),
        made.joined("signs", np.int8),
        made.joined("numbers", np.int32),
    )
    return tables, made.room()


class _Layout:
    """Tables and arrays as they come about, layer by layer."""

    def __init__(self, network: DeployedNetwork) -> None:
        self.layers: list[list[int]] = []
        self.terms: list[list[int]] = []
        self.reads: list[int] = []
        kinds = ("reach", "bits", "signs", "numbers")
        self._flat: dict[str, list[tuple[int, Array]]] = {kind: [] for kind in kinds}
        self._ends = dict.fromkeys(self._flat, 0)
        self._network = network
        self._neurons = 0
        self._units = sum(map(units_of, network.layers))
        self._spikes = self._units
        self._sums = self._maps = self._lists = self._patch = 0
        for layer in network.layers:
            self._layer(layer)
        for row in self.terms:  # maps that are pooled later lie behind all sums
            if row[c.POOL] > 1:
                row[c.MADE_AT] = self._sums

    def room(self) -> Room:
        """What all layers need."""
        return Room(
            neurons=self._neurons,
            units=self._units,
            spikes=self._spikes + 4,  # words of four units are read
            room=self._sums + self._maps,
            lists=self._lists + SPARE,
            patch=self._patch + 8,
        )

    def joined(self, kind: str, dtype: type[np.generic]) -> Array:
        """One of the flat arrays."""
        flat = aligned_zeros((max(self._ends[kind], c.REACH_COLUMNS),), dtype)
        for at, part in self._flat[kind]:
            flat[at : at + len(part)] = part
        return flat

    def _layer(self, layer: Layer) -> None:
        widths, row = layer.widths, [0] * c.LAYER_COLUMNS
        assert widths is not None
        row[c.TERM_AT], row[c.TERMS] = len(self.terms), len(layer.terms)
        row[c.CHANNELS], row[c.LANES] = layer.channels, padded(layer.channels)
        row[c.PLACES] = layer.neurons // layer.channels
        row[c.STATE_AT], row[c.BITS_FROM] = self._neurons, self._neurons // c.UNIT
        self._neurons += row[c.PLACES] * row[c.LANES]
        self.layers.append(row)
        for term in layer.terms:
            self._term(term, layer)
        row[c.OFFSET_AT], _ = self._numbers(layer, layer.offset)
        row[c.THRESHOLD_AT], row[c.THRESHOLD_EACH] = self._numbers(layer, layer.threshold, _NEVER)
        row[c.DECAY_AT], row[c.DECAY_EACH] = self._numbers(layer, layer.decay)
        if layer.synaptic_decay is not None:
            assert widths.synapse is not None
            row[c.SYNAPTIC] = 1
            row[c.SYNAPSE_AT], row[c.SYNAPSE_EACH] = self._numbers(layer, layer.synaptic_decay)
            row[c.SYNAPSE_LOW] = widths.synapse.low
            row[c.SYNAPSE_HIGH] = widths.synapse.high
        row[c.RESET], row[c.SATURATES] = _RESETS[layer.reset], int(widths.saturates)
        row[c.LOW], row[c.HIGH] = widths.membrane.low, widths.membrane.high

    def _numbers(self, layer: Layer, values: Array, spare: int = 0) -> tuple[int, int]:
        """Numbers of a layer, ``spare`` in lanes left over.

        Returns:
            Where they begin, and what to go on by at each place: 0 where places share them.
        """
        each = values.ndim > 0 and values.shape != (layer.channels,)
        if each:
            values = np.broadcast_to(values, layer.output_shape)
            rows = np.moveaxis(values, 0, -1).reshape(-1, layer.channels)
        else:
            rows = np.broadcast_to(values, (1, layer.channels))
        filled = np.full((len(rows), padded(layer.channels)), spare, np.int64)
        filled[:, : layer.channels] = rows
        return self._add("numbers", filled), filled.shape[1] if each else 0

    def _term(self, term: Term, layer: Layer) -> None:
        row, read = [0] * c.TERM_COLUMNS, [self._network.layers[index] for index in term.reads]
        self.terms.append(row)
        row[c.KIND] = {"dense": c.DENSE, "conv": c.CONV, "spikes": c.SPIKES}[term.kind]
        row[c.READS_AT], row[c.READS] = len(self.reads), len(term.reads)
        self.reads += term.reads
        row[c.GAIN_AT], _ = self._numbers(layer, term.gain)
        row[c.SUMS_AT] = row[c.MADE_AT] = self._sums
        self._sums += layer.neurons // layer.channels * padded(layer.channels)
        channels, height, width = (*term.input_shape, 1, 1)[:3]
        row[c.UNITS] = sum(padded(its.channels) for its in read) // c.UNIT
        # What goes to its places needs no border: it is known which there are.
        border = term.padding if read and term.groups == 1 else 0
        row[c.PADDING], row[c.STRIDE] = border, term.stride
        row[c.HEIGHT], row[c.WIDTH] = (side + 2 * row[c.PADDING] for side in (height, width))
        size = row[c.HEIGHT] * row[c.WIDTH] * max(row[c.UNITS] * c.UNIT, channels)
        self._lists = max(self._lists, size + row[c.HEIGHT], term.fan_in)
        if len(read) == 1 and not row[c.PADDING]:
            row[c.SPIKES_AT] = self.layers[term.reads[0]][c.BITS_FROM]
        elif read and term.kind != "spikes":
            row[c.COPIED], row[c.SPIKES_AT] = 1, self._spikes
            self._spikes += row[c.HEIGHT] * row[c.WIDTH] * row[c.UNITS]
        row[c.MAP_ROWS] = row[c.MAP_COLUMNS] = row[c.POOL] = row[c.SIDE] = 1
        row[c.BITS_AT] = -1
        if term.kind == "dense":
            self._dense(row, term, read)
        elif term.kind == "conv":
            self._convolution(row, term, read)

    def _dense(self, row: list[int], term: Term, read: list[Layer]) -> None:
        weights = term.weights
        assert weights is not None
        row[c.SUMS_MAPS] = int(term.sums_maps)
        channels, height, width = (*term.input_shape, 1, 1)[:3]
        maps = (channels, 1, 1) if term.sums_maps else (channels, height, width)
        if read:  # from the order of the trained network's inputs to that of units
            taps = weights.reshape(-1, *maps).transpose(2, 3, 1, 0)
            taps = _at_units(taps, read)
            if not term.sums_maps:
                self._bits(row, taps)
        else:
            taps = weights.T
        self._signs(row, taps.reshape(-1, len(weights)))

    def _convolution(self, row: list[int], term: Term, read: list[Layer]) -> None:
        weights = term.weights
        assert weights is not None
        taps = weights.transpose(2, 3, 1, 0)  # y, x, in, out
        if read and term.groups == 1:
            taps = _at_units(taps, read)
            self._bits(row, taps)
        summed = _shifted_sums(taps, term) if term.pooling == "sum" and term.pool > 1 else taps
        fits = int(np.abs(summed).max()) * _FOUR <= _SUMS_OF_8_BITS
        together = term.pool if term.pooling == "sum" and fits else 1
        kernel = summed if together > 1 else taps
        row[c.PLAIN_KERNEL], row[c.KERNEL] = len(taps), len(kernel)
        row[c.SIDE], row[c.STEP] = together, together * term.stride
        row[c.POOL], row[c.MAXIMUM] = term.pool // together, int(term.pooling == "max")
        row[c.MAP_ROWS], row[c.MAP_COLUMNS] = (side // together for side in term.filter_shape[1:])
        if row[c.POOL] > 1:
            lanes = padded(len(weights))
            self._maps = max(self._maps, row[c.MAP_ROWS] * row[c.MAP_COLUMNS] * lanes)
        self._signs(row, kernel.reshape(-1, len(weights)))
        if not read or term.groups > 1:
            row[c.KIND] = c.GROUPS if read else c.CONV
            row[c.ROWS_OF_TAP] = taps.shape[2]
            row[c.OUTPUTS] = (
                padded(len(weights)) if term.groups == 1 else len(weights) // term.groups
            )
            row[c.REACH_AT] = self._add("reach", _reach(row, term, read)) // c.REACH_COLUMNS

    def _bits(self, row: list[int], taps: Array) -> None:
        """Weights to count ones with: bits of all inputs in words of 32, ``[word, output]``."""
        rows = (taps > 0).reshape(-1, taps.shape[-1]).T
        words = np.zeros((padded(len(rows)), -(-rows.shape[1] // 32) * 4), np.uint8)
        packed = np.packbits(rows, axis=1, bitorder="little")
        words[: len(rows), : packed.shape[1]] = packed
        row[c.BITS_AT] = self._add("bits", words.view("<i4").T)
        self._patch = max(self._patch, rows.shape[1] // c.UNIT)

    def _signs(self, row: list[int], taps: Array) -> None:
        """Rows to add up, ``[input, output]``, and one of zeros."""
        table = np.zeros((len(taps) + 1, padded(taps.shape[1])), np.int8)
        if table.size >= 2**31:
            raise InvalidValueError(
                f"weights of a layer take {table.size} bytes to add up, but must be below 2^31; "
                f"run it in torch"
            )
        table[:-1, : taps.shape[1]] = taps
        row[c.SIGNS_AT] = self._add("signs", table)
        most = max(1, int(np.abs(taps).max(initial=1)))
        row[c.MOST] = max(_FOUR, _SUMS_OF_8_BITS // most // _FOUR * _FOUR)

    def _add(self, kind: str, values: Array) -> int:
        """Append to one of the flat arrays; returns where it begins."""
        flat = np.ascontiguousarray(values).ravel()
        at = -(-self._ends[kind] // _LINE) * _LINE if kind != "reach" else self._ends[kind]
        self._flat[kind].append((at, flat))
        self._ends[kind] = at + len(flat)
        return at


def aligned_zeros(shape: tuple[int, ...], dtype: type[np.generic]) -> Array:
    """Zeros that begin with a line of the cache."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = np.zeros(size + _LINE, np.uint8)
    skip = -room.ctypes.data % _LINE
    return room[skip : skip + size].view(dtype).reshape(shape)


def units_of(layer: Layer) -> int:
    """Units of a layer's spikes at one time step."""
    return layer.neurons // layer.channels * padded(layer.channels) // c.UNIT


def _at_units(taps: Array, read: list[Layer]) -> Array:
    """Weights ``[y, x, in, out]`` with their inputs where the units of layers have them; zeros
    for those that the units have beside."""
    begins = np.cumsum([0, *(padded(layer.channels) for layer in read)])
    where = np.concatenate(
        [begin + np.arange(its.channels) for begin, its in zip(begins, read, strict=False)]
    )
    made = np.zeros((*taps.shape[:2], begins[-1], taps.shape[3]), taps.dtype)
    made[:, :, where] = taps
    return made


def _shifted_sums(taps: Array, term: Term) -> Array:
    """The filter whose places are the sums over pooling windows, int16."""
    reach = len(taps) + (term.pool - 1) * term.stride
    made = np.zeros((reach, reach, *taps.shape[2:]), np.int16)
    for y in range(0, term.pool * term.stride, term.stride):
        for x in range(0, term.pool * term.stride, term.stride):
            made[y : y + len(taps), x : x + len(taps)] += taps
    return made


def _reach(row: list[int], term: Term, read: list[Layer]) -> NDArray[np.int64]:
    """For each input, in the order in which it is listed, the places that it reaches."""
    channels, height, width = (*term.input_shape, 1, 1)[:3]
    kernel, step = row[c.KERNEL], row[c.STEP]
    down, right = (
        _along(side, term.padding, kernel, step, places)
        for side, places in ((height, row[c.MAP_ROWS]), (width, row[c.MAP_COLUMNS]))
    )
    each = channels // term.groups
    assert term.weights is not None
    outputs = len(term.weights) // term.groups
    found = np.zeros((height, width, channels, c.REACH_COLUMNS), np.int64)
    found[..., c.FIRST] = (down[:, :1] * row[c.MAP_COLUMNS] + right[:, 0])[..., None]
    found[..., c.DOWN], found[..., c.RIGHT] = down[:, 1][:, None, None], right[:, 1][None, :, None]
    taps = down[:, 2][:, None] * kernel + right[:, 2]
    found[..., c.ROW_OF] = taps[..., None] * each + np.arange(channels) % each
    found[..., c.OUTPUT] = np.arange(channels) // each * outputs
    if not read:
        return found.transpose(2, 0, 1, 3)
    return _at_units(found, read)


def _along(side: int, padding: int, kernel: int, step: int, places: int) -> NDArray[np.int64]:
    """Along one axis, for each input: the first place, how many, and the first one's tap."""
    at = np.arange(side) + padding
    first = np.maximum(0, -((kernel - 1 - at) // step))
    last = np.minimum(places - 1, at // step)
    return np.stack([first, np.maximum(0, last - first + 1), at - first * step], 1)
