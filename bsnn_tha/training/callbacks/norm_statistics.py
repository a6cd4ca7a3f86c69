"""Batch norm's running statistics, measured again when an epoch's training is over.

Running statistics are averages over the weights of the recent past. Binary
weights flip their signs from one iteration to the next, and with per-step batch
norm the average reaches back over one batch only, so they describe no network
that ever existed. Nagel et al. (2022), "Overcoming oscillations in
quantization-aware training", re-estimate them for the weights as they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from bsnn_tha.nn.norms.batch_norm import (
    BatchNorm,
    BatchNormPerStep,
    ThresholdDependentBatchNorm,
)
from bsnn_tha.nn.recompute import uncounted
from bsnn_tha.training.callbacks.monitor import is_last_batch
from bsnn_tha.training.seeding import epoch_seed


class NormStatistics(Callback):
    """Sets running means and variances to those of training batches, after each epoch.

    Before validation a number of training batches passes through the network as
    in training, without gradients; but not as blends (:mod:`bsnn_tha.data.mixup`),
    which evaluation does not see. Mean and variance of every channel, as its
    norm takes them (of each time step, or of the window), are averaged over
    these batches. Training's own random numbers stay what they were, and its
    gradients never depend on running statistics: the weights are the same with
    and without.

    Args:
        loader: of the training batches.
        batches: how many, ≥ 1.
        seed: of the run; dropout and augmentation of these passes come from it.
    """

    def __init__(self, loader: Iterable[Any], batches: int, seed: int) -> None:
        self.loader = loader
        self.batches = batches
        self.seed = seed

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if not is_last_batch(trainer, batch_idx):
            return
        kinds = (BatchNormPerStep, ThresholdDependentBatchNorm)
        norms = [module for module in pl_module.modules() if isinstance(module, kinds)]
        if not norms:
            return
        plugin = trainer.precision_plugin
        devices = [pl_module.device] if pl_module.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices), uncounted(), _watched(norms) as seen:
            torch.manual_seed(epoch_seed(self.seed, trainer.current_epoch, trainer.global_rank))
            for samples in itertools.islice(self.loader, self.batches):
                inputs, _ = trainer.strategy.batch_to_device(plugin.convert_input(samples))
                with plugin.train_step_context():
                    pl_module(inputs)
        for norm, averages in zip(norms, seen, strict=True):
            norm.running_mean.copy_(trainer.strategy.reduce(averages.mean))
            norm.running_var.copy_(trainer.strategy.reduce(averages.variance))


class _Averages:
    """Means over time steps of each channel's mean and unbiased variance."""

    def __init__(self, norm: BatchNorm) -> None:
        self.steps = 0
        self.mean, self.variance = norm.running_mean.clone(), norm.running_var.clone()

    def add(self, mean: Tensor, variance: Tensor, steps: int) -> None:
        """What a norm watches; the first takes the place of what was there.

        A window in chunks comes as several, the last of them perhaps shorter.
        """
        self.steps += steps
        self.mean.lerp_(mean, steps / self.steps)
        self.variance.lerp_(variance, steps / self.steps)


@contextmanager
def _watched(norms: Sequence[BatchNorm]) -> Iterator[list[_Averages]]:
    seen = [_Averages(norm) for norm in norms]
    for norm, averages in zip(norms, seen, strict=True):
        norm.watch = averages.add
    try:
        yield seen
    finally:
        for norm in norms:
            norm.watch = None
