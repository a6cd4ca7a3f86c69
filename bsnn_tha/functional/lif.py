r"""A whole window of a leaky integrate-and-fire layer at once.

The equations and symbols are those of
:mod:`bsnn_tha.equations.lif`. What differs is the backward pass:
instead of replaying T × 8 autograd nodes it is one scan back through time,

    g_u[t] = g_z[t] s(u[t]) + g_m[t] + κ[t] g_u[t+1],    g_I[t] = g_u[t],

where g_z and g_m are the gradients that reach the spikes and the (recorded)
membranes, and κ[t] = ∂u[t+1]/∂u[t] with the reset detached: β for reset by
subtraction and for no reset, β (1 − z[t]) for reset to zero. β and θ get

    g_β = Σ_t g_u[t] u[t−1] (1 − z[t−1] if reset to zero),
    g_θ = −Σ_t (g_z[t] s(u[t]) f(u[t] − θ) + g_u[t] z[t−1] if reset by subtraction),

where f is 1 or a choice of :mod:`bsnn_tha.equations.threshold_gradient`.

Only the membranes are kept for it: spikes are a comparison away.

Both passes exist in tensor operations, for any device and dtype
(:mod:`bsnn_tha.kernels.lif_tensors`), and as one compiled loop each
(:mod:`bsnn_tha.kernels.cpu.lif` for the CPU,
:mod:`bsnn_tha.kernels.gpu.lif` for the GPU). To PyTorch a layer is one
operator: :mod:`bsnn_tha.functional.lif_operator`, which also chooses.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.lif import RESETS, LIFWindow, Reset, lif_sequence_reference
from bsnn_tha.equations.surrogate import FastSigmoid, Surrogate, hold_numbers
from bsnn_tha.equations.threshold_gradient import SHARED, ThresholdGradient
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.lif_operator import BACKENDS, Backend, LIFScan, described, lif, written
from bsnn_tha.functional.recurrent_lif import check_recurrent, recurrent_lif
from bsnn_tha.functional.running import note, plain
from bsnn_tha.functional.transforms import transformed
from bsnn_tha.inputs import signal


def lif_sequence(
    current: Tensor,
    beta: Tensor | float,
    threshold: Tensor | float,
    centre: Tensor | float,
    surrogate: Surrogate,
    reset: Reset = "subtract",
    membrane: Tensor | None = None,
    record: bool = False,
    backend: Backend = "auto",
    threshold_gradient: ThresholdGradient = SHARED,
) -> LIFWindow:
    """Spikes of a layer for a window of input current (Eq. 1, 2, 8 and 15).

    Forward values equal those of the step-by-step loop to the last bit;
    gradients equal autograd's up to the order of summation.

    Args:
        current: I, ``[time, batch, ...]``, at least one step. A constant
            current may be an ``expand``-ed view: it is only read.
        beta: decay β per time step, in [0, 1]; a number or a tensor that broadcasts
            against ``[batch, ...]``. Receives its gradient if it asks for one.
        threshold: θ, broadcasts likewise and may be learned likewise. Where β, θ
            or ``membrane`` are larger than a step, the current is expanded.
        centre: where the surrogate is centred; no gradient.
        surrogate: a shape from :mod:`bsnn_tha.equations.surrogate`.
        reset: ``"subtract"`` (Eq. 1), ``"zero"`` or ``"none"``.
        membrane: u before the first step, ``[batch, ...]``; zero if None. A
            long window may be cut: pass ``result.membrane`` on.
        record: also return u at every step, differentiable.
        backend: ``"numba"``, compiled loops on the CPU for float32, float64 and
            bfloat16; ``"triton"``, kernels on the GPU for these and float16
            (tested in Triton's interpreter, never timed on a GPU);
            ``"reference"``, tensor operations; ``"auto"``, the compiled one
            that fits the device if it works, else the reason is logged once. Spikes and membranes
            are the same bits. So is the current's gradient by numba, but for
            bfloat16, which is rounded once instead of at every operation, and
            for surrogates with an exponential, see
            :mod:`bsnn_tha.kernels.cpu.lif`. Surrogates of the user's go
            backward in tensor operations. Under ``torch.func`` both ``"auto"`` and
            ``"reference"`` go step by step.
        threshold_gradient: which part of a spike's gradient reaches θ. The
            default is −s, one path for u and θ; LT-SNN's separate one is
            ``ThresholdGradient("sigmoid", fired_only=True)``.

    Raises:
        InvalidValueError: no time step, an unknown reset or backend, a
            ``membrane``, ``beta`` or ``threshold`` that do not fit one step of
            ``current``, or a backend asked for by name that cannot be used.

    Example:
        A constant current of 1 against θ = 1.5 and β = 1 fires every other
        step; the threshold is subtracted one step after the spike.

        >>> from bsnn_tha.equations.surrogate import FastSigmoid
        >>> one, theta = torch.tensor(1.0), torch.tensor(1.5)
        >>> window = lif_sequence(
        ...     torch.ones(4, 1), one, theta, theta, FastSigmoid(), record=True
        ... )
        >>> window.membranes.flatten().tolist()
        [1.0, 2.0, 1.5, 1.0]
        >>> window.spikes.flatten().tolist()
        [0.0, 1.0, 1.0, 0.0]
    """
    current = signal("current", current)
    beta, threshold, centre = (
        torch.as_tensor(value, device=current.device) for value in (beta, threshold, centre)
    )
    dynamics = Dynamics(beta, threshold, centre, surrogate, reset, threshold_gradient)
    return lif_window(current, dynamics, membrane, record, backend)


def lif_window(
    current: Tensor,
    dynamics: Dynamics,
    state: Tensor | Sequence[Tensor | None] | None = None,
    record: bool = False,
    backend: Backend = "auto",
    recurrent: Tensor | None = None,
) -> LIFWindow:
    """:func:`lif_sequence` of a bundle, as neurons hand theirs on.

    Args:
        current: I, ``[time, batch, ...]``, at least one step.
        dynamics: β, θ, surrogate and reset; with κ (``alpha``) a synaptic current leaks into the
            membrane, i[t+1] = κ i[t] + I[t+1].
        state: u before the first step, ``[batch, ...]``; with κ i and u, a pair or
            ``[2, batch, ...]``. Zero where it is None.
        record: also return u at every step, differentiable.
        backend: as in :func:`lif_sequence`.
        recurrent: V of a recurrent layer, ``[neurons, neurons]``
            (:mod:`bsnn_tha.functional.recurrent_lif`); not with κ.

    Returns:
        The window; with κ its last state is ``[2, batch, ...]``.

    Raises:
        InvalidValueError: as :func:`lif_sequence`.
    """
    if dynamics.alpha is None:
        assert state is None or isinstance(state, Tensor)
        return _window(current, dynamics, state, record, backend, recurrent)
    assert recurrent is None
    synapse, membrane = (None, None) if state is None else state
    synaptic = synaptic_current(current, dynamics, synapse, backend)
    assert synaptic.membranes is not None
    window = _window(synaptic.membranes, dynamics, membrane, record, backend)
    return window._replace(membrane=torch.stack([synaptic.membrane, window.membrane]))


def synaptic_current(
    current: Tensor, dynamics: Dynamics, start: Tensor | None, backend: Backend = "auto"
) -> LIFWindow:
    """i of every step, as ``membranes``: a leaky integrator that never fires, and runs as one.

    Args:
        current: I, ``[time, batch, ...]``.
        dynamics: with κ (``alpha``).
        start: i before the first step; zero if None.
        backend: as in :func:`lif_sequence`.
    """
    assert dynamics.alpha is not None
    never = torch.full_like(dynamics.threshold.detach(), torch.inf)
    synapse = Dynamics(dynamics.alpha, never, never, FastSigmoid(), "none")
    return _window(current, synapse, start, True, backend)


def _window(
    current: Tensor,
    dynamics: Dynamics,
    start: Tensor | None,
    record: bool,
    backend: Backend,
    recurrent: Tensor | None = None,
) -> LIFWindow:
    """A window of neurons without a synaptic current."""
    begins = start is None  # without a step before the first one
    current, start = _checked(current, dynamics, start, backend)
    if recurrent is not None:
        check_recurrent(current, recurrent)
    # Compilers take a recurrent layer's loop apart into its steps.
    if plain() or (recurrent is not None and torch.compiler.is_compiling()):
        if transformed() and backend not in ("auto", "reference"):
            raise InvalidValueError(
                f"backend={backend!r} takes no part in torch.func's transforms; choose "
                "'auto' or 'reference'"
            )
        note("lif_sequence_reference")
        window = lif_sequence_reference(
            current, *dynamics.tensors, dynamics.surrogate, dynamics.reset,
            None if begins else start, dynamics.threshold_gradient, recurrent,
        )  # fmt: skip
        return window if record else window._replace(membranes=None)
    # One dtype for the state (see `integrate`); the casts carry gradients back.
    start, dynamics = start.to(current.dtype), dynamics.mapped(lambda its: its.to(current.dtype))
    if recurrent is not None:
        begin = None if begins else start
        return recurrent_lif(current, recurrent, dynamics, begin, record, backend)
    learned = current.requires_grad or start.requires_grad or dynamics.learned
    keep = record or (torch.is_grad_enabled() and learned)
    beta, threshold, centre = dynamics.tensors
    # Detached, as in `fire`: compilers trace no function that gets the same tensor twice.
    given = current, start, beta, threshold, centre.detach()
    if described(dynamics.surrogate) is None:
        hold_numbers(dynamics.surrogate)
        run = LIFScan.apply(*given, dynamics, keep, backend)
    else:
        run = lif(*given, written(dynamics), keep, backend)
    spikes, membranes, last = run
    return LIFWindow(spikes, membranes if record else None, last)


def _checked(
    current: Tensor, dynamics: Dynamics, start: Tensor | None, backend: Backend
) -> tuple[Tensor, Tensor]:
    """The current and where to start, broadcast against each other and β and θ."""
    current = signal("current", current)
    if current.dim() < 1 or current.shape[0] == 0:
        raise InvalidValueError(
            "current must be [time, batch, ...] with at least one time step, "
            f"but got shape {list(current.shape)}"
        )
    if dynamics.reset not in RESETS:
        raise InvalidValueError(
            f"reset must be one of {', '.join(RESETS)}, but got {dynamics.reset!r}"
        )
    beta, threshold, centre = dynamics.tensors
    step = _broadcast(
        current.shape[1:], membrane=start, beta=beta, threshold=threshold, centre=centre
    )
    if backend not in BACKENDS:
        raise InvalidValueError(
            f"backend must be one of {', '.join(BACKENDS)}, but got {backend!r}"
        )
    if step != current.shape[1:]:
        ones = (1,) * (len(step) - current.dim() + 1)
        current = current.unflatten(0, (-1, *ones)).expand(-1, *step)
    return current, torch.zeros_like(current[0]) if start is None else start.expand(step)


def _broadcast(step: torch.Size, **others: Tensor | None) -> torch.Size:
    """Shape of a time step, against which everything else has been broadcast."""
    for name, tensor in others.items():
        if tensor is None:
            continue
        try:
            step = torch.broadcast_shapes(step, tensor.shape)
        except RuntimeError:
            raise InvalidValueError(
                f"{name} must have the shape of one time step, {list(step)}, or broadcast "
                f"against it, but got {list(tensor.shape)}"
            ) from None
    return step
