"""What may be given as a current, spikes or frames: one rule for neurons, layers and networks.

==================================  ====================================================
whole numbers, bool                 taken in the dtype of the parameters they meet, as in
                                    an addition: a membrane is no whole number
float16, bfloat16, float32/64       as they are
NumPy arrays, lists                 refused: they have no device and no gradient
sparse tensors                      refused: what is computed from them is dense
complex numbers                     refused
==================================  ====================================================

Any strides and any device are welcome.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bsnn_tha.errors import InvalidValueError


def signal(name: str, value: Any, dtype: torch.dtype | None = None) -> Tensor:
    """The value as a dense tensor of floating dtype.

    Args:
        name: in the error.
        value: what was given.
        dtype: of the parameters that it meets, for whole numbers; PyTorch's default if
            None.

    Raises:
        InvalidValueError: it is no such tensor.

    Example:
        >>> signal("input", torch.tensor([0, 3], dtype=torch.int16))
        tensor([0., 3.])
        >>> signal("input", [0.0, 3.0])
        Traceback (most recent call last):
        bsnn_tha.errors.InvalidValueError: input must be a tensor, but got list; give \
torch.as_tensor(input)
    """
    if not isinstance(value, Tensor):
        raise InvalidValueError(
            f"{name} must be a tensor, but got {type(value).__name__}; give torch.as_tensor({name})"
        )
    if value.layout != torch.strided:
        raise InvalidValueError(
            f"{name} must be a dense tensor, but got {value.layout}; give {name}.to_dense()"
        )
    if value.is_complex():
        raise InvalidValueError(f"{name} must be of real numbers, but got {value.dtype}")
    if value.is_floating_point():
        return value
    return value.to(torch.get_default_dtype() if dtype is None else dtype)


def labels(value: Any) -> Tensor:
    """Class indices ``[batch]`` as losses of PyTorch's want them, int64, from any whole numbers.

    Raises:
        InvalidValueError: no tensor, another shape, or no whole numbers.

    Example:
        >>> labels(torch.tensor([2, 0], dtype=torch.uint8))
        tensor([2, 0])
    """
    if not isinstance(value, Tensor):
        raise InvalidValueError(
            f"targets must be a tensor, but got {type(value).__name__}; give torch.as_tensor(...)"
        )
    if value.dim() != 1:
        raise InvalidValueError(
            f"targets must be class indices [batch], but got shape {list(value.shape)}"
            + ("; give one_hot.argmax(-1)" if value.dim() == 2 else "")
        )
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise InvalidValueError(
            f"targets must be whole numbers, but got {value.dtype}; give targets.long()"
        )
    return value.long()
