"""Linear and convolutional layers with 1-bit weights.

Each holds its full-precision weights as ``latent_weight``, the parameter that
optimizers update and ``state_dict`` stores under that name. ``weight`` is what
the layer computes with: the signs, in {−1, +1}. So whoever reads ``weight``
(an exporter, a plot) gets the network that runs, and whoever loads a state
dictionary cannot mistake one for the other.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.binarize import binarize

WeightInit = Literal["glorot", "pytorch"]

_ASSIGN_LATENT = "weight is derived from latent_weight; assign latent_weight instead"


class _BinaryWeight(nn.Module):
    """What the binary layers share; mixed in before ``nn.Linear`` / ``nn.Conv2d``."""

    latent_weight: nn.Parameter
    bias: Any
    init: WeightInit

    def __init__(self, *args: Any, init: WeightInit = "glorot", **kwargs: Any) -> None:
        if init not in get_args(WeightInit):
            raise InvalidValueError(f"init must be 'glorot' or 'pytorch', but got {init!r}")
        # Module.__setattr__ would refuse a plain attribute before __init__.
        object.__setattr__(self, "init", init)
        super().__init__(*args, **kwargs)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        # The base class creates its parameter as `weight`; it is the latent one.
        if name == "weight" and "latent_weight" in self._parameters:
            raise AttributeError(_ASSIGN_LATENT)
        super().register_parameter("latent_weight" if name == "weight" else name, param)

    @property
    def weight(self) -> Tensor:
        """Binary weights in {−1, +1}, with the straight-through gradient."""
        return binarize(self.latent_weight)

    @weight.setter
    def weight(self, value: Any) -> None:
        raise AttributeError(_ASSIGN_LATENT)

    def reset_parameters(self) -> None:
        """Draw the latent weights anew.

        ``"glorot"``: uniform in ±√(1.5 / (fan_in + fan_out)), zero bias, fan
        being channels × kernel area, as in the code published with Eshraghian
        and Lu (2022). ``"pytorch"``: PyTorch's default for the layer (their
        Eq. 26 and 27).
        """
        latent = self.latent_weight
        fan_out, fan_in = latent.shape[:2]
        area = latent[0, 0].numel()
        if self.init == "glorot":
            bound = math.sqrt(1.5 / ((fan_in + fan_out) * area))
        else:
            bound = 1 / math.sqrt(fan_in * area)
        nn.init.uniform_(latent, -bound, bound)
        if self.bias is not None:
            if self.init == "glorot":
                nn.init.zeros_(self.bias)
            else:
                nn.init.uniform_(self.bias, -bound, bound)

    def _fill(self, weight: Tensor, bias: Tensor | None) -> None:
        with torch.no_grad():
            self.latent_weight.copy_(weight)
            if self.bias is not None and bias is not None:
                self.bias.copy_(bias)


class BinaryLinear(_BinaryWeight, nn.Linear):
    """``nn.Linear`` with weights in {−1, +1} (Eshraghian and Lu 2022, 2.2).

    The bias stays in full precision. To run once per window, give it the whole
    window: it takes ``[time, batch, in_features]`` like any ``nn.Linear``.

    Args:
        in_features, out_features, bias, device, dtype: as in ``nn.Linear``.
        init: ``"glorot"`` (published code) or ``"pytorch"``; see
            :meth:`reset_parameters`.

    Attributes:
        latent_weight: parameter, ``[out_features, in_features]``.
        weight: its sign, computed at each access.

    Example:
        >>> layer = BinaryLinear(4, 2)
        >>> layer.weight.unique()
        tensor([-1.,  1.], grad_fn=<Unique2Backward0>)
        >>> sorted(layer.state_dict())
        ['bias', 'latent_weight']
        >>> layer(torch.ones(5, 3, 4)).shape  # [time, batch, features]
        torch.Size([5, 3, 2])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Product with the binary weights: ``[..., in]`` to ``[..., out]``."""
        return nn.functional.linear(input, self.weight, self.bias)

    @classmethod
    def from_float(cls, layer: nn.Linear) -> BinaryLinear:
        """A binary layer whose latent weights are the given layer's weights."""
        binary = cls(
            layer.in_features,
            layer.out_features,
            layer.bias is not None,
            device=layer.weight.device,
            dtype=layer.weight.dtype,
        )
        binary._fill(layer.weight, layer.bias)
        return binary

    def to_float(self) -> nn.Linear:
        """A plain ``nn.Linear`` that computes the same, with weights of ±1."""
        plain = nn.Linear(
            self.in_features,
            self.out_features,
            self.bias is not None,
            device=self.latent_weight.device,
            dtype=self.latent_weight.dtype,
        )
        _copy_binary(self, plain)
        return plain


class BinaryConv2d(_BinaryWeight, nn.Conv2d):
    """``nn.Conv2d`` with weights in {−1, +1} (Eshraghian and Lu 2022, 2.2).

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation,
            groups, bias, padding_mode, device, dtype: as in ``nn.Conv2d``.
        init: ``"glorot"`` (published code) or ``"pytorch"``.

    Attributes:
        latent_weight: parameter, ``[out, in / groups, height, width]``.
        weight: its sign, computed at each access.

    Example:
        >>> layer = BinaryConv2d(1, 16, 5, bias=False)
        >>> layer(torch.ones(2, 1, 28, 28)).shape
        torch.Size([2, 16, 24, 24])
        >>> plain = layer.to_float()
        >>> torch.equal(plain(torch.ones(2, 1, 8, 8)), layer(torch.ones(2, 1, 8, 8)))
        True
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolution with the binary weights: ``[batch, in, H, W]`` maps."""
        return self._conv_forward(input, self.weight, self.bias)

    @classmethod
    def from_float(cls, layer: nn.Conv2d) -> BinaryConv2d:
        """A binary layer whose latent weights are the given layer's weights."""
        binary = cls(**_conv_settings(layer))
        binary._fill(layer.weight, layer.bias)
        return binary

    def to_float(self) -> nn.Conv2d:
        """A plain ``nn.Conv2d`` that computes the same, with weights of ±1."""
        plain = nn.Conv2d(**_conv_settings(self))
        _copy_binary(self, plain)
        return plain


def _conv_settings(layer: nn.Conv2d) -> dict[str, Any]:
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
    settings = {name: getattr(layer, name) for name in (*names, "groups", "padding_mode")}
    weight = next(layer.parameters())
    return settings | {
        "bias": layer.bias is not None,
        "device": weight.device,
        "dtype": weight.dtype,
    }


def _copy_binary(binary: BinaryLinear | BinaryConv2d, plain: nn.Linear | nn.Conv2d) -> None:
    with torch.no_grad():
        plain.weight.copy_(binary.weight)
        if plain.bias is not None and binary.bias is not None:
            plain.bias.copy_(binary.bias)
