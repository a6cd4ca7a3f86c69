"""Ours, by the path that anybody gets who asks for nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.peers.workload import Workload
from bsnn_tha import SpikingNetwork, spike_count_loss

_NAMES = {
    "shortcut.connection.": "shortcut.",
    "synapse.latent_weight": "weight",
    "synapse.bias": "bias",
}
"""Parts of our names, and what the workload's arrays have for them."""


class Network(nn.Module):
    """:class:`bsnn_tha.SpikingNetwork` behind the peers' interface."""

    notes = "the default path"
    decayed_reset = False

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.workload = workload
        self.network = SpikingNetwork(input_shape=workload.input_shape, **workload.settings)
        self.num_steps = workload.steps if workload.static else None

    def prepare(self, input: Tensor) -> Tensor:
        return input

    def parameter_names(self) -> dict[str, nn.Parameter]:
        """Every parameter, by its name among the workload's arrays."""
        named = {}
        for index, layer in enumerate(self.network.layers):
            for name, parameter in layer.named_parameters():
                for ours, theirs in _NAMES.items():
                    name = name.replace(ours, theirs)
                named[f"{index}.{name}"] = parameter
        return named

    def forward(self, input: Tensor) -> Tensor:
        """``[time, batch, classes]``, 0 or 1."""
        return self.network(input, self.num_steps).spikes

    def loss(self, spikes: Tensor, targets: Tensor) -> Tensor:
        work = self.workload
        return spike_count_loss(spikes, targets, work.correct_rate, work.incorrect_rate)


class MixedNetwork(Network):
    """The same under bfloat16 autocast, as ``training.precision = "bf16-mixed"``."""

    notes = "under bfloat16 autocast; outputs shown, not required to agree"

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, torch.bfloat16):
            return super().forward(input)
