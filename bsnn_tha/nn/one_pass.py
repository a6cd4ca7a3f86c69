"""Weights, dropout and neurons of a layer in one pass, where that is possible."""

from __future__ import annotations

from torch import Tensor, nn

from bsnn_tha.equations.bounds import held_decay
from bsnn_tha.equations.lif import LIFWindow
from bsnn_tha.functional import sparse_conv, sparse_lif
from bsnn_tha.functional.sparse_conv_lif import sparse_conv_lif
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
) -> LIFWindow | None:
    """A layer's window by :mod:`~bsnn_tha.functional.sparse_lif` or ``sparse_conv_lif``.

    Masks are the ones that ``dropout`` itself would draw from the same state of
    PyTorch's generator.

    Args:
        connection, dropout, neuron: of the layer.
        input: ``[time, batch, ...]``.
        membrane: ``[batch, ...]`` or None.

    Returns:
        None, and nothing is drawn, where the modules must be called one by one.
    """
    if not (
        # Not isinstance: a derived class may compute something else.
        type(neuron) in (Leaky, AnnealedLeaky)
        and neuron.backend in ("auto", "numba")
        and not (neuron.init_hidden or neuron.graded or neuron.surrogate_disable)
    ):
        return None
    if isinstance(connection.synapse, nn.Linear):
        return _fully_connected(connection.synapse, dropout, neuron, input, membrane)
    return _convolution(connection, dropout, neuron, input, membrane)


def _fully_connected(
    synapse: nn.Linear,
    dropout: nn.Module,
    neuron: Leaky,
    input: Tensor,
    membrane: Tensor | None,
) -> LIFWindow | None:
    if not (
        type(dropout) in (nn.Identity, SeededDropout)
        # Asked first: the weights are binarized at each access.
        and sparse_lif.may_pay(input, synapse.out_features)
    ):
        return None
    probability = 0.0
    if isinstance(dropout, SeededDropout) and dropout.training:
        probability = dropout.p
    return sparse_lif.sparse_lif(
        input.flatten(2),
        weight_of(synapse),
        synapse.bias,
        held_decay(neuron.beta),
        neuron.threshold,
        neuron.centre,
        neuron.surrogate,
        neuron._reset_mechanism,
        membrane,
        probability,
    )


def _convolution(
    connection: Connection,
    dropout: nn.Module,
    neuron: Leaky,
    input: Tensor,
    membrane: Tensor | None,
) -> LIFWindow | None:
    spec, synapse = connection.spec, connection.synapse
    assert isinstance(spec, ConvSpec) and isinstance(synapse, nn.Conv2d)
    if not (
        type(dropout) is nn.Identity
        and connection.norm is None
        and spec.stride == 1
        and not spec.depthwise
        and (spec.pool == 1 or spec.pooling == "average")
        and sparse_conv.may_pay(input, spec.channels, spec.kernel)
    ):
        return None
    return sparse_conv_lif(
        input,
        weight_of(synapse),
        held_decay(neuron.beta),
        neuron.threshold,
        neuron.centre,
        neuron.surrogate,
        neuron._reset_mechanism,
        membrane,
        spec.pool,
        spec.padding,
    )
