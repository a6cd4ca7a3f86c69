"""SpikingJelly's multi-step mode: everything but the neurons on the whole window at once.

Its SuperSpike has the paper's shape with a fixed width, α / (1 + |u − θ|)². With
potentials in units of 1 / k (current and θ times the slope k) and α = 1 / k, spikes
and gradients are those of the paper's surrogate.
"""

from __future__ import annotations

from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn

from benchmarks.peers.common import PeerNetwork, Synapse
from benchmarks.peers.workload import Workload


class Network(PeerNetwork):
    """Layers on the flattened window and ``LIFNode(step_mode="m")``."""

    notes = (
        "a spike lowers the next membrane by βθ, not θ (no setting changes that); "
        "potentials in units of 1/slope, for its SuperSpike"
    )
    decayed_reset = True

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        self.neurons = nn.ModuleList(
            neuron.LIFNode(
                tau=1 / (1 - workload.beta),
                decay_input=False,
                v_threshold=workload.slope * layer.theta,
                v_reset=None,
                surrogate_function=surrogate.SuperSpike(alpha=1 / workload.slope),
                detach_reset=True,
                step_mode="m",
            )
            for layer in workload.layers
        )

    def forward(self, input: Tensor) -> Tensor:
        functional.reset_net(self)
        scale = self.workload.slope

        def run(index: int, synapse: Synapse, spikes: Tensor, skipped: Tensor | None) -> Tensor:
            return self.neurons[index](synapse.window(spikes, scale=scale, skipped=skipped))

        return self.walk(self.frames(input), run)
