"""Product, dropout and neurons in one pass over sparse events, compiled by numba.

What is long in a layer of many neurons on few spikes is to write the current,
the mask, the dropped current and the membranes to memory and to read them
again. Here none of them is ever written. Neurons are taken in blocks, samples
one at a time. Forward, a block's current at a time step is a sum of rows of the
transposed signs, bytes in the second-level cache, added up as whole numbers of
16 bits; it goes straight into the membranes, which stay in the first-level
cache; only the spikes leave it.

Backward, a block's membranes of the whole window are computed again, which is
faster than to read them back from memory, into a buffer that the scan back
through time overwrites with the current's gradient. The block's part of the
weights' gradient is summed from there.

The scans are in :mod:`bsnn_tha.kernels.cpu.sparse_lif_scans`.
Operations on membranes are those of :mod:`bsnn_tha.kernels.cpu.lif`, in the
same order: the same bits. Every gradient is a sum in an order that depends
neither on the number of threads nor on the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bsnn_tha.equations.dropout import limit
from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.threshold_gradient import SHARED
from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.compiled import run
from bsnn_tha.kernels.cpu.dropout import scale
from bsnn_tha.kernels.cpu.events import Events, events_of
from bsnn_tha.kernels.cpu.memory import REALS, memory_of
from bsnn_tha.kernels.cpu.per_neuron import summed_over_samples
from bsnn_tha.kernels.cpu.sparse_lif_scans import backward_scan, forward_scan
from bsnn_tha.kernels.curves import curve_of
from bsnn_tha.kernels.tuning import SPARSE_LIF_BLOCK as BLOCK

# Spikes of a sample in one step whose sum of ±1 fits 16 bits.
_MOST_IN_A_STEP = (1 << 15) - 1


def listed(input: Tensor, most: int) -> Events | None:
    """The spikes of a window as the scans read them; None if there are more, or other values."""
    return events_of(input, most, _MOST_IN_A_STEP)


def signs_of(weight: Tensor) -> Tensor | None:
    """Weights of ±1 (or 0) as the scans read them, ``[blocks, in, BLOCK]``; None for others."""
    outputs, inputs = weight.shape
    blocks = -(-outputs // BLOCK)
    signs = np.zeros(blocks * inputs * BLOCK, np.int8)
    others = np.zeros(blocks, np.bool_)
    arguments = weight.detach().contiguous().view(-1).numpy(), outputs, inputs, signs, others
    run(_signs_loop, (weight.dtype,), arguments, blocks, weight.numel() // tuning.SPARSE_LIF_THREAD)
    return None if others.any() else torch.from_numpy(signs).view(blocks, inputs, BLOCK)


class Mask(NamedTuple):
    """Of dropout, between the product and the neurons."""

    probability: float
    seed: int


def forward(
    events: Events,
    signs: Tensor,
    bias: Tensor | None,
    mask: Mask,
    dynamics: Dynamics,
    start: Tensor,
    spikes: Tensor,
) -> Tensor:
    """Writes the spikes, ``[time, batch, out]``; the last membrane."""
    steps, batch, outputs = spikes.shape
    last = start.detach().clone(memory_format=torch.contiguous_format)
    blocks = len(signs)
    run(
        forward_scan,
        (dynamics.reset, mask.probability > 0, start.dtype, spikes.dtype),
        (
            events.starts.numpy(),
            events.columns.numpy(),
            signs.view(-1).numpy(),
            *_of_neurons((bias, dynamics.beta, dynamics.threshold), blocks, start.dtype),
            *_of_mask(mask, start.dtype),
            last.view(-1).numpy(),
            memory_of(spikes),
            steps,
            batch,
            outputs,
            signs.shape[1],
        ),
        -(-blocks // tuning.SPARSE_LIF_TOGETHER) * batch,
        steps * batch * outputs // tuning.SPARSE_LIF_THREAD,
    )
    return last


def backward(
    events: Events,
    signs: Tensor,
    bias: Tensor | None,
    mask: Mask,
    dynamics: Dynamics,
    start: Tensor,
    g_spikes: Tensor | None,
    g_last: Tensor | None,
    steps: int,
    g_current: Tensor | None,
    learn_threshold: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of the weight, the bias, ``start``, and θ, if it is learned.

    Writes that of the product of weight and input, ``[time, batch, out]``, if there is where to.
    """
    batch, outputs = start.shape
    blocks, inputs = signs.shape[:2]
    dtype = start.dtype
    real, curve = REALS[dtype], curve_of(dynamics.surrogate)
    g_weight = start.new_zeros(outputs, inputs)
    g_bias = start.new_zeros(blocks * BLOCK)
    g_threshold = torch.zeros_like(g_bias) if learn_threshold else None
    # Without a learned threshold all are the same loop.
    path = dynamics.threshold_gradient if learn_threshold else SHARED
    carried = start.new_zeros(batch, outputs)
    if g_last is not None:
        carried.copy_(g_last)
    offsets = np.zeros(batch * (inputs + 1), np.int64)
    times = np.empty(len(events.columns), np.int32)
    starts, columns = events.starts.numpy(), events.columns.numpy()
    run(_sort_loop, (), (starts, columns, steps, batch, inputs, offsets, times), batch, 1)
    g_dtype = dtype if g_spikes is None else g_spikes.dtype
    written = None if g_current is None else g_current.dtype
    run(
        backward_scan,
        (curve.name, path, dynamics.reset, mask.probability > 0, dtype, g_dtype, written),
        (
            starts,
            columns,
            offsets,
            times,
            signs.view(-1).numpy(),
            *_of_neurons((bias, dynamics.beta, dynamics.threshold), blocks, dtype),
            *_of_mask(mask, dtype),
            *_of_neurons((dynamics.centre,), blocks, dtype),
            real(curve.narrowness),
            real(curve.height),
            start.detach().contiguous().view(-1).numpy(),
            None if g_spikes is None else memory_of(g_spikes.detach().contiguous()),
            carried.view(-1).numpy(),
            g_weight.view(-1).numpy(),
            g_bias.numpy(),
            None if g_threshold is None else g_threshold.numpy(),
            None if g_current is None else memory_of(g_current),
            steps,
            batch,
            outputs,
            inputs,
        ),
        blocks,
        steps * batch * outputs // tuning.SPARSE_LIF_THREAD,
    )
    if g_threshold is not None:
        g_threshold = summed_over_samples(g_threshold[:outputs], dynamics.threshold)
    return g_weight, g_bias[:outputs].clone(), carried, g_threshold


def _of_neurons(tensors: Iterable[Tensor | None], blocks: int, dtype: torch.dtype) -> Iterator[Any]:
    """One value for each neuron, zero for those that only fill the last block."""
    for tensor in tensors:
        values = np.zeros(blocks * BLOCK, REALS[dtype])
        if tensor is not None:
            given = tensor.detach().to(dtype).reshape(-1)
            values[: len(values) if len(given) == 1 else len(given)] = given.numpy()
        yield values


def _of_mask(mask: Mask, dtype: torch.dtype) -> tuple[Any, ...]:
    """The mask's numbers, for the scans."""
    return mask.seed, np.uint32(limit(mask.probability)), scale(mask.probability, dtype)


# Loops over the input and the weights.


def _sort_loop() -> Callable[..., None]:
    """For each sample its spikes by input: ``times`` from ``offsets[i]`` to ``offsets[i + 1]``."""

    def loop(starts, columns, steps, batch, inputs, offsets, times, first, last):  # type: ignore[no-untyped-def]
        for sample in range(batch):
            # Where the sample's spikes start: behind those of the samples before.
            begin = 0 if sample == 0 else offsets[sample * (inputs + 1) - 1]
            at = offsets[sample * (inputs + 1) : (sample + 1) * (inputs + 1)]
            for t in range(steps):
                row = t * batch + sample
                for k in range(starts[row], starts[row + 1]):
                    at[columns[k] + 1] += 1
            at[0] = begin
            for i in range(inputs):
                at[i + 1] += at[i]
            free = at.copy()
            for t in range(steps):
                row = t * batch + sample
                for k in range(starts[row], starts[row + 1]):
                    times[free[columns[k]]] = t
                    free[columns[k]] += 1

    return loop


def _signs_loop(dtype: torch.dtype) -> Callable[..., None]:
    one, nothing = REALS[dtype](1), REALS[dtype](0)
    tile = 64

    def loop(weight, outputs, inputs, signs, others, first, last):  # type: ignore[no-untyped-def]
        narrow = np.empty((tile, tile), np.int8)
        for block in range(first, last):
            at = block * BLOCK
            wrong = 0
            for top in range(at, min(at + BLOCK, outputs), tile):
                height = min(tile, outputs - top)
                for left in range(0, inputs, tile):
                    width = min(tile, inputs - left)
                    for i in range(height):
                        of = (top + i) * inputs + left
                        row, bytes = weight[of : of + width], narrow[i]
                        for j in range(width):
                            value = row[j]
                            wrong += not ((abs(value) == one) | (value == nothing))
                            bytes[j] = np.int8(value)
                    for j in range(width):
                        of = (block * inputs + left + j) * BLOCK + top - at
                        column = signs[of : of + height]
                        for i in range(height):
                            column[i] = narrow[i, j]
            others[block] = wrong > 0

    return loop
