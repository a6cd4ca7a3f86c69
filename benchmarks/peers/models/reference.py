"""The paper's equations in a plain loop: what every peer's outputs are compared with.

Not timed. The loop shares no neuron code with any library that is measured.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from benchmarks.peers.common import PeerNetwork, Synapse


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
        if self.window_norm:
            return self.by_layer(input, self._fire)
        membranes: list[Tensor | None] = [None] * len(self.synapses)
        outputs = []
        for frame in self.frames(input):

            def run(index: int, synapse: Synapse, spikes: Tensor, skipped: Tensor | None) -> Tensor:
                current = synapse.step(spikes, skipped)
                fired, membranes[index] = self._fire(index, current, membranes[index])
                return fired

            outputs.append(self.walk(frame, run))
        return torch.stack(outputs)

    def _fire(self, index: int, current: Tensor, membrane: Tensor | None) -> tuple[Tensor, Tensor]:
        work, theta = self.workload, self.workload.layers[index].theta
        drop = work.beta if self.decayed_reset else 1.0
        before = torch.zeros(()) if membrane is None else membrane
        reset = (before >= theta).float() * (drop * theta)
        membrane = work.beta * before + current - reset
        return _Fire.apply(membrane, theta, work.slope), membrane


class DecayedResetNetwork(Network):
    """With a reset by βθ, for libraries that have no other."""

    decayed_reset = True
