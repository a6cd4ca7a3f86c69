"""What is read off the output neurons' window as scores of the classes, ``[batch, classes]``.

A readout is a function of the window; one of one's own is named ``module:function``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from bsnn_tha.choices import Axis
from bsnn_tha.equations.counts import spike_rates
from bsnn_tha.nn.window import NetworkWindow

Readout: TypeAlias = Callable[[NetworkWindow], Tensor]


def spike_rate(window: NetworkWindow) -> Tensor:
    """Σ_t z[t] / T: share of the time steps in which each output fires, in [0, 1]."""
    return spike_rates(window.fired_spikes())


def mean_membrane(window: NetworkWindow) -> Tensor:
    """Σ_t u[t] / T: mean over time of each output's membrane potential."""
    return _wide(window.recorded_membranes()).mean(0)


def softmax_membrane(window: NetworkWindow) -> Tensor:
    """Σ_t softmax(u[t]): every time step casts one vote, shared out among the classes."""
    return _wide(window.recorded_membranes()).softmax(-1).sum(0)


READOUTS: Axis[Readout] = Axis(
    "readout",
    {
        "spike_rate": spike_rate,
        "mean_membrane": mean_membrane,
        "softmax_membrane": softmax_membrane,
    },
    wanted="a function of the network's window",
)


def _wide(values: Tensor) -> Tensor:
    """Sums over long windows want more than bfloat16's eight bits."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
