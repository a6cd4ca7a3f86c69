r"""A recurrent layer's window: its spikes come back to it one time step later.

The current of Eq. 1 is I[t+1] + V z[t], with the recurrent weights V. A loop over time is inherent.
Forward, on the CPU, it is compiled and adds up the weights of what fired; elsewhere, and
backward, a step is a product and some tensor operations. Back through time,

    g_z[t] = (what reaches the spikes from outside) + Vᵀ g_I[t+1],    g_V = Σ_t g_I[t+1] z[t]ᵀ,

and all else is as in :mod:`bsnn_tha.functional.lif`. V's gradient is one product for the
window, which skips zeros (:mod:`bsnn_tha.functional.sparse_linear`).
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.lif import LIFWindow, fires
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.lif_operator import Backend, choose
from bsnn_tha.functional.running import note
from bsnn_tha.functional.sparse_linear import weight_gradient
from bsnn_tha.kernels import recurrent_tensors


def recurrent_lif(
    current: Tensor,
    recurrent: Tensor,
    dynamics: Dynamics,
    start: Tensor | None = None,
    record: bool = False,
    backend: Backend = "auto",
) -> LIFWindow:
    """Spikes of a recurrent layer for a window of the input's current.

    Args:
        current: I without what comes back, ``[time, batch, neurons]``.
        recurrent: V, ``[neurons, neurons]``; row i has the weights to neuron i.
        dynamics: of the neurons, in the current's dtype.
        start: u before the first step, ``[batch, neurons]``, whose spikes come back in it; None
            where nothing fired before.
        record: also return u at every step, differentiable.
        backend: as in :func:`bsnn_tha.lif_sequence`, but for ``"triton"``; on a GPU ``"auto"``
            is tensor operations, and so it is on the CPU for bfloat16.

    Raises:
        InvalidValueError: weights or current of another shape, or a backend that cannot be used.

    Example:
        One spike goes round a ring of three neurons.

        >>> from bsnn_tha.equations.surrogate import FastSigmoid
        >>> one = torch.tensor(1.0)
        >>> ring = torch.eye(3).roll(1, 0)
        >>> current = torch.zeros(4, 1, 3)
        >>> current[0, 0, 0] = 1.0
        >>> dynamics = Dynamics(0 * one, one, one, FastSigmoid(), "zero")
        >>> recurrent_lif(current, ring, dynamics).spikes.argmax(-1).flatten().tolist()
        [0, 1, 2, 0]
    """
    check_recurrent(current, recurrent)
    window = _Recurrent.apply(
        current, recurrent.to(current.dtype), start, *dynamics.tensors, dynamics, backend
    )
    spikes, membranes, last = window
    return LIFWindow(spikes, membranes if record else None, last)


def check_recurrent(current: Tensor, recurrent: Tensor) -> None:
    """Raise unless the weights lead from the current's neurons to themselves."""
    if current.dim() != 3 or recurrent.shape != (current.shape[-1],) * 2:
        raise InvalidValueError(
            "recurrent weights must be [neurons, neurons] for a current [time, batch, neurons], "
            f"but got {list(recurrent.shape)} for {list(current.shape)}"
        )


class _Recurrent(Function):
    """The window as a node of the graph."""

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        recurrent: Tensor,
        start: Tensor | None,
        beta: Tensor,
        threshold: Tensor,
        centre: Tensor,
        dynamics: Dynamics,
        backend: Backend,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Spikes, membranes and last membrane; the tensors of ``dynamics`` come apart as well."""
        scans = _scans(backend, current)
        note(scans.__name__.removeprefix("bsnn_tha.kernels."))
        with torch.autocast(current.device.type, enabled=False):
            spikes, membranes = scans.forward(current, recurrent, start, dynamics)
        ctx.save_for_backward(recurrent, start, beta, threshold, centre, spikes, membranes)
        ctx.dynamics = dynamics
        ctx.set_materialize_grads(False)
        return spikes, membranes, membranes[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, g_spikes: Tensor | None, g_membranes: Tensor | None, g_last: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        grads = g_spikes, g_membranes, g_last
        recurrent, start, *tensors, spikes, membranes = ctx.saved_tensors
        dynamics: Dynamics = ctx.dynamics.with_tensors(*tensors)
        _, learn_weights, learn_start, learn_beta, learn_threshold, *_ = ctx.needs_input_grad
        g_recurrent = None
        with torch.autocast(membranes.device.type, enabled=False):
            g_current, g_start, g_beta, g_threshold = recurrent_tensors.backward(
                grads, recurrent, start, dynamics, membranes, learn_beta, learn_threshold
            )
            if learn_weights:
                earlier, later = spikes[:-1], g_current[1:]
                if start is not None:
                    fired = fires(start, dynamics.threshold).to(spikes.dtype)
                    earlier, later = torch.cat([fired.unsqueeze(0), earlier]), g_current
                g_recurrent = weight_gradient(earlier.flatten(0, 1), later.flatten(0, 1))
        g_begin = g_start if learn_start else None
        return g_current, g_recurrent, g_begin, g_beta, g_threshold, *[None] * 3


def _scans(backend: Backend, current: Tensor) -> ModuleType:
    """What the forward scan runs on.

    Raises:
        InvalidValueError: a backend asked for by name that has none, or cannot be used.
    """
    if backend == "triton":
        raise InvalidValueError(
            "backend='triton' has no recurrent layers; choose 'auto', which takes tensor "
            "operations on a GPU"
        )
    # Whether numba works here, and whether it reads this tensor, is asked where all scans are.
    compiled = choose(backend, current).__name__.endswith("cpu.lif")
    if not compiled or current.dtype not in (torch.float32, torch.float64):
        return recurrent_tensors
    return importlib.import_module("bsnn_tha.kernels.cpu.recurrent_lif")
