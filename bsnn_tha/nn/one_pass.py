"""Which modules can run in one pass, and what that does not write, for whoever watches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bsnn_tha.functional.layer import Layer
from bsnn_tha.functional.running import Refused, running
from bsnn_tha.nn.connection import Connection
from bsnn_tha.nn.dropout import SeededDropout
from bsnn_tha.nn.neurons.leaky import AnnealedLeaky, Leaky
from bsnn_tha.nn.neurons.neuron import WindowNeuron


def for_one_pass(
    connection: Connection, dropout: nn.Module, neuron: WindowNeuron, start: Tensor | None
) -> Layer | Refused:
    """A layer as routes in one pass take it, or why its modules must be called one by one.

    Masks are the ones that ``dropout`` itself would draw from the same state of
    PyTorch's generator.

    Args:
        connection, dropout, neuron: of the layer.
        start: membranes before the first step, ``[batch, ...]`` or None.
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
    between = dropout if connection.norm is None else connection.norm
    if type(between) not in (nn.Identity, SeededDropout):
        return Refused(f"{type(between).__name__} comes between weights and neurons")
    active = isinstance(between, SeededDropout) and between.training
    return connection.to_routes(
        probability=between.p if active else 0.0, dynamics=neuron.dynamics(), start=start
    )


def membranes_beside(
    layer: Layer,
    connection: Connection,
    dropout: nn.Module,
    neuron: WindowNeuron,
    input: Tensor,
    generator: Tensor,
) -> Tensor:
    """The membranes of a window that ran in one pass, which does not write them.

    They are computed once more, beside it and for whoever watches: without gradients, and
    the generator's state is left alone. They are those that fired, to the last bit.

    Args:
        layer, connection, dropout, neuron: of :func:`for_one_pass`.
        input: ``[time, batch, ...]``.
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
        samples = input.to(layer.weight.dtype).flatten(0, 1)
        # A bias is added as in one pass: after whole numbers, whose sum is exact.
        current = connection.unshown_current(samples, layer.without_bias())
        if layer.bias is not None:
            current = current + layer.bias
        # Not called as a module: hooks count, and this must not be counted.
        current = dropout.forward(current.unflatten(0, input.shape[:2]))
        membranes = neuron.window(current, layer.start, record=True).membranes
    assert membranes is not None
    return membranes
