"""Train a configured network, keep what it learned, measure it once at the end."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader

from bsnn_tha import report
from bsnn_tha.config import RunConfig
from bsnn_tha.data import load_dataset
from bsnn_tha.data.dataset import Dataset, Split
from bsnn_tha.data.root import data_root
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.metrics import weight_bits
from bsnn_tha.training.callbacks import ThresholdAnnealing, WeightClipping
from bsnn_tha.training.checkpoint import SaveOnInterrupt, load_weights
from bsnn_tha.training.files import RunFolder, replace_atomically
from bsnn_tha.training.loaders import evaluation_batches, training_batches
from bsnn_tha.training.machine import THIS_MACHINE, Machine, interruptible, machine_facts, quiet
from bsnn_tha.training.module import SpikingModule
from bsnn_tha.training.monitor import ActivityMonitor, EpochTable
from bsnn_tha.training.progress import progress
from bsnn_tha.training.recorder import OutputRecorder

EVALUATION_BATCH = 4
"""Evaluation keeps no membranes, so its batches are this many times larger."""


@dataclass(frozen=True)
class RunResult:
    """A finished run."""

    folder: RunFolder
    summary: dict[str, Any]


def train(
    config: RunConfig,
    *,
    output: Path | None = None,
    parent: Path = Path("runs"),
    machine: Machine = THIS_MACHINE,
    verbose: bool = True,
) -> RunResult:
    """Train as configured and write a run folder.

    The checkpoint with the highest validation accuracy is selected; the test
    set, if there is one, is used once, with that checkpoint, at the end.

    Args:
        config: the run, see :class:`bsnn_tha.config.RunConfig`.
        output: the run folder, which must not hold anything yet. By default a
            new numbered folder below ``parent``.
        parent: where numbered run folders go.
        machine: data root, device and threads.
        verbose: show progress.

    Returns:
        The folder and the summary, which is also in its ``summary.json``.

    Raises:
        InvalidValueError: the configuration breaks a rule. Nothing is written.
        DataError: data is missing or damaged. Nothing is written.
        RunError: the output folder cannot be written or is not empty.
        TrainingError: the loss is not finite. Earlier checkpoints stay.
        KeyboardInterrupt: interrupted; ``last.ckpt`` holds the latest weights.
    """
    options = machine.trainer_options() | {"precision": config.training.precision}
    dataset = _load(config, machine)
    batches = _fit_batches(config, dataset)
    seed_everything(config.training.seed, verbose=False)
    module = SpikingModule(config, dataset)
    # All that can be refused has been: only now is a file made.
    name = f"{config.data.name}-{config.variant}"
    folder = RunFolder.create(output) if output else RunFolder.create_numbered(parent, name)
    with replace_atomically(folder.config) as temporary:
        temporary.write_text(config.to_toml(), encoding="utf-8")
    if verbose:
        print(report.opening(config), flush=True)

    fitted = _fit(module, batches, folder, config, options, verbose)
    summary = _summary(fitted, module, dataset, config)
    if dataset.test is not None:
        load_weights(module, folder.checkpoint("best"))
        summary["test"], summary["layers"] = _measure(module, dataset.test, config, options)
    with replace_atomically(folder.summary) as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return RunResult(folder, summary)


def evaluate(
    run: Path,
    *,
    checkpoint: str | Path = "best",
    split: str = "test",
    machine: Machine = THIS_MACHINE,
) -> dict[str, Any]:
    """Measure a trained network of a run folder. Writes nothing.

    Args:
        run: the run folder.
        checkpoint: ``"best"``, ``"last"`` or the path of a checkpoint.
        split: ``"test"`` or ``"validation"``.
        machine: data root, device and threads.

    Returns:
        ``{"loss", "accuracy", "layers"}`` as in the run's summary.

    Raises:
        RunError: no such run or checkpoint, or one of another architecture.
        InvalidValueError: the data set has no such split.
    """
    folder = RunFolder.open(run)
    config = RunConfig.from_file(folder.config)
    options = machine.trainer_options() | {"precision": config.training.precision}
    dataset = _load(config, machine)
    part = {"test": dataset.test, "validation": dataset.validation}.get(split)
    if part is None:
        raise InvalidValueError(
            f"{config.data.name} has no {split!r} split in this run; "
            f"known are {', '.join(_splits(dataset)) or 'none: it is a training task only'}"
        )
    module = SpikingModule(config, dataset)
    load_weights(module, folder.checkpoint(checkpoint))
    values, layers = _measure(module, part, config, options)
    return {**values, "layers": layers}


def _load(config: RunConfig, machine: Machine) -> Dataset:
    return load_dataset(
        config.data.name,
        root=data_root(machine.data_root),
        seed=config.training.seed,
        validation=config.data.validation,
        num_steps=config.data.num_steps,
        options=config.data.options,
    )


def _splits(dataset: Dataset) -> list[str]:
    return [name for name in ("validation", "test") if getattr(dataset, name) is not None]


def _protocol(dataset: Dataset) -> str:
    if dataset.validation is not None:
        return "checkpoint selected on the validation split; test set used once"
    return "no validation split: the last checkpoint is used"


def _fit_batches(config: RunConfig, dataset: Dataset) -> tuple[DataLoader, DataLoader | None]:
    samples = config.data.subset or len(dataset.train)
    if config.training.record_output and samples % config.data.batch_size:
        raise InvalidValueError(
            f"training.record_output needs batches of one size, but the last of {samples} samples "
            f"in batches of {config.data.batch_size} is smaller; choose a data.batch_size that "
            "divides the samples"
        )
    if config.training.patience is not None and dataset.validation is None:
        raise InvalidValueError(
            "training.patience needs a validation split; set data.validation above 0 "
            "or leave out training.patience"
        )
    training = training_batches(
        dataset.train, config.data.batch_size, config.training.seed, config.data.subset
    )
    if dataset.validation is None:
        return training, None
    size = EVALUATION_BATCH * config.data.batch_size
    return training, evaluation_batches(dataset.validation, size)


@dataclass(frozen=True)
class _Fitted:
    """What training leaves behind for the summary."""

    trainer: Trainer
    monitor: ActivityMonitor
    recorder: OutputRecorder | None
    best: ModelCheckpoint
    seconds: float


def _fit(
    module: SpikingModule,
    batches: tuple[DataLoader, DataLoader | None],
    folder: RunFolder,
    config: RunConfig,
    options: dict[str, Any],
    verbose: bool,
) -> _Fitted:
    monitor = ActivityMonitor()
    recorder = OutputRecorder(folder.recording) if config.training.record_output else None
    best, last = _checkpoints(folder, selected=batches[1] is not None)
    started = time.perf_counter()
    with quiet(), interruptible(folder.last):
        trainer = Trainer(
            **options,
            max_epochs=config.training.epochs,
            gradient_clip_val=config.training.grad_clip,
            num_sanity_val_steps=0,
            callbacks=[
                monitor,
                *([recorder] if recorder else []),  # before annealing moves θ on
                ThresholdAnnealing(),
                EpochTable(folder.metrics, monitor),
                best,
                last,
                SaveOnInterrupt(folder.last),
                *_optional_callbacks(config),
                *([progress(monitor)] if verbose else []),
            ],
        )
        trainer.fit(module, *batches)
    return _Fitted(trainer, monitor, recorder, best, time.perf_counter() - started)


def _summary(
    fitted: _Fitted, module: SpikingModule, dataset: Dataset, config: RunConfig
) -> dict[str, Any]:
    """Everything but the test set's result."""
    trainer, seconds = fitted.trainer, fitted.seconds
    summary: dict[str, Any] = {
        "dataset": config.data.name,
        "variant": config.variant,
        "seed": config.training.seed,
        "data": dataset.source,
        "protocol": _protocol(dataset),
        "epochs": trainer.current_epoch,
        "iterations": trainer.global_step,
        "train_seconds": round(seconds, 2),
        "seconds_per_iteration": round(seconds / max(1, trainer.global_step), 5),
        "train": _epoch_values(trainer, "train"),
        "layers": fitted.monitor.layers(),
        "weight_bits": weight_bits(module.network)._asdict(),
        "machine": machine_facts(module.device),
    }
    if fitted.recorder and (timing := fitted.recorder.timing()):
        summary["timing"] = timing
    if fitted.best.best_model_score is not None:
        summary["validation"] = {"best_accuracy": fitted.best.best_model_score.item()}
    return summary


def _checkpoints(folder: RunFolder, selected: bool) -> tuple[ModelCheckpoint, ModelCheckpoint]:
    """One that keeps the best validation epoch (if any is selected), one the last epoch."""
    common: dict[str, Any] = {"dirpath": folder.path, "enable_version_counter": False}
    best = ModelCheckpoint(
        filename=folder.best.stem,
        monitor="val_accuracy" if selected else None,
        mode="max",
        save_top_k=1 if selected else 0,
        **common,
    )
    # Not save_last: that would copy the best one in epochs that are no better.
    last = ModelCheckpoint(filename=folder.last.stem, save_on_train_epoch_end=True, **common)
    return best, last


def _optional_callbacks(config: RunConfig) -> list[Callback]:
    callbacks: list[Callback] = []
    if config.training.weight_clip is not None:
        callbacks.append(WeightClipping(config.training.weight_clip))
    if config.training.patience is not None:
        callbacks.append(
            EarlyStopping("val_accuracy", mode="max", patience=config.training.patience)
        )
    return callbacks


def _measure(
    module: SpikingModule,
    split: Split,
    config: RunConfig,
    options: dict[str, Any],
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Loss and accuracy on a split, and the activity of every layer."""
    monitor = ActivityMonitor()
    with quiet():
        trainer = Trainer(**options, callbacks=[monitor])
        loader = evaluation_batches(split, EVALUATION_BATCH * config.data.batch_size)
        (values,) = trainer.test(module, loader, verbose=False)
        layers = monitor.layers()
    return {name.removeprefix("test_"): value for name, value in values.items()}, layers


def _epoch_values(trainer: Trainer, split: str) -> dict[str, float]:
    return {
        name.removeprefix(f"{split}_"): value.item()
        for name, value in trainer.callback_metrics.items()
        if name.startswith(f"{split}_")
    }
