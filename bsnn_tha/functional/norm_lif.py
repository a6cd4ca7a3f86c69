r"""Batch norm of a whole window and the neurons behind it, in one pass.

    y = w (x − μ) / √(σ² + ε) + b,    u, z of I = y as in :mod:`bsnn_tha.equations.lif`,

mean μ and variance σ² of a channel over time steps, samples and places (tdBN). It computes
what :func:`~bsnn_tha.functional.batch_norm.batch_norm_steps` and
:func:`~bsnn_tha.functional.lif.lif_sequence` compute one after the other, to the last bit.
Neither the normalised currents nor, unless they are wanted, the membranes are written:
:mod:`bsnn_tha.kernels.cpu.norm_lif`. A current that is the same at each step, as of a still
image, is read once for all of them, and its gradient is their sum.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.lif import LIFWindow
from bsnn_tha.functional import batch_norm
from bsnn_tha.functional.running import Refused, note
from bsnn_tha.kernels.curves import differentiates
from bsnn_tha.kernels.layout import innermost


class Norm(NamedTuple):
    """Batch norm of a window as a whole, by its own statistics."""

    weight: Tensor
    """w, ``[C]``."""
    bias: Tensor
    """b, ``[C]``."""
    eps: float
    """ε."""


class NormedWindow(NamedTuple):
    """What neurons behind batch norm did, and what it was normalised by."""

    window: LIFWindow
    mean: Tensor
    """μ, ``[C]``, without gradient."""
    variance: Tensor
    """Unbiased, ``[C]``, without gradient."""
    values: int
    """Of each channel."""


class NeuronsBehindNorm(NamedTuple):
    """The route of currents that are normalised, and of neurons with one β.

    Example:
        >>> from bsnn_tha.equations.surrogate import Triangle
        >>> one = torch.tensor(1.0)
        >>> norm = Norm(torch.ones(4), torch.zeros(4), 1e-5)
        >>> current = torch.randn(1, 8, 4, 5, 5)  # the same at each step
        >>> dynamics = Dynamics(0.5 * one, one, one, Triangle())
        >>> found = NeuronsBehindNorm.accepts(norm, dynamics, current, 6).window()
        >>> found.window.spikes.shape, found.values
        (torch.Size([6, 8, 4, 5, 5]), 200)
    """

    norm: Norm
    dynamics: Dynamics
    current: Tensor
    steps: int
    start: Tensor | None
    record: bool

    @classmethod
    def accepts(
        cls,
        norm: Norm,
        dynamics: Dynamics,
        current: Tensor,
        steps: int,
        start: Tensor | None = None,
        record: bool = False,
    ) -> Self | Refused:
        """The route, or why the parts are the way.

        Args:
            norm: of the currents.
            dynamics: of the neurons.
            current: ``[time, batch, C, height, width]``; or ``[1, batch, ...]`` for one that is
                the same at each step.
            steps: T.
            start: membranes before the first step, ``[batch, C, height, width]``; zero if None.
            record: whether membranes are wanted.
        """
        if current.dim() != 5:
            return Refused("it needs maps, and a fully connected layer has none")
        given = [*norm[:2], *dynamics.tensors, *([] if start is None else [start])]
        if not batch_norm.takes(current.flatten(0, 1).unsqueeze(0)):
            return Refused("batch norm is the library's")
        if torch.compiler.is_compiling():
            return Refused("a compiler is at work")
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
        of_sample = dynamics.of_sample(current.shape[2:])
        if of_sample is None:
            return Refused("θ and the centre must be one number, or one for each neuron")
        if not differentiates(dynamics.surrogate):
            return Refused("its surrogate is not compiled")
        return cls(norm, of_sample, current, steps, start, record)

    def window(self) -> NormedWindow:
        """The window, with membranes if they are wanted, and the statistics."""
        norm, dynamics, current, steps, start, record = self
        note("norm_lif")
        # In the state's dtype, as in lif_window; and as they are now: θ may change in place
        # before the backward pass.
        now = dynamics.mapped(lambda its: innermost(its.detach().to(current.dtype, copy=True)))
        spikes, membranes, last, mean, variance = NormLIF.apply(
            current, norm.weight, norm.bias, start, dynamics.threshold,
            norm.eps, now, steps, record,
        )  # fmt: skip
        values = current.numel() // len(norm.weight)
        return NormedWindow(LIFWindow(spikes, membranes, last), mean, variance, values)


class NormLIF(Function):
    """Batch norm and neurons as a node of the graph."""

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        weight: Tensor,
        bias: Tensor,
        start: Tensor | None,
        threshold: Tensor,
        eps: float,
        dynamics: Dynamics,
        steps: int,
        record: bool,
    ) -> tuple[Tensor | None, ...]:
        """Spikes, membranes or None, the last membrane; mean and unbiased variance.

        ``dynamics`` are innermost in memory and keep their values; θ comes apart as well, for
        autograd finds it only so.
        """
        norm, lif = _loops()
        maps = innermost(current.detach())
        shape, channels = maps.shape[1:], maps.shape[-1]
        rows = maps.view(1, -1, channels)
        mean, variance = norm.statistics(rows)
        normalising = norm.scale_and_shift(weight, bias, mean, variance, eps, maps.dtype)
        wide = torch.promote_types(maps.dtype, torch.float32)
        first = maps.new_zeros(shape, dtype=wide)
        if start is not None:
            # Rounded as the state is.
            first.copy_(start.detach().to(maps.dtype).expand(current.shape[1:]).movedim(-3, -1))
        ctx.run = *normalising, dynamics, first.view(-1), steps
        ctx.eps, ctx.start = eps, None if start is None else (start.shape, start.dtype)
        ctx.save_for_backward(maps, weight, mean, variance)
        ctx.set_materialize_grads(False)
        spikes, membranes, last = lif.forward(maps.flatten(1), *ctx.run, record)
        count = rows.shape[1]
        unbiased = (variance[0] * (count / (count - 1))).to(weight.dtype)
        mean = mean[0].to(weight.dtype)
        ctx.mark_non_differentiable(mean, unbiased)
        return (
            _as_maps(spikes, shape),
            None if membranes is None else _as_maps(membranes, shape),
            last.to(maps.dtype).view(shape).movedim(-1, -3),
            mean,
            unbiased,
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        norm, lif = _loops()
        maps, weight, mean, variance = ctx.saved_tensors
        arriving = [None if its is None else innermost(its) for its in grads[:3]]
        arriving = [None if its is None else its.view(-1) for its in arriving]
        learned = ctx.needs_input_grad[4]
        g_maps, g_first, g_threshold = lif.backward(arriving, maps.flatten(1), *ctx.run, learned)
        if g_threshold is not None and g_threshold.dim():
            g_threshold = g_threshold.movedim(-1, -3)
        rows = maps.view(1, -1, maps.shape[-1])
        g_input, g_weight, g_bias = norm.backward(
            g_maps.view(rows.shape), rows, weight, mean, variance, ctx.eps
        )
        g_start = None
        if ctx.start is not None:
            shape, dtype = ctx.start
            g_start = g_first.view(maps.shape[1:]).movedim(-1, -3).sum_to_size(shape).to(dtype)
        g_current = g_input.view(maps.shape).movedim(-1, -3)
        return g_current, g_weight, g_bias, g_start, g_threshold, *[None] * 4


def _as_maps(flat: Tensor, shape: torch.Size) -> Tensor:
    """``[time, batch, C, height, width]`` of ``[time, neurons]``."""
    return flat.view(-1, *shape).movedim(-1, -3)


def _loops() -> tuple[Any, Any]:
    # Import numba, which was seen to work.
    from bsnn_tha.kernels.cpu import batch_norm as norm_numba
    from bsnn_tha.kernels.cpu import norm_lif as norm_lif_numba

    return norm_numba, norm_lif_numba
