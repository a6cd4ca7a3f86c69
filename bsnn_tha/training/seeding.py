"""Randomness as a pure function of seed and epoch.

What an epoch draws (its order of samples, dropout masks, random windows)
depends on the run's seed, the epoch and the process alone, not on what was
drawn before. A run that starts again after any epoch therefore goes on to the
last bit as if it had never stopped, and no generator's state need be saved.
"""

from __future__ import annotations

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """A 63-bit seed for one epoch of one process.

    Args:
        seed: of the run, ≥ 0.
        epoch: from 0.
        rank: of the process among those that train together.

    Example:
        >>> epoch_seed(0, 1) == epoch_seed(0, 1), epoch_seed(0, 1) == epoch_seed(1, 0)
        (True, False)
    """
    (state,) = np.random.SeedSequence([seed, epoch, rank]).generate_state(1, np.uint64)
    return int(state >> np.uint64(1))


class EpochSeed(Callback):
    """Seeds torch's generators, on all devices, when a training epoch begins.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        torch.manual_seed(epoch_seed(self.seed, trainer.current_epoch, trainer.global_rank))
