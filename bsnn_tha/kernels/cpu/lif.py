r"""Both scans of :mod:`bsnn_tha.functional.lif`, compiled for the CPU by numba.

Every operation is the one written there, in the same order, rounded once:
neither reordering (``fastmath``) nor fused multiply-adds are allowed. Spikes,
membranes and the gradients of currents and initial membranes are therefore
equal to the last bit; gradients of β and θ are up to the order of summation.

The exponential and the arctangent are of our own (:mod:`bsnn_tha.kernels.cpu.arithmetic`).
With ε the precision of the dtype, the surrogates ``sigmoid`` and ``exponential`` equal
those of tensor operations within ε s k, their height factor; the windows ``sigmoid`` and
``arctan`` of θ's gradient, which are between 0 and 1, within 2 ε.

bfloat16 is read and written as it is and computed with in float32, rounded after
each operation of the forward pass: the same bits again. Backward, only what is
written is rounded, which is closer to the gradient than tensor operations come.

Neurons do not depend on each other. They are taken in blocks: a block goes
through all time steps while its state stays in the cache, and the loop over
its neurons is vectorized. Blocks are shared out to threads.

Importing this module imports numba; :mod:`bsnn_tha.functional.lif` does so when
it is first needed. A scan takes half a second each way to compile, for a setting,
and a whole one with an exponential.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.threshold_gradient import SHARED
from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.compiled import run
from bsnn_tha.kernels.cpu.lif_scans import backward_scan, forward_scan
from bsnn_tha.kernels.cpu.memory import REALS, memory_of
from bsnn_tha.kernels.curves import curve_of, differentiates
from bsnn_tha.kernels.layout import Layout, empty
from bsnn_tha.kernels.lif_tensors import Upstream

__all__ = ["backward", "differentiates", "forward"]


def forward(
    current: Tensor, start: Tensor, dynamics: Dynamics, order: list[int], keep: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """As :func:`bsnn_tha.kernels.lif_tensors.forward`."""
    layout = Layout.of(current, order, tuning.LIF_SHORT_ROW)
    spikes = empty(current, order)
    membranes = empty(current, order) if keep else None
    last = layout.step(start).clone()
    _run(
        forward_scan,
        (dynamics.reset, current.dtype),
        layout,
        *_memory(current, layout),
        *(_step(tensor, layout) for tensor in (dynamics.beta, dynamics.threshold)),
        last.numpy(),
        _memory(spikes, layout)[0],
        _memory(membranes, layout)[0],
    )
    return spikes, membranes, layout.restore_step(last, current.dtype)


def backward(
    grads: Upstream,
    start: Tensor,
    dynamics: Dynamics,
    membranes: Tensor,
    order: list[int],
    learn_beta: bool,
    learn_threshold: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """As :func:`bsnn_tha.kernels.lif_tensors.backward`, if :func:`differentiates`."""
    g_spikes, g_membranes, g_last = grads
    g_current = empty(membranes, order)
    layout = Layout.of(g_current, [0, *(dim for dim in order if dim)], tuning.LIF_SHORT_ROW)
    written = layout.writable(g_current)
    # What is carried from step to step; in the end the gradient of `start`.
    carried = layout.step(torch.zeros_like(start) if g_last is None else g_last).clone()
    # Summed over time for each neuron; over neurons afterwards.
    g_beta = torch.zeros_like(carried) if learn_beta else None
    g_threshold = torch.zeros_like(carried) if learn_threshold else None
    curve = curve_of(dynamics.surrogate)
    # Without a learned threshold all are the same loop.
    threshold_gradient = dynamics.threshold_gradient if learn_threshold else SHARED
    real = REALS[membranes.dtype]
    _run(
        backward_scan,
        (curve.name, threshold_gradient, dynamics.reset, membranes.dtype),
        layout,
        *_memory(g_spikes, layout),
        *_memory(g_membranes, layout),
        *(_step(tensor, layout) for tensor in (start, *dynamics.tensors)),
        *_memory(membranes, layout),
        real(curve.narrowness),
        real(curve.height),
        *_memory(written, layout),
        carried.numpy(),
        None if g_beta is None else g_beta.numpy(),
        None if g_threshold is None else g_threshold.numpy(),
    )
    return (
        g_current if written is g_current else g_current.copy_(written),
        layout.restore_step(carried, start.dtype),
        None if g_beta is None else layout.summed(g_beta, dynamics.beta),
        None if g_threshold is None else layout.summed(g_threshold, dynamics.threshold),
    )


# Memory, as numpy sees it


def _memory(window: Tensor | None, layout: Layout) -> tuple[Any, int, int]:
    """What the scans read of a window: its memory, stride of time and of rows.

    As one contiguous array: a compiler that knows a stride of 1 can vectorize.
    """
    if window is None:
        return None, 0, 0
    split = layout.split(window)
    strides = split.stride()
    span = 1 + sum((n - 1) * stride for n, stride in zip(split.shape, strides, strict=True))
    memory = split.as_strided((span if split.numel() else 0,), (1,))
    return memory_of(memory), strides[0], strides[1]


def _step(tensor: Tensor, layout: Layout) -> Any:
    return layout.step(tensor).numpy()


def _run(
    make: Callable[..., Any], constants: tuple[Any, ...], layout: Layout, *arguments: Any
) -> None:
    """Run a scan over all blocks."""
    blocks = layout.rows * -(-layout.length // tuning.LIF_BLOCK)
    arguments += layout.steps, layout.neurons, layout.length, tuning.LIF_BLOCK
    run(make, constants, arguments, blocks, layout.steps * layout.neurons // tuning.LIF_THREAD)
