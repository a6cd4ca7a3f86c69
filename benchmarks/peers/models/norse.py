"""norse: everything but the neurons on the whole window, then its time loop ``SNN``.

Its SuperSpike is 1 / (1 + |v − v_th|)², whatever ``alpha`` says, and its step
v ← v + (1 − β)(I − v): potentials are in units of 1 / k, the current carries
k / (1 − β), and gradients come out k times as large for every layer they pass.
"""

from __future__ import annotations

from typing import Any

import torch
from norse.torch.functional.lif_box import (
    LIFBoxFeedForwardState,
    LIFBoxParameters,
    lif_box_feed_forward_step,
)
from norse.torch.module.snn import SNN
from torch import Tensor, nn

from benchmarks.peers.common import PeerNetwork, Synapse
from benchmarks.peers.workload import Workload


def _subtract(spikes: Tensor, membrane: Tensor, amount: Tensor, threshold: Tensor) -> Tensor:
    return membrane - spikes.detach() * amount


def _from_rest(input: Tensor) -> Any:
    return LIFBoxFeedForwardState(v=torch.zeros(()))


class Network(PeerNetwork):
    """Layers on the flattened window and ``SNN(lif_box_feed_forward_step)``."""

    notes = (
        "fires at u > θ, not ≥; resets at once, by θ/β so that the next membrane falls by θ; "
        "gradients times the slope for each layer, which Adam undoes"
    )

    def __init__(self, workload: Workload) -> None:
        if any(layer.shortcut for layer in workload.layers):
            raise NotImplementedError(
                "gradients come out larger for every layer they pass, so that those of a shortcut "
                "do not add up with those of the layers it passes by"
            )
        super().__init__(workload)
        self.neurons = nn.ModuleList(
            SNN(
                lif_box_feed_forward_step,
                _from_rest,
                LIFBoxParameters(
                    tau_mem_inv=torch.tensor(1 - workload.beta),
                    v_th=torch.tensor(workload.slope * layer.theta),
                    v_reset=torch.tensor(workload.slope * layer.theta / workload.beta),
                    method="super",
                    reset_method=_subtract,
                ),
                dt=1.0,
            )
            for layer in workload.layers
        )

    def forward(self, input: Tensor) -> Tensor:
        scale = self.workload.slope / (1 - self.workload.beta)

        def run(index: int, synapse: Synapse, spikes: Tensor, skipped: Tensor | None) -> Tensor:
            fired, _ = self.neurons[index](synapse.window(spikes, scale=scale, skipped=skipped))
            return fired

        return self.walk(self.frames(input), run)
