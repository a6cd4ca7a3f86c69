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
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bsnn_tha.equations.lif import LIFWindow, Reset
from bsnn_tha.equations.surrogate import ArcTan, FastSigmoid, Surrogate
from bsnn_tha.functional.autocast import result_dtype
from bsnn_tha.functional.dropout import draw_seed
from bsnn_tha.functional.lif_operator import described
from bsnn_tha.functional.routes import Refused, note, plain
from bsnn_tha.kernels.curves import curve_of

# Share of inputs that spike up to which adding rows up is faster than matrix products.
_SPARSE = 0.1
# Neurons × inputs × samples × steps below which it does not matter.
_SMALL = 1 << 22
# Fewer neurons leave most of a block empty.
_FEWEST_NEURONS = 64


def sparse_lif(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    centre: Tensor,
    surrogate: Surrogate,
    reset: Reset = "subtract",
    membrane: Tensor | None = None,
    probability: float = 0.0,
    seed: Tensor | None = None,
) -> LIFWindow | None:
    """Spikes of a fully connected layer for a window of sparse spikes.

    Args:
        input: ``[time, batch, in]``.
        weight: ``[out, in]``, ±1 (or 0).
        bias: ``[out]`` or None.
        beta, threshold, centre: a number, or one for each of ``out`` neurons.
        surrogate, reset, membrane: as in :func:`~bsnn_tha.lif_sequence`.
        probability: dropout's p.
        seed: of the mask, from :func:`~bsnn_tha.functional.dropout.draw_seed`; a
            new one if None.

    Returns:
        The window, without membranes; or None where the parts one by one are
        the way: an input with other values or with too many of them, other weights,
        learned β or θ, a surrogate that is not compiled, float16, a GPU, no numba, or
        too little to do.

    Example:
        >>> weight, one = torch.randn(100, 500).sign(), torch.tensor(1.0)
        >>> spikes = (torch.rand(20, 8, 500) < 0.03).float()
        >>> window = sparse_lif(spikes, weight, None, one, one, one, FastSigmoid())
        >>> window.spikes.shape
        torch.Size([20, 8, 100])
        >>> sparse_lif(0.5 * spikes, weight, None, one, one, one, FastSigmoid()) is None
        True
    """
    window = attempt(
        input, weight, bias, beta, threshold, centre, surrogate, reset, membrane, probability, seed
    )
    return None if isinstance(window, Refused) else window


def attempt(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    centre: Tensor,
    surrogate: Surrogate,
    reset: Reset = "subtract",
    membrane: Tensor | None = None,
    probability: float = 0.0,
    seed: Tensor | None = None,
    must_pay: bool = True,
) -> LIFWindow | Refused:
    """:func:`sparse_lif`, or why not; unless it ``must_pay``, however small or dense it is."""
    batch, outputs = input.shape[1], len(weight)
    start = input.new_zeros(batch, outputs, dtype=weight.dtype) if membrane is None else membrane
    constants = beta, threshold, centre
    given = [tensor for tensor in (input, weight, bias, start, *constants) if tensor is not None]
    if obstacle := _obstacle(input, outputs, must_pay):
        return obstacle
    if any(tensor.device.type != "cpu" for tensor in given):
        return Refused("it needs tensors on the CPU")
    if any(type(tensor) not in (Tensor, torch.nn.Parameter) for tensor in given):
        return Refused("it needs plain tensors")
    if any(tensor.numel() != 1 and tensor.shape != (outputs,) for tensor in constants):
        return Refused("β, θ and the centre must be one number, or one for each neuron")
    if beta.requires_grad or threshold.requires_grad:
        return Refused("β or θ is learned")
    if weight.dtype not in (torch.float32, torch.float64):
        return Refused("it needs weights in float32 or float64")
    # A derived class may compute something else: it has no description.
    if (
        not isinstance(surrogate, FastSigmoid | ArcTan)
        or described(surrogate) is None
        or surrogate.scale != 1
    ):
        return Refused("its surrogate must be fast_sigmoid or arctan, of scale 1")
    if not 0 <= probability < 1:
        return Refused("dropout must be in [0, 1)")
    loops = _compiled_loops()
    if loops is None:
        return Refused("numba does not work here")
    signs = loops.signs_of(weight)
    if signs is None:
        return Refused("its weights are not all ±1 or 0")
    share = _SPARSE if must_pay else 1.0
    events = loops.listed(input, int(share * input.numel()))
    if events is None:
        return Refused("its input is not few whole numbers")
    if probability and seed is None:
        seed = draw_seed()
    note("sparse_lif")
    layer = _Layer(constants, surrogate, reset, probability)
    spikes, last = SparseLIF.apply(
        input, weight, bias, start.to(weight.dtype), layer, signs, events, seed,
        result_dtype(weight),
    )  # fmt: skip
    return LIFWindow(spikes, None, last)


def may_pay(input: Tensor, outputs: int) -> bool:
    """False where :func:`sparse_lif` returns None whatever the input's values and the weights."""
    return _obstacle(input, outputs, must_pay=True) is None


def _obstacle(input: Tensor, outputs: int, must_pay: bool) -> Refused | None:
    if input.dtype not in (torch.float32, torch.float64, torch.bfloat16):
        return Refused("it needs an input in float32, float64 or bfloat16")
    # What is decided here depends on values, which compilers and transforms do not see.
    if torch.compiler.is_compiling() or plain():
        return Refused("something is at work that takes PyTorch's own operations only")
    if must_pay and (outputs < _FEWEST_NEURONS or input.numel() * outputs < _SMALL):
        return Refused("it is too little to do")
    return None


class SparseLIF(Function):
    """The layer as a node of the graph."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        start: Tensor,
        layer: _Layer,
        signs: Tensor,
        events: Any,
        seed: Tensor | None,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """Spikes of this dtype, and the last membrane.

        ``signs`` and ``events`` are the weights and the input as
        :mod:`bsnn_tha.kernels.cpu.sparse_lif` reads them.
        """
        spikes = torch.empty(len(input), *start.shape, dtype=dtype)
        last = _loops().forward(events, signs, layer.neurons(bias, seed), start, spikes)
        rows = weight if ctx.needs_input_grad[0] else None
        ctx.save_for_backward(rows, bias, start, signs, seed, *layer.constants, *events)
        ctx.layer, ctx.shape = layer, spikes.shape
        ctx.input_dtype, ctx.dtype = input.dtype, dtype
        ctx.set_materialize_grads(False)
        return spikes, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        loops = _loops()
        rows, bias, start, signs, seed, *constants, starts, columns = ctx.saved_tensors
        layer = ctx.layer._replace(constants=constants)
        g_current = None if rows is None else torch.empty(ctx.shape, dtype=ctx.dtype)
        gradients = loops.backward(
            loops.Events(starts, columns), signs, layer.neurons(bias, seed), start, constants[2],
            curve_of(layer.surrogate), *grads, ctx.shape[0], g_current,
        )  # fmt: skip
        g_input = None
        if g_current is not None:
            g_input = (g_current @ rows.to(ctx.dtype)).to(ctx.input_dtype)
        wanted = zip((g_input, *gradients), ctx.needs_input_grad, strict=False)
        return *(its if needed else None for its, needed in wanted), *[None] * 5


class _Layer(NamedTuple):
    """Settings of the neurons and of dropout."""

    constants: Sequence[Tensor]
    """β, θ and the surrogate's centre."""
    surrogate: Surrogate
    reset: Reset
    probability: float

    def neurons(self, bias: Tensor | None, seed: Tensor | None) -> Any:
        """For the loops."""
        beta, threshold, _ = self.constants
        number = 0 if seed is None else int(seed)
        return _loops().Neurons(bias, beta, threshold, self.reset, self.probability, number)


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
