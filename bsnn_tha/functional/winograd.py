r"""Gradients of 3 × 3 convolutions by Winograd's algorithm: a quarter of the multiplications.

Of a row of outputs four at a time are computed from six inputs with six multiplications instead of
twelve, y = Aᵀ[(G w) ⊙ (Bᵀ x)], F(4, 3) of Lavin and Gray (2016, "Fast algorithms for convolutional
neural networks"). In both directions of a map those are 36 instead of 144 for 4 × 4 outputs. Both
gradients are those of the equation itself: the weights' is summed over tiles, the input's over the
places where tiles of 6 × 6 overlap,

    g_w = Gᵀ[(A g_y Aᵀ) ⊙ (Bᵀ x B)]G,    g_x = B[(A g_y Aᵀ) ⊙ (G w Gᵀ)]Bᵀ.

A kernel of 6 × 6 with a stride of 2, what 5 × 5 ones with pooling are, has four kernels of 3 × 3 in
it: even and odd rows and columns of the input each see one. Its input's gradient is four such.

Sums are in another order than in a plain convolution, and their rounding errors are larger: some
10⁻⁵ of the largest value. Average pooling behind the convolution spreads its gradient over the
places that were averaged, while tiles are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.winograd_matrices import KERNEL, PLACES, STEP


def takes(weight: Tensor, stride: int, padding: int) -> bool:
    """Whether both gradients of a convolution can be computed so."""
    outputs, channels, kernel, _ = weight.shape
    whole = outputs % tuning.CONV_VECTOR == 0 and channels % tuning.CONV_VECTOR == 0
    return kernel == KERNEL and stride == 1 and padding < KERNEL and whole


def takes_input(rows: int, columns: int, outputs: int, kernel: int, stride: int) -> bool:
    """Whether the input's gradient can, of a kernel that may pool as well, and is faster so.

    Args:
        rows, columns: of the maps.
        outputs: channels of the maps.
        kernel, stride: sizes. Of kernels of less than three strides, places of the input see less
            than 3 × 3 values.
    """
    if outputs % tuning.CONV_VECTOR or not 2 * stride < kernel <= KERNEL * stride:
        return False
    # A small map leaves much of its last tiles empty.
    products = PLACES * stride**2 * -(-rows // STEP) * -(-columns // STEP)
    return products * tuning.WINOGRAD_PAYS <= rows * columns * kernel**2


def input_gradient(
    g_maps: Tensor,
    weight: Tensor,
    shape: Sequence[int],
    padding: int,
    pool: int = 1,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Gradient of a convolution's input, ``[samples, height, width, in]``.

    Args:
        g_maps: gradient of the result, ``[samples, rows, columns, out]``.
        weight: float32 ``[out, in, 3, 3]``.
        shape: of the input, as above.
        padding: 0 to 2.
        pool: size p of the pooling behind it.
        dtype: of the gradient.
    """
    taps = _loops().taps_of(weight.contiguous())
    return input_gradient_of_taps(g_maps, taps, shape, 1, padding, pool, dtype)


def input_gradient_of_taps(
    g_maps: Tensor,
    taps: Tensor,
    shape: Sequence[int],
    stride: int,
    padding: int,
    pool: int = 1,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """:func:`input_gradient` of a kernel that may have a stride, because it pools as well.

    Args:
        g_maps, shape, padding, pool, dtype: as there; ``pool`` is 1 where the kernel pools.
        taps: float32 ``[(3 stride)², blocks, out, CONV_VECTOR]``, the kernel's values with zeros
            below and right of them, by input channels in blocks.
        stride: s of the kernel: rows and columns of the input that are s apart see one of s² small
            kernels.
    """
    g_input = g_maps.new_empty(tuple(shape), dtype=dtype)
    _loops().input_gradient(g_maps.contiguous(), taps, stride, padding, pool, g_input)
    return g_input


def weight_gradient(g_maps: Tensor, maps: Tensor, padding: int, pool: int = 1) -> Tensor:
    """Gradient of the weights, float32 ``[out, in, 3, 3]``.

    Args:
        g_maps: gradient of the result, ``[samples, rows, columns, out]``.
        maps: the input as bytes, ``[samples, height, width, in]``.
        padding: 0 to 2.
        pool: size p of the pooling behind it.
    """
    return _loops().weight_gradient(g_maps.contiguous(), maps, padding, pool)


def _loops() -> Any:
    # Imports numba, which was seen to work when the spikes became bytes.
    from bsnn_tha.kernels.cpu import winograd as loops

    return loops
