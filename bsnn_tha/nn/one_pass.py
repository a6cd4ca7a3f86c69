"""Weights, dropout and neurons of a layer in one pass, where that is possible."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bsnn_tha.equations.lif import LIFWindow
from bsnn_tha.functional import sparse_conv, sparse_conv_lif, sparse_lif
from bsnn_tha.functional.routes import Refused, running
from bsnn_tha.functional.sparse_linear import flattened, sparse_linear
from bsnn_tha.nn.connection import Connection
from bsnn_tha.nn.dropout import SeededDropout
from bsnn_tha.nn.neurons.leaky import AnnealedLeaky, Leaky
from bsnn_tha.nn.neurons.neuron import WindowNeuron
from bsnn_tha.nn.notation import ConvSpec
from bsnn_tha.nn.weights.derived import weight_of


def one_pass(
    connection: Connection,
    dropout: nn.Module,
    neuron: WindowNeuron,
    input: Tensor,
    membrane: Tensor | None,
    must_pay: bool,
) -> LIFWindow | Refused:
    """A layer's window by :mod:`~bsnn_tha.functional.sparse_lif` or ``sparse_conv_lif``.

    Masks are the ones that ``dropout`` itself would draw from the same state of
    PyTorch's generator.

    Args:
        connection, dropout, neuron: of the layer.
        input: ``[time, batch, ...]``.
        membrane: ``[batch, ...]`` or None.
        must_pay: refuse where the parts one by one are as fast.

    Returns:
        Why not, and nothing is drawn, where the modules must be called one by one.
    """
    # Not isinstance: a derived class may compute something else.
    if type(neuron) not in (Leaky, AnnealedLeaky):
        return Refused(f"{type(neuron).__name__} neurons go their own way")
    if neuron.backend not in ("auto", "numba"):
        return Refused(f"its neurons have backend={neuron.backend!r}")
    if connection.synapse._forward_pre_hooks:
        return Refused("hooks before its weights may compute them")
    if neuron.init_hidden:
        return Refused("its neurons keep their own state")
    if isinstance(connection.synapse, nn.Linear):
        return _fully_connected(connection.synapse, dropout, neuron, input, membrane, must_pay)
    return _convolution(connection, dropout, neuron, input, membrane, must_pay)


def membranes_beside(
    connection: Connection,
    dropout: nn.Module,
    neuron: WindowNeuron,
    input: Tensor,
    membrane: Tensor | None,
    generator: Tensor,
) -> Tensor:
    """The membranes of a window that :func:`one_pass` ran, which does not write them.

    They are computed once more, beside it and for whoever watches: without gradients, and
    the generator's state is left alone. They are those that fired, to the last bit.

    Args:
        connection, dropout, neuron, input, membrane: as there.
        generator: the state of PyTorch's generator before the window was run.

    Returns:
        ``[time, batch, ...]``.
    """
    with (
        torch.no_grad(),
        torch.random.fork_rng([]),
        torch.autocast("cpu", enabled=False),
        running("parts"),  # its notes are none of the layer's
    ):
        torch.set_rng_state(generator)
        weight = weight_of(connection.synapse)
        samples = input.to(weight.dtype).flatten(0, 1)
        if isinstance(connection.synapse, nn.Linear):
            # A bias is added as in one pass: after whole numbers, whose sum is exact.
            current = sparse_linear(*flattened(samples, weight))
            if connection.synapse.bias is not None:
                current = current + connection.synapse.bias
        else:
            current = connection.unshown_current(samples)
        # Not called as a module: hooks count, and this must not be counted.
        current = dropout.forward(current.unflatten(0, input.shape[:2]))
        membranes = neuron.window(current, membrane, record=True).membranes
    assert membranes is not None
    return membranes


def _fully_connected(
    synapse: nn.Linear,
    dropout: nn.Module,
    neuron: Leaky,
    input: Tensor,
    membrane: Tensor | None,
    must_pay: bool,
) -> LIFWindow | Refused:
    if type(dropout) not in (nn.Identity, SeededDropout):
        return Refused(f"{type(dropout).__name__} comes between weights and neurons")
    # Asked first: the weights are binarized at each access.
    if must_pay and not sparse_lif.may_pay(input, synapse.out_features):
        return Refused("it is too little to do")
    probability = 0.0
    if isinstance(dropout, SeededDropout) and dropout.training:
        probability = dropout.p
    return sparse_lif.attempt(
        input.flatten(2),
        weight_of(synapse),
        synapse.bias,
        neuron.dynamics(),
        membrane,
        probability,
        must_pay=must_pay,
    )


def _convolution(
    connection: Connection,
    dropout: nn.Module,
    neuron: Leaky,
    input: Tensor,
    membrane: Tensor | None,
    must_pay: bool,
) -> LIFWindow | Refused:
    spec, synapse = connection.spec, connection.synapse
    assert isinstance(spec, ConvSpec) and isinstance(synapse, nn.Conv2d)
    between = connection.norm or dropout
    if type(between) is not nn.Identity:
        return Refused(f"{type(between).__name__} comes between weights and neurons")
    if spec.stride != 1 or spec.depthwise or (spec.pool > 1 and spec.pooling != "average"):
        return Refused("its convolution has a stride, groups or another pooling than the average")
    # Asked first: the weights are binarized at each access.
    if must_pay and not sparse_conv.may_pay(input, spec.channels, spec.kernel):
        return Refused("it is too little to do")
    return sparse_conv_lif.attempt(
        input,
        weight_of(synapse),
        neuron.dynamics(),
        membrane,
        spec.pool,
        spec.padding,
        must_pay,
    )
