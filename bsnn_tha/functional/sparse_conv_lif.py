r"""A convolution, average pooling and neurons, on sparse spikes, in one pass.

    I[t] = avg_pool_p(conv_k(x[t], W)),    u, z as in :mod:`bsnn_tha.equations.lif`,

for inputs that are few whole numbers (spikes, or how many of them) and binary
weights. It computes what
:func:`~bsnn_tha.functional.conv.conv_avg_pool2d` and
:func:`~bsnn_tha.functional.lif.lif_sequence` compute one after the other: the same
bits, and gradients up to the order of summation. Neither currents nor membranes are
kept or even written: :mod:`bsnn_tha.kernels.cpu.sparse_conv_lif`.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.lif import LIFWindow
from bsnn_tha.functional.autocast import spike_dtype
from bsnn_tha.functional.layer import Convolution, Layer
from bsnn_tha.functional.running import Refused, note
from bsnn_tha.functional.sparse_conv import Listed, input_gradient, listed
from bsnn_tha.kernels.curves import differentiates
from bsnn_tha.kernels.layout import innermost


def sparse_conv_lif(
    input: Tensor,
    weight: Tensor,
    dynamics: Dynamics,
    membrane: Tensor | None = None,
    pool: int = 1,
    padding: int = 0,
) -> LIFWindow | None:
    """Spikes of a convolutional layer for a window of sparse spikes.

    Args:
        input: ``[time, batch, in, height, width]``.
        weight: ``[out, in, k, k]``, ±1 (or small whole numbers).
        dynamics: of the neurons; β is a number, θ and the centre may be one for each neuron.
        membrane: u before the first step, ``[batch, out, ...]``; zero if None.
        pool, padding: as in :func:`~bsnn_tha.functional.conv.conv_avg_pool2d`.

    Returns:
        The window, without membranes; or None where the parts one by one are
        the way: an input with other values or too many spikes, other weights, pooling by
        other than powers of two, learned β or one for each neuron, a surrogate that is
        not compiled, float16, a GPU, no numba, or too little to do.

    Example:
        >>> from bsnn_tha.equations.surrogate import FastSigmoid
        >>> weight, one = torch.randn(16, 2, 5, 5).sign(), torch.tensor(1.0)
        >>> spikes = (torch.rand(20, 8, 2, 32, 32) < 0.03).float()
        >>> dynamics = Dynamics(one, one, one, FastSigmoid())
        >>> window = sparse_conv_lif(spikes, weight, dynamics, pool=2)
        >>> window.spikes.shape
        torch.Size([20, 8, 16, 14, 14])
        >>> sparse_conv_lif(0.5 * spikes, weight, dynamics) is None
        True
    """
    convolution = Convolution(pool=pool, padding=padding)
    layer = Layer(lambda: weight, convolution=convolution, dynamics=dynamics, start=membrane)
    route = ConvolutionInOnePass.accepts(layer, input)
    return None if isinstance(route, Refused) else route.window()


class ConvolutionInOnePass(NamedTuple):
    """The route of a window: :func:`sparse_conv_lif`."""

    layer: Layer
    input: Tensor
    found: Listed
    dynamics: Dynamics
    """Each of its tensors one number, or one for each neuron of a sample."""

    @classmethod
    def accepts(cls, layer: Layer, input: Tensor, must_pay: bool = True) -> Self | Refused:
        """For ``[time, batch, in, height, width]``; unless it ``must_pay``, however small."""
        dynamics = layer.dynamics
        assert dynamics is not None
        if layer.probability:
            return Refused("dropout comes between weights and neurons")
        given = [tensor for tensor in (layer.start, *dynamics.tensors) if tensor is not None]
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
        if not differentiates(dynamics.surrogate):
            return Refused("its surrogate is not compiled")
        found = listed(layer, input, must_pay)
        if isinstance(found, Refused):
            return found
        sizes = found.geometry
        of_sample = dynamics.of_sample((sizes.outputs, sizes.rows, sizes.columns))
        if of_sample is None:
            return Refused("θ and the centre must be one number, or one for each neuron")
        return cls(layer, input, found, of_sample)

    def window(self) -> LIFWindow:
        """The window, without membranes."""
        layer, input, found, dynamics = self
        geometry, weight, start = found.geometry, layer.weight, layer.start
        if start is None:
            shape = input.shape[1], geometry.rows, geometry.columns, geometry.outputs
            start = weight.new_zeros(shape).permute(0, 3, 1, 2)
        note("sparse_conv_lif")
        # As they are now: θ may change in place before the backward pass.
        now = dynamics.mapped(lambda its: innermost(its.detach().to(weight.dtype, copy=True)))
        spikes, last = SparseConvLIF.apply(
            input, weight, start.to(weight.dtype), dynamics.threshold, found, now,
            spike_dtype(weight.dtype),
        )  # fmt: skip
        return LIFWindow(spikes, None, last)


class SparseConvLIF(Function):
    """The layer as a node of the graph."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        start: Tensor,
        threshold: Tensor,
        found: Listed,
        dynamics: Dynamics,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """Spikes of this dtype and the last membrane, both channels last in memory.

        ``dynamics`` have channels last and keep their values; θ comes apart as well, for autograd
        finds it only so.
        """
        weights, events, geometry = found.weights, found.events, found.geometry
        spikes = torch.empty(
            *input.shape[:2], geometry.rows, geometry.columns, geometry.outputs, dtype=dtype
        )
        ctx.layer = geometry, found.taps, dynamics
        initial = start.permute(0, 2, 3, 1)
        last = _loops().forward(events, weights, *ctx.layer, initial, spikes)
        ctx.save_for_backward(start, weights, *events)
        ctx.events = type(events)
        ctx.input_dtype, ctx.shape = input.dtype, spikes.shape
        ctx.set_materialize_grads(False)
        return spikes.permute(0, 1, 4, 2, 3), last.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        (geometry, *_), (start, weights, *events) = ctx.layer, ctx.saved_tensors
        with_input, with_weight, with_start, learned, *_ = ctx.needs_input_grad
        g_spikes, g_last = grads
        if g_spikes is None:
            g_spikes = start.new_zeros(ctx.shape).permute(0, 1, 4, 2, 3)
        g_weight, g_start, g_current, g_threshold = _loops().backward(
            ctx.events(*events), weights, *ctx.layer, start.permute(0, 2, 3, 1),
            g_spikes.permute(0, 1, 3, 4, 2).contiguous(),
            None if g_last is None else g_last.permute(0, 2, 3, 1),
            with_input, learned,
        )  # fmt: skip
        if g_threshold is not None and g_threshold.dim():
            g_threshold = g_threshold.permute(2, 0, 1)
        g_input = None
        if with_input:
            g_maps = g_current.flatten(0, 1)
            g_input = input_gradient(g_maps, weights, geometry, ctx.input_dtype)
            g_input = g_input.unflatten(0, ctx.shape[:2])
        return (
            g_input,
            g_weight if with_weight else None,
            g_start.permute(0, 3, 1, 2) if with_start else None,
            g_threshold,
            *[None] * 3,
        )


def _loops() -> ModuleType:
    # Imports numba, which was seen to work when the spikes were listed.
    from bsnn_tha.kernels.cpu import sparse_conv_lif as sparse_conv_lif_numba

    return sparse_conv_lif_numba
