"""sinabs: everything but the neurons on the whole window ``[batch, time, ...]``, then ``LIF``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from sinabs.activation import SingleSpike
from sinabs.layers import LIF
from torch import Tensor, nn

from benchmarks.peers.common import PeerNetwork, Synapse
from benchmarks.peers.workload import Workload


@dataclass
class _FastSigmoid:
    """The paper's surrogate in sinabs' form: called with membrane and threshold."""

    slope: float

    def __call__(self, membrane: Tensor, threshold: Tensor) -> Tensor:
        return 1 / (1 + self.slope * (membrane - threshold).abs()) ** 2


@dataclass
class _Subtract:
    """sinabs' ``MembraneSubtract`` with the reset detached."""

    amount: float

    def __call__(self, spikes: Tensor, state: dict[str, Tensor], threshold: Any) -> Any:
        return state | {"v_mem": state["v_mem"] - spikes.detach() * self.amount}


class Network(PeerNetwork):
    """Layers on the flattened window and ``sinabs.layers.LIF``."""

    notes = "resets at once, by θ/β so that the next membrane falls by θ"

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        self.neurons = nn.ModuleList(
            LIF(
                tau_mem=-1 / math.log(workload.beta),
                spike_threshold=torch.tensor(layer.theta),
                spike_fn=SingleSpike,
                reset_fn=_Subtract(layer.theta / workload.beta),
                surrogate_grad_fn=_FastSigmoid(workload.slope),
                norm_input=False,
            ).requires_grad_(False)  # β is not learned in any peer
            for layer in workload.layers
        )

    def prepare(self, input: Tensor) -> Tensor:
        return input if self.workload.static else input.transpose(0, 1).contiguous()

    def parameter_names(self) -> dict[str, nn.Parameter]:
        named = super().parameter_names()
        return {name: p for name, p in named.items() if not name.startswith("neurons.")}

    def forward(self, input: Tensor) -> Tensor:
        spikes = self.frames(input).transpose(0, 1) if self.workload.static else input

        def run(index: int, synapse: Synapse, spikes: Tensor, skipped: Tensor | None) -> Tensor:
            lif = self.neurons[index]
            lif.reset_states()
            return lif(synapse.window(spikes, time=1, skipped=skipped))

        return self.walk(spikes, run).transpose(0, 1)
