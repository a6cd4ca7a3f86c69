"""Weights, dropout and neurons of a fully connected layer in one pass, where that is possible."""

from __future__ import annotations

from torch import Tensor, nn

from bsnn_tha.functional.lif_reference import LIFWindow
from bsnn_tha.functional.sparse_lif import may_pay, sparse_lif
from bsnn_tha.nn.dropout import SeededDropout
from bsnn_tha.nn.leaky import AnnealedLeaky, Leaky
from bsnn_tha.nn.neuron import WindowNeuron


def one_pass(
    synapse: nn.Module,
    dropout: nn.Module,
    neuron: WindowNeuron,
    input: Tensor,
    membrane: Tensor | None,
) -> LIFWindow | None:
    """A layer's window by :func:`~bsnn_tha.functional.sparse_lif.sparse_lif`.

    Masks are the ones that ``dropout`` itself would draw from the same state of
    PyTorch's generator.

    Args:
        synapse, dropout, neuron: of the layer.
        input: ``[time, batch, ...]``.
        membrane: ``[batch, out]`` or None.

    Returns:
        None, and nothing is drawn, where the modules must be called one by one.
    """
    if not (
        isinstance(synapse, nn.Linear)
        # Not isinstance: a derived class may compute something else.
        and type(dropout) in (nn.Identity, SeededDropout)
        and type(neuron) in (Leaky, AnnealedLeaky)
        and neuron.backend in ("auto", "numba")
        and not neuron.init_hidden
        # Asked first: the weights are binarized at each access.
        and may_pay(input, synapse.out_features)
    ):
        return None
    probability = 0.0
    if isinstance(dropout, SeededDropout) and dropout.training:
        probability = dropout.p
    return sparse_lif(
        input.flatten(2),
        synapse.weight,
        synapse.bias,
        neuron.beta.clamp(0, 1),
        neuron.threshold,
        neuron.centre,
        neuron.surrogate,
        neuron._reset_mechanism,
        membrane,
        probability,
    )
