r"""A whole window of a leaky integrate-and-fire layer at once.

The equations and symbols are those of
:mod:`bsnn_tha.functional.lif_reference`. What differs is the backward pass:
instead of replaying T × 8 autograd nodes it is one scan back through time,

    g_u[t] = g_z[t] s(u[t]) + g_m[t] + κ[t] g_u[t+1],    g_I[t] = g_u[t],

where g_z and g_m are the gradients that reach the spikes and the (recorded)
membranes, and κ[t] = ∂u[t+1]/∂u[t] with the reset detached: β for reset by
subtraction and for no reset, β (1 − z[t]) for reset to zero. β and θ get

    g_β = Σ_t g_u[t] u[t−1] (1 − z[t−1] if reset to zero),
    g_θ = −Σ_t (g_z[t] s(u[t]) + g_u[t] z[t−1] if reset by subtraction).

Only the membranes are kept for it: spikes are a comparison away.

Both passes are written here in tensor operations, for any device and dtype, and
in :mod:`bsnn_tha.functional.lif_numba` as one compiled loop each, for the CPU.
"""

from __future__ import annotations

import functools
import logging
from types import ModuleType
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.lif_reference import RESETS, LIFWindow, Reset, integrate
from bsnn_tha.functional.surrogate import Surrogate

logger = logging.getLogger(__name__)

Backend = Literal["auto", "reference", "numba"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)


def lif_sequence(
    current: Tensor,
    beta: Tensor,
    threshold: Tensor,
    centre: Tensor,
    surrogate: Surrogate,
    reset: Reset = "subtract",
    membrane: Tensor | None = None,
    record: bool = False,
    backend: Backend = "auto",
) -> LIFWindow:
    """Spikes of a layer for a window of input current (Eq. 1, 2, 8 and 15).

    Forward values equal those of the step-by-step loop to the last bit;
    gradients equal autograd's up to the order of summation.

    Args:
        current: I, ``[time, batch, ...]``, at least one step. A constant
            current may be an ``expand``-ed view: it is only read.
        beta: decay β per time step, in [0, 1]; broadcasts against
            ``[batch, ...]``. Receives its gradient if it asks for one.
        threshold: θ, broadcasts likewise and may be learned likewise.
        centre: where the surrogate is centred; no gradient.
        surrogate: a shape from :mod:`bsnn_tha.functional.surrogate`.
        reset: ``"subtract"`` (Eq. 1), ``"zero"`` or ``"none"``.
        membrane: u before the first step, ``[batch, ...]``; zero if None. A
            long window may be cut: pass ``result.membrane`` on.
        record: also return u at every step, differentiable.
        backend: ``"numba"``, compiled loops for float32 and float64 on the CPU
            (surrogates other than the fast sigmoid and arctan go backward in
            tensor operations); ``"reference"``, tensor operations for
            everything; ``"auto"``, numba where it can be used. Spikes,
            membranes and the current's gradient are the same bits.

    Raises:
        InvalidValueError: no time step, an unknown reset or backend, a
            ``membrane`` of another shape than one step of ``current``, or
            ``backend="numba"`` where it cannot be used.

    Example:
        A constant current of 1 against θ = 1.5 and β = 1 fires every other
        step; the threshold is subtracted one step after the spike.

        >>> from bsnn_tha.functional.surrogate import FastSigmoid
        >>> one, theta = torch.tensor(1.0), torch.tensor(1.5)
        >>> window = lif_sequence(
        ...     torch.ones(4, 1), one, theta, theta, FastSigmoid(), record=True
        ... )
        >>> window.membranes.flatten().tolist()
        [1.0, 2.0, 1.5, 1.0]
        >>> window.spikes.flatten().tolist()
        [0.0, 1.0, 1.0, 0.0]
    """
    if current.dim() < 1 or current.shape[0] == 0:
        raise InvalidValueError(
            "current must be [time, batch, ...] with at least one time step, "
            f"but got shape {list(current.shape)}"
        )
    if reset not in RESETS:
        raise InvalidValueError(f"reset must be one of {', '.join(RESETS)}, but got {reset!r}")
    if membrane is None:
        membrane = torch.zeros_like(current[0])
    elif membrane.shape != current.shape[1:]:
        raise InvalidValueError(
            f"membrane must have the shape of one time step, {list(current.shape[1:])}, "
            f"but got {list(membrane.shape)}"
        )
    kernels = _choose(backend, current)
    # One dtype for the state (see `integrate`); the casts carry gradients back.
    start, beta, threshold, centre = (
        tensor.to(current.dtype) for tensor in (membrane, beta, threshold, centre)
    )
    spikes, membranes, last = _LIFScan.apply(
        current, start, beta, threshold, centre, surrogate, reset, kernels
    )
    return LIFWindow(spikes, membranes if record else None, last)


def _choose(backend: Backend, current: Tensor) -> ModuleType | None:
    """The compiled scans, or None for those in tensor operations."""
    if backend not in BACKENDS:
        raise InvalidValueError(
            f"backend must be one of {', '.join(BACKENDS)}, but got {backend!r}"
        )
    if backend == "reference":
        return None
    obstacle = _obstacle(current)
    kernels = None
    if obstacle is None:
        kernels, obstacle = _kernels()
        if kernels is None and backend == "auto":
            _say_once(f"neurons run in tensor operations, which is slower: {obstacle}")
    if kernels is None and backend == "numba":
        raise InvalidValueError(f"backend='numba' cannot be used: {obstacle}")
    return kernels


def _obstacle(current: Tensor) -> str | None:
    """Why compiled code cannot read this tensor."""
    if current.device.type != "cpu":
        return f"it needs tensors on the CPU, but got {current.device.type}"
    if current.dtype not in (torch.float32, torch.float64):
        return f"it needs float32 or float64, but got {str(current.dtype).removeprefix('torch.')}"
    # Tracers need to see tensor operations, subclasses may have no memory of their own.
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return "it cannot be traced"
    if type(current) not in (Tensor, torch.nn.Parameter) or current.is_neg():
        return f"it needs a plain tensor, but got {type(current).__name__}"
    return None


@functools.cache
def _kernels() -> tuple[ModuleType | None, str]:
    """The compiled scans, tried out, or None and why."""
    # numba raises much besides ImportError: for a numpy too new for it, a
    # library it cannot load, a processor it does not know.
    try:
        from bsnn_tha.functional import lif_numba

        ones = torch.ones(1, 1)
        lif_numba.forward(ones, ones[0], ones[0], ones[0], "subtract")
    except Exception as error:
        reason = " ".join(str(error).split()) or "no reason given"
        return None, f"numba does not work here ({type(error).__name__}: {reason})"
    return lif_numba, ""


@functools.cache
def _say_once(message: str) -> None:
    logger.info(message)


class _LIFScan(Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        start: Tensor,
        beta: Tensor,
        threshold: Tensor,
        centre: Tensor,
        surrogate: Surrogate,
        reset: Reset,
        kernels: ModuleType | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        if kernels is not None:
            spikes, membranes = kernels.forward(current, start, beta, threshold, reset)
        else:
            membranes = torch.empty(current.shape, dtype=current.dtype, device=current.device)
            u = start
            for t, step_current in enumerate(current.unbind(0)):
                u = integrate(step_current, u, beta, threshold, reset)
                membranes[t] = u
            spikes = (membranes >= threshold).to(current.dtype)
        ctx.save_for_backward(start, beta, threshold, centre, membranes)
        ctx.surrogate, ctx.reset, ctx.kernels = surrogate, reset, kernels
        ctx.strides = current.stride()
        ctx.set_materialize_grads(False)
        return spikes, membranes, membranes[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        g_spikes, g_membranes, g_last = grads
        start, beta, threshold, centre, membranes = ctx.saved_tensors
        _, _, learn_beta, learn_threshold, *_ = ctx.needs_input_grad
        if ctx.kernels is not None and ctx.kernels.differentiates(ctx.surrogate):
            gradients = ctx.kernels.backward(
                grads, start, beta, threshold, centre, membranes, ctx.surrogate, ctx.reset,
                learn_beta, learn_threshold, ctx.strides,
            )  # fmt: skip
            return *gradients, None, None, None, None
        g_current = torch.empty_like(membranes)
        g_beta = torch.zeros_like(beta) if learn_beta else None
        g_threshold = torch.zeros_like(threshold) if learn_threshold else None

        carried = torch.zeros_like(start) if g_last is None else g_last
        for t in reversed(range(len(membranes))):
            u = membranes[t]
            before = membranes[t - 1] if t else start
            g_u = g_current[t]
            g_u.copy_(carried)
            if g_membranes is not None:
                g_u += g_membranes[t]
            if g_spikes is not None:
                through = ctx.surrogate(u, centre) * g_spikes[t]
                g_u += through
                if g_threshold is not None:
                    g_threshold -= through.sum_to_size(threshold.shape)
            carried = beta * g_u
            decayed = before
            if ctx.reset == "zero":
                silent = ~(before >= threshold)  # NaN: as in the forward pass
                carried = carried * silent
                decayed = before * silent
            if g_beta is not None:
                g_beta += (g_u * decayed).sum_to_size(beta.shape)
            if g_threshold is not None and ctx.reset == "subtract":
                g_threshold -= (g_u * (before >= threshold)).sum_to_size(threshold.shape)
        return g_current, carried, g_beta, g_threshold, None, None, None, None
