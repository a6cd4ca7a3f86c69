"""What weights and biases are before training.

==============  ======================================  ==============================
name            weights                                 bias
==============  ======================================  ==============================
``glorot``      uniform, ±√(1.5 / (fan_in + fan_out))   0
``pytorch``     uniform, ±1 / √fan_in                   uniform, ±1 / √fan_in
``kaiming``     normal, σ = √(2 / fan_in)               0
==============  ======================================  ==============================

A fan is the channels times the kernel's area. ``glorot`` is that of the code published
with Eshraghian and Lu (2022), ``pytorch`` the layers' own and their Eq. 26 and 27,
``kaiming`` that of He et al. (2015), Eq. 10, as Rouser (Table II) and LTMD's code have it.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

from torch import Tensor, nn

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.suggest import did_you_mean

WeightInit = Literal["glorot", "pytorch", "kaiming"]


def check_init(init: WeightInit) -> None:
    """Raise unless there is an initialisation of that name."""
    if init not in get_args(WeightInit):
        raise InvalidValueError(f"unknown init {init!r}{did_you_mean(init, get_args(WeightInit))}")


def initialise(weight: Tensor, bias: Tensor | None, init: WeightInit) -> None:
    """Draw weights and bias anew, in place, from torch's global generator.

    Args:
        weight: ``[out, in, *kernel]``.
        bias: ``[out]`` or None.
        init: the name of a row above.

    Example:
        >>> import torch
        >>> weight, bias = torch.empty(500, 2312), torch.empty(500)
        >>> initialise(weight, bias, "kaiming")
        >>> round(weight.std().item(), 3), bias.abs().max().item()  # √(2 / 2312) = 0.0294
        (0.029, 0.0)
    """
    fan_out, fan_in = weight.shape[:2]
    area = weight[0, 0].numel()
    if init == "kaiming":
        nn.init.normal_(weight, std=math.sqrt(2 / (fan_in * area)))
    elif init == "glorot":
        _uniform(weight, math.sqrt(1.5 / ((fan_in + fan_out) * area)))
    else:
        _uniform(weight, 1 / math.sqrt(fan_in * area))
    if bias is None:
        return
    if init == "pytorch":
        _uniform(bias, 1 / math.sqrt(fan_in * area))
    else:
        nn.init.zeros_(bias)


def _uniform(tensor: Tensor, bound: float) -> None:
    nn.init.uniform_(tensor, -bound, bound)
