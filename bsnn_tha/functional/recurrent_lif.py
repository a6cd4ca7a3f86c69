r"""A recurrent layer's window: its spikes come back to it one time step later.

The current of Eq. 1 is I[t+1] + V z[t], with the recurrent weights V. A loop over time is inherent:
each step is a window of one step to the scans of :mod:`bsnn_tha.functional.lif_operator`,
whatever they run on, so that Eq. 1 and 2 stand nowhere else. Between the steps is the product
V z[t], which skips zeros as a product with sparse input does
(:mod:`bsnn_tha.functional.sparse_linear`). Back through time,

    g_z[t] = (what reaches the spikes from outside) + Vᵀ g_I[t+1],    g_V = Σ_t g_I[t+1] z[t]ᵀ,

and all else is as in :mod:`bsnn_tha.functional.lif`. V's gradient is one product for the
window.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.lif import LIFWindow, fires, from_threshold, to_membrane
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.layer import Layer
from bsnn_tha.functional.library import Product
from bsnn_tha.functional.lif_operator import Backend, choose
from bsnn_tha.functional.running import Refused, note
from bsnn_tha.functional.sparse_linear import SparseProduct, weight_gradient
from bsnn_tha.kernels import lif_tensors

_ORDER = [0, 1, 2]


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
        backend: what the steps run on, as in :func:`bsnn_tha.lif_sequence`.

    Raises:
        InvalidValueError: weights or current of another shape.

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
        scans = choose(backend, current)
        note(f"recurrent {scans.__name__.removeprefix('bsnn_tha.kernels.')}")
        spikes, membranes = (torch.empty(current.shape, **_like(current)) for _ in range(2))
        u = torch.zeros_like(current[0]) if start is None else start.contiguous()
        before = None if start is None else fires(start, threshold).to(current.dtype)
        with torch.autocast(current.device.type, enabled=False):
            for t, step_current in enumerate(current):
                if before is not None:
                    step_current = step_current + _product(before, recurrent)
                window = scans.forward(step_current.unsqueeze(0), u, dynamics, _ORDER, False)
                before, u = window[0][0], window[2]
                spikes[t], membranes[t] = before, u
        ctx.save_for_backward(recurrent, start, beta, threshold, centre, spikes, membranes)
        ctx.dynamics, ctx.backend = dynamics, backend
        ctx.set_materialize_grads(False)
        return spikes, membranes, u.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        g_spikes, g_membranes, carried = grads
        recurrent, start, *tensors, spikes, membranes = ctx.saved_tensors
        dynamics: Dynamics = ctx.dynamics.with_tensors(*tensors)
        scans: Any = choose(ctx.backend, membranes)
        if not scans.differentiates(dynamics.surrogate):
            scans = lif_tensors
        _, learn_weights, learn_start, learn_beta, learn_threshold, *_ = ctx.needs_input_grad
        g_current = torch.empty_like(membranes)
        begin = torch.zeros_like(membranes[0]) if start is None else start
        sums: dict[str, Tensor] = {}
        back: Tensor | None = None  # what a step's spikes get from the step after it
        with torch.autocast(membranes.device.type, enabled=False):
            for t in reversed(range(len(membranes))):
                given = back if g_spikes is None else g_spikes[t]
                if given is not None and given is not back and back is not None:
                    given = given + back
                g_step, carried, *learned = scans.backward(
                    (_window_of(given), _window_of(None if g_membranes is None else g_membranes[t]),
                     carried),
                    membranes[t - 1] if t else begin, dynamics, membranes[t : t + 1], _ORDER,
                    learn_beta, learn_threshold,
                )  # fmt: skip
                g_current[t] = g_step[0]
                _add(sums, zip(("beta", "threshold"), learned, strict=True))
                back = g_step[0] @ recurrent
            assert carried is not None and back is not None
            if start is not None:
                through = to_membrane(back, start, dynamics.centre, dynamics.surrogate)
                carried = carried + through
                if learn_threshold:
                    taken = from_threshold(
                        through, start, dynamics.threshold, dynamics.threshold_gradient
                    )
                    summed = taken.sum_to_size(dynamics.threshold.shape)
                    _add(sums, [("threshold", -summed)])
            g_recurrent = None
            if learn_weights:
                earlier, later = spikes[:-1], g_current[1:]
                if start is not None:
                    fired = fires(start, dynamics.threshold).to(spikes.dtype)
                    earlier, later = torch.cat([fired.unsqueeze(0), earlier]), g_current
                g_recurrent = weight_gradient(earlier.flatten(0, 1), later.flatten(0, 1))
        return (
            g_current, g_recurrent, carried if learn_start else None,
            sums.get("beta"), sums.get("threshold"), *[None] * 3,
        )  # fmt: skip


def _like(tensor: Tensor) -> dict[str, Any]:
    return {"dtype": tensor.dtype, "device": tensor.device}


def _window_of(step: Tensor | None) -> Tensor | None:
    return None if step is None else step.unsqueeze(0)


def _add(sums: dict[str, Tensor], values: Any) -> None:
    for name, value in values:
        if value is not None:
            sums[name] = sums[name] + value if name in sums else value


def _product(spikes: Tensor, weight: Tensor) -> Tensor:
    layer = Layer(lambda: weight)
    sparse = SparseProduct.accepts(layer, spikes)
    route = Product.accepts(layer, spikes) if isinstance(sparse, Refused) else sparse
    assert not isinstance(route, Refused)
    return route.current()
