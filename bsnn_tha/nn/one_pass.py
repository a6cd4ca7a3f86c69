"""Which modules can run in one pass, and what that does not write, for whoever watches."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bsnn_tha.equations.lif import LIFWindow
from bsnn_tha.functional.layer import Layer
from bsnn_tha.functional.norm_lif import Given, NeuronsBehindNorm, Norm
from bsnn_tha.functional.running import Refused, running
from bsnn_tha.functional.sums import Sums
from bsnn_tha.nn.connection import Connection
from bsnn_tha.nn.dropout import SeededDropout
from bsnn_tha.nn.neurons.leaky import AnnealedLeaky, Leaky
from bsnn_tha.nn.neurons.neuron import WindowNeuron
from bsnn_tha.nn.norms.batch_norm import BatchNormPerStep, ThresholdDependentBatchNorm


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
    if obstacle := _own_way(neuron):
        return obstacle
    if connection.synapse._forward_pre_hooks:
        return Refused("hooks before its weights may compute them")
    between = dropout if connection.norm is None else connection.norm
    if type(between) not in (nn.Identity, SeededDropout):
        return Refused(f"{type(between).__name__} comes between weights and neurons")
    active = isinstance(between, SeededDropout) and between.training
    return connection.to_routes(
        probability=between.p if active else 0.0, dynamics=neuron.dynamics(), start=start
    )


def _own_way(neuron: WindowNeuron) -> Refused | None:
    """Why a window of these neurons must be their own to compute."""
    # Not isinstance: a derived class may compute something else.
    if type(neuron) not in (Leaky, AnnealedLeaky):
        return Refused(f"{type(neuron).__name__} neurons go their own way")
    if neuron.backend not in ("auto", "numba"):
        return Refused(f"its neurons have backend={neuron.backend!r}")
    if neuron.init_hidden:
        return Refused("its neurons keep their own state")
    if neuron.resets_teach:
        return Refused("resets have a gradient for its θ")
    return None


class BehindNorm(NamedTuple):
    """Neurons of a layer in one pass with its batch norm."""

    connection: Connection
    neuron: WindowNeuron
    num_steps: int | None
    route: NeuronsBehindNorm

    def window(self, current: Tensor | Sums, added: Tensor | None = None) -> LIFWindow | Refused:
        """The window, of what :meth:`~bsnn_tha.nn.connection.Connection.weighed` gave.

        Args:
            current: that is normalised; or its sums.
            added: to the normalised current, if it is not constant; or None.
        """
        connection, neuron, num_steps, route = self
        if num_steps is not None and route.norm is None:
            assert isinstance(current, Tensor)
            current = connection.normalised_once(current, num_steps)
            found = route.window(current)
            if isinstance(found, Refused):
                # Its norm has seen it.
                every_step = current.expand(num_steps, *current.shape)
                return neuron.window(every_step, route.start, route.record)
        else:
            found = route.window(current, added)
            if isinstance(found, Refused):
                return found
        window, mean, variance = found
        if mean is not None and variance is not None:
            norm = connection.norm
            if isinstance(norm, ThresholdDependentBatchNorm):
                values = math.prod(route.shape) // len(norm.weight)
                norm.seen(mean, variance, values, 1 if num_steps is None else num_steps)
            else:
                assert isinstance(norm, BatchNormPerStep)
                norm.seen(mean, variance)
        return window._replace(spikes=neuron.handed_on(window.spikes))


def behind_norm(
    connection: Connection,
    dropout: nn.Module,
    neuron: WindowNeuron,
    shape: tuple[int, ...],
    num_steps: int | None,
    start: Tensor | None,
    record: bool,
) -> BehindNorm | Refused:
    """Batch norm and neurons in one pass, or why they must be called one by one.

    A constant current meets its norm once, as a module unless it is tdBN in training; then it is
    the neurons that need not see it written for every step.

    Args:
        connection, dropout, neuron: of the layer.
        shape: of the current, ``[time, batch, ...]``.
        num_steps: for how many time steps a constant current is seen, or None.
        start: membranes before the first step, ``[batch, ...]`` or None.
        record: whether membranes are wanted.
    """
    if type(dropout) is not nn.Identity:
        return Refused(f"{type(dropout).__name__} comes between weights and neurons")
    if obstacle := _own_way(neuron):
        return obstacle
    steps = shape[0]
    found = _norm_of_window(connection.norm)
    norm = None if isinstance(found, Refused) else found
    if num_steps is not None:
        shape = 1, *shape[1:]
        if isinstance(norm, Given) or (norm is not None and norm.per_step):
            norm = None
    elif isinstance(found, Refused):
        return found
    route = NeuronsBehindNorm.accepts(norm, neuron.dynamics(), shape, steps, start, record)
    if isinstance(route, Refused):
        return route
    return BehindNorm(connection, neuron, num_steps, route)


def _norm_of_window(norm: nn.Module | None) -> Norm | Given | Refused:
    """What a pass over a window needs to know of its norm."""
    # Not isinstance: a derived class may compute something else.
    if type(norm) not in (BatchNormPerStep, ThresholdDependentBatchNorm):
        return Refused("no batch norm comes between weights and neurons")
    assert isinstance(norm, BatchNormPerStep | ThresholdDependentBatchNorm)
    if norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks:
        return Refused("hooks want its batch norm called")
    per_step = isinstance(norm, BatchNormPerStep)
    weight = norm.weight if isinstance(norm, BatchNormPerStep) else norm.weight * norm.scale
    if norm.training:
        return Norm(weight, norm.bias, norm.eps, per_step)
    if torch.is_grad_enabled():
        return Refused("running statistics have no gradient in one pass")
    return Given.of(norm.running_mean, norm.running_var, weight, norm.bias, norm.eps)


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
