r"""Both scans of :mod:`bsnn_tha.functional.lif` as GPU kernels, by Triton.

A program takes a block of neurons through all time steps, with their state in
registers: a window is read once and written once each way. Nothing is summed
across neurons in a kernel and no atomic operation is used, so results do not
depend on scheduling.

Forward, every operation is rounded as in tensor operations (no fused
multiply-adds; half precisions after each operation): spikes and membranes are
the same bits. Backward, gradients are computed in float32 (float64 for float64)
and equal those of tensor operations up to rounding, because a GPU's division
and exponential are not rounded correctly.

The kernels are tested in Triton's interpreter, on the CPU
(``TRITON_INTERPRET=1``), against tensor operations. Their speed on a GPU has
not been measured.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

import torch
import triton
from torch import Tensor
from triton import language as tl

from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.curves import curve_of, differentiates
from bsnn_tha.kernels.layout import Layout, empty
from bsnn_tha.kernels.lif_tensors import Upstream

__all__ = ["backward", "differentiates", "forward"]


def forward(
    current: Tensor, start: Tensor, dynamics: Dynamics, order: list[int], keep: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """As :func:`bsnn_tha.kernels.lif_tensors.forward`."""
    layout = Layout.of(current, order)
    spikes = empty(current, order)
    membranes = empty(current, order) if keep else None
    last = layout.step(start).clone()
    _launch(
        _forward_scan,
        layout,
        *_strided(current, layout),
        *(layout.step(tensor) for tensor in (dynamics.beta, dynamics.threshold)),
        last,
        spikes,
        spikes if membranes is None else membranes,
        SUBTRACT=dynamics.reset == "subtract",
        ZERO=dynamics.reset == "zero",
        KEEP=keep,
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
    layout = Layout.of(g_current, [0, *(dim for dim in order if dim)])
    carried = layout.step(torch.zeros_like(start) if g_last is None else g_last).clone()
    g_beta = torch.empty_like(carried) if learn_beta else None
    g_threshold = torch.empty_like(carried) if learn_threshold else None
    curve = curve_of(dynamics.surrogate)
    _launch(
        _backward_scan,
        layout,
        *_strided(membranes if g_spikes is None else g_spikes, layout),
        *_strided(membranes if g_membranes is None else g_membranes, layout),
        *(layout.step(tensor) for tensor in (start, *dynamics.tensors)),
        *_strided(membranes, layout),
        # In memory: numbers given to a kernel are float32, whatever it computes in.
        carried.new_full((), curve.narrowness),
        carried.new_full((), curve.height),
        *_strided(g_current, layout),
        carried,
        carried if g_beta is None else g_beta,
        carried if g_threshold is None else g_threshold,
        SURROGATE=curve.name,
        WINDOW=dynamics.threshold_gradient.window,
        FIRED_ONLY=dynamics.threshold_gradient.fired_only,
        SUBTRACT=dynamics.reset == "subtract",
        ZERO=dynamics.reset == "zero",
        SPIKES=g_spikes is not None,
        MEMBRANES=g_membranes is not None,
        BETA=learn_beta,
        THRESHOLD=learn_threshold,
    )
    return (
        g_current,
        layout.restore_step(carried, start.dtype),
        None if g_beta is None else layout.summed(g_beta, dynamics.beta),
        None if g_threshold is None else layout.summed(g_threshold, dynamics.threshold),
    )


def _strided(window: Tensor, layout: Layout) -> tuple[Tensor, int, int]:
    """A window, or a copy the kernels can read; its strides of time and of rows."""
    split = layout.split(window)
    return split, split.stride(0), split.stride(1)


def _launch(kernel: Any, layout: Layout, *arguments: Any, **constants: bool | str) -> None:
    if layout.neurons == 0:
        return
    device = arguments[0].device
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        kernel[(triton.cdiv(layout.neurons, tuning.LIF_GPU_BLOCK),)](
            *arguments,
            layout.steps,
            layout.neurons,
            layout.length,
            **constants,
            HALF=arguments[0].itemsize < 4,
            BLOCK=tuning.LIF_GPU_BLOCK,
            enable_fp_fusion=False,
        )


# The kernels. Constants choose what is compiled; pointers they leave unused are never read.


@triton.jit
def _rounded(value, like, HALF: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    # What would come back out of memory.
    if HALF:
        if like.dtype.element_ty == tl.bfloat16:
            # By hand, to nearest and ties to even: the interpreter's own way cuts off.
            bits = value.to(tl.uint32, bitcast=True)
            bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
            return tl.where(value == value, bits.to(tl.float32, bitcast=True), value)
        return value.to(like.dtype.element_ty).to(tl.float32)
    return value


@triton.jit
def _curve(y, SURROGATE: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    # Those of `lif_shapes`, at a height of 1.
    size = tl.abs(y)
    if SURROGATE == "fast_sigmoid":
        return 1 / ((1 + size) * (1 + size))
    elif SURROGATE == "sigmoid":
        # From the side where the exponential cannot overflow.
        small = tl.exp(-size)
        return small / ((1 + small) * (1 + small))
    elif SURROGATE == "arctan":
        return 1 / (1 + y * y)
    elif SURROGATE == "exponential":
        return tl.exp(-size)
    elif SURROGATE == "rectangle":
        # What is on neither side is a NaN, and stays.
        return tl.where(size < 0.5, 1.0, tl.where(size >= 0.5, 0.0, y))
    else:
        tl.static_assert(SURROGATE == "triangle")
        return tl.where(size > 1, 0.0, 1 - size)


@triton.jit
def _window(x, WINDOW: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    # Those of `threshold_gradient`.
    if WINDOW == "sigmoid":
        small = tl.exp(-tl.abs(x))
        return tl.where(x < 0, small, 1.0) / (1 + small)
    elif WINDOW == "arctan":
        return 0.5 + _half_turns(x)
    elif WINDOW == "triangle":
        return _curve(x, "triangle")
    elif WINDOW == "piecewise":
        raised = x + 0.5
        return tl.where(raised < 0, 0.0, tl.where(raised > 1, 1.0, raised))
    else:
        tl.static_assert(WINDOW == "none")
        return tl.full(x.shape, 1.0, x.dtype)


_PI: tl.constexpr = tl.constexpr(math.pi)
_TAN: tl.constexpr = tl.constexpr(math.tan(math.pi / 8))


@triton.jit
def _half_turns(x):  # type: ignore[no-untyped-def]
    # arctan(x) / π, which neither Triton's own language nor its interpreter has.
    size = tl.abs(x)
    tangent = tl.where(size > 1, 1 / size, size)
    # Taylor's series of the angle to π/8: |t| ≤ tan(π/8), the next term is below rounding.
    t = (tangent - _TAN) / (1 + tangent * _TAN)
    terms: tl.constexpr = 20 if x.dtype == tl.float64 else 9
    series = tl.zeros_like(t)
    for back in tl.static_range(terms):
        series = 1 / (2 * (terms - back) - 1) - t * t * series
    turns = 0.125 + t * series / _PI
    turns = tl.where(size > 1, 0.5 - turns, turns)
    return tl.where(x < 0, -turns, turns)


@triton.jit(do_not_specialize=["steps"])  # a single step stays a number to calculate with
def _forward_scan(  # type: ignore[no-untyped-def]
    current, time_stride, row_stride,
    beta, threshold, state, spikes, membranes,
    steps, neurons, length,
    SUBTRACT: tl.constexpr, ZERO: tl.constexpr, KEEP: tl.constexpr,  # noqa: N803
    HALF: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    of = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = of < neurons
    at = (of // length) * row_stride + of % length
    decay = tl.load(beta + of, mask=inside, other=0.0)
    theta = tl.load(threshold + of, mask=inside, other=0.0)
    u = tl.load(state + of, mask=inside, other=0.0)
    real = u.dtype
    to = of
    for _ in range(steps):
        inputs = tl.load(current + at, mask=inside, other=0.0).to(real)
        z = tl.where(u >= theta, 1.0, 0.0).to(real)
        if ZERO:
            u = u * (1 - z)
        u = _rounded(decay * u, current, HALF)
        u = _rounded(u + inputs, current, HALF)
        if SUBTRACT:
            u = _rounded(u - z * theta, current, HALF)
        fired = tl.where(u >= theta, 1.0, 0.0).to(spikes.dtype.element_ty)
        tl.store(spikes + to, fired, mask=inside)
        if KEEP:
            tl.store(membranes + to, u.to(membranes.dtype.element_ty), mask=inside)
        at += time_stride
        to += neurons
    tl.store(state + of, u, mask=inside)


@triton.jit(do_not_specialize=["steps"])
def _backward_scan(  # type: ignore[no-untyped-def]
    g_spikes, spikes_time_stride, spikes_row_stride,
    g_membranes, membranes_time_stride, membranes_row_stride,
    start, beta, threshold, centre,
    membranes, kept_time_stride, kept_row_stride,
    narrowness, height,
    g_current, time_stride, row_stride,
    carried, g_beta, g_threshold,
    steps, neurons, length,
    SURROGATE: tl.constexpr, WINDOW: tl.constexpr, FIRED_ONLY: tl.constexpr,  # noqa: N803
    SUBTRACT: tl.constexpr, ZERO: tl.constexpr,  # noqa: N803
    SPIKES: tl.constexpr, MEMBRANES: tl.constexpr,  # noqa: N803
    BETA: tl.constexpr, THRESHOLD: tl.constexpr,  # noqa: N803
    HALF: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    of = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = of < neurons
    row, column = of // length, of % length
    end = (steps - 1).to(tl.int64)
    g_z_at = end * spikes_time_stride + row * spikes_row_stride + column
    g_m_at = end * membranes_time_stride + row * membranes_row_stride + column
    kept_at = end * kept_time_stride + row * kept_row_stride + column
    at = end * time_stride + row * row_stride + column
    decay = tl.load(beta + of, mask=inside, other=0.0)
    theta = tl.load(threshold + of, mask=inside, other=0.0)
    peak = tl.load(centre + of, mask=inside, other=0.0)
    initial = tl.load(start + of, mask=inside, other=0.0)
    carry = tl.load(carried + of, mask=inside, other=0.0)
    real = carry.dtype
    narrow, top = tl.load(narrowness), tl.load(height)
    u = tl.load(membranes + kept_at, mask=inside, other=0.0).to(real)
    g_decay = tl.zeros([BLOCK], dtype=real)
    g_theta = tl.zeros([BLOCK], dtype=real)
    left = tl.zeros([BLOCK], dtype=tl.int32) + steps
    for _ in range(steps):
        # The membrane one step earlier, which before the first step is `start`.
        left -= 1
        kept_at -= kept_time_stride
        earlier = tl.load(membranes + kept_at, mask=inside & (left > 0), other=0.0).to(real)
        before = tl.where(left > 0, earlier, initial)
        g = carry
        if MEMBRANES:
            g += tl.load(g_membranes + g_m_at, mask=inside, other=0.0).to(real)
        if SPIKES:
            slope = _curve((u - peak) * narrow, SURROGATE) * top
            through = slope * tl.load(g_spikes + g_z_at, mask=inside, other=0.0).to(real)
            g += through
            if THRESHOLD:
                factor = _window(u - theta, WINDOW)
                if FIRED_ONLY:
                    factor *= tl.where(u >= theta, 1.0, 0.0).to(real)
                g_theta -= through * factor
        rounded = _rounded(g, g_current, HALF)
        tl.store(g_current + at, rounded.to(g_current.dtype.element_ty), mask=inside)
        z = tl.where(before >= theta, 1.0, 0.0).to(real)
        if ZERO:
            g_decay += g * (before * (1 - z))
        else:
            g_decay += g * before
        if SUBTRACT:
            g_theta -= g * z
        carry = decay * g
        if ZERO:
            carry = carry * (1 - z)
        u = before
        g_z_at -= spikes_time_stride
        g_m_at -= membranes_time_stride
        at -= time_stride
    tl.store(carried + of, carry, mask=inside)
    if BETA:
        tl.store(g_beta + of, g_decay, mask=inside)
    if THRESHOLD:
        tl.store(g_threshold + of, g_theta, mask=inside)
