"""The one place that chooses: which way a layer's window is computed, and its current.

Routes stand in the order in which they are asked, the fastest first. Each is a small class in
the file of what it computes: ``accepts(layer, input)`` gives the route, bound to what it found
of weights and spikes, or says why not (:class:`~bsnn_tha.functional.running.Refused`). What
one route has found out of a :class:`~bsnn_tha.functional.layer.Layer` the next one need not
ask again. The numbers that they decide by are in :mod:`bsnn_tha.kernels.tuning`.

What a network may be set to, and what is noted, is in :mod:`bsnn_tha.functional.running`. Which
compiled scan neurons take, by their device and dtype, is
:func:`bsnn_tha.functional.lif_operator.choose`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bsnn_tha.equations.lif import LIFWindow
from bsnn_tha.functional.layer import Layer
from bsnn_tha.functional.library import PlainConvolution, PooledConvolution, Product
from bsnn_tha.functional.running import Refused
from bsnn_tha.functional.sparse_conv import SparseConvolution
from bsnn_tha.functional.sparse_conv_lif import ConvolutionInOnePass
from bsnn_tha.functional.sparse_lif import DenseInOnePass
from bsnn_tha.functional.sparse_linear import SparseProduct
from bsnn_tha.functional.spike_conv import ByteConvolution
from bsnn_tha.functional.sums import Sums

DENSE: tuple[Any, ...] = (SparseProduct, Product)
"""Routes of a fully connected layer's current; the last takes whatever comes."""

CONVOLUTIONS: tuple[Any, ...] = (
    SparseConvolution,
    ByteConvolution,
    PooledConvolution,
    PlainConvolution,
)
"""Routes of a convolution's current; the last takes whatever comes."""


def window(layer: Layer, input: Tensor, must_pay: bool = True) -> LIFWindow | Refused:
    """Weights, dropout and neurons in one pass, or why the parts are the way.

    Args:
        layer: with the dynamics of its neurons.
        input: ``[time, batch, ...]``.
        must_pay: refuse where the parts one by one are as fast.
    """
    if layer.convolution is not None:
        route = ConvolutionInOnePass.accepts(layer, input, must_pay)
        return route if isinstance(route, Refused) else route.window()
    dense = DenseInOnePass.accepts(layer, input, must_pay)
    return dense if isinstance(dense, Refused) else dense.window()


def sums(layer: Layer, input: Tensor) -> Sums | Tensor:
    """:func:`current`, as whole numbers of 16 bits where a route has them."""
    if layer.convolution is not None:
        route = SparseConvolution.accepts(layer, input)
        if not isinstance(route, Refused):
            return route.sums()
    return current(layer, input)


def current(layer: Layer, input: Tensor) -> Tensor:
    """The current of the weights and their pooling, by the first route that accepts.

    Args:
        layer: needs neither neurons nor dropout.
        input: ``[samples, ...]``.

    Returns:
        ``[samples, out, ...]``.

    Example:
        >>> import torch
        >>> spikes, signs = torch.rand(5, 30).round(), torch.randn(4, 30).sign()
        >>> torch.equal(current(Layer(lambda: signs), spikes), spikes @ signs.t())
        True
    """
    for route in DENSE if layer.convolution is None else CONVOLUTIONS:
        accepted = route.accepts(layer, input)
        if not isinstance(accepted, Refused):
            found: Tensor = accepted.current()
            return found
    raise AssertionError("the last route takes whatever comes")
