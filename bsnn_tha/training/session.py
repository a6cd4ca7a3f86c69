"""One process's part in training: data, batches, module and trainer, without files.

What is kept of it (run folders, a study's trials) is the caller's business,
through callbacks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from torch.utils.data import DataLoader

from bsnn_tha.config import RunConfig
from bsnn_tha.data.dataset import Dataset, Split
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.running import Ways, joined
from bsnn_tha.nn.chunks import check_chunks
from bsnn_tha.nn.layer import SpikingLayer
from bsnn_tha.nn.norms.batch_norm import BatchNormPerStep
from bsnn_tha.training.callbacks import ThresholdAnnealing, WeightClipping
from bsnn_tha.training.callbacks.monitor import ActivityMonitor
from bsnn_tha.training.callbacks.norm_statistics import NormStatistics
from bsnn_tha.training.callbacks.silencing import SilencingCheck, annealed_layers
from bsnn_tha.training.callbacks.stopwatch import Stopwatch
from bsnn_tha.training.checkpoint import DurableCheckpointIO
from bsnn_tha.training.evaluation import EVALUATION_BATCH, epoch_values, load_data
from bsnn_tha.training.loaders import evaluation_batches, training_batches
from bsnn_tha.training.machine import Machine, quiet
from bsnn_tha.training.module import SpikingModule
from bsnn_tha.training.seeding import EpochSeed


class Fitted(NamedTuple):
    """What training leaves besides the module."""

    trainer: Trainer
    train: dict[str, float]
    """Loss and accuracy over the training samples in the last epoch."""
    layers: list[dict[str, Any]]
    """Activity of each layer in the last epoch."""
    workload: dict[str, float]
    """Of the whole network in the last epoch."""
    routes: Sequence[Ways] = ()
    """How each layer was computed so far; not in checkpoints of earlier versions."""


@dataclass(frozen=True)
class Session:
    """Everything that is built before training starts."""

    config: RunConfig
    machine: Machine
    dataset: Dataset
    training: DataLoader
    selection: DataLoader | None
    module: SpikingModule
    monitor: ActivityMonitor
    silencing: SilencingCheck | None
    stopwatch: Stopwatch

    @classmethod
    def prepare(
        cls, config: RunConfig, machine: Machine, dataset: Dataset | None = None
    ) -> Session:
        """Load and build; whatever can be refused is refused here.

        Args:
            config: of the training.
            machine: where it happens.
            dataset: the one the configuration names, if it is loaded already.

        Raises:
            InvalidValueError: the configuration breaks a rule.
            DataError: data is missing or damaged.
        """
        machine.make_ready()
        machine.check_precision(config.training.precision)
        if dataset is None:
            dataset = load_data(config, machine)
        if (subset := config.data.subset) is not None and subset < len(dataset.train):
            dataset = replace(dataset, source=f"{dataset.source}; {subset:,} of them for training")
        selecting = _selecting(config, dataset)
        _check(config, dataset, selecting, machine.devices * machine.nodes)
        training = training_batches(
            dataset.train, config.data.batch_size, config.training.seed, config.data.subset
        )
        size = EVALUATION_BATCH * config.data.batch_size
        selection = None if selecting is None else evaluation_batches(selecting, size)
        seed_everything(config.training.seed, verbose=False)
        module = SpikingModule(config, dataset)
        if config.training.chunk_steps is not None:
            check_chunks(module.network, config.training.chunk_steps, config.data.num_steps)
        if config.training.check_silencing:
            annealed_layers(module)  # refuses networks that it is not defined for
        _check_norms(module, min(config.data.batch_size, config.data.subset or len(dataset.train)))
        return cls(
            config,
            machine,
            dataset,
            training,
            selection,
            module,
            ActivityMonitor(),
            SilencingCheck() if config.training.check_silencing else None,
            Stopwatch(),
        )

    def fit(
        self,
        before_annealing: Sequence[Callback] = (),
        after_epoch: Sequence[Callback] = (),
        logger: Any = False,
        checkpoint: Path | None = None,
    ) -> Fitted:
        """Train, from the start or from a checkpoint.

        Args:
            before_annealing: callbacks that see the thresholds an iteration
                ran with.
            after_epoch: callbacks that look at a finished epoch's figures.
            logger: one of Lightning's, or False.
            checkpoint: to go on from.
        """
        settings, last = self.config.training, LastEpoch(self.monitor)
        with quiet(), _processes_end():
            trainer = Trainer(
                **self.machine.trainer_options(),
                precision=settings.precision,
                max_epochs=settings.epochs,
                gradient_clip_val=settings.grad_clip,
                accumulate_grad_batches=settings.accumulate,
                num_sanity_val_steps=0,
                enable_checkpointing=any(isinstance(c, Checkpoint) for c in after_epoch),
                plugins=[DurableCheckpointIO()],
                logger=logger,
                callbacks=[
                    EpochSeed(settings.seed),
                    self.monitor,
                    last,
                    *before_annealing,
                    ThresholdAnnealing(),
                    *([self.silencing] if self.silencing else []),
                    self.stopwatch,
                    *self._optional_callbacks(),
                    *after_epoch,
                ],
            )
            trainer.fit(
                self.module, self.training, self.selection, ckpt_path=checkpoint, weights_only=True
            )
            return Fitted(trainer, **last.figures)

    def _optional_callbacks(self) -> list[Callback]:
        settings = self.config.training
        callbacks: list[Callback] = []
        if settings.norm_batches is not None:
            callbacks.append(NormStatistics(self.training, settings.norm_batches, settings.seed))
        if settings.weight_clip is not None:
            callbacks.append(WeightClipping(settings.weight_clip))
        if settings.patience is not None:
            callbacks.append(
                Patience(f"val_{self.module.figure}", mode="max", patience=settings.patience)
            )
        return callbacks


class LastEpoch(Callback):
    """Figures of the latest finished epoch, part of checkpoints.

    A run that is resumed may have nothing left to train.
    """

    def __init__(self, monitor: ActivityMonitor) -> None:
        self.monitor = monitor
        self.figures: dict[str, Any] = {}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SpikingModule)
        self.figures = {
            "train": epoch_values(trainer, "train"),
            "layers": self.monitor.layers(),
            "workload": self.monitor.workload(),
            "routes": joined(self.figures.get("routes", []), pl_module.network.routes()),
        }

    def state_dict(self) -> dict[str, Any]:
        return self.figures

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.figures = state_dict


class Patience(EarlyStopping):
    """Early stopping that also stops a run which is resumed after it had stopped."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


def _selecting(config: RunConfig, dataset: Dataset) -> Split | None:
    """The samples that select the checkpoint and stop training."""
    return dataset.test if config.training.protocol == "paper" else dataset.validation


def _check(config: RunConfig, dataset: Dataset, selecting: Split | None, processes: int) -> None:
    samples = config.data.subset or len(dataset.train)
    if (smallest := min(config.data.batch_size, samples)) < processes:
        raise InvalidValueError(
            f"{processes} processes cannot share a batch of {smallest}; use fewer --devices and "
            "--nodes or a larger data.batch_size"
        )
    if config.training.record_output and samples % config.data.batch_size:
        raise InvalidValueError(
            f"training.record_output needs batches of one size, but the last of {samples} samples "
            f"in batches of {config.data.batch_size} is smaller; choose a data.batch_size that "
            "divides the samples"
        )
    if config.training.patience is not None and selecting is None:
        raise InvalidValueError(
            "training.patience needs a validation split; set data.validation above 0 "
            "or leave out training.patience"
        )


def _check_norms(module: SpikingModule, samples: int) -> None:
    """Raise where batch norm would never see more than one value of a channel."""
    if samples > 1:
        return
    for number, layer in enumerate(module.network.layers, start=1):
        assert isinstance(layer, SpikingLayer)
        pixels = math.prod(layer.output_shape[1:])
        if isinstance(layer.norm, BatchNormPerStep) and pixels == 1:
            raise InvalidValueError(
                f"batch norm of layer {number} has one value of each channel, in batches of one "
                "sample with maps of one pixel; use a larger data.batch_size, or "
                "network.norm = 'none'"
            )


@contextmanager
def _processes_end() -> Iterator[None]:
    """What follows training is one process's work: the others are no longer waited for."""
    try:
        yield
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
