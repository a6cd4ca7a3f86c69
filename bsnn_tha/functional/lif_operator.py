r"""The scans of :mod:`bsnn_tha.functional.lif` as operators of PyTorch.

``torch.ops.bsnn_tha.lif`` is the forward pass and ``torch.ops.bsnn_tha.lif_backward``
its gradient. Whatever looks at a network from outside (``torch.compile``,
``torch.export``, autocast, DistributedDataParallel) sees one node per layer and
direction; which scan does the work is decided when the node runs.

Operators take tensors and text but no objects: of
:class:`~bsnn_tha.equations.dynamics.Dynamics` β, θ and the centre travel as tensors, the rest
as one line (:func:`written`), with the surrogate by its name in
:data:`~bsnn_tha.equations.surrogate.SURROGATES` and its fields. Any
other one (a function, snnTorch's, a class of the user's) takes
:class:`LIFScan`, an ordinary ``autograd.Function``. A dataclass of float fields
that is entered in ``SURROGATES`` under a name takes the operators.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import logging
import os
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.surrogate import SURROGATES, FastSigmoid, Surrogate
from bsnn_tha.equations.threshold_gradient import ThresholdGradient
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.running import note
from bsnn_tha.kernels import lif_tensors

logger = logging.getLogger(__name__)

Backend = Literal["auto", "reference", "numba", "triton"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)


def described(surrogate: Surrogate) -> tuple[str, list[float]] | None:
    """A surrogate as its name and numbers; None if it has no name.

    Example:
        >>> from bsnn_tha.equations.surrogate import ArcTan
        >>> described(ArcTan(3.0)), described(lambda membrane, centre: membrane)
        (('arctan', [3.0, 1.0]), None)
    """
    for name, shape in SURROGATES.items():
        # Not isinstance: a derived class may compute something else.
        if type(surrogate) is shape:
            fields = dataclasses.fields(surrogate)  # type: ignore[arg-type]
            return name, [float(getattr(surrogate, field.name)) for field in fields]
    return None


def written(dynamics: Dynamics) -> str:
    """What an operator is told of the dynamics besides their tensors, in one line of text.

    Example:
        >>> from bsnn_tha.equations.surrogate import FastSigmoid
        >>> one = torch.tensor(1.0)
        >>> written(Dynamics(one, one, one, FastSigmoid(2.5), "zero"))
        'zero none all fast_sigmoid 2.5 1.0'
    """
    path, described_as = dynamics.threshold_gradient, described(dynamics.surrogate)
    # Compilers follow this: plain operations on text.
    text = f"{dynamics.reset} {path.window} {'fired' if path.fired_only else 'all'}"
    if described_as is None:
        return text
    name, numbers = described_as
    return " ".join([text, name, *[f"{number!r}" for number in numbers]])


def read(text: str, beta: Tensor, threshold: Tensor, centre: Tensor) -> Dynamics:
    """The dynamics of :func:`written`; without a name, their surrogate has no gradient here."""
    reset, window, whose, *name = text.split(" ")
    surrogate = SURROGATES[name[0]](*map(float, name[1:])) if name else _nameless
    path = ThresholdGradient(window, whose == "fired")  # type: ignore[arg-type]
    return Dynamics(beta, threshold, centre, surrogate, reset, path)  # type: ignore[arg-type]


def _nameless(membrane: Tensor, centre: Tensor) -> Tensor:
    raise RuntimeError("a surrogate without a name is differentiated by LIFScan")


def memory_order(window: Tensor) -> list[int]:
    """Dimensions as they lie in memory, outermost first; an expanded one can lie anywhere.

    Example:
        >>> memory_order(torch.empty(5, 2, 3, 4).movedim(-1, 1)), memory_order(
        ...     torch.empty(2, 5, 3).transpose(0, 1)
        ... )
        ([0, 2, 3, 1], [1, 0, 2])
    """
    strides = window.stride()
    return sorted(
        range(window.dim()), key=lambda dim: (strides[dim] == 0, strides[dim]), reverse=True
    )


def time_first(order: Sequence[int]) -> list[int]:
    """The same order with the steps outermost, as the results of a window lie."""
    return [0, *(dim for dim in order if dim)]


# The operators


@torch.library.custom_op("bsnn_tha::lif", mutates_args=())
def lif(
    current: Tensor,
    start: Tensor,
    beta: Tensor,
    threshold: Tensor,
    centre: Tensor,
    dynamics: str,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, membranes (empty unless kept) and last membrane of a window.

    All tensors have the current's dtype; ``dynamics`` is of :func:`written`. Without ``keep``
    there is no gradient.
    """
    return _forward(current, start, read(dynamics, beta, threshold, centre), keep, backend)


@lif.register_fake
def _(
    current: Tensor,
    start: Tensor,
    beta: Tensor,
    threshold: Tensor,
    centre: Tensor,
    dynamics: str,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    order = time_first(memory_order(current))
    spikes, membranes = (
        torch.empty_permuted(current.shape, order, dtype=current.dtype, device=current.device)
        for _ in range(2)
    )
    return spikes, membranes if keep else current.new_empty(0), _like_step(spikes)


@torch.library.custom_op("bsnn_tha::lif_backward", mutates_args=())
def lif_backward(
    g_spikes: Tensor | None,
    g_membranes: Tensor | None,
    g_last: Tensor | None,
    start: Tensor,
    beta: Tensor,
    threshold: Tensor,
    centre: Tensor,
    membranes: Tensor,
    dynamics: str,
    order: Sequence[int],
    learn_beta: bool,
    learn_threshold: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of current (laid out in ``order``), start, β and θ (empty unless learned)."""
    return _backward(
        (g_spikes, g_membranes, g_last), start, read(dynamics, beta, threshold, centre),
        membranes, order, learn_beta, learn_threshold, backend,
    )  # fmt: skip


@lif_backward.register_fake
def _(
    g_spikes: Tensor | None,
    g_membranes: Tensor | None,
    g_last: Tensor | None,
    start: Tensor,
    beta: Tensor,
    threshold: Tensor,
    centre: Tensor,
    membranes: Tensor,
    dynamics: str,
    order: Sequence[int],
    learn_beta: bool,
    learn_threshold: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g_current = torch.empty_permuted(
        membranes.shape, list(order), dtype=membranes.dtype, device=membranes.device
    )
    return (
        g_current,
        _like_step(membranes),
        beta.new_empty(beta.shape if learn_beta else 0),
        threshold.new_empty(threshold.shape if learn_threshold else 0),
    )


def _like_step(window: Tensor) -> Tensor:
    """One step laid out as those of a window with the steps outermost."""
    return torch.empty_strided(
        window.shape[1:], window.stride()[1:], dtype=window.dtype, device=window.device
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    current, start, beta, threshold, centre, ctx.dynamics, ctx.keep, ctx.backend = inputs
    ctx.save_for_backward(start, beta, threshold, centre, output[1])
    ctx.order = memory_order(current)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    if not ctx.keep:
        raise RuntimeError(
            "a window run without its membranes has no gradient, but one was asked for; "
            "call lif_sequence, which keeps them where it is needed"
        )
    g_spikes, g_membranes, g_last = grads
    _, _, learn_beta, learn_threshold, *_ = ctx.needs_input_grad
    g_current, g_start, g_beta, g_threshold = lif_backward(
        g_spikes, g_membranes, g_last, *ctx.saved_tensors, ctx.dynamics, ctx.order,
        learn_beta, learn_threshold, ctx.backend,
    )  # fmt: skip
    return (
        g_current,
        g_start,
        g_beta if learn_beta else None,
        g_threshold if learn_threshold else None,
        *[None] * 4,
    )


lif.register_autograd(_differentiate, setup_context=_save)


class LIFScan(Function):
    """The same for a surrogate without a name, whose gradient is in tensor operations."""

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        start: Tensor,
        beta: Tensor,
        threshold: Tensor,
        centre: Tensor,
        dynamics: Dynamics,
        keep: bool,
        backend: Backend,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The tensors of ``dynamics`` come apart as well, for autograd finds them only so."""
        output = lif(current, start, beta, threshold, centre, written(dynamics), keep, backend)
        ctx.save_for_backward(start, output[1], beta, threshold, centre)
        ctx.dynamics, ctx.order = dynamics, memory_order(current)
        ctx.set_materialize_grads(False)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        learn_beta, learn_threshold = ctx.needs_input_grad[2:4]
        start, membranes, *tensors = ctx.saved_tensors
        dynamics = ctx.dynamics.with_tensors(*tensors)
        gradients = lif_tensors.backward(
            grads, start, dynamics, membranes, ctx.order, learn_beta, learn_threshold
        )
        return *gradients, *[None] * 4


# What they run

_NEEDS: dict[str, tuple[str, tuple[torch.dtype, ...]]] = {
    "numba": ("cpu", (torch.float32, torch.float64, torch.bfloat16)),
    "triton": ("cuda", (torch.float32, torch.float64, torch.bfloat16, torch.float16)),
}
"""Where the tensors of a backend's scans must be, and of which dtypes."""

_SCANS = {"numba": "bsnn_tha.kernels.cpu.lif", "triton": "bsnn_tha.kernels.gpu.lif"}
"""The module of a backend, imported when it is first asked for."""


def choose(backend: str, window: Tensor) -> ModuleType:
    """The scans that a backend stands for, for such a window.

    Raises:
        InvalidValueError: the backend was asked for by name and cannot be used.
    """
    if backend == "reference":
        return lif_tensors
    if backend == "auto":
        device = window.device.type
        names = [name for name, (its, _) in _NEEDS.items() if its == device]
    else:
        names = [backend]
    for name in names:
        obstacle = _obstacle(name, window)
        scans = None
        if obstacle is None:
            scans, obstacle = _scans(name)
        if scans is not None:
            _say_once(f"neurons on {window.device.type} run compiled, by {name}", logging.DEBUG)
            return scans
        if backend != "auto":
            raise InvalidValueError(f"backend={backend!r} cannot be used: {obstacle}")
        _say_once(f"neurons run in tensor operations, which is slower: {obstacle}", logging.INFO)
    return lif_tensors


def _device(name: str) -> str:
    """Where a backend's tensors must be. Triton's interpreter needs no GPU, for tests."""
    interpreted = name == "triton" and os.environ.get("TRITON_INTERPRET") == "1"
    return "cpu" if interpreted else _NEEDS[name][0]


def _obstacle(name: str, window: Tensor) -> str | None:
    """Why these scans cannot read this tensor."""
    device, dtypes = _device(name), _NEEDS[name][1]
    if window.device.type != device:
        return f"it needs tensors on {device}, but got {window.device.type}"
    if window.dtype not in dtypes:
        shown = [str(dtype).removeprefix("torch.") for dtype in (*dtypes, window.dtype)]
        return f"it needs {', '.join(shown[:-2])} or {shown[-2]}, but got {shown[-1]}"
    # Subclasses may have no memory of their own.
    if type(window) not in (Tensor, torch.nn.Parameter):
        return f"it needs a plain tensor, but got {type(window).__name__}"
    return None


@functools.cache
def _scans(name: str) -> tuple[ModuleType | None, str]:
    """A backend's module, tried out, or None and why."""
    # They raise much besides ImportError: numba for a numpy too new for it, a
    # library it cannot load, a processor it does not know.
    try:
        scans = importlib.import_module(_SCANS[name])
        ones = torch.ones(1, 1, device=_device(name))
        dynamics = Dynamics(ones[0], ones[0], ones[0], FastSigmoid())
        scans.forward(ones, ones[0], dynamics, [0, 1], False)
    except Exception as error:
        reason = " ".join(str(error).split()) or "no reason given"
        return None, f"{name} does not work here ({type(error).__name__}: {reason})"
    return scans, ""


@functools.cache
def _say_once(message: str, level: int) -> None:
    logger.log(level, message)


def _forward(
    current: Tensor, start: Tensor, dynamics: Dynamics, keep: bool, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    scans = choose(backend, current)
    note(scans.__name__.removeprefix("bsnn_tha.kernels."))
    order = time_first(memory_order(current))
    spikes, membranes, last = scans.forward(current, start, dynamics, order, keep)
    # An operator's results share no memory, and lie as its fake version says.
    if membranes is None:
        membranes = current.new_empty(0)
    return spikes, membranes, _like_step(spikes).copy_(last)


def _backward(
    grads: lif_tensors.Upstream,
    start: Tensor,
    dynamics: Dynamics,
    membranes: Tensor,
    order: Sequence[int],
    learn_beta: bool,
    learn_threshold: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    scans: Any = choose(backend, membranes)
    if not scans.differentiates(dynamics.surrogate):
        scans = lif_tensors
    g_current, g_start, g_beta, g_threshold = scans.backward(
        grads, start, dynamics, membranes, list(order), learn_beta, learn_threshold
    )
    return (
        g_current,
        _like_step(membranes).copy_(g_start),
        dynamics.beta.new_empty(0) if g_beta is None else g_beta,
        dynamics.threshold.new_empty(0) if g_threshold is None else g_threshold,
    )
