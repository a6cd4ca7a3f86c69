"""What panels draw, from what people have: arrays, lists, tensors of any device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from bsnn_tha.errors import InvalidValueError


def as_array(values: Any) -> np.ndarray:
    """The values as an array; a tensor may want a gradient, be of bfloat16, or on a GPU.

    Example:
        >>> import torch
        >>> as_array(torch.ones(2, dtype=torch.bfloat16, requires_grad=True))
        array([1., 1.], dtype=float32)
    """
    if isinstance(values, Tensor):
        values = values.detach().to("cpu")
        return (values.float() if values.is_floating_point() else values).numpy()
    return np.asarray(values)


def of_one_sample(name: str, values: Any, dims: Sequence[int], batch: int) -> np.ndarray:
    """One sample's values; a batch of one is that sample.

    Args:
        name: in the error.
        values: what was given.
        dims: how many dimensions one sample's may have.
        batch: the dimension of the batch, where there is one.

    Raises:
        InvalidValueError: a batch of several, or another number of dimensions.

    Example:
        >>> of_one_sample("inputs", np.zeros((7, 1, 2, 4, 4)), (2, 3, 4), batch=1).shape
        (7, 2, 4, 4)
    """
    array = as_array(values)
    if array.ndim in dims:
        return array
    if array.ndim == max(dims) + 1:
        if array.shape[batch] == 1:
            return array.take(0, axis=batch)
        raise InvalidValueError(
            f"{name} must be of one sample, but got {array.shape[batch]} in {list(array.shape)}; "
            f"give {name}[{':, ' * batch}0]"
        )
    raise InvalidValueError(
        f"{name} must have {' or '.join(map(str, dims))} dimensions, but got {list(array.shape)}"
    )
