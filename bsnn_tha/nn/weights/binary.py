"""Linear and convolutional layers with 1-bit weights (Eshraghian and Lu 2022, 2.2).

Quantized layers (:mod:`bsnn_tha.nn.weights.quantized`) whose quantizer is the sign.
"""

from __future__ import annotations

from typing import Any

from bsnn_tha.equations.binarize import Binary
from bsnn_tha.nn.weights.quantized import QuantizedConv2d, QuantizedLinear


class BinaryLinear(QuantizedLinear):
    """``nn.Linear`` with weights in {−1, +1}.

    Args:
        in_features, out_features, bias, init, device, dtype: as in
            :class:`~bsnn_tha.nn.weights.quantized.QuantizedLinear`.

    Attributes:
        latent_weight: parameter, ``[out_features, in_features]``.
        weight: its sign, computed at each access.

    Example:
        >>> import torch
        >>> layer = BinaryLinear(40, 20)
        >>> layer.weight.unique()
        tensor([-1.,  1.], grad_fn=<Unique2Backward0>)
        >>> sorted(layer.state_dict())
        ['bias', 'latent_weight']
        >>> layer(torch.ones(5, 3, 40)).shape  # [time, batch, features]
        torch.Size([5, 3, 20])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, quantizer=Binary(), **kwargs)


class BinaryConv2d(QuantizedConv2d):
    """``nn.Conv2d`` with weights in {−1, +1}.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation,
            groups, bias, padding_mode, init, device, dtype: as in
            :class:`~bsnn_tha.nn.weights.quantized.QuantizedConv2d`.

    Attributes:
        latent_weight: parameter, ``[out, in / groups, height, width]``.
        weight: its sign, computed at each access.

    Example:
        >>> import torch
        >>> layer = BinaryConv2d(1, 16, 5, bias=False)
        >>> layer(torch.ones(2, 1, 28, 28)).shape
        torch.Size([2, 16, 24, 24])
        >>> plain = layer.to_float()
        >>> torch.equal(plain(torch.ones(2, 1, 8, 8)), layer(torch.ones(2, 1, 8, 8)))
        True
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, quantizer=Binary(), **kwargs)
