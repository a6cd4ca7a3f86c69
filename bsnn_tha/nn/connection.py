"""The way of spikes to neurons: weights, and what acts on their current.

None of it has a memory: the time steps of a window are one large batch to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from bsnn_tha.equations.quantizers import Quantizer
from bsnn_tha.functional import routes
from bsnn_tha.functional.layer import Convolution, Layer
from bsnn_tha.functional.sums import Sums
from bsnn_tha.inputs import signal
from bsnn_tha.nn.norms import NormChoice, make_norm
from bsnn_tha.nn.notation import ConvSpec, DenseSpec, LayerSpec
from bsnn_tha.nn.weights.derived import weight_of
from bsnn_tha.nn.weights.init import WeightInit, check_init, initialise
from bsnn_tha.nn.weights.quantized import QuantizedConv2d, QuantizedLinear

_Plain = TypeVar("_Plain", nn.Conv2d, nn.Linear)


class Connection(nn.Module):
    """A convolution, pooling and batch norm; or a fully connected layer and batch norm.

    Args:
        spec: the weights in the papers' notation.
        input_shape: of one sample at one time step.
        quantizer: of the weights; None for full precision.
        norm: of the current. To it each output of a fully connected layer is a map of 1 × 1;
            what it shifts has no bias.
        norm_scale: α V_th, for ``norm="tdbn"``.
        norm_options: the norm's other arguments.
        init: what the weights start from (:mod:`bsnn_tha.nn.weights.init`); in full precision
            ``glorot`` is ``pytorch``.

    Attributes:
        synapse: the weights.
        norm: the normalisation, or None.
    """

    def __init__(
        self,
        spec: LayerSpec,
        input_shape: tuple[int, ...],
        *,
        quantizer: Quantizer | None,
        norm: NormChoice,
        norm_scale: float,
        norm_options: Mapping[str, Any] | None = None,
        init: WeightInit,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.input_shape = input_shape
        self.synapse: nn.Conv2d | nn.Linear
        self.norm: nn.Module | None = None
        if isinstance(spec, ConvSpec):
            self.synapse = _convolution(spec, input_shape[0], quantizer, init)
            self.norm = make_norm(norm, spec.channels, norm_scale, norm_options)
        else:
            normed = make_norm(norm, spec.outputs, norm_scale, norm_options)
            bias = spec.bias and normed is None
            self.synapse = _fully_connected(spec, input_shape, bias, quantizer, init)
            self.norm = normed

    def drive(
        self, input: Tensor, num_steps: int | None = None, *, layer: Layer | None = None
    ) -> Tensor:
        """The normalised current, ``[time, batch, *output_shape]``.

        Args:
            input: ``[time, batch, *input_shape]``; or, with ``num_steps``, a
                constant input ``[batch, *input_shape]``.
            num_steps: for how many time steps a constant input is seen.
            layer: of :meth:`to_routes`, if what it knows is to be used.
        """
        return self.normalised(self.weighed(input, num_steps, layer), num_steps)

    def weighed(
        self, input: Tensor, num_steps: int | None = None, layer: Layer | None = None
    ) -> Tensor:
        """The current before normalisation, ``[time, batch, *output_shape]``.

        Args:
            input, num_steps, layer: as in :meth:`drive`. The current of a constant input is of
                one step, ``[batch, *output_shape]``.
        """
        input = signal("input", input, self.dtype)
        if num_steps is not None:
            return self.current(input, layer)
        return self.current(input.flatten(0, 1), layer).unflatten(0, input.shape[:2])

    def summed(
        self, input: Tensor, num_steps: int | None = None, layer: Layer | None = None
    ) -> Tensor | Sums:
        """:meth:`weighed`; of a window as whole numbers, ``[samples, ...]``, if it has them."""
        if num_steps is not None:
            return self.weighed(input, num_steps, layer)
        input = signal("input", input, self.dtype)
        samples = input.flatten(0, 1)
        self.show_synapse(samples)
        layer = self.to_routes() if layer is None else layer
        current = routes.sums(layer, self.read(samples))
        return current if isinstance(current, Sums) else current.unflatten(0, input.shape[:2])

    def normalised(self, current: Tensor, num_steps: int | None = None) -> Tensor:
        """What :meth:`weighed` gave, normalised and for all steps."""
        normed = self.normalised_once(current, num_steps)
        return normed if num_steps is None else normed.expand(num_steps, *normed.shape)

    def normalised_once(self, current: Tensor, num_steps: int | None = None) -> Tensor:
        """The same; of a constant current for one step, which stands for all."""
        if self.norm is None:
            return current
        dense = isinstance(self.spec, DenseSpec)
        maps = current[..., None, None] if dense else current
        normed = self.norm(maps) if num_steps is None else self.norm(maps, repeats=num_steps)
        return normed.flatten(-3) if dense else normed

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, whole as they may be."""
        return next(self.synapse.parameters()).dtype

    def current(self, input: Tensor, layer: Layer | None = None) -> Tensor:
        """The weights' current before normalisation, ``[samples, *output_shape]``."""
        self.show_synapse(input)
        return self.unshown_current(input, layer)

    def unshown_current(self, input: Tensor, layer: Layer | None = None) -> Tensor:
        """:meth:`current` without a call of the weights as a module."""
        return routes.current(self.to_routes() if layer is None else layer, self.read(input))

    def read(self, input: Tensor) -> Tensor:
        """What the weights see of an input: the means of its maps, for a layer of means."""
        of_means = isinstance(self.spec, DenseSpec) and self.spec.of_means
        # Spikes of fewer bits than the weights have no room for means.
        dtype = torch.promote_types(input.dtype, self.dtype)
        return input.mean((-2, -1), dtype=dtype) if of_means else input

    def to_routes(self, **settings: Any) -> Layer:
        """The weights as :mod:`bsnn_tha.functional.routes` looks at them, binarized once.

        Args:
            **settings: of dropout and neurons, as :class:`~bsnn_tha.functional.layer.Layer` has
                them.
        """
        spec, synapse = self.spec, self.synapse
        convolution = None
        if isinstance(spec, ConvSpec):
            groups = self.input_shape[0] if spec.depthwise else 1
            average = spec.pooling == "average"
            convolution = Convolution(spec.stride, spec.pool, spec.padding, groups, average)
        return Layer(lambda: weight_of(synapse), synapse.bias, convolution, **settings)

    def show_synapse(self, input: Tensor) -> None:
        """Call the weights as a module, for hooks on it, which the ways here would not meet.

        A hook sees what the module gives for ``input``, ``[samples, *input_shape]``, computed
        beside what the layer computes; what it returns changes nothing.
        """
        synapse = self.synapse
        if torch.compiler.is_compiling() or not (
            synapse._forward_hooks or synapse._forward_pre_hooks
        ):
            return
        if isinstance(self.spec, DenseSpec):
            input = self.read(input).flatten(1)
        synapse(input)


def _convolution(
    spec: ConvSpec, channels: int, quantizer: Quantizer | None, init: WeightInit
) -> nn.Conv2d:
    sizes = channels, spec.channels, spec.kernel
    settings: dict[str, Any] = {
        "stride": spec.stride,
        "padding": spec.padding,
        "groups": channels if spec.depthwise else 1,
        # As published with THA: no bias, whether or not batch norm follows.
        "bias": False,
    }
    if quantizer is None:
        return _initialised(nn.Conv2d(*sizes, **settings), init)
    return QuantizedConv2d(*sizes, **settings, quantizer=quantizer, init=init)


def _fully_connected(
    spec: DenseSpec,
    input_shape: tuple[int, ...],
    bias: bool,
    quantizer: Quantizer | None,
    init: WeightInit,
) -> nn.Linear:
    features = input_shape[0] if spec.of_means else math.prod(input_shape)
    if quantizer is None:
        return _initialised(nn.Linear(features, spec.outputs, bias), init)
    return QuantizedLinear(features, spec.outputs, bias, quantizer=quantizer, init=init)


def _initialised(layer: _Plain, init: WeightInit) -> _Plain:
    """A full-precision layer as it is made, which is ``pytorch``, unless ``kaiming`` is asked for.

    ``glorot`` is of latent weights, and the default: full precision does without it.
    """
    check_init(init)
    if init == "kaiming":
        initialise(layer.weight, layer.bias, init)
    return layer
