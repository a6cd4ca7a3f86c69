"""Convolution and average pooling as one strided convolution.

Average pooling is itself a convolution with a box, so the two compose into one
with a larger kernel, applied with the pooling's stride:

    avg_pool_p(conv_k(x, W)) = conv_{k+p−1, stride p}(x, box_p(W) / p²),

whatever x is padded with.

For 5 × 5 kernels and 2 × 2 pooling that is 36 products per pooled position
instead of 100, and the unpooled map is never written.
"""

from __future__ import annotations

from torch import Tensor

from bsnn_tha.functional.layer import Convolution, Layer
from bsnn_tha.functional.routes import current


def conv_avg_pool2d(
    input: Tensor, weight: Tensor, pool: int, padding: int = 0, groups: int = 1
) -> Tensor:
    """``avg_pool2d(conv2d(input, weight, padding=padding), pool)`` in one convolution.

    Exact (bit-equal to the two steps) for spikes and weights of ±1 where
    pool² is a power of two: all sums are then multiples of 1 / pool². Equal up
    to rounding otherwise.

    Args:
        input: ``[samples, in, height, width]``.
        weight: ``[out, in / groups, k, k]``.
        pool: pooling size p; windows do not overlap, an incomplete one at the
            border is dropped, as in ``avg_pool2d``.
        padding: P zeros around each map, as in ``conv2d``.
        groups: as in ``conv2d``.

    Returns:
        ``[samples, out, ⌊(height + 2P − k + 1) / p⌋, ⌊(width + 2P − k + 1) / p⌋]``.

    Example:
        >>> import torch
        >>> from torch.nn import functional as F
        >>> spikes, signs = torch.rand(2, 3, 12, 12).round(), torch.randn(4, 3, 5, 5).sign()
        >>> two_steps = F.avg_pool2d(F.conv2d(spikes, signs), 2)
        >>> torch.equal(conv_avg_pool2d(spikes, signs, 2), two_steps)
        True
    """
    convolution = Convolution(pool=pool, padding=padding, groups=groups)
    return current(Layer(lambda: weight, convolution=convolution), input)
