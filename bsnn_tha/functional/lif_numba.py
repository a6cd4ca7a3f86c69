r"""Both scans of :mod:`bsnn_tha.functional.lif`, compiled for the CPU by numba.

Every operation is the one written there, in the same order, rounded once:
neither reordering (``fastmath``) nor fused multiply-adds are allowed. Spikes,
membranes and the gradients of currents and initial membranes are therefore
equal to the last bit; gradients of β and θ are up to the order of summation.

Neurons do not depend on each other. They are taken in blocks: a block goes
through all time steps while its state stays in the cache, and the loop over
its neurons is vectorized. Blocks are shared out to ``torch.get_num_threads()``
threads of our own: numba's default ones abort the process when two Python
threads meet in them.

Importing this module imports numba, which takes a second;
:mod:`bsnn_tha.functional.lif` does so when it is first needed. A scan is compiled
when it is first run, half a second each way for a setting, and kept on disk for
the processes to come.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Self

import numba
import numpy as np
import torch
from torch import Tensor

from bsnn_tha.functional.lif_reference import Reset
from bsnn_tha.functional.surrogate import ArcTan, FastSigmoid, Surrogate

DTYPES: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float64: np.float64}
"""What the kernels compute in."""

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
    current: Tensor, start: Tensor, beta: Tensor, threshold: Tensor, reset: Reset
) -> tuple[Tensor, Tensor]:
    """Spikes and membranes of every step, in memory step after step.

    Args:
        current: I, ``[time, batch, ...]``, with any strides. The results of a
            step are laid out as one step of it is: channels-last stays so.
        start: u before the first step.
        beta, threshold: β and θ, broadcast against ``start``.
        reset: ``"subtract"``, ``"zero"`` or ``"none"``.
    """
    layout = _Layout.of(current.shape, current.stride())
    spikes, membranes = (current.new_empty(layout.steps, layout.neurons) for _ in range(2))
    _run(
        _forward_scan,
        (reset, DTYPES[current.dtype]),
        layout,
        *layout.window(current),
        *(layout.step(tensor) for tensor in (start, beta, threshold)),
        spikes.numpy(),
        membranes.numpy(),
    )
    return layout.restore(spikes), layout.restore(membranes)


def backward(
    grads: tuple[Tensor | None, ...],
    start: Tensor,
    beta: Tensor,
    threshold: Tensor,
    centre: Tensor,
    membranes: Tensor,
    surrogate: FastSigmoid | ArcTan,
    reset: Reset,
    learn_beta: bool,
    learn_threshold: bool,
    strides: tuple[int, ...],
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of current, start, β and θ; None for those that are not learned.

    Args:
        grads: gradients of spikes, membranes and final membrane, or None.
        start, beta, threshold, membranes, reset: of the forward pass.
        centre: where the surrogate is centred, broadcast against ``start``.
        surrogate: one for which :func:`differentiates` is true.
        learn_beta, learn_threshold: whether β and θ want a gradient.
        strides: of the current; its gradient gets the same layout.
    """
    g_spikes, g_membranes, g_last = grads
    layout = _Layout.of(membranes.shape, strides)
    g_current = layout.like_current(membranes)
    # What is carried from step to step; in the end the gradient of `start`.
    carried = layout.step(torch.zeros_like(start) if g_last is None else g_last).copy()
    # Summed over time for each neuron; over neurons afterwards.
    g_beta = np.zeros_like(carried) if learn_beta else None
    g_threshold = np.zeros_like(carried) if learn_threshold else None
    real = DTYPES[membranes.dtype]
    fast_sigmoid = isinstance(surrogate, FastSigmoid)
    scale = surrogate.slope if fast_sigmoid else math.pi / 2 * surrogate.slope
    _run(
        _backward_scan,
        (fast_sigmoid, reset, real),
        layout,
        *layout.window(g_spikes),
        *layout.window(g_membranes),
        *(layout.step(tensor) for tensor in (start, beta, threshold, centre)),
        layout.split(membranes).reshape(layout.steps, layout.neurons).contiguous().numpy(),
        real(scale),
        real(surrogate.slope / 2),
        *_flat(g_current),
        carried,
        g_beta,
        g_threshold,
    )
    return (
        layout.restore(g_current),
        layout.restore_step(carried),
        None if g_beta is None else layout.restore_step(g_beta).sum_to_size(beta.shape),
        None
        if g_threshold is None
        else layout.restore_step(g_threshold).sum_to_size(threshold.shape),
    )


# The scans. What is fixed for a layer is a constant in them; None is compiled away.


def _forward_scan(reset: Reset, real: Any) -> Callable[..., None]:
    one, nothing = real(1), real(0)
    subtract, zero = reset == "subtract", reset == "zero"

    def scan(  # type: ignore[no-untyped-def]
        current, time_stride, row_stride,
        start, beta, threshold,
        spikes, membranes,
        length, block, first, last,
    ):  # fmt: skip
        per_row = (length + block - 1) // block
        for index in range(first, last):
            row, column = index // per_row, index % per_row * block
            size = min(block, length - column)
            at, of = row * row_stride + column, row * length + column
            decay, theta = beta[of : of + size], threshold[of : of + size]
            before = start[of : of + size]
            for t in range(len(membranes)):
                inputs = current[at : at + size]
                after = membranes[t, of : of + size]
                fired = spikes[t, of : of + size]
                for i in range(size):
                    u = before[i]
                    z = one if u >= theta[i] else nothing
                    if zero:
                        u *= one - z
                    u = decay[i] * u + inputs[i]
                    if subtract:
                        u -= z * theta[i]
                    after[i] = u
                    fired[i] = one if u >= theta[i] else nothing
                before = after
                at += time_stride

    return scan


def _backward_scan(fast_sigmoid: bool, reset: Reset, real: Any) -> Callable[..., None]:
    one, nothing = real(1), real(0)
    subtract, zero = reset == "subtract", reset == "zero"

    def scan(  # type: ignore[no-untyped-def]
        g_spikes, spikes_time_stride, spikes_row_stride,
        g_membranes, membranes_time_stride, membranes_row_stride,
        start, beta, threshold, centre,
        membranes, scale, height,
        g_current, time_stride, row_stride,
        carried, g_beta, g_threshold,
        length, block, first, last,
    ):  # fmt: skip
        steps = len(membranes)
        per_row = (length + block - 1) // block
        for index in range(first, last):
            row, column = index // per_row, index % per_row * block
            size = min(block, length - column)
            of = row * length + column
            decay, theta = beta[of : of + size], threshold[of : of + size]
            peak = centre[of : of + size]
            carry = carried[of : of + size]
            now = membranes[steps - 1, of : of + size]
            for t in range(steps - 1, -1, -1):
                before = membranes[t - 1, of : of + size] if t > 0 else start[of : of + size]
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
                    g = carry[i]
                    if g_membranes is not None:
                        g += g_m[i]
                    if g_spikes is not None:
                        if fast_sigmoid:
                            width = abs(now[i] - peak[i]) * scale + one
                            slope = one / (width * width)
                        else:
                            angle = scale * (now[i] - peak[i])
                            slope = one / (one + angle * angle) * height
                        through = slope * g_z[i]
                        g += through
                        if g_threshold is not None:
                            g_theta[i] -= through
                    g_now[i] = g
                    # A NaN has not fired, as in the forward pass.
                    z = one if before[i] >= theta[i] else nothing
                    if g_beta is not None:
                        g_decay[i] += g * (before[i] * (one - z)) if zero else g * before[i]
                    if subtract and g_threshold is not None:
                        g_theta[i] -= g * z
                    g = decay[i] * g
                    carry[i] = g * (one - z) if zero else g
                now = before

    return scan


# Memory


class _Layout(NamedTuple):
    """How a window lies in memory: for each step ``rows`` runs of ``length`` neurons.

    Most windows are a single row. Batch norm gives one whose time steps lie
    inside the samples: there each sample is a row.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    """Dimensions of the window: time, then those of a step as they lie in memory."""
    rows: int
    length: int
    rows_outside: bool
    """All steps of a row lie together."""

    @classmethod
    def of(cls, shape: tuple[int, ...], strides: tuple[int, ...]) -> Self:
        # A dimension that is only expanded can go anywhere but innermost.
        inner = sorted(
            range(1, len(shape)), key=lambda dim: (strides[dim] == 0, strides[dim]), reverse=True
        )
        length, outer = 1, 0
        for dim in reversed(inner):
            if shape[dim] != 1 and strides[dim] != length:
                outer = strides[dim]
                break
            length *= shape[dim]
        neurons = math.prod(shape[1:])
        if length < _SHORT_ROW:
            length = neurons
        rows = neurons // length if length else 1
        order = (0, *inner)
        return cls(tuple(shape), order, rows, length, rows > 1 and 0 < strides[0] < outer)

    @property
    def steps(self) -> int:
        return self.shape[0]

    @property
    def neurons(self) -> int:
        return self.rows * self.length

    def split(self, window: Tensor) -> Tensor:
        """``[time, rows, length]``: a view if memory allows, else a copy."""
        split = window.detach().permute(self.order).reshape(self.steps, self.rows, self.length)
        return split if split.stride(2) == 1 else split.contiguous()

    def window(self, window: Tensor | None) -> tuple[Any, int, int]:
        """What the scans read of a window: its memory, stride of time and of rows."""
        return (None, 0, 0) if window is None else _flat(self.split(window))

    def step(self, tensor: Tensor) -> Any:
        """One value for each neuron, in the order of memory."""
        tensor = tensor.detach()
        if tensor.numel() == 1:  # [1, 1] for a step of [batch] is fine as well
            tensor = tensor.reshape(())
        step = tensor.expand(self.shape[1:]).permute([dim - 1 for dim in self.order[1:]])
        return step.reshape(-1).contiguous().numpy()

    def like_current(self, like: Tensor) -> Tensor:
        """An empty ``[time, rows, length]`` in the layout of the current."""
        if self.rows_outside:
            return like.new_empty(self.rows, self.steps, self.length).transpose(0, 1)
        return like.new_empty(self.steps, self.rows, self.length)

    def restore(self, window: Tensor) -> Tensor:
        """The window in its own shape, of one as the scans see it."""
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        return window.view([self.shape[dim] for dim in self.order]).permute(inverse)

    def restore_step(self, step: Any) -> Tensor:
        """The same for one value per neuron."""
        return self._replace(shape=(1, *self.shape[1:])).restore(torch.from_numpy(step))[0]


def _flat(window: Tensor) -> tuple[Any, int, int]:
    """The memory under ``[time, rows, length]``, and the strides of time and rows.

    As one contiguous array: a compiler that knows a stride of 1 can vectorize.
    """
    span = 1 + sum(
        (n - 1) * stride for n, stride in zip(window.shape, window.stride(), strict=True)
    )
    memory = window.as_strided((span if window.numel() else 0,), (1,))
    return memory.numpy(), window.stride(0), window.stride(1)


# Compiling and threads


_scans: dict[Any, Any] = {}


def _compiled(make: Callable[..., Any], constants: tuple[Any, ...], arguments: Any) -> Any:
    """The scan for these constants and for arguments that are there or None."""
    key = make, constants, tuple(argument is None for argument in arguments)
    if key not in _scans:
        # The dtype is among the constants, and all arrays are contiguous: the
        # first arguments' types are those of all that come with this key.
        types = tuple(numba.typeof(argument) for argument in arguments)
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}  # 1 / 0 is inf
        scan = make(*constants)
        try:
            _scans[key] = numba.njit(types, cache=True, **options)(scan)
        except Exception:
            # Compiled code is kept beside this file, or where NUMBA_CACHE_DIR says.
            # No place to write, a full disk or a broken file are no reason to fail.
            _scans[key] = numba.njit(types, **options)(scan)
    return _scans[key]


def _run(
    make: Callable[..., Any], constants: tuple[Any, ...], layout: _Layout, *arguments: Any
) -> None:
    """Run a scan over all blocks."""
    arguments += layout.length, _BLOCK
    scan = _compiled(make, constants, (*arguments, 0, 0))
    blocks = layout.rows * -(-layout.length // _BLOCK)
    threads = min(torch.get_num_threads(), blocks, layout.steps * layout.neurons // _WORTH_A_THREAD)
    if threads <= 1:
        scan(*arguments, 0, blocks)
        return
    # More pieces than threads: a core may be busy with something else.
    pieces = min(blocks, 4 * threads)
    bounds = [blocks * piece // pieces for piece in range(pieces + 1)]
    pool = _pool(threads)
    futures = [pool.submit(scan, *arguments, *piece) for piece in itertools.pairwise(bounds)]
    for future in futures:
        future.result()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="lif")


# A forked child has the pools but not their threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
