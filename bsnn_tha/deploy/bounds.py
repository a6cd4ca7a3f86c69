"""What the numbers of a layer in whole numbers can be, whatever comes in, from its weights.

A sum of signs over inputs in [low, high], with P weights of +1 and N of −1, is within

    [P low − N high,  P high − N low],

times the cells of a window that it is summed over. Padding adds zeros, which lie within. Gains
and offsets bring that to the current, [I⁻, I⁺].

A membrane that is within [l, h] stays there if the step maps [l, h] into itself. With D(v) the
decayed membrane, which grows with v, and θ ≥ 1:

==========  =================================================================
reset       the next membrane is at most; at least
==========  =================================================================
subtract    max(D(min(h, θ − 1)) + I⁺, D(h) + I⁺ − θ if h ≥ θ);
            min(D(l) + I⁻, D(θ) + I⁻ − θ if h ≥ θ)
zero        max(D(min(h, θ − 1)), 0) + I⁺;  min(D(l), 0) + I⁻
none        D(h) + I⁺;  D(l) + I⁻
==========  =================================================================

:func:`membrane_width` proposes l ≤ 0 ≤ h by formula and then checks with these, in whole
numbers, that nothing leaves: that check is the proof, whatever the formula.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bsnn_tha.deploy.network import Reset, Term

Whole = NDArray[np.int64]


class Range(NamedTuple):
    """Bounds of each channel or neuron."""

    low: Whole
    high: Whole


def sum_range(term: Term, low: int, high: int) -> tuple[Range, Range]:
    """n of each channel before and after pooling.

    Args:
        term: of a layer.
        low, high: of what it reads.

    Example:
        >>> term = Term("dense", (), (3,), (1,), np.array([[1, 1, -1]], np.int8), np.ones(1))
        >>> [bound.tolist() for bound in sum_range(term, 0, 1)[1]]
        [[-1], [2]]
    """
    if term.weights is None:
        channels = term.output_shape[0]
        same = Range(np.full(channels, low, np.int64), np.full(channels, high, np.int64))
        return same, same
    cells = term.input_shape[1] * term.input_shape[2] if term.sums_maps else 1
    plus = (term.weights > 0).reshape(len(term.weights), -1).sum(1) * cells
    minus = (term.weights < 0).reshape(len(term.weights), -1).sum(1) * cells
    before = Range(plus * low - minus * high, plus * high - minus * low)
    windows = term.pool**2 if term.pooling == "sum" else 1
    return before, Range(before.low * windows, before.high * windows)


def current_range(terms: list[tuple[Whole, Range]], offset: Whole) -> tuple[Range, Whole]:
    """I of each channel, and the most that any of its partial sums can be in size.

    Args:
        terms: gain and range of each.
        offset: of the channels.
    """
    low, high, most = offset.copy(), offset.copy(), np.abs(offset)
    for gain, bound in terms:
        ends = np.sort(np.stack([gain * bound.low, gain * bound.high]), axis=0)
        low, high = low + ends[0], high + ends[1]
        most = most + np.abs(ends).max(0)
    return Range(low, high), most


def membrane_range(
    current: Range, decay: Whole, decay_bits: int, threshold: Whole, reset: Reset
) -> tuple[Range, NDArray[np.bool_]]:
    """v at every step from 0 on, and where that is proven; all arguments broadcast.

    Args:
        current: I.
        decay: β in multiples of 2^−decay_bits.
        decay_bits: of its fraction.
        threshold: θ ≥ 1.
        reset: of the neurons.

    Example:
        >>> one = np.array([1])
        >>> bound, proven = membrane_range(Range(-4 * one, 4 * one), one << 14, 15, 5 * one,
        ...                                "subtract")
        >>> [side.tolist() for side in bound], proven.tolist()
        ([[-9], [6]], [True])
    """
    one = 1 << decay_bits
    half = one // 2
    low, high, decay, threshold = np.broadcast_arrays(current.low, current.high, decay, threshold)
    leak = np.maximum(one - decay, 1)  # of β = 1 nothing is proven below

    def decayed(values: Whole) -> Whole:
        return (values * decay + half) >> decay_bits

    # |D(v)| ≤ β |v| + ½, so a membrane without reset settles below (I + ½) / (1 − β).
    top = np.maximum(_ceil_ratio(high * one + half, leak), 0)
    bottom = -np.maximum(_ceil_ratio(-low * one + half, leak), 0)
    if reset == "zero":
        top = np.minimum(top, np.maximum(decayed(threshold - 1), 0) + np.maximum(high, 0))
    if reset == "subtract":
        below = np.maximum(decayed(threshold - 1) + high, 0)
        above = np.maximum(_ceil_ratio((high - threshold) * one + half, leak), below)
        top = np.minimum(top, np.where(below >= threshold, above, below))
        bottom = np.where(
            top >= threshold, np.minimum(bottom, decayed(threshold) + low - threshold), bottom
        )
    fires = top >= threshold
    under = np.minimum(top, threshold - 1)
    if reset == "none":
        most, least = decayed(top) + high, decayed(bottom) + low
    elif reset == "zero":
        most = np.maximum(decayed(under), 0) + high
        least = np.minimum(decayed(bottom), 0) + low
    else:
        most = np.where(
            fires,
            np.maximum(decayed(under) + high, decayed(top) + high - threshold),
            decayed(under) + high,
        )
        least = decayed(bottom) + low
        least = np.where(fires, np.minimum(least, decayed(threshold) + low - threshold), least)
    return Range(bottom, top), (most <= top) & (least >= bottom)


def _ceil_ratio(numerator: Whole, denominator: Whole) -> Whole:
    return -((-numerator) // denominator)
