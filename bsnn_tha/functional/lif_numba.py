r"""Both scans of :mod:`bsnn_tha.functional.lif`, compiled for the CPU by numba.

Every operation is the one written there, in the same order, rounded once:
neither reordering (``fastmath``) nor fused multiply-adds are allowed. Spikes,
membranes and the gradients of currents and initial membranes are therefore
equal to the last bit; gradients of β and θ are up to the order of summation.

bfloat16 is read and written as it is and computed with in float32, rounded after
each operation of the forward pass: the same bits again. Backward, only what is
written is rounded, which is closer to the gradient than tensor operations come.

Neurons do not depend on each other. They are taken in blocks: a block goes
through all time steps while its state stays in the cache, and the loop over
its neurons is vectorized. Blocks are shared out to threads.

Importing this module imports numba; :mod:`bsnn_tha.functional.lif` does so when
it is first needed. A scan takes half a second each way to compile, for a setting.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from numba.extending import overload
from torch import Tensor

from bsnn_tha.functional.compiled import run
from bsnn_tha.functional.lif_layout import Layout, empty
from bsnn_tha.functional.lif_reference import Reset
from bsnn_tha.functional.lif_tensors import Upstream
from bsnn_tha.functional.surrogate import ArcTan, FastSigmoid, Surrogate

# What a dtype is computed in.
_REALS: dict[torch.dtype, Any] = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.bfloat16: np.float32,
}

# Neurons that go through time together: their state fits a second-level cache.
_BLOCK = 4096
# Rows of neurons shorter than this are copied together first: short loops are slow.
_SHORT_ROW = 64
# Neurons × steps for which waking a thread pays.
_WORTH_A_THREAD = 1 << 16


def differentiates(surrogate: Surrogate) -> bool:
    """Whether :func:`backward` knows the surrogate.

    Example:
        >>> differentiates(FastSigmoid()), differentiates(lambda membrane, centre: membrane)
        (True, False)
    """
    # Not isinstance: a derived class may compute something else. And no Sigmoid:
    # compiled exponentials are not vectorized, and slower than torch's.
    return type(surrogate) in (FastSigmoid, ArcTan)


def forward(
    current: Tensor,
    start: Tensor,
    beta: Tensor,
    threshold: Tensor,
    reset: Reset,
    order: list[int],
    keep: bool,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """As :func:`bsnn_tha.functional.lif_tensors.forward`."""
    layout = Layout.of(current, order, _SHORT_ROW)
    spikes = empty(current, order)
    membranes = empty(current, order) if keep else None
    last = layout.step(start).clone()
    _run(
        _forward_scan,
        (reset, current.dtype),
        layout,
        *_memory(current, layout),
        *(_step(tensor, layout) for tensor in (beta, threshold)),
        last.numpy(),
        _memory(spikes, layout)[0],
        _memory(membranes, layout)[0],
    )
    return spikes, membranes, layout.restore_step(last, current.dtype)


def backward(
    grads: Upstream,
    start: Tensor,
    beta: Tensor,
    threshold: Tensor,
    centre: Tensor,
    membranes: Tensor,
    surrogate: FastSigmoid | ArcTan,
    reset: Reset,
    order: list[int],
    learn_beta: bool,
    learn_threshold: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """As :func:`bsnn_tha.functional.lif_tensors.backward`, if :func:`differentiates`."""
    g_spikes, g_membranes, g_last = grads
    g_current = empty(membranes, order)
    layout = Layout.of(g_current, [0, *(dim for dim in order if dim)], _SHORT_ROW)
    written = layout.writable(g_current)
    # What is carried from step to step; in the end the gradient of `start`.
    carried = layout.step(torch.zeros_like(start) if g_last is None else g_last).clone()
    # Summed over time for each neuron; over neurons afterwards.
    g_beta = torch.zeros_like(carried) if learn_beta else None
    g_threshold = torch.zeros_like(carried) if learn_threshold else None
    real = _REALS[membranes.dtype]
    fast_sigmoid = isinstance(surrogate, FastSigmoid)
    scale = surrogate.slope if fast_sigmoid else math.pi / 2 * surrogate.slope
    _run(
        _backward_scan,
        (fast_sigmoid, reset, membranes.dtype),
        layout,
        *_memory(g_spikes, layout),
        *_memory(g_membranes, layout),
        *(_step(tensor, layout) for tensor in (start, beta, threshold, centre)),
        *_memory(membranes, layout),
        real(scale),
        real(surrogate.slope / 2),
        *_memory(written, layout),
        carried.numpy(),
        None if g_beta is None else g_beta.numpy(),
        None if g_threshold is None else g_threshold.numpy(),
    )
    return (
        g_current if written is g_current else g_current.copy_(written),
        layout.restore_step(carried, start.dtype),
        None if g_beta is None else layout.summed(g_beta, beta),
        None if g_threshold is None else layout.summed(g_threshold, threshold),
    )


# bfloat16, which numpy does not know: the upper half of a float32, as an unsigned integer.


def _widened(value: Any) -> Any: ...


@overload(_widened)
def _compile_widened(value):  # type: ignore[no-untyped-def]
    if value == numba.types.uint16:
        return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
    return lambda value: value


def _narrowed(value: Any, array: Any) -> Any: ...


@overload(_narrowed)
def _compile_narrowed(value, array):  # type: ignore[no-untyped-def]
    if array.dtype != numba.types.uint16:
        return lambda value, array: value

    def narrow(value, array):  # type: ignore[no-untyped-def]
        bits = np.float32(value).view(np.uint32)
        odd = (bits >> np.uint32(16)) & np.uint32(1)  # to nearest, ties to even
        rounded = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
        # NaN stays NaN: the lower half is empty, whether from bfloat16 or the processor's own.
        return np.uint16(rounded)

    return narrow


def _rounded(value: Any, array: Any) -> Any: ...


@overload(_rounded)
def _compile_rounded(value, array):  # type: ignore[no-untyped-def]
    """The value as it would come back out of the array."""
    if array.dtype != numba.types.uint16:
        return lambda value, array: value
    return lambda value, array: _widened(_narrowed(value, array))


# The scans. What is fixed for a layer is a constant in them; None is compiled away.


def _forward_scan(reset: Reset, dtype: torch.dtype) -> Callable[..., None]:
    real = _REALS[dtype]
    one, nothing = real(1), real(0)
    subtract, zero = reset == "subtract", reset == "zero"

    def scan(  # type: ignore[no-untyped-def]
        current, time_stride, row_stride,
        beta, threshold, state,
        spikes, membranes,
        steps, neurons, length, block, first, last,
    ):  # fmt: skip
        per_row = (length + block - 1) // block
        for index in range(first, last):
            row, column = index // per_row, index % per_row * block
            size = min(block, length - column)
            at, of = row * row_stride + column, row * length + column
            decay, theta = beta[of : of + size], threshold[of : of + size]
            membrane = state[of : of + size]
            for _ in range(steps):
                inputs = current[at : at + size]
                fired = spikes[of : of + size]
                if membranes is not None:
                    kept = membranes[of : of + size]
                for i in range(size):
                    u = membrane[i]
                    z = one if u >= theta[i] else nothing
                    if zero:
                        u *= one - z
                    u = _rounded(decay[i] * u, current)
                    u = _rounded(u + _widened(inputs[i]), current)
                    if subtract:
                        u = _rounded(u - z * theta[i], current)
                    membrane[i] = u
                    fired[i] = _narrowed(one if u >= theta[i] else nothing, spikes)
                    if membranes is not None:
                        kept[i] = _narrowed(u, current)
                at += time_stride
                of += neurons

    return scan


def _backward_scan(fast_sigmoid: bool, reset: Reset, dtype: torch.dtype) -> Callable[..., None]:
    real = _REALS[dtype]
    one, nothing = real(1), real(0)
    subtract, zero = reset == "subtract", reset == "zero"

    def scan(  # type: ignore[no-untyped-def]
        g_spikes, spikes_time_stride, spikes_row_stride,
        g_membranes, membranes_time_stride, membranes_row_stride,
        start, beta, threshold, centre,
        membranes, kept_time_stride, kept_row_stride,
        scale, height,
        g_current, time_stride, row_stride,
        carried, g_beta, g_threshold,
        steps, neurons, length, block, first, last,
    ):  # fmt: skip
        per_row = (length + block - 1) // block
        for index in range(first, last):
            row, column = index // per_row, index % per_row * block
            size = min(block, length - column)
            of = row * length + column
            decay, theta = beta[of : of + size], threshold[of : of + size]
            peak, initial = centre[of : of + size], start[of : of + size]
            carry = carried[of : of + size]
            for t in range(steps - 1, -1, -1):
                at = t * kept_time_stride + row * kept_row_stride + column
                now = membranes[at : at + size]
                at = max(t - 1, 0) * kept_time_stride + row * kept_row_stride + column
                earlier = membranes[at : at + size]
                at = t * time_stride + row * row_stride + column
                g_now = g_current[at : at + size]
                if g_spikes is not None:
                    at = t * spikes_time_stride + row * spikes_row_stride + column
                    g_z = g_spikes[at : at + size]
                if g_membranes is not None:
                    at = t * membranes_time_stride + row * membranes_row_stride + column
                    g_m = g_membranes[at : at + size]
                if g_beta is not None:
                    g_decay = g_beta[of : of + size]
                if g_threshold is not None:
                    g_theta = g_threshold[of : of + size]
                for i in range(size):
                    u = _widened(now[i])
                    before = _widened(earlier[i]) if t > 0 else initial[i]
                    g = carry[i]
                    if g_membranes is not None:
                        g += _widened(g_m[i])
                    if g_spikes is not None:
                        if fast_sigmoid:
                            width = abs(u - peak[i]) * scale + one
                            slope = one / (width * width)
                        else:
                            angle = scale * (u - peak[i])
                            slope = one / (one + angle * angle) * height
                        through = slope * _widened(g_z[i])
                        g += through
                        if g_threshold is not None:
                            g_theta[i] -= through
                    g_now[i] = _narrowed(g, g_current)
                    # A NaN has not fired, as in the forward pass.
                    z = one if before >= theta[i] else nothing
                    if g_beta is not None:
                        g_decay[i] += g * (before * (one - z)) if zero else g * before
                    if subtract and g_threshold is not None:
                        g_theta[i] -= g * z
                    g = decay[i] * g
                    carry[i] = g * (one - z) if zero else g

    return scan


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
    if memory.dtype == torch.bfloat16:
        memory = memory.view(torch.uint16)
    return memory.numpy(), strides[0], strides[1]


def _step(tensor: Tensor, layout: Layout) -> Any:
    return layout.step(tensor).numpy()


def _run(
    make: Callable[..., Any], constants: tuple[Any, ...], layout: Layout, *arguments: Any
) -> None:
    """Run a scan over all blocks."""
    blocks = layout.rows * -(-layout.length // _BLOCK)
    arguments += layout.steps, layout.neurons, layout.length, _BLOCK
    run(make, constants, arguments, blocks, layout.steps * layout.neurons // _WORTH_A_THREAD)
