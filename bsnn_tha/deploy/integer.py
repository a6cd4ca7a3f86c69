"""A folded network in whole numbers, of widths that hold whatever comes in.

Potentials of a channel are counted in 2^−F of its unit, with F as large as the state's bits
allow and at most ``fraction_bits``: all of its gains, offset and threshold are multiplied by
2^F and rounded to the nearest whole number, halves to the even one. Decays are rounded likewise,
to multiples of 2^−``decay_bits``. Then :mod:`bsnn_tha.deploy.bounds` proves that no sum and no
state leaves its bits. Where β = 1 a membrane has no bound; there the state is held at the ends
of its range, which a window of ``num_steps`` steps does not reach.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bsnn_tha.deploy.bounds import Range, current_range, membrane_range, sum_range
from bsnn_tha.deploy.network import (
    Array,
    DeployedNetwork,
    InputEncoding,
    Layer,
    Term,
    Width,
    Widths,
)
from bsnn_tha.errors import InvalidValueError

_CURRENT_BITS = 32
"""Of sums and currents, whatever the state's."""


@dataclass(frozen=True)
class Precision:
    """How many bits numbers get.

    Args:
        state_bits: of membranes and synaptic currents: 16 or 32.
        fraction_bits: F at most, 0 to 24.
        decay_bits: of decays' fractions, 1 to 20, so that a product with a state is below 2^52;
            None is 20 for states of 32 bits, 15 for those of 16.

    Example:
        >>> Precision(state_bits=16).decay_bits
        15
        >>> Precision(fraction_bits=30)
        Traceback (most recent call last):
        bsnn_tha.errors.InvalidValueError: fraction_bits must be 0 to 24, but got 30
    """

    state_bits: int = 32
    fraction_bits: int = 16
    decay_bits: int | None = None

    def __post_init__(self) -> None:
        if self.state_bits not in (16, 32):
            raise InvalidValueError(f"state_bits must be 16 or 32, but got {self.state_bits}")
        if self.decay_bits is None:
            object.__setattr__(self, "decay_bits", 20 if self.state_bits == 32 else 15)
        for name, low, high in (("fraction_bits", 0, 24), ("decay_bits", 1, 20)):
            if not low <= getattr(self, name) <= high:
                raise InvalidValueError(
                    f"{name} must be {low} to {high}, but got {getattr(self, name)}"
                )


def integer_network(folded: DeployedNetwork, precision: Precision | None = None) -> DeployedNetwork:
    """The network in whole numbers.

    Args:
        folded: in floating point, as :func:`~bsnn_tha.deploy.fold.fold` makes it.
        precision: the default if None.

    Raises:
        InvalidValueError: sums of a layer do not fit 32 bits.
    """
    precision = precision or Precision()
    assert precision.decay_bits is not None
    layers: list[Layer] = []
    for index, layer in enumerate(folded.layers):
        last = index == len(folded.layers) - 1
        uniform = last and folded.readout == "membrane_sum"
        ranges = sum_ranges(layer, folded.input)
        layers.append(_layer(layer, ranges, precision, folded.num_steps, uniform, index))
    return replace(
        folded,
        layers=tuple(layers),
        decay_bits=precision.decay_bits,
        state_bits=precision.state_bits,
    )


def sum_ranges(layer: Layer, encoding: InputEncoding) -> list[tuple[Range, Range]]:
    """Of each term's sums, before and after pooling."""
    return [
        sum_range(term, *((0, 1) if term.reads else (encoding.low, encoding.high)))
        for term in layer.terms
    ]


def _layer(
    layer: Layer,
    ranges: list[tuple[Range, Range]],
    precision: Precision,
    num_steps: int,
    uniform: bool,
    index: int,
) -> Layer:
    """The layer with the largest F that fits, found from above, channel by channel."""
    for before, after in ranges:
        if max(_width(before).bits, _width(after).bits) > _CURRENT_BITS:
            raise InvalidValueError(
                f"sums of layer {index + 1} need {_width(after).bits} bits, and there are "
                f"{_CURRENT_BITS}; give its input fewer bits"
            )
    fraction = np.full(layer.channels, precision.fraction_bits)
    while True:
        made, fits = _rounded(layer, ranges, precision, num_steps, fraction)
        if fits.all():
            return made
        fraction = fraction - (1 if uniform else ~fits)
        if fraction.min() < -128:
            raise InvalidValueError(
                f"layer {index + 1} has a threshold or an offset that no number of "
                f"{precision.state_bits} bits can hold; train it anew"
            )


def _rounded(
    layer: Layer,
    ranges: list[tuple[Range, Range]],
    precision: Precision,
    num_steps: int,
    fraction: NDArray[np.int64],
) -> tuple[Layer, NDArray[np.bool_]]:
    """The layer in multiples of 2^−fraction, and for which channels that fits."""
    bits = precision.decay_bits
    assert bits is not None
    largest = 2 ** (precision.state_bits - 1) - 1
    factor = np.exp2(fraction.astype(np.float64))
    terms = tuple(replace(term, gain=_whole(term.gain * factor)) for term in layer.terms)
    offset = _whole(layer.offset * factor)
    # The largest number is out of reach, for bounds lie below it.
    threshold = _whole((layer.threshold.T * factor).T).clip(1, largest)
    decay = _whole(layer.decay * 2.0**bits)
    synaptic = None if layer.synaptic_decay is None else _whole(layer.synaptic_decay * 2.0**bits)
    made = replace(
        layer,
        terms=terms,
        offset=offset,
        threshold=threshold,
        decay=decay,
        synaptic_decay=synaptic,
        unit=layer.unit / factor,
    )
    widths, fits = proven_widths(made, ranges, bits, precision.state_bits, num_steps)
    return replace(made, widths=widths), fits


def proven_widths(
    layer: Layer,
    ranges: list[tuple[Range, Range]],
    decay_bits: int,
    state_bits: int,
    num_steps: int,
) -> tuple[Widths, NDArray[np.bool_]]:
    """What a layer in whole numbers can compute, and whether that fits, for each channel.

    Args:
        layer: without widths, or with any.
        ranges: of each term's sums, as :func:`~bsnn_tha.deploy.bounds.sum_range` gives them.
        decay_bits, state_bits, num_steps: of the network.
    """
    largest = 2 ** (state_bits - 1) - 1
    gains = [(term.gain, after) for term, (_, after) in zip(layer.terms, ranges, strict=True)]
    current, partial = current_range(gains, layer.offset)
    each = Range(layer.each(current.low), layer.each(current.high))
    driving, synapse, leaks, power = each, None, np.array(True), 1
    if layer.synaptic_decay is not None:
        never = np.array(1 << 40)
        driving, leaks = membrane_range(each, layer.synaptic_decay, decay_bits, never, "none")
        driving = synapse = _over(driving, leaks, each, num_steps, 1)
        power = 2
    membrane, proven = membrane_range(
        driving, layer.decay, decay_bits, layer.each(layer.threshold), layer.reset
    )
    proven = proven & leaks
    membrane = _over(membrane, proven, each, num_steps, power)
    fits = _each_channel(partial < 2 ** (_CURRENT_BITS - 1), layer.channels)
    for state in (membrane, synapse):
        if state is not None:
            fits &= _each_channel(np.maximum(state.high, -state.low) < largest, layer.channels)
    saturates = not bool(proven.all())
    ends = Width(1 - largest, largest - 1)
    widths = Widths(
        tuple(_width(after) for _, after in ranges),
        _width(current),
        ends if saturates else _width(membrane),
        None if synapse is None else ends if saturates else _width(synapse),
        saturates,
    )
    return widths, fits


def _over(bound: Range, proven: Array, current: Range, num_steps: int, power: int) -> Range:
    """The bound, or where there is none what a window can reach."""
    most = np.maximum(np.abs(current.low), np.abs(current.high)) * num_steps**power
    return Range(np.where(proven, bound.low, -most), np.where(proven, bound.high, most))


def _each_channel(fits: Array, channels: int) -> NDArray[np.bool_]:
    """Whether it holds for all neurons of each channel."""
    rows = np.broadcast_to(fits, (channels, *fits.shape[1:])) if fits.ndim else fits
    whole = rows.reshape(channels, -1).all(1) if rows.ndim else rows
    return np.broadcast_to(whole, (channels,)).copy()


def _width(bound: Range) -> Width:
    return Width(int(bound.low.min()), int(bound.high.max()))


def _whole(values: Array) -> NDArray[np.int64]:
    return np.asarray(np.rint(np.clip(values, -(2.0**52), 2.0**52)), np.int64)


def term_fraction(term: Term) -> int | None:
    """F of a term whose gains are all 2^F; None for others.

    Example:
        >>> term = Term("dense", (), (3,), (2,), None, np.array([4096, 4096]))
        >>> term_fraction(term)
        12
    """
    gain = int(term.gain[0])
    same = gain > 0 and bool((term.gain == gain).all()) and gain & (gain - 1) == 0
    return gain.bit_length() - 1 if same else None
