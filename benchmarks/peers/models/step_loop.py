"""The published way: one time step after the other through ``snntorch.Leaky``.

As the code published with Eshraghian and Lu (2022): in every step each layer
binarizes its weights, convolves, pools, normalises and fires. Where batch norm is over the
window, which such a loop does not know yet, layers go one after the other and only neurons step.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import snntorch
import torch
from snntorch import surrogate
from torch import Tensor, nn

from benchmarks.peers.common import PeerNetwork, Synapse
from benchmarks.peers.workload import Workload

Step = Callable[[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]


class Network(PeerNetwork):
    """A step loop with snnTorch's neurons."""

    notes = "fires at u > θ, not ≥"

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        self.neurons = nn.ModuleList(
            snntorch.Leaky(
                beta=workload.beta,
                threshold=layer.theta,
                spike_grad=surrogate.fast_sigmoid(slope=workload.slope),
                reset_mechanism="subtract",
            )
            for layer in workload.layers
        )

    def step(self, spikes: Tensor, membranes: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """One time step of all layers."""
        after: list[Tensor] = []

        def run(index: int, synapse: Synapse, spikes: Tensor, skipped: Tensor | None) -> Tensor:
            current = synapse.step(spikes, skipped)
            fired, membrane = self.neurons[index](current, membranes[index])
            after.append(membrane)
            return fired

        return self.walk(spikes, run), after

    def forward(self, input: Tensor) -> Tensor:
        if self.window_norm:
            return self.by_layer(input, self._fire)
        return self.loop(input, self.step)

    def _fire(self, index: int, current: Tensor, membrane: Tensor | None) -> tuple[Tensor, Tensor]:
        neuron = self.neurons[index]
        spikes, membrane = neuron(current, neuron.reset_mem() if membrane is None else membrane)
        return spikes, membrane

    def loop(self, input: Tensor, step: Step) -> Tensor:
        membranes = [neuron.reset_mem() for neuron in self.neurons]
        outputs = []
        for frame in self.frames(input):
            spikes, membranes = step(frame, membranes)
            outputs.append(spikes)
        return torch.stack(outputs)


class CompiledNetwork(Network):
    """The same with the time step compiled.

    The step and not the loop: unrolled, a hundred and more steps of three
    layers are a graph that takes the compiler longer than the training saves.
    """

    notes = "fires at u > θ, not ≥; torch.compile of the time step, compiled before timing"

    def __init__(self, workload: Workload) -> None:
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise NotImplementedError(f"torch.compile needs a C++ compiler, but {compiler} is none")
        super().__init__(workload)
        if self.window_norm:
            raise NotImplementedError("batch norm over the window leaves no time step to compile")
        # Compiled for these shapes alone, and anew for training, inference and a first
        # step: seven times. Beyond a limit it would silently run uncompiled.
        torch._dynamo.config.automatic_dynamic_shapes = False
        torch._dynamo.config.recompile_limit = 32
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        self.compiled: Step = torch.compile(self.step)

    def forward(self, input: Tensor) -> Tensor:
        return self.loop(input, self.compiled)
