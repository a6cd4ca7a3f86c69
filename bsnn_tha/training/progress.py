"""What a run says while it trains: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from bsnn_tha.training.module import SpikingModule
from bsnn_tha.training.monitor import ActivityMonitor

LINE_EVERY = 30.0
"""Seconds between lines within a long epoch, where there is no terminal."""


def progress(monitor: ActivityMonitor) -> Callback:
    """A progress bar if standard output is a terminal, else a line now and then."""
    return ProgressBar(monitor) if sys.stdout.isatty() else ProgressLines(monitor)


def _live(module: LightningModule, monitor: ActivityMonitor) -> dict[str, float]:
    """Loss and accuracy of the latest batch; dead neurons so far this epoch."""
    assert isinstance(module, SpikingModule)
    values = {name: float(value) for name, value in module.live.items()}
    return values | {"dead": monitor.dead_share()}


class ProgressBar(RichProgressBar):
    """A bar with the loss, the accuracy and the share of dead neurons."""

    def __init__(self, monitor: ActivityMonitor) -> None:
        super().__init__()
        self.monitor = monitor

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Figures shown at the end of the bar."""
        shown = {k: f"{v:.3f}" for k, v in _live(pl_module, self.monitor).items()}
        if "val_accuracy" in trainer.callback_metrics:
            shown["val_accuracy"] = f"{trainer.callback_metrics['val_accuracy'].item():.3f}"
        return shown


class ProgressLines(Callback):
    """A line per epoch, and one every half minute within a long epoch."""

    def __init__(self, monitor: ActivityMonitor) -> None:
        self.monitor = monitor
        self._last = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if time.monotonic() - self._last > LINE_EVERY:
            iteration = f", iteration {batch_idx + 1}/{trainer.num_training_batches}"
            self._say(trainer, iteration, _live(pl_module, self.monitor))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        order = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
        metrics = trainer.callback_metrics
        values = {name: metrics[name].item() for name in order if name in metrics}
        self._say(trainer, "", values | {"dead": self.monitor.dead_share()})

    def _say(self, trainer: Trainer, where: str, values: dict[str, float]) -> None:
        self._last = time.monotonic()
        figures = "  ".join(
            f"{name.replace('_', ' ')} {value:.4f}" for name, value in values.items()
        )
        print(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}{where}  {figures}", flush=True
        )
