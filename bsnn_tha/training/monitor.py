"""What is watched during training: activity per layer, and a row per epoch."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from bsnn_tha.metrics import ActivityMeter
from bsnn_tha.nn.network import SpikingLayer
from bsnn_tha.training.files import replace_atomically


class ActivityMonitor(Callback):
    """Firing rate, dead neurons and threshold of every layer.

    Counts the spikes of each :class:`SpikingLayer` through a forward hook, over
    the current epoch (or the current validation or test run), and logs
    ``dead`` (share over all neurons) and, layer by layer, ``rate_1``,
    ``dead_1``, ``threshold_1`` and so on for training epochs.
    """

    def __init__(self) -> None:
        self.meters: list[ActivityMeter] = []
        self._layers: list[SpikingLayer] = []
        self._hooks: list[Any] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._layers = [m for m in pl_module.modules() if isinstance(m, SpikingLayer)]
        self.meters = [ActivityMeter(layer.output_shape) for layer in self._layers]
        self._listen()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(pl_module)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Validation comes inside a training epoch: its spikes are not counted.
        self.teardown(trainer, pl_module, "validate")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen()

    def dead_share(self) -> float:
        """Share of all neurons that have not fired since the epoch began."""
        silent = sum(int((meter.counts == 0).sum()) for meter in self.meters)
        return silent / max(1, sum(meter.counts.numel() for meter in self.meters))

    def layers(self) -> list[dict[str, Any]]:
        """One row per layer: threshold, firing rate, dead share, spikes per sample."""
        rows = []
        for layer, meter in zip(self._layers, self.meters, strict=True):
            rate, dead, spikes_per_sample = meter.compute()
            rows.append(
                {
                    "neurons": meter.counts.numel(),
                    "threshold": layer.neuron.threshold.mean().item(),
                    "firing_rate": rate,
                    "dead_share": dead,
                    "spikes_per_sample": spikes_per_sample,
                }
            )
        return rows

    def _start(self, pl_module: LightningModule) -> None:
        for meter in self.meters:
            meter.to(pl_module.device)
            meter.reset()

    def _listen(self) -> None:
        if self._hooks:
            return
        for layer, meter in zip(self._layers, self.meters, strict=True):
            self._hooks.append(
                layer.register_forward_hook(
                    lambda module, args, window, meter=meter: meter.update(window.spikes)
                )
            )


class EpochTable(Callback):
    """``metrics.csv``: one row per finished epoch, rewritten atomically.

    Args:
        path: of the file.
        monitor: where the activity columns come from.
    """

    def __init__(self, path: Path, monitor: ActivityMonitor) -> None:
        self.path = path
        self.monitor = monitor
        self.rows: list[dict[str, Any]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        row: dict[str, Any] = {"epoch": trainer.current_epoch, "iteration": trainer.global_step}
        row["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        row |= {name: value.item() for name, value in trainer.callback_metrics.items()}
        row["dead"] = self.monitor.dead_share()
        for index, layer in enumerate(self.monitor.layers(), start=1):
            row[f"threshold_{index}"] = layer["threshold"]
            row[f"rate_{index}"] = layer["firing_rate"]
            row[f"dead_{index}"] = layer["dead_share"]
        self.rows.append(row)
        with (
            replace_atomically(self.path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, fieldnames=list(self.rows[0]))
            writer.writeheader()
            for values in self.rows:
                writer.writerow(
                    {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in values.items()}
                )
