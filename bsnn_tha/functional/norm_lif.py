r"""Batch norm of a window and the neurons behind it, in one pass.

    y = w (x − μ) / √(σ² + ε) + b,    u, z of I = y + a as in :mod:`bsnn_tha.equations.lif`,

a what a shortcut adds, if there is one; mean μ and variance σ² of a channel over samples and
places, and over time steps (tdBN) or those of each step by itself; or, without gradients, running
ones. It computes what :func:`~bsnn_tha.functional.batch_norm.batch_norm_steps` (by running
statistics :func:`torch.nn.functional.batch_norm`) and
:func:`~bsnn_tha.functional.lif.lif_sequence` compute one after the other, to the last bit.
Neither the normalised currents nor, unless they are wanted, the membranes are written:
:mod:`bsnn_tha.kernels.cpu.norm_lif`. Currents may be whole numbers of 16 bits
(:class:`~bsnn_tha.functional.sums.Sums`). One that is the same at each step, as of a still
image, is read once for all of them, and its gradient is their sum.

Under autocast spikes and gradients are bfloat16, and nothing else is.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.lif import LIFWindow
from bsnn_tha.functional import batch_norm
from bsnn_tha.functional.autocast import spike_dtype
from bsnn_tha.functional.running import Refused, note
from bsnn_tha.functional.sums import Sums
from bsnn_tha.kernels.curves import differentiates
from bsnn_tha.kernels.layout import innermost


class Norm(NamedTuple):
    """Batch norm of a window by its own statistics."""

    weight: Tensor
    """w, ``[C]``."""
    bias: Tensor
    """b, ``[C]``."""
    eps: float
    """ε."""
    per_step: bool = False
    """Whether each step has statistics of its own, or the window as a whole."""


class Given(NamedTuple):
    """Batch norm by running statistics, without gradients."""

    scale: Tensor
    """w / √(σ² + ε), ``[C]``."""
    shift: Tensor
    """b − μ w / √(σ² + ε), ``[C]``."""

    @classmethod
    def of(cls, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Self:
        """What the library makes of them, to the last bit.

        Example:
            >>> norm = Given.of(torch.ones(1), 3 * torch.ones(1), torch.ones(1), torch.ones(1), 1.0)
            >>> norm.scale, norm.shift
            (tensor([0.5000]), tensor([0.5000]))
        """
        nothing, one = torch.zeros_like(mean), torch.ones_like(mean)
        scale = F.batch_norm(one[None], nothing, variance, weight, nothing, eps=eps)
        return cls(scale[0], F.batch_norm(nothing[None], mean, variance, weight, bias, eps=eps)[0])


class NormedWindow(NamedTuple):
    """What neurons behind batch norm did, and what it was normalised by."""

    window: LIFWindow
    mean: Tensor | None
    """μ, ``[C]`` or ``[time, C]``, without gradient; of a :class:`Norm`."""
    variance: Tensor | None
    """Unbiased, likewise."""


class NeuronsBehindNorm(NamedTuple):
    """The route of currents that are normalised, and of neurons with one β.

    Example:
        >>> from bsnn_tha.equations.surrogate import Triangle
        >>> one = torch.tensor(1.0)
        >>> norm = Norm(torch.ones(4), torch.zeros(4), 1e-5)
        >>> dynamics = Dynamics(0.5 * one, one, one, Triangle())
        >>> route = NeuronsBehindNorm.accepts(norm, dynamics, (1, 8, 4, 5, 5), 6)
        >>> window, mean, _ = route.window(torch.randn(1, 8, 4, 5, 5))  # the same at each step
        >>> window.spikes.shape, mean.shape
        (torch.Size([6, 8, 4, 5, 5]), torch.Size([4]))
    """

    norm: Norm | Given | None
    dynamics: Dynamics
    shape: tuple[int, ...]
    steps: int
    start: Tensor | None
    record: bool

    @classmethod
    def accepts(
        cls,
        norm: Norm | Given | None,
        dynamics: Dynamics,
        shape: tuple[int, ...],
        steps: int,
        start: Tensor | None = None,
        record: bool = False,
    ) -> Self | Refused:
        """The route, or why the parts are the way.

        Args:
            norm: of the currents; None where they are taken as they are.
            dynamics: of the neurons.
            shape: of the currents: ``[time, batch, C, height, width]``; or ``[1, batch, ...]`` of
                one that is the same at each step.
            steps: T.
            start: membranes before the first step, ``[batch, C, height, width]``; zero if None.
            record: whether membranes are wanted.
        """
        if len(shape) != 5:
            return Refused("it needs maps, and a fully connected layer has none")
        own = isinstance(norm, Norm)
        samples = shape[1] if isinstance(norm, Norm) and norm.per_step else shape[0] * shape[1]
        if own and samples * shape[3] * shape[4] <= 1:
            return Refused("one value has no spread")
        if torch.compiler.is_compiling():
            return Refused("a compiler is at work")
        if not batch_norm.compiled():
            return Refused("numba does not work here, or PyTorch's own operations are asked for")
        of_norm = [] if norm is None else norm[:2]
        given = [*of_norm, *dynamics.tensors, *([] if start is None else [start])]
        if any(tensor.device.type != "cpu" for tensor in given):
            return Refused("it needs tensors on the CPU")
        if any(type(tensor) not in (Tensor, torch.nn.Parameter) for tensor in given):
            return Refused("it needs plain tensors")
        if dynamics.alpha is not None:
            return Refused("its neurons have a synaptic current")
        if dynamics.beta.numel() != 1:
            return Refused("β must be one number")
        if dynamics.beta.requires_grad:
            return Refused("β is learned")
        of_sample = dynamics.of_sample(shape[2:])
        if of_sample is None:
            return Refused("θ and the centre must be one number, or one for each neuron")
        if not differentiates(dynamics.surrogate):
            return Refused("its surrogate is not compiled")
        return cls(norm, of_sample, shape, steps, start, record)

    def window(self, current: Tensor | Sums, added: Tensor | None = None) -> NormedWindow | Refused:
        """The window, with membranes if they are wanted, and the statistics.

        Refused where the current, of the shape that was accepted, is of another kind: sums are not.

        Args:
            current: that is normalised.
            added: to the normalised current, ``[time, batch, C, height, width]``; for one that is
                not the same at each step.
        """
        norm, dynamics, shape, steps, start, record = self
        if isinstance(current, Sums):
            values, unit, dtype, node = current
        else:
            plain = type(current) is Tensor and current.device.type == "cpu"
            if not plain or current.dtype not in (torch.float32, torch.float64):
                return Refused("its currents are no plain float32 or float64")
            values, unit, dtype, node = current.detach(), 1.0, current.dtype, current
        if added is not None:
            plain = type(added) is Tensor and added.device.type == "cpu" and shape[0] == steps
            half = added.dtype == torch.bfloat16 and dtype == torch.float32
            if not plain or not (half or added.dtype == dtype):
                return Refused("what is added to its currents is not like them")
        note("norm_lif")
        # In the state's dtype, as in lif_window; and as they are now: θ may change in place
        # before the backward pass.
        now = dynamics.mapped(lambda its: innermost(its.detach().to(dtype, copy=True)))
        weight, bias = (norm.weight, norm.bias) if isinstance(norm, Norm) else (None, None)
        spikes, membranes, last, mean, variance = NormLIF.apply(
            node.view(shape), weight, bias, start, added, dynamics.threshold,
            _Currents(innermost(values.view(shape)), unit, dtype), norm, now, steps, record,
            spike_dtype(dtype),
        )  # fmt: skip
        return NormedWindow(LIFWindow(spikes, membranes, last), mean, variance)


class _Currents(NamedTuple):
    """Currents as the loops read them."""

    maps: Tensor
    """``[time, batch, height, width, C]``."""
    unit: float
    """They are maps times it."""
    dtype: torch.dtype
    """That is computed with."""


class NormLIF(Function):
    """Batch norm and neurons as a node of the graph."""

    @staticmethod
    def forward(
        ctx: Any,
        node: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        start: Tensor | None,
        added: Tensor | None,
        threshold: Tensor,
        currents: _Currents,
        how: Norm | Given | None,
        dynamics: Dynamics,
        steps: int,
        record: bool,
        spike_dtype: torch.dtype,
    ) -> tuple[Tensor | None, ...]:
        """Spikes, membranes or None, the last membrane; mean and unbiased variance, or None.

        ``node`` stands for the currents in the graph. ``dynamics`` are innermost in memory and keep
        their values; θ comes apart as well, for autograd finds it only so.
        """
        norm, lif = _loops()
        maps, unit, dtype = currents
        shape = maps.shape[1:]
        mean = variance = None
        rows = _rows(maps, how)
        if isinstance(how, Norm):
            mean, variance = norm.statistics(rows, dtype)
        normalising = _normalising(how, unit, dtype, weight, bias, mean, variance)
        first = maps.new_zeros(shape, dtype=dtype)
        if start is not None:
            first.copy_(start.detach().expand(node.shape[1:]).movedim(-3, -1))
        first = first.view(-1)
        ctx.how, ctx.unit, ctx.dtype, ctx.g_dtype = how, unit, dtype, node.dtype
        ctx.steps = steps
        ctx.start = None if start is None else (start.shape, start.dtype)
        more = None if added is None else innermost(added.detach())
        # All tensors: what runs a window again for its gradients keeps none of these meanwhile.
        ctx.save_for_backward(maps, weight, bias, mean, variance, first, more, *dynamics.tensors)
        ctx.dynamics = dynamics.mapped(lambda its: its.new_empty(0))
        ctx.set_materialize_grads(False)
        spikes, membranes, last = lif.forward(
            maps.flatten(1), normalising, dynamics, first, steps, record, spike_dtype, more
        )
        outputs = (
            _as_maps(spikes, shape),
            None if membranes is None else _as_maps(membranes, shape),
            last.view(shape).movedim(-1, -3),
        )
        if not isinstance(how, Norm):
            return *outputs, None, None
        assert mean is not None and variance is not None and weight is not None
        count = rows.shape[1]
        mean = mean * unit
        unbiased = variance * (count / (count - 1) * unit**2)
        if not how.per_step:
            mean, unbiased = mean[0], unbiased[0]
        mean, unbiased = mean.to(weight.dtype), unbiased.to(weight.dtype)
        ctx.mark_non_differentiable(mean, unbiased)
        return *outputs, mean, unbiased

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        norm, lif = _loops()
        maps, weight, bias, mean, variance, first, more, *tensors = ctx.saved_tensors
        normalising = _normalising(ctx.how, ctx.unit, ctx.dtype, weight, bias, mean, variance)
        arriving = [None if its is None else innermost(its) for its in grads[:3]]
        arriving = [None if its is None else its.view(-1) for its in arriving]
        learned = ctx.needs_input_grad[5]
        g_maps, g_first, g_threshold = lif.backward(
            arriving, maps.flatten(1), normalising, ctx.dynamics.with_tensors(*tensors), first,
            ctx.steps, learned, ctx.g_dtype, more,
        )  # fmt: skip
        g_added = None
        if ctx.needs_input_grad[4]:
            g_added = g_maps.view(maps.shape).movedim(-1, -3).to(more.dtype)
        if g_threshold is not None and g_threshold.dim():
            g_threshold = g_threshold.movedim(-1, -3)
        g_weight = g_bias = None
        if isinstance(ctx.how, Norm):
            rows = _rows(maps, ctx.how)
            # In the unit of the currents' ε they are what they are; their gradient is not.
            g_maps, g_weight, g_bias = norm.backward(
                g_maps.view(rows.shape), rows, weight / ctx.unit, mean, variance,
                _eps(ctx.how, ctx.unit), ctx.dtype,
            )  # fmt: skip
        g_start = None
        if ctx.start is not None:
            shape, dtype = ctx.start
            g_start = g_first.view(maps.shape[1:]).movedim(-1, -3).sum_to_size(shape).to(dtype)
        g_current = g_maps.view(maps.shape).movedim(-1, -3)
        return g_current, g_weight, g_bias, g_start, g_added, g_threshold, *[None] * 6


def _normalising(
    how: Norm | Given | None,
    unit: float,
    dtype: torch.dtype,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
) -> Any:
    """What the loops scale and shift currents in a unit by; None where they stay as they are."""
    norm, lif = _loops()
    if how is None:
        return None
    if isinstance(how, Given):
        both = norm.of_all_steps(how.scale * unit, how.shift, dtype)
        return lif.Normalising(*both, as_library=True)
    both = norm.scale_and_shift(weight, bias, mean, variance, _eps(how, unit), dtype)
    return lif.Normalising(*both, as_library=False)


def _rows(maps: Tensor, how: Norm | Given | None) -> Tensor:
    """What has statistics of its own, ``[steps, values, C]``."""
    per_step = isinstance(how, Norm) and how.per_step
    return maps.view(len(maps) if per_step else 1, -1, maps.shape[-1])


def _eps(how: Norm, unit: float) -> float:
    """ε for currents in a unit: whatever unit they are in, normalised they are the same."""
    return how.eps / unit**2


def _as_maps(flat: Tensor, shape: torch.Size) -> Tensor:
    """``[time, batch, C, height, width]`` of ``[time, neurons]``."""
    return flat.view(-1, *shape).movedim(-1, -3)


def _loops() -> tuple[Any, Any]:
    # Import numba, which was seen to work.
    from bsnn_tha.kernels.cpu import batch_norm as norm_numba
    from bsnn_tha.kernels.cpu import norm_lif as norm_lif_numba

    return norm_numba, norm_lif_numba
