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

from bsnn_tha.deploy.loop_tables import aligned_zeros, loop_tables, padded, units_of
from bsnn_tha.deploy.network import Array, DeployedNetwork, Layer
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.kernels.cpu.packed.columns import UNIT
from bsnn_tha.kernels.cpu.packed_window import window


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
        tables, need = loop_tables(network)
        self._membranes, self._synapses = (
            aligned_zeros((need.neurons,), np.int32) for _ in range(2)
        )
        self._spikes = aligned_zeros((need.spikes,), np.uint16)
        self._active = np.zeros(len(network.layers), np.int64)
        self._units = need.units
        self._arguments = (
            *tables,
            network.decay_bits,
            network.readout == "spike_count",
            self._membranes,
            self._synapses,
            self._spikes,
            aligned_zeros((need.room,), np.int32),
            aligned_zeros((need.lists,), np.int32),
            aligned_zeros((need.lists,), np.int32),
            aligned_zeros((need.patch,), np.uint16),
            self._active,
        )
        self._values = math.prod(network.input.shape)
        self._outputs = network.layers[-1].neurons
        self._unseen = np.zeros((0, 0, 0), np.uint16)

    def reset(self) -> None:
        """Start a window anew: all states are 0."""
        for its in (self._membranes, self._synapses, self._spikes, self._active):
            its[:] = 0

    def step(self, frame: Array) -> NDArray[np.uint8]:
        """One time step of one sample; the state is kept.

        Args:
            frame: of the input, ``[*shape]``, in whole numbers.

        Returns:
            Spikes of the output.
        """
        self._windows(frame[None, None], 1, False, False, self._unseen)
        last = self.network.layers[-1]
        return _spikes_of(last, self._spikes[self._units - units_of(last) : self._units])

    @property
    def membranes(self) -> NDArray[np.int32]:
        """Of the output, after the last step."""
        last = self.network.layers[-1]
        lanes = units_of(last) * UNIT
        return _channels_first(last, self._membranes[len(self._membranes) - lanes :]).copy()

    def run(self, inputs: Array, num_steps: int | None = None, record: bool = False) -> Answers:
        """Windows of several samples, each from a state of 0.

        Args:
            inputs: ``[time, batch, *shape]``; or, with ``num_steps``, ``[batch, *shape]``.
            num_steps: for how many time steps a constant input is seen.
            record: also return the spikes of every layer.
        """
        constant = num_steps is not None
        frames = inputs[None] if constant else inputs
        steps = len(inputs) if num_steps is None else num_steps
        fired = (
            np.zeros((frames.shape[1], steps, self._units), np.uint16) if record else self._unseen
        )
        scores = self._windows(frames, steps, constant, True, fired)
        return Answers(scores, self._by_layer(fired) if record else None)

    def _windows(
        self, frames: Array, steps: int, constant: bool, afresh: bool, fired: Array
    ) -> NDArray[np.int64]:
        """Scores of windows ``[time, batch, *shape]``."""
        shape = self.network.input.shape
        if frames.shape[2:] != shape:
            raise InvalidValueError(
                f"a frame must be of shape {list(shape)}, but got {list(frames.shape[2:])}"
            )
        batch = frames.shape[1]
        flat = np.ascontiguousarray(frames, np.int64).reshape(len(frames), batch, self._values)
        scores = np.zeros((batch, self._outputs), np.int64)
        window(flat, steps, constant, afresh, *self._arguments, scores, fired)
        last = self.network.layers[-1]
        if len(last.output_shape) == 1:
            return scores
        places = scores.reshape(batch, self._outputs // last.channels, last.channels)
        return np.moveaxis(places, -1, 1).reshape(scores.shape)

    def _by_layer(self, fired: NDArray[np.uint16]) -> tuple[NDArray[np.uint8], ...]:
        layers, at = [], 0
        for layer in self.network.layers:
            units = units_of(layer)
            layers.append(_spikes_of(layer, fired[:, :, at : at + units]).swapaxes(0, 1))
            at += units
        return tuple(layers)


def _spikes_of(layer: Layer, units: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Spikes ``[..., *output_shape]`` from units ``[..., units]``."""
    words = np.ascontiguousarray(units, "<u2").view(np.uint8)
    return _channels_first(layer, np.unpackbits(words, axis=-1, bitorder="little"))


def _channels_first(layer: Layer, lanes: Array) -> Array:
    """Values ``[..., *output_shape]`` from those of a layer's lanes, ``[..., lanes]``."""
    lead = lanes.shape[:-1]
    places = lanes.reshape(*lead, *layer.output_shape[1:], padded(layer.channels))
    return np.moveaxis(places[..., : layer.channels], -1, len(lead))
