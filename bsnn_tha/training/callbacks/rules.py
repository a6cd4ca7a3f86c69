"""What the method adds to a training loop: threshold rules and weight clipping."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

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
            anneal(pl_module)


def anneal(network: nn.Module) -> None:
    """One training iteration for the threshold rule of every layer of a network."""
    for module in network.modules():
        if isinstance(module, ThresholdRule):
            module.advance()


class WeightClipping(Callback):
    """Clamp every parameter but thresholds to ±``limit`` before the optimizer's step.

    As in the code published with Eshraghian and Lu (2022): biases and batch
    norm included, and before rather than after the step. That code has no learned
    thresholds; they have the potential's unit, not the weights', and bounds of their own.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit

    @torch.no_grad()
    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        rules = (m for m in pl_module.modules() if isinstance(m, ThresholdRule))
        thresholds = {parameter for rule in rules for parameter in rule.parameters()}
        for parameter in pl_module.parameters():
            if parameter not in thresholds:
                parameter.clamp_(-self.limit, self.limit)
