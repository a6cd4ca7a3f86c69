"""The training step, as Lightning wants it."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from bsnn_tha.config import RunConfig
from bsnn_tha.data.dataset import Dataset
from bsnn_tha.data.event_batch import EventBatch
from bsnn_tha.data.mixup import Mixup
from bsnn_tha.detection.boxes import Detections
from bsnn_tha.errors import InvalidValueError, TrainingError
from bsnn_tha.losses import Loss, YoloLoss, symmetric_divergence
from bsnn_tha.nn.network import SpikingNetwork
from bsnn_tha.nn.window import NetworkWindow
from bsnn_tha.observe.metrics import SampleMean
from bsnn_tha.training.boxes import BoxMeter, check_detector
from bsnn_tha.training.optimizers import make_optimizer
from bsnn_tha.training.schedule import schedule_of
from bsnn_tha.training.task import Task

Batch = tuple[Tensor, Tensor]

_CALM_DOWN = "lower optimizer.lr or clip gradients, e.g. --set training.grad_clip=1.0"


def _check_task(config: RunConfig, dataset: Dataset, loss: Loss, network: SpikingNetwork) -> None:
    """Raise unless loss, outputs and targets fit each other."""
    classes = dataset.num_classes
    detects = getattr(loss, "detects", False)
    has = "boxes" if dataset.boxes else "a target trace" if classes is None else "classes"
    needs = "boxes" if detects else "classes" if loss.classifies else "a target trace"
    if has != needs:
        suits = {"boxes": "yolo", "classes": "spike_count", "a target trace": "membrane"}
        raise InvalidValueError(
            f"loss.name = {config.loss.name!r} needs {needs}, but {dataset.name} has {has}; "
            f"use {suits[has]}"
        )
    of_classes = {
        "loss.divergence compares the classes two passes see": config.loss.divergence,
        "augment.mixup mixes the classes of two samples": config.augment.mixup,
    }
    for rule, value in of_classes.items():
        if value and classes is None:
            raise InvalidValueError(f"{rule}, but {dataset.name} has {has}; set it to 0")
    outputs = network.output_shape
    if classes is not None and outputs != (classes,):
        raise InvalidValueError(
            f"the network must end in {classes} outputs, one for each class of {dataset.name}, "
            f"but {config.network.notation} ends in {' × '.join(map(str, outputs))}"
        )


class SpikingModule(LightningModule):
    """A network, its loss and its optimizer, put together from a configuration.

    Nothing here knows a paper, a data set or a threshold rule: annealing,
    clipping and monitoring are callbacks.

    Args:
        config: of the run.
        dataset: gives the input shape and whether samples are static.
    """

    def __init__(self, config: RunConfig, dataset: Dataset) -> None:
        super().__init__()
        self.config = config
        self.network = config.build_network(dataset.input_shape)
        self.loss = config.build_loss(self.network)
        self.augment = config.build_augmentation()
        self.augment.check(dataset.input_shape, dataset.static)
        _check_task(config, dataset, self.loss, self.network)
        self.precision: BoxMeter | None = None
        if dataset.boxes is not None:
            assert isinstance(self.loss, YoloLoss)
            check_detector(self.loss, dataset, self.augment)
            if config.training.record_output:
                raise InvalidValueError(
                    "training.record_output keeps traces of outputs that have targets, but "
                    f"{dataset.name} has boxes; leave it out"
                )
            self.loss.fit(dataset.train.targets)
            self.precision = BoxMeter(dataset.boxes, dataset.class_names)
        self.schedule = schedule_of(config.optimizer, config.training.epochs)
        self.num_steps = config.data.num_steps if dataset.static else None
        self.classifies = dataset.num_classes is not None
        self.figure = "accuracy" if dataset.boxes is None else "map"
        """What checkpoints are selected by, on the validation split."""
        self.task = Task.of(dataset)
        # Lightning's own means round the numbers of samples of several processes.
        self.means = nn.ModuleDict(
            {
                f"{split}_{name}": SampleMean()
                for split in ("train", "val", "test")
                for name in ("loss", "accuracy")
            }
        )
        self.live: dict[str, Tensor] = {}
        """Loss and accuracy of the latest training batch, for the progress bar."""
        self.predictions: list[Tensor] = []
        """Classes predicted for the test samples so far, batch by batch, on the CPU."""
        self.found: list[Detections] = []
        """What was found in the test samples so far, sample by sample."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[Task.KEY] = self.task.to_plain()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Events travel to the device in compact form and become frames there."""
        inputs, targets = batch
        if isinstance(inputs, EventBatch):  # whose numbers were whole when Lightning converted
            inputs = self.trainer.precision_plugin.convert_input(inputs.dense())
        if self.trainer.training:
            inputs = self.augment(inputs, static=self.num_steps is not None)
        return inputs, targets

    def forward(self, input: Tensor) -> NetworkWindow:
        """Run the network over the window that a batch stands for."""
        return self.network(
            input,
            self.num_steps,
            record=self.loss.needs_membranes,
            chunk_steps=self.config.training.chunk_steps,
        )

    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Any]:
        # Still images alone are mixed: the batch is their first axis.
        mixup = Mixup.drawn(self.augment.mixup)
        inputs, targets = mixup.samples(batch[0]), batch[1]
        if self.config.loss.divergence:
            inputs, targets = self._twice(inputs, targets)
        window = self(inputs)
        loss = mixup.loss(partial(self.loss, window), targets)
        self._log("train", window, targets, loss)
        if self.config.loss.divergence:
            passes = self.loss.scores(window).chunk(2)
            loss = loss + self.config.loss.divergence * symmetric_divergence(*passes)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss must be finite, but is {loss.item()} at iteration {self.global_step}; "
                + _CALM_DOWN
            )
        return {"loss": self._share_of_joint_loss(loss, window), "window": window}

    def _twice(self, inputs: Tensor, targets: Tensor) -> Batch:
        """Each sample in two passes, which drop other neurons (LTMD, Eq. 12)."""
        along = 0 if self.num_steps is not None else 1
        return torch.cat([inputs, inputs], along), torch.cat([targets, targets])

    def _share_of_joint_loss(self, loss: Tensor, window: NetworkWindow) -> Tensor:
        """Weigh a process by its samples, so that the mean over processes is the joint loss."""
        processes = self.trainer.world_size
        if processes == 1:
            return loss
        own = window.spikes.shape[1]
        joint = torch.tensor(own, device=self.device)
        torch.distributed.all_reduce(joint)
        return loss * (own * processes / joint.item())

    def predict(self, window: NetworkWindow) -> Tensor:
        """The classes a window stands for, ``[batch]``: as its loss reads it."""
        return self.loss.scores(window).argmax(-1)

    def on_train_epoch_end(self) -> None:
        # NaN membranes never fire, so a spike-count loss can stay finite over them.
        for name, tensor in self.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise TrainingError(
                    f"{name} must be finite, but is not after epoch {self.current_epoch + 1}; "
                    + _CALM_DOWN
                )

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        window = self(batch[0])
        self._log("val", window, batch[1], self.loss(window, batch[1]))
        if self.precision is not None:
            assert isinstance(self.loss, YoloLoss)
            self.precision.update(self.loss.detect(window), batch[1])

    def on_validation_epoch_end(self) -> None:
        if self.precision is not None:
            # Gathered by the meter itself, so that it is the joint figure in every process.
            self.log("val_map", self.precision.compute())
            self.precision.reset()

    def on_test_start(self) -> None:
        self.predictions.clear()
        self.found.clear()

    def test_step(self, batch: Batch, batch_index: int) -> None:
        window = self(batch[0])
        self._log("test", window, batch[1], self.loss(window, batch[1]))
        if self.classifies:
            self.predictions.append(self.predict(window).cpu())
        elif isinstance(self.loss, YoloLoss):
            self.found += self.loss.detect(window)

    def _log(self, split: str, window: NetworkWindow, targets: Tensor, loss: Tensor) -> None:
        samples = window.spikes.shape[1]
        values = {"loss": loss.detach()}
        if self.classifies:
            values["accuracy"] = (self.predict(window) == targets).float().mean()
        for name, value in values.items():
            # Means over an epoch weigh every sample equally, whatever its batch or process.
            mean = self.means[f"{split}_{name}"]
            assert isinstance(mean, SampleMean)
            known = mean.update_called
            mean.update(value, samples)
            if not known:
                # Lightning holds on to the mean until it resets it; to be told of it in every
                # iteration takes it a millisecond.
                self.log(f"{split}_{name}", mean, on_epoch=True, on_step=False)
        if split == "train":
            self.live = values

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(self, self.config.optimizer)
        share = self.schedule
        if share is None:
            return optimizer
        # All processes' steps, so that epochs stay what they are.
        iterations = self.trainer.estimated_stepping_batches / self.config.training.epochs
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda iteration: share(iteration, iterations)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
