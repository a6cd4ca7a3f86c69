"""What the method adds to a training loop: threshold rules and weight clipping."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from bsnn_tha.nn.neurons.neuron import WindowNeuron
from bsnn_tha.nn.thresholds import ThresholdRule


class ThresholdAnnealing(Callback):
    """Advance every threshold rule once per training iteration.

    Annealing goes on by Eq. 4, learned thresholds are held in their bounds.
    Rules are found by type, so names, depth and wrapping do not matter; in
    any Lightning loop this one callback is all that annealing needs. With
    gradient accumulation an iteration is an optimizer step, as it would be
    with the larger batch that is accumulated.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._iteration = trainer.global_step
        self._rules = [m for m in pl_module.modules() if isinstance(m, ThresholdRule)]

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if trainer.global_step > self._iteration:
            self._iteration = trainer.global_step
            for rule in self._rules:
                rule.advance()


def anneal(network: nn.Module) -> None:
    """One training iteration for the threshold rule of every layer of a network."""
    for module in network.modules():
        if isinstance(module, ThresholdRule):
            module.advance()


class WeightClipping(Callback):
    """Clamp every parameter but thresholds and decays to ±``limit`` before the optimizer's step.

    As in the code published with Eshraghian and Lu (2022): biases and batch
    norm included, and before rather than after the step. That code learns neither
    thresholds nor decays, which are no weights and have bounds of their own.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit

    @torch.no_grad()
    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        bounded: set[Tensor] = set()
        for module in pl_module.modules():
            if isinstance(module, ThresholdRule):
                bounded.update(module.parameters())
            elif isinstance(module, WindowNeuron):
                bounded.update(module.decays())
        for parameter in pl_module.parameters():
            if parameter not in bounded:
                parameter.clamp_(-self.limit, self.limit)
