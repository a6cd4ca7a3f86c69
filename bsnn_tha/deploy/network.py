"""What a deployed network is: ±1 weights, sums of spikes, and numbers for each channel.

A layer adds up what its terms bring and lets its neurons decide, at every time step t:

    n_k  = Σ ±x                     sums of spikes (or of the input's whole numbers), pooled
    I    = Σ_k gain_k · n_k + offset                           the current, for each channel
    i    = κ i + I                                      synaptic neurons only, else i = I
    v    = β v + i, after the reset of the step before                  the membrane
    z    = 1 where v ≥ threshold                                              the spikes

    reset "subtract": v − threshold where the last v ≥ threshold (after β); "zero": β v is 0
    there; "none": nothing.

A recurrent layer has a term that reads its own spikes: those of the step before, of which there
are none before the first.

The same classes hold the network in floating point (as :func:`~bsnn_tha.deploy.fold.fold`
makes it) and in whole numbers (:func:`~bsnn_tha.deploy.integer.integer_network`). There gains,
offsets, thresholds and states count ``unit``\\ s of the trained network's membrane potential,
and decays are multiples of 2^−``decay_bits``:

    β v  becomes  (β · v + 2^(decay_bits − 1)) >> decay_bits,

which rounds to the nearest whole number, halves upwards. Everything else is exact.

Channels are the first axis of ``output_shape``: filters of a convolution, outputs of a fully
connected layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]
TermKind = Literal["dense", "conv", "spikes"]
Readout = Literal["spike_count", "membrane_sum"]
Reset = Literal["subtract", "zero", "none"]


@dataclass(frozen=True)
class InputEncoding:
    """How the network's input becomes whole numbers: q = round(x / scale), within ``bits``.

    Attributes:
        kind: ``"image"``, one frame for all time steps, or ``"events"``, a frame for each.
        shape: of one sample at one time step.
        bits: of a value, its sign included. Larger ones are held at the bound.
        signed: whether there are negative ones.
        scale: what 1 stands for.

    Example:
        >>> InputEncoding("image", (1, 2, 2), 8, False, 1 / 255).encode(np.array([0.0, 0.5, 2.0]))
        array([  0, 128, 255])
    """

    kind: Literal["image", "events"]
    shape: Shape
    bits: int
    signed: bool
    scale: float

    @property
    def low(self) -> int:
        """The smallest value."""
        return -self.high if self.signed else 0

    @property
    def high(self) -> int:
        """The largest value; its negative is the smallest, where there are any."""
        return 2 ** (self.bits - 1) - 1 if self.signed else 2**self.bits - 1

    def encode(self, inputs: Array) -> NDArray[np.int64]:
        """The input in whole numbers, halves to the even one."""
        whole = np.rint(np.asarray(inputs, np.float64) / self.scale)
        return whole.clip(self.low, self.high).astype(np.int64)


@dataclass(frozen=True)
class Term:
    """One way of spikes to a layer's neurons.

    Attributes:
        kind: ``"dense"``, ``"conv"``, or ``"spikes"``: added as they are.
        reads: layers whose spikes it takes, by index, their channels one after the other;
            empty for the network's input, its layer's own index alone for what comes back.
        input_shape: of what it reads, for one sample and one time step.
        output_shape: after pooling; the layer's.
        weights: −1 and 1, int8: ``[out, in]`` or ``[out, in / groups, kernel, kernel]``;
            None for ``"spikes"``.
        gain: ``[channels]``, what a pooled sum is multiplied by; negative only after maximum
            pooling.
        stride, padding, groups: of a convolution; it is padded with zeros.
        pool: side of the pooling windows, which do not overlap; 1 for none.
        pooling: ``"sum"`` (averages are sums, their division is in the gain) or ``"max"``.
        sums_maps: a fully connected layer reads the sum of each map, one input per channel.
    """

    kind: TermKind
    reads: tuple[int, ...]
    input_shape: Shape
    output_shape: Shape
    weights: NDArray[np.int8] | None
    gain: Array
    stride: int = 1
    padding: int = 0
    groups: int = 1
    pool: int = 1
    pooling: Literal["sum", "max"] = "sum"
    sums_maps: bool = False

    @property
    def fan_in(self) -> int:
        """Weights of one output."""
        return 1 if self.weights is None else math.prod(self.weights.shape[1:])

    def comes_back_to(self, index: int) -> bool:
        """Whether it brings a layer's own spikes back to it, one step later."""
        return index in self.reads

    @property
    def filter_shape(self) -> Shape:
        """Output of a convolution before it is pooled, ``(channels, height, width)``."""
        assert self.kind == "conv" and self.weights is not None
        kernel = self.weights.shape[-1]
        sides = (
            (side + 2 * self.padding - kernel) // self.stride + 1 for side in self.input_shape[1:]
        )
        return (self.output_shape[0], *sides)


@dataclass(frozen=True)
class Width:
    """What a number of a layer can be, proven from weights by :mod:`~bsnn_tha.deploy.bounds`."""

    low: int
    high: int

    @property
    def bits(self) -> int:
        """Of two's complement that holds it.

        Example:
            >>> Width(-128, 127).bits, Width(0, 128).bits
            (8, 9)
        """
        return 1 + max(self.high, -self.low - 1, 0).bit_length()


@dataclass(frozen=True)
class Widths:
    """What a layer computes with, in whole numbers.

    Attributes:
        sums: of each term, n_k after pooling, which holds it before pooling as well.
        current: I.
        membrane: v, at every step, whatever comes in.
        synapse: i of synaptic neurons, or None.
        saturates: whether v (and i) are held within these bounds, for otherwise there are none
            (β = 1). Without it the bounds cannot be reached, and nothing needs to look.
    """

    sums: tuple[Width, ...]
    current: Width
    membrane: Width
    synapse: Width | None
    saturates: bool


@dataclass(frozen=True)
class Layer:
    """Neurons and the terms that drive them.

    Attributes:
        terms: the weights, then the shortcut of a residual block or the recurrent weights, if
            there are any.
        output_shape: of its spikes.
        offset: ``[channels]``.
        threshold: ``[channels]``, or ``output_shape`` for one of each neuron. In whole numbers
            the largest of the state's bits is out of reach: the neuron never fires.
        decay: β, ``[]`` or one that broadcasts against ``output_shape``.
        synaptic_decay: κ likewise; None for neurons without a synaptic current.
        reset: of the step after a spike.
        unit: ``[channels]``, what 1 stands for in the trained network.
        widths: in whole numbers; None in floating point.
    """

    terms: tuple[Term, ...]
    output_shape: Shape
    offset: Array
    threshold: Array
    decay: Array
    synaptic_decay: Array | None
    reset: Reset
    unit: NDArray[np.float64]
    widths: Widths | None = None

    @property
    def channels(self) -> int:
        """The first axis of its spikes."""
        return self.output_shape[0]

    @property
    def neurons(self) -> int:
        """How many there are."""
        return math.prod(self.output_shape)

    @property
    def fires(self) -> bool:
        """Whether any neuron can; where none can, the threshold is out of proven reach."""
        return self.widths is None or bool(self.threshold.min() <= self.widths.membrane.high)

    def each(self, values: Array) -> Array:
        """Values of channels, or of neurons, so that they broadcast against the spikes."""
        if values.shape == (self.channels,):
            return values.reshape(-1, *(1,) * (len(self.output_shape) - 1))
        return values


@dataclass(frozen=True)
class DeployedNetwork:
    """A network as the equations above have it.

    Attributes:
        input: how what comes in becomes whole numbers.
        layers: each reads layers before it, and itself one step late; the last one's neurons
            are the output.
        readout: the answer is the output with the most spikes, or with the largest sum of its
            membranes over the window, the first of equals. A membrane is read after the step's
            spikes are decided and before they are taken off.
        num_steps: of the window that it was trained for.
        decay_bits: fraction bits of the decays in whole numbers; None in floating point.
        state_bits: of membranes and synaptic currents in whole numbers, 16 or 32; None likewise.
    """

    input: InputEncoding
    layers: tuple[Layer, ...]
    readout: Readout
    num_steps: int
    decay_bits: int | None = None
    state_bits: int | None = None

    @property
    def whole(self) -> bool:
        """Whether it is in whole numbers."""
        return self.decay_bits is not None

    @property
    def weight_bits(self) -> int:
        """One for each weight."""
        terms = (term for layer in self.layers for term in layer.terms)
        return sum(0 if term.weights is None else term.weights.size for term in terms)
