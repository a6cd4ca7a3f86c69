r"""A fully connected layer and its neurons, on sparse spikes, in one pass.

Product with binary weights, dropout and leaky integrate-and-fire neurons:

    I[t] = mask[t] (W x[t] + b) / (1 − p),    u, z as in :mod:`bsnn_tha.equations.lif`,

for inputs that are few whole numbers (spikes, or how many of them) and weights of ±1.
It computes what :func:`~bsnn_tha.functional.sparse_linear.sparse_linear`,
:func:`~bsnn_tha.functional.dropout.dropout` and
:func:`~bsnn_tha.functional.lif.lif_sequence` compute one after the other: the same
bits, where a bias is not added in another order, and gradients up to the order
of summation. Neither currents nor masks nor membranes are kept or even
written: :mod:`bsnn_tha.kernels.cpu.sparse_lif`.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.lif import LIFWindow
from bsnn_tha.functional.autocast import spike_dtype
from bsnn_tha.functional.dropout import draw_seed
from bsnn_tha.functional.layer import Layer
from bsnn_tha.functional.running import Refused, note, plain
from bsnn_tha.functional.unrounded import product_of_gradients
from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.curves import differentiates


def sparse_lif(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    dynamics: Dynamics,
    membrane: Tensor | None = None,
    probability: float = 0.0,
    seed: Tensor | None = None,
) -> LIFWindow | None:
    """Spikes of a fully connected layer for a window of sparse spikes.

    Args:
        input: ``[time, batch, in]``.
        weight: ``[out, in]``, ±1 (or 0).
        bias: ``[out]`` or None.
        dynamics: of the neurons; its tensors are a number, or one for each of ``out``.
        membrane: u before the first step, ``[batch, out]``; zero if None.
        probability: dropout's p.
        seed: of the mask, from :func:`~bsnn_tha.functional.dropout.draw_seed`; a
            new one if None.

    Returns:
        The window, without membranes; or None where the parts one by one are
        the way: an input with other values or with too many of them, other weights,
        learned β, a surrogate that is not compiled, float16, a GPU, no numba, or
        too little to do.

    Example:
        >>> from bsnn_tha.equations.surrogate import FastSigmoid
        >>> weight, one = torch.randn(100, 500).sign(), torch.tensor(1.0)
        >>> spikes = (torch.rand(20, 8, 500) < 0.03).float()
        >>> dynamics = Dynamics(one, one, one, FastSigmoid())
        >>> window = sparse_lif(spikes, weight, None, dynamics)
        >>> window.spikes.shape
        torch.Size([20, 8, 100])
        >>> sparse_lif(0.5 * spikes, weight, None, dynamics) is None
        True
    """
    layer = Layer(lambda: weight, bias, probability=probability, dynamics=dynamics, start=membrane)
    route = DenseInOnePass.accepts(layer, input)
    return None if isinstance(route, Refused) else route.window(seed)


class DenseInOnePass(NamedTuple):
    """The route of a window: :func:`sparse_lif`."""

    layer: Layer
    input: Tensor
    signs: Tensor
    events: Any
    """Weights and spikes as :mod:`bsnn_tha.kernels.cpu.sparse_lif` reads them."""

    @classmethod
    def accepts(cls, layer: Layer, input: Tensor, must_pay: bool = True) -> Self | Refused:
        """For ``[time, batch, ...]``; unless it ``must_pay``, however small or dense it is."""
        dynamics = layer.dynamics
        assert dynamics is not None
        if input.dtype not in (torch.float32, torch.float64, torch.bfloat16):
            return Refused("it needs an input in float32, float64 or bfloat16")
        # What is decided here depends on values, which compilers and transforms do not see.
        if torch.compiler.is_compiling() or plain():
            return Refused("something is at work that takes PyTorch's own operations only")
        if dynamics.alpha is not None:
            return Refused("its neurons have a synaptic current")
        if dynamics.beta.requires_grad:
            return Refused("β is learned")
        if not differentiates(dynamics.surrogate):
            return Refused("its surrogate is not compiled")
        if not 0 <= layer.probability < 1:
            return Refused("dropout must be in [0, 1)")
        weight, outputs = layer.weight, len(layer.weight)
        if must_pay and (
            outputs < tuning.SPARSE_LIF_FEWEST or input.numel() * outputs < tuning.SMALL
        ):
            return Refused("it is too little to do")
        everything = input, weight, layer.bias, layer.start, *dynamics.tensors
        given = [tensor for tensor in everything if tensor is not None]
        if any(tensor.device.type != "cpu" for tensor in given):
            return Refused("it needs tensors on the CPU")
        if any(type(tensor) not in (Tensor, torch.nn.Parameter) for tensor in given):
            return Refused("it needs plain tensors")
        if any(its.numel() != 1 and its.shape != (outputs,) for its in dynamics.tensors):
            return Refused("β, θ and the centre must be one number, or one for each neuron")
        if weight.dtype not in (torch.float32, torch.float64):
            return Refused("it needs weights in float32 or float64")
        loops = _compiled_loops()
        if loops is None:
            return Refused("numba does not work here")
        signs = loops.signs_of(weight)
        if signs is None:
            return Refused("its weights are not all ±1 or 0")
        input = input.flatten(2)  # not before: of maps that lie channels last it is a copy
        share = tuning.SPARSE_LIF_SHARE if must_pay else 1.0
        events = loops.listed(input, int(share * input.numel()))
        if events is None:
            return Refused("its input is not few whole numbers")
        return cls(layer, input, signs, events)

    def window(self, seed: Tensor | None = None) -> LIFWindow:
        """The window, without membranes; its mask is of this seed or a new one."""
        layer, input, signs, events = self
        weight, probability = layer.weight, layer.probability
        assert layer.dynamics is not None
        start = layer.start
        if start is None:
            start = input.new_zeros(input.shape[1], len(weight), dtype=weight.dtype)
        if probability and seed is None:
            seed = draw_seed()
        note("sparse_lif")
        mask = _loops().Mask(probability, 0 if seed is None else int(seed))
        spikes, last = SparseLIF.apply(
            input, weight, layer.bias, start.to(weight.dtype), layer.dynamics.threshold,
            layer.dynamics.mapped(Tensor.detach), mask, signs, events, spike_dtype(weight.dtype),
        )  # fmt: skip
        return LIFWindow(spikes, None, last)


class SparseLIF(Function):
    """The layer as a node of the graph."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        start: Tensor,
        threshold: Tensor,
        dynamics: Dynamics,
        mask: Any,
        signs: Tensor,
        events: Any,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """Spikes of this dtype, and the last membrane.

        ``mask``, ``signs`` and ``events`` are dropout, the weights and the input as
        :mod:`bsnn_tha.kernels.cpu.sparse_lif` reads them. θ comes apart from ``dynamics`` as well,
        for autograd finds it only so.
        """
        spikes = torch.empty(len(input), *start.shape, dtype=dtype)
        last = _loops().forward(events, signs, bias, mask, dynamics, start, spikes)
        rows = weight if ctx.needs_input_grad[0] else None
        ctx.save_for_backward(rows, bias, start, signs, *events, *dynamics.tensors)
        ctx.dynamics, ctx.mask, ctx.shape = dynamics, mask, spikes.shape
        ctx.input_dtype, ctx.dtype = input.dtype, dtype
        ctx.set_materialize_grads(False)
        return spikes, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        loops = _loops()
        rows, bias, start, signs, starts, columns, *tensors = ctx.saved_tensors
        g_current = None if rows is None else torch.empty(ctx.shape, dtype=ctx.dtype)
        gradients = loops.backward(
            loops.Events(starts, columns), signs, bias, ctx.mask,
            ctx.dynamics.with_tensors(*tensors), start, *grads, ctx.shape[0], g_current,
            ctx.needs_input_grad[4],
        )  # fmt: skip
        g_input = None
        if g_current is not None:
            flat = product_of_gradients(g_current.flatten(0, 1), rows)
            g_input = flat.unflatten(0, ctx.shape[:2]).to(ctx.input_dtype)
        wanted = zip((g_input, *gradients), ctx.needs_input_grad, strict=False)
        return *(its if needed else None for its, needed in wanted), *[None] * 5


def _loops() -> ModuleType:
    loops = _compiled_loops()
    if loops is None:
        raise RuntimeError("sparse_lif needs numba, which does not work here")
    return loops


@functools.cache
def _compiled_loops() -> ModuleType | None:
    # numba raises much besides ImportError; lif_operator says once what is wrong.
    try:
        from bsnn_tha.kernels.cpu import sparse_lif as sparse_lif_numba

        sparse_lif_numba.signs_of(torch.ones(1, 1))
    except Exception:
        return None
    return sparse_lif_numba
