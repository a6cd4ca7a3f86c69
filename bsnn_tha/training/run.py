"""Train a configured network, keep what it learned, measure it once at the end.

A run is its folder. Killed at any moment, it goes on from its last finished
epoch with :func:`resume`, and on the same CPU with as many threads ends with
the same bits as if nothing had happened.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping
from torch.utils.data import DataLoader

from bsnn_tha import report
from bsnn_tha.config import RunConfig
from bsnn_tha.data.dataset import Dataset, Split
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.metrics import weight_bits
from bsnn_tha.training.callbacks import ThresholdAnnealing, WeightClipping
from bsnn_tha.training.checkpoint import (
    DurableCheckpointIO,
    MovableCheckpoint,
    load_weights,
    resumable_checkpoint,
)
from bsnn_tha.training.evaluation import EVALUATION_BATCH, epoch_values, load_data, measure
from bsnn_tha.training.files import RunFolder, replace_atomically
from bsnn_tha.training.loaders import evaluation_batches, training_batches
from bsnn_tha.training.machine import THIS_MACHINE, Machine, interruptible, machine_facts, quiet
from bsnn_tha.training.module import SpikingModule
from bsnn_tha.training.monitor import ActivityMonitor, EpochTable
from bsnn_tha.training.progress import progress
from bsnn_tha.training.recorder import OutputRecorder
from bsnn_tha.training.seeding import EpochSeed
from bsnn_tha.training.stopwatch import Stopwatch


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
    set, if there is one, is used once, with that checkpoint, at the end. With
    ``training.protocol = "paper"`` the test set itself selects.

    Args:
        config: the run, see :class:`bsnn_tha.config.RunConfig`.
        output: the run folder, which must not hold anything yet. By default a
            new numbered folder below ``parent``.
        parent: where numbered run folders go.
        machine: data root, devices and threads.
        verbose: show progress.

    Returns:
        The folder and the summary, which is also in its ``summary.json``.

    Raises:
        InvalidValueError: the configuration breaks a rule. Nothing is written.
        DataError: data is missing or damaged. Nothing is written.
        RunError: the output folder cannot be written or is not empty.
        TrainingError: the loss is not finite. Earlier checkpoints stay.
        KeyboardInterrupt: interrupted; :func:`resume` goes on.
    """
    session = _Session.prepare(config, machine, verbose)
    # All that can be refused has been: only now is a file made.
    name = f"{config.data.name}-{config.variant}"
    if not machine.leads:
        folder = RunFolder(output or parent)  # never written by this process
    else:
        folder = RunFolder.create(output) if output else RunFolder.create_numbered(parent, name)
    return session.run(folder, checkpoint=None)


def resume(
    run: Path,
    *,
    epochs: int | None = None,
    machine: Machine = THIS_MACHINE,
    verbose: bool = True,
) -> RunResult:
    """Go on with a run that was stopped, from its last finished epoch.

    A finished run is left as it is, unless ``epochs`` asks for more.

    Args:
        run: the run folder.
        epochs: a new, higher ``training.epochs``.
        machine: data root, devices and threads.
        verbose: show progress.

    Raises:
        RunError: no such run, none of its checkpoints can be read, or another
            process is training in the folder.
        InvalidValueError: fewer epochs than the run was configured for.
    """
    folder = RunFolder.open(run)
    config = RunConfig.from_file(folder.config)
    if epochs is not None:
        if epochs < config.training.epochs:
            raise InvalidValueError(
                f"a resumed run can be made longer than its {config.training.epochs} epochs, "
                f"but got epochs={epochs}"
            )
        config = config.with_changes({"training.epochs": epochs})
    if summary := finished(folder, config):
        return RunResult(folder, summary)
    checkpoint = resumable_checkpoint(folder)
    return _Session.prepare(config, machine, verbose).run(folder, checkpoint)


def finished(folder: RunFolder, config: RunConfig) -> dict[str, Any] | None:
    """The summary of a run that has done all it was configured for, else None."""
    if not folder.summary.exists():
        return None
    summary: dict[str, Any] = json.loads(folder.summary.read_text(encoding="utf-8"))
    return summary if summary["planned_epochs"] >= config.training.epochs else None


@dataclass(frozen=True)
class _Session:
    """One process's part in a run: everything that is built before training."""

    config: RunConfig
    machine: Machine
    verbose: bool
    dataset: Dataset
    training: DataLoader
    selection: DataLoader | None
    module: SpikingModule

    @classmethod
    def prepare(cls, config: RunConfig, machine: Machine, verbose: bool) -> _Session:
        machine.trainer_options()  # refuses what this machine lacks
        dataset = load_data(config, machine)
        selecting = _selecting(config, dataset)
        _check(config, dataset, selecting)
        training = training_batches(
            dataset.train, config.data.batch_size, config.training.seed, config.data.subset
        )
        size = EVALUATION_BATCH * config.data.batch_size
        selection = None if selecting is None else evaluation_batches(selecting, size)
        seed_everything(config.training.seed, verbose=False)
        module = SpikingModule(config, dataset)
        verbose = verbose and machine.leads
        return cls(config, machine, verbose, dataset, training, selection, module)

    def run(self, folder: RunFolder, checkpoint: Path | None) -> RunResult:
        if not self.machine.leads:
            self._fit(folder, checkpoint)
            return RunResult(folder, {})
        with folder.claimed():
            with replace_atomically(folder.config) as temporary:
                temporary.write_text(self.config.to_toml(), encoding="utf-8")
            if self.verbose:
                print(report.opening(self.config), flush=True)
                if checkpoint:
                    print(f"resuming from {checkpoint}", flush=True)
            summary = self._fit(folder, checkpoint)
            if self.dataset.test is not None:
                load_weights(self.module, folder.checkpoint("best"))
                options = self.machine.trainer_options(together=False)
                test, layers = measure(self.module, self.dataset, self.dataset.test, options)
                summary |= {"test": test, "layers": layers}
            with replace_atomically(folder.summary) as temporary:
                temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
            folder.previous.unlink(missing_ok=True)
        return RunResult(folder, summary)

    def _fit(self, folder: RunFolder, checkpoint: Path | None) -> dict[str, Any]:
        """Train; the summary of everything but the test set."""
        config = self.config
        monitor, stopwatch = ActivityMonitor(), Stopwatch()
        recorder = OutputRecorder(folder.recording) if config.training.record_output else None
        best, last = _checkpoints(folder, selected=self.selection is not None)
        with quiet(), interruptible(folder), _processes_end():
            trainer = Trainer(
                **self.machine.trainer_options(),
                precision=config.training.precision,
                max_epochs=config.training.epochs,
                gradient_clip_val=config.training.grad_clip,
                accumulate_grad_batches=config.training.accumulate,
                num_sanity_val_steps=0,
                plugins=[DurableCheckpointIO()],
                logger=_loggers(folder),
                callbacks=[
                    EpochSeed(config.training.seed),
                    monitor,
                    *([recorder] if recorder else []),  # before annealing moves θ on
                    ThresholdAnnealing(),
                    stopwatch,
                    EpochTable(folder.metrics, monitor),
                    best,
                    last,
                    *_optional_callbacks(config),
                    *([progress(monitor)] if self.verbose else []),
                ],
            )
            trainer.fit(
                self.module, self.training, self.selection, ckpt_path=checkpoint, weights_only=True
            )
            layers = monitor.layers()
        summary: dict[str, Any] = {
            "dataset": config.data.name,
            "variant": config.variant,
            "seed": config.training.seed,
            "data": self.dataset.source,
            "protocol": _protocol(config, self.dataset),
            "epochs": trainer.current_epoch,
            "planned_epochs": config.training.epochs,
            "iterations": trainer.global_step,
            "train_seconds": round(stopwatch.seconds, 2),
            "seconds_per_iteration": round(stopwatch.seconds / max(1, trainer.global_step), 5),
            "train": epoch_values(trainer, "train"),
            "layers": layers,
            "weight_bits": weight_bits(self.module.network)._asdict(),
            "machine": machine_facts(self.module.device),
        }
        if recorder and (timing := recorder.timing()):
            summary["timing"] = timing
        if best.best_model_score is not None:
            summary["validation"] = {"best_accuracy": best.best_model_score.item()}
        return summary


def _selecting(config: RunConfig, dataset: Dataset) -> Split | None:
    """The samples that select the checkpoint and stop training."""
    return dataset.test if config.training.protocol == "paper" else dataset.validation


def _protocol(config: RunConfig, dataset: Dataset) -> str:
    if _selecting(config, dataset) is None:
        return "no validation split: the last checkpoint is used"
    if config.training.protocol == "paper":
        return "paper's protocol: checkpoint selected on the test set, so accuracy is optimistic"
    return "checkpoint selected on the validation split; test set used once"


def _check(config: RunConfig, dataset: Dataset, selecting: Split | None) -> None:
    samples = config.data.subset or len(dataset.train)
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


def _checkpoints(folder: RunFolder, selected: bool) -> tuple[MovableCheckpoint, MovableCheckpoint]:
    """One that keeps the best validation epoch (if any is selected), one the last epoch."""
    common: dict[str, Any] = {"dirpath": folder.path, "enable_version_counter": False}
    best = MovableCheckpoint(
        filename=folder.best.stem,
        monitor="val_accuracy" if selected else None,
        mode="max",
        save_top_k=1 if selected else 0,
        **common,
    )
    # Not save_last: that would copy the best one in epochs that are no better.
    last = MovableCheckpoint(filename=folder.last.stem, save_on_train_epoch_end=True, **common)
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


def _loggers(folder: RunFolder) -> Any:
    """TensorBoard, where it is installed."""
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        return False
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(folder.path, name="", version="tensorboard")


@contextmanager
def _processes_end() -> Iterator[None]:
    """What follows training is one process's work: the others are no longer waited for."""
    try:
        yield
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
