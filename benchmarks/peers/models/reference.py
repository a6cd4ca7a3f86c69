"""The paper's equations in a plain loop: what every peer's outputs are compared with.

Not timed. The loop shares no neuron code with any library that is measured.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from benchmarks.peers.common import PeerNetwork


class _Fire(Function):
    @staticmethod
    def forward(ctx: Any, membrane: Tensor, theta: float, slope: float) -> Tensor:
        ctx.save_for_backward(membrane)
        ctx.theta, ctx.slope = theta, slope
        return (membrane >= theta).to(membrane.dtype)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor | None, ...]:
        (membrane,) = ctx.saved_tensors
        return grad[0] / (1 + ctx.slope * (membrane - ctx.theta).abs()) ** 2, None, None


class Network(PeerNetwork):
    """u[t+1] = β u[t] + I[t+1] − z[t] θ; fires at u ≥ θ; the reset is detached."""

    def forward(self, input: Tensor) -> Tensor:
        work = self.workload
        drop = work.beta if self.decayed_reset else 1.0
        membranes: list[Tensor | float] = [0.0] * len(work.layers)
        outputs = []
        for frame in self.frames(input):
            spikes = frame
            for index, (layer, synapse) in enumerate(zip(work.layers, self.synapses, strict=True)):
                before = torch.as_tensor(membranes[index])
                reset = (before >= layer.theta).float() * (drop * layer.theta)
                membranes[index] = work.beta * before + synapse.step(spikes) - reset
                spikes = _Fire.apply(membranes[index], layer.theta, work.slope)
            outputs.append(spikes)
        return torch.stack(outputs)


class DecayedResetNetwork(Network):
    """With a reset by βθ, for libraries that have no other."""

    decayed_reset = True
