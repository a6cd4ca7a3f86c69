"""Currents by PyTorch's own operations: the routes that take whatever comes."""

from __future__ import annotations

from typing import NamedTuple, Self

from torch import Tensor
from torch.nn import functional as F

from bsnn_tha.functional.layer import Layer
from bsnn_tha.functional.max_pool import max_pool
from bsnn_tha.functional.running import Refused, note, plain
from bsnn_tha.functional.sparse_linear import flattened
from bsnn_tha.functional.spike_conv import library_conv2d
from bsnn_tha.functional.unrounded import conv2d, linear


class Product(NamedTuple):
    """A fully connected layer as it is defined."""

    layer: Layer
    input: Tensor

    @classmethod
    def accepts(cls, layer: Layer, input: Tensor) -> Self | Refused:
        """For ``[samples, ...]``, always."""
        return cls(layer, input)

    def current(self) -> Tensor:
        """``[samples, out]``."""
        note("linear")
        return linear(*flattened(self.input, self.layer.weight), self.layer.bias)


class PooledConvolution(NamedTuple):
    """Convolution and average pooling as one convolution with a larger kernel."""

    layer: Layer
    input: Tensor

    @classmethod
    def accepts(cls, layer: Layer, input: Tensor) -> Self | Refused:
        """For ``[samples, in, height, width]``."""
        assert layer.convolution is not None
        if plain():
            return Refused("something is at work that takes PyTorch's own operations only")
        if not layer.convolution.composes:
            return Refused("its convolution has a stride or another pooling than the average")
        return cls(layer, input)

    def current(self) -> Tensor:
        """``[samples, out, ...]``."""
        layer, input = self
        assert layer.convolution is not None
        _, pool, padding, groups, _ = layer.convolution
        if not padding and groups == 1:
            return library_conv2d(input, layer.pooled_kernel, pool)
        note("conv2d")
        return conv2d(input, layer.pooled_kernel, pool, padding, groups)


class PlainConvolution(NamedTuple):
    """Convolution and pooling as they are defined, one after the other."""

    layer: Layer
    input: Tensor

    @classmethod
    def accepts(cls, layer: Layer, input: Tensor) -> Self | Refused:
        """For ``[samples, in, height, width]``, always."""
        return cls(layer, input)

    def current(self) -> Tensor:
        """``[samples, out, ...]``."""
        layer, input = self
        assert layer.convolution is not None
        stride, pool, padding, groups, average = layer.convolution
        note("conv2d")
        maps = conv2d(input, layer.weight, stride, padding, groups)
        if pool == 1:
            return maps
        return F.avg_pool2d(maps, pool) if average else max_pool(maps, pool)
