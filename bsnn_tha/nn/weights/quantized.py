"""Linear and convolutional layers with weights of a few bits.

Each holds its full-precision weights as ``latent_weight``, the parameter that
optimizers update and ``state_dict`` stores under that name. ``weight`` is what
the layer computes with: the quantizer's values. So whoever reads ``weight``
(an exporter, a plot) gets the network that runs, and whoever loads a state
dictionary cannot mistake one for the other. Whoever writes to it is told
(:mod:`bsnn_tha.nn.weights.derived`). ``torch.nn.utils``' pruning, weight norm, spectral norm
and parametrizations take a parameter by its name: here that is ``latent_weight``.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from bsnn_tha.equations.quantizers import Quantizer
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.inputs import signal
from bsnn_tha.nn.weights.derived import ASSIGN_LATENT, DerivedWeight
from bsnn_tha.nn.weights.init import WeightInit, check_init, initialise

_MASK = "latent_weight_mask"  # as torch.nn.utils.prune names it


Plain = TypeVar("Plain", nn.Linear, nn.Conv2d)


class _QuantizedWeight(nn.Module, Generic[Plain]):
    """What the quantized layers share; mixed in before ``nn.Linear`` / ``nn.Conv2d``."""

    _plain: ClassVar[type[Any]]
    """The layer with weights as they are."""
    _sizes: ClassVar[tuple[str, ...]]
    """Its arguments but for bias, device and dtype."""

    latent_weight: nn.Parameter
    bias: Any
    init: WeightInit
    quantizer: Quantizer

    def __init__(
        self, *args: Any, quantizer: Quantizer, init: WeightInit = "glorot", **kwargs: Any
    ) -> None:
        check_init(init)
        # Module.__setattr__ would refuse plain attributes before __init__.
        object.__setattr__(self, "init", init)
        object.__setattr__(self, "quantizer", quantizer)
        super().__init__(*args, **kwargs)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        # The base class creates its parameter as `weight`; it is the latent one.
        if name == "weight" and "latent_weight" in self._parameters:
            raise AttributeError(ASSIGN_LATENT)
        super().register_parameter("latent_weight" if name == "weight" else name, param)

    @property
    def weight(self) -> Tensor:
        """:meth:`computed_weight`, guarded: what would change it is refused."""
        return self.computed_weight().as_subclass(DerivedWeight)

    @weight.setter
    def weight(self, value: Any) -> None:
        raise AttributeError(ASSIGN_LATENT)

    def computed_weight(self) -> Tensor:
        """The quantizer's values of the latent weights, with its gradient.

        A mask of ``torch.nn.utils.prune`` on ``latent_weight`` is one of these values: a
        latent weight of zero is no zero once it is quantized.
        """
        weight = self.quantizer(self.latent_weight)
        mask = self._buffers.get(_MASK)
        return weight if mask is None else weight * mask

    def __delattr__(self, name: str) -> None:
        # Where `prune.remove` begins to fold the mask into the latent weights.
        if name == "latent_weight" and _MASK in self._buffers:
            raise InvalidValueError(
                "the pruning of latent_weight must keep its mask, for a latent weight of 0 is not "
                "quantized to 0; leave out prune.remove"
            )
        super().__delattr__(name)

    def reset_parameters(self) -> None:
        """Draw the latent weights and the bias anew (:mod:`bsnn_tha.nn.weights.init`)."""
        initialise(self.latent_weight, self.bias, self.init)

    @classmethod
    def from_float(cls, layer: Plain, **settings: Any) -> Self:
        """A quantized layer whose latent weights are the given layer's weights.

        Args:
            layer: is copied.
            **settings: of the new layer: ``quantizer``.
        """
        quantized = cls(**cls._sizes_of(layer), **settings)
        with torch.no_grad():
            quantized.latent_weight.copy_(layer.weight)
            if quantized.bias is not None and layer.bias is not None:
                quantized.bias.copy_(layer.bias)
        return quantized

    def to_float(self) -> Plain:
        """A plain layer that computes the same, with the quantized weights."""
        plain = self._plain(**self._sizes_of(self))
        with torch.no_grad():
            plain.weight.copy_(self.weight)
            if plain.bias is not None and self.bias is not None:
                plain.bias.copy_(self.bias)
        return plain

    @classmethod
    def _sizes_of(cls, layer: nn.Module) -> dict[str, Any]:
        weight = next(layer.parameters())
        return {name: getattr(layer, name) for name in cls._sizes} | {
            "bias": layer.bias is not None,
            "device": weight.device,
            "dtype": weight.dtype,
        }


class QuantizedLinear(_QuantizedWeight[nn.Linear], nn.Linear):
    """``nn.Linear`` with quantized weights.

    The bias stays in full precision. To run once per window, give it the whole
    window: it takes ``[time, batch, in_features]`` like any ``nn.Linear``.

    Args:
        in_features, out_features, bias, device, dtype: as in ``nn.Linear``.
        quantizer: see :mod:`bsnn_tha.equations.quantizers`.
        init: ``"glorot"`` (code published with Eshraghian and Lu 2022), ``"pytorch"`` or
            ``"kaiming"``; see :mod:`bsnn_tha.nn.weights.init`.

    Attributes:
        latent_weight: parameter, ``[out_features, in_features]``.
        weight: its quantized values, computed at each access.

    Example:
        >>> from bsnn_tha.equations.sawb import SAWB
        >>> layer = QuantizedLinear(40, 20, quantizer=SAWB(bits=3))
        >>> len(layer.weight.unique())
        8
        >>> sorted(layer.state_dict())
        ['bias', 'latent_weight']
    """

    _plain = nn.Linear
    _sizes = "in_features", "out_features"

    def forward(self, input: Tensor) -> Tensor:
        """Product with the quantized weights: ``[..., in]`` to ``[..., out]``."""
        input = signal("input", input, self.latent_weight.dtype)
        return nn.functional.linear(input, self.computed_weight(), self.bias)


class QuantizedConv2d(_QuantizedWeight[nn.Conv2d], nn.Conv2d):
    """``nn.Conv2d`` with quantized weights.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation,
            groups, bias, padding_mode, device, dtype: as in ``nn.Conv2d``.
        quantizer: see :mod:`bsnn_tha.equations.quantizers`.
        init: ``"glorot"``, ``"pytorch"`` or ``"kaiming"``; see
            :mod:`bsnn_tha.nn.weights.init`.

    Attributes:
        latent_weight: parameter, ``[out, in / groups, height, width]``.
        weight: its quantized values, computed at each access.
    """

    _plain = nn.Conv2d
    _sizes = (
        "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups",
        "padding_mode",
    )  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        """Convolution with the quantized weights: ``[batch, in, H, W]`` maps."""
        input = signal("input", input, self.latent_weight.dtype)
        return self._conv_forward(input, self.computed_weight(), self.bias)
