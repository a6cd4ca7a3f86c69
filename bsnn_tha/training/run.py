"""Train a configured network, keep what it learned, measure it once at the end."""

from __future__ import annotations

import json
import logging
import platform
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import snntorch
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

import bsnn_tha
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
from bsnn_tha.training.module import SpikingModule
from bsnn_tha.training.monitor import ActivityMonitor, EpochTable
from bsnn_tha.training.progress import progress
from bsnn_tha.training.recorder import OutputRecorder

EVALUATION_BATCH = 4
"""Evaluation keeps no membranes, so its batches are this many times larger."""


@dataclass(frozen=True)
class Machine:
    """Where a run happens; nothing here belongs to the experiment.

    Args:
        data_root: folder with the data files; None for the default.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        threads: CPU threads, or None for torch's choice.
    """

    data_root: Path | None = None
    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class RunResult:
    """A finished (or interrupted) run."""

    folder: RunFolder
    summary: dict[str, Any]


def train(
    config: RunConfig,
    *,
    output: Path | None = None,
    parent: Path = Path("runs"),
    machine: Machine = Machine(),
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
    trainer_options = _trainer_options(config, machine)
    dataset = _load(config, machine)
    seed_everything(config.training.seed, verbose=False)
    module = SpikingModule(config, dataset)  # refuses bad values before any file is made
    name = f"{config.data.name}-{config.variant}"
    folder = RunFolder.create(output) if output else RunFolder.create_numbered(parent, name)
    with replace_atomically(folder.config) as temporary:
        temporary.write_text(config.to_toml(), encoding="utf-8")

    if verbose:
        print(report.opening(config), flush=True)
    monitor = ActivityMonitor()
    checkpoint = _checkpoint(folder, dataset)
    callbacks: list[Callback] = [monitor]
    recorder = OutputRecorder(folder.recording) if config.training.record_output else None
    if recorder is not None:
        callbacks.append(recorder)
    callbacks += [ThresholdAnnealing(), EpochTable(folder.metrics, monitor), checkpoint]
    callbacks.append(SaveOnInterrupt(folder.last))
    if config.training.weight_clip:
        callbacks.append(WeightClipping(config.training.weight_clip))
    if config.training.patience:
        callbacks.append(_early_stopping(config, dataset))
    if verbose:
        callbacks.append(progress(monitor))

    started = time.perf_counter()
    with _quiet(), _interruptible():
        trainer = Trainer(
            **trainer_options,
            max_epochs=config.training.epochs,
            gradient_clip_val=config.training.grad_clip,
            callbacks=callbacks,
        )
        trainer.fit(module, *_fit_loaders(config, dataset))
    seconds = time.perf_counter() - started

    layers = monitor.layers()
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
    }
    if recorder is not None and (timing := recorder.timing()):
        summary["timing"] = timing
    if dataset.validation is not None:
        summary["validation"] = {"best_accuracy": float(checkpoint.best_model_score or 0.0)}
    if dataset.test is not None:
        load_weights(module, folder.checkpoint("best"))
        values, layers = _measure(module, dataset.test, config, trainer_options, verbose)
        summary["test"] = values
    summary |= {
        "layers": layers,
        "weight_bits": weight_bits(module.network)._asdict(),
        "machine": _machine_facts(module),
    }
    with replace_atomically(folder.summary) as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return RunResult(folder, summary)


def evaluate(
    run: Path,
    *,
    checkpoint: str | Path = "best",
    split: str = "test",
    machine: Machine = Machine(),
    verbose: bool = True,
) -> dict[str, Any]:
    """Measure a trained network of a run folder. Writes nothing.

    Args:
        run: the run folder.
        checkpoint: ``"best"``, ``"last"`` or the path of a checkpoint.
        split: ``"test"`` or ``"validation"``.
        machine: data root, device and threads.
        verbose: show progress.

    Returns:
        ``{"loss", "accuracy", "layers"}`` as in the run's summary.

    Raises:
        RunError: no such run or checkpoint, or one of another architecture.
        InvalidValueError: the data set has no such split.
    """
    folder = RunFolder.open(run)
    config = RunConfig.from_file(folder.config)
    options = _trainer_options(config, machine)
    dataset = _load(config, machine)
    part = {"test": dataset.test, "validation": dataset.validation}.get(split)
    if part is None:
        raise InvalidValueError(
            f"{config.data.name} has no {split!r} split in this run; "
            f"known are {', '.join(_splits(dataset)) or 'none: it is a training task only'}"
        )
    module = SpikingModule(config, dataset)
    load_weights(module, folder.checkpoint(checkpoint))
    values, layers = _measure(module, part, config, options, verbose)
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


def _fit_loaders(config: RunConfig, dataset: Dataset) -> tuple[DataLoader, DataLoader | None]:
    generator = torch.Generator().manual_seed(config.training.seed)
    size = len(dataset.train)
    if config.data.subset is not None and config.data.subset > size:
        raise InvalidValueError(
            f"data.subset must be at most the {size} training samples, but got {config.data.subset}"
        )
    # The subset is drawn once, from the seed: the same samples in every epoch.
    samples = torch.randperm(size, generator=torch.Generator().manual_seed(config.training.seed))
    chosen = samples[: config.data.subset] if config.data.subset else range(size)
    train = _batches(dataset.train, config.data.batch_size, chosen, generator)
    if dataset.validation is None:
        return train, None
    return train, _batches(dataset.validation, EVALUATION_BATCH * config.data.batch_size)


def _batches(
    split: Split,
    batch_size: int,
    chosen: Any = None,
    generator: torch.Generator | None = None,
) -> DataLoader:
    """Batches taken from a split by lists of indices; shuffled with a generator."""
    indices = range(len(split)) if chosen is None else chosen
    order: Any = (
        SequentialSampler(indices)
        if generator is None
        else _Reindexed(RandomSampler(indices, generator=generator), indices)
    )
    return DataLoader(
        split,  # type: ignore[arg-type]
        sampler=BatchSampler(order, batch_size, drop_last=False),
        batch_size=None,
    )


class _Reindexed:
    """Positions drawn by a sampler, as the sample indices they stand for."""

    def __init__(self, sampler: RandomSampler, indices: Any) -> None:
        self.sampler = sampler
        self.indices = indices

    def __iter__(self) -> Iterator[int]:
        return (int(self.indices[position]) for position in self.sampler)

    def __len__(self) -> int:
        return len(self.sampler)


def _checkpoint(folder: RunFolder, dataset: Dataset) -> ModelCheckpoint:
    selected = dataset.validation is not None
    return ModelCheckpoint(
        dirpath=folder.path,
        filename=folder.best.stem,
        monitor="val_accuracy" if selected else None,
        mode="max",
        save_top_k=1 if selected else 0,
        save_last=True,
        enable_version_counter=False,
    )


def _early_stopping(config: RunConfig, dataset: Dataset) -> EarlyStopping:
    if dataset.validation is None:
        raise InvalidValueError(
            "training.patience needs a validation split; set data.validation above 0 "
            "or leave out training.patience"
        )
    assert config.training.patience is not None
    return EarlyStopping("val_accuracy", mode="max", patience=config.training.patience)


def _measure(
    module: SpikingModule,
    split: Split,
    config: RunConfig,
    trainer_options: dict[str, Any],
    verbose: bool,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Loss and accuracy on a split, and the activity of every layer."""
    monitor = ActivityMonitor()
    with _quiet():
        trainer = Trainer(**trainer_options, callbacks=[monitor])
        loader = _batches(split, EVALUATION_BATCH * config.data.batch_size)
        (values,) = trainer.test(module, loader, verbose=False)
        layers = monitor.layers()
    return {name.removeprefix("test_"): value for name, value in values.items()}, layers


def _epoch_values(trainer: Trainer, split: str) -> dict[str, float]:
    return {
        name.removeprefix(f"{split}_"): value.item()
        for name, value in trainer.callback_metrics.items()
        if name.startswith(f"{split}_")
    }


def _trainer_options(config: RunConfig, machine: Machine) -> dict[str, Any]:
    if machine.device not in ("auto", "cpu", "cuda", "mps"):
        raise InvalidValueError(
            f"device must be auto, cpu, cuda or mps, but got {machine.device!r}"
        )
    if machine.device == "cuda" and not torch.cuda.is_available():
        raise InvalidValueError("device 'cuda' was asked for, but torch finds no CUDA device")
    if machine.threads is not None:
        if machine.threads < 1:
            raise InvalidValueError(f"threads must be at least 1, but got {machine.threads}")
        torch.set_num_threads(machine.threads)
    return {
        "accelerator": machine.device,
        "devices": 1,
        "precision": config.training.precision,
        "logger": False,
        "enable_model_summary": False,
        "enable_progress_bar": False,
        "enable_checkpointing": True,
    }


def _machine_facts(module: SpikingModule) -> dict[str, Any]:
    return {
        "device": str(module.device),
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "snntorch": snntorch.__version__,
        "lightning": lightning.__version__,
        "bsnn_tha": bsnn_tha.__version__,
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's advice (workers, hardware lists) is not for this tool's users."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C leaves as KeyboardInterrupt; Lightning would end the process itself."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as exit_request:
        if isinstance(exit_request.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, handler)
