"""What a run says while it trains: an opening, a line per epoch, and on a terminal a bar below.

The only place in training that prints.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bsnn_tha.config import RunConfig
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.presets import load_preset
from bsnn_tha.training.callbacks.monitor import ActivityMonitor
from bsnn_tha.training.module import SpikingModule
from bsnn_tha.words import counted

LINE_EVERY = 30.0
"""Seconds between lines within a long epoch, where there is no terminal."""
BAR_EVERY = 0.1
"""Seconds between updates of the bar."""


def progress(monitor: ActivityMonitor) -> Callback:
    """A bar if standard output is a terminal, else a line now and then."""
    return ProgressBar(monitor) if sys.stdout.isatty() else ProgressLines(monitor)


def opening(config: RunConfig) -> str:
    """One paragraph before training starts: what is about to be trained."""
    lines = [
        f"{config.data.name}, variant {config.variant} ({_origin(config)})",
        f"{config.network.notation}, {config.network.weights_in_words()} weights, "
        f"{config.data.num_steps} time steps, batch {config.data.batch_size}, "
        f"{counted(config.training.epochs, 'epoch')}, seed {config.training.seed}",
    ]
    if config.threshold.theta_inf is not None:
        lines.append(f"surrogate gradient {config.neuron.surrogate_centre}")
    return "\n".join(lines)


def _origin(config: RunConfig) -> str:
    """Where the settings come from, and which of them do not."""
    try:
        preset = load_preset(config.data.name, config.variant)
    except InvalidValueError:
        preset = None
    if preset is None or preset.source != config.source:
        return f"starting from {config.source}" if config.source else "own settings"
    own, published = config.flat(), preset.flat()
    changed = [
        key
        for key in dict.fromkeys([*published, *own])
        if own.get(key) != published.get(key)
        and key != "training.seed"
        and not key.startswith("snapshots.")
    ]
    return f"{config.source}; changed: {', '.join(changed)}" if changed else config.source


def say(line: str) -> None:
    """One line, at once."""
    print(line, flush=True)


class ProgressLines(Callback):
    """An opening, a line per epoch, and one every half minute within a long epoch.

    Args:
        monitor: knows the share of dead neurons.
    """

    def __init__(self, monitor: ActivityMonitor) -> None:
        self.monitor = monitor
        self._last = time.monotonic()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        assert isinstance(pl_module, SpikingModule)
        say(opening(pl_module.config))
        if trainer.ckpt_path:
            say(f"resuming from {trainer.ckpt_path}")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if self._due(LINE_EVERY):
            where = f"{_epoch(trainer)}, iteration {batch_idx + 1}/{trainer.num_training_batches}"
            self._print(f"{where}  {self._live(pl_module)}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        order = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_map")
        metrics = trainer.callback_metrics
        values = {name: metrics[name].item() for name in order if name in metrics}
        figures = _figures(values | {"dead": self.monitor.dead_share()})
        self._print(f"{_epoch(trainer)}  {figures}")

    def _print(self, line: str) -> None:
        self._last = time.monotonic()
        say(line)

    def _due(self, seconds: float) -> bool:
        now = time.monotonic()
        if now - self._last < seconds:
            return False
        self._last = now
        return True

    def _live(self, module: LightningModule) -> str:
        """Loss and accuracy of the latest batch; dead neurons so far this epoch."""
        assert isinstance(module, SpikingModule)
        values = {name: float(value) for name, value in module.live.items()}
        return _figures(values | {"dead": self.monitor.dead_share()})


class ProgressBar(ProgressLines):
    """The same lines, above a bar with the time left, loss, accuracy and dead neurons."""

    def __init__(self, monitor: ActivityMonitor) -> None:
        super().__init__(monitor)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[figures]}"),
            transient=True,
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._task = self._bar.add_task(
            _epoch(trainer), total=trainer.estimated_stepping_batches, figures=""
        )
        self._bar.start()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if self._due(BAR_EVERY):
            self._bar.update(
                self._task,
                completed=trainer.global_step,
                description=_epoch(trainer),
                figures=self._live(pl_module),
                refresh=True,  # the bar's own thread may not have its turn in a short run
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._bar.stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._bar.stop()

    def _print(self, line: str) -> None:
        self._bar.console.print(line, highlight=False, soft_wrap=True)


def _epoch(trainer: Trainer) -> str:
    return f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"


def _figures(values: dict[str, float]) -> str:
    shown = []
    for name, value in values.items():
        is_share = name == "dead" or name.endswith("accuracy")
        figure = f"{value:.1%}" if is_share else f"{value:.3g}"
        shown.append(f"{name.replace('_', ' ')} {figure}")
    return "  ".join(shown)
