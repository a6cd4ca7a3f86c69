"""Train a configured network, keep what it learned, measure it once at the end.

A run is its folder. Killed at any moment, it goes on from its last finished
epoch with :func:`resume`, and on the same CPU with as many threads ends with
the same bits as if nothing had happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bsnn_tha.config import RunConfig
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.observe.metrics import Activity
from bsnn_tha.run_folder import RunFolder, replace_atomically
from bsnn_tha.training.allowed import remember, run_config
from bsnn_tha.training.callbacks.monitor import Columns, EpochTable
from bsnn_tha.training.callbacks.output import OutputRecorder
from bsnn_tha.training.callbacks.progress import progress
from bsnn_tha.training.callbacks.snapshots import Snapshots, layer_name, spiking_layers
from bsnn_tha.training.checkpoint import MovableCheckpoint, load_weights, resumable_checkpoint
from bsnn_tha.training.evaluation import measure
from bsnn_tha.training.machine import THIS_MACHINE, Machine, interruptible
from bsnn_tha.training.session import Session
from bsnn_tha.training.summary import (
    finished,
    of_training,
    read_summary,
    uses_of_test_set,
    with_test,
    write_summary,
)


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

    The checkpoint with the highest validation accuracy (of boxes, mAP) is selected; the test
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
    session = Session.prepare(config, machine)
    # All that can be refused has been: only now is a file made.
    name = f"{config.data.label}-{config.variant}"
    if not machine.leads:
        folder = RunFolder(output or parent)  # never written by this process
    else:
        folder = RunFolder.create(output) if output else RunFolder.create_numbered(parent, name)
    return _keep(session, folder, verbose, begun=False)


def resume(
    run: Path,
    *,
    epochs: int | None = None,
    machine: Machine = THIS_MACHINE,
    verbose: bool = True,
    allow_code: bool = False,
) -> RunResult:
    """Go on with a run that was stopped, from its last finished epoch.

    A finished run is left as it is, unless ``epochs`` asks for more. A learning rate that
    ends where training ends (``cosine-to-zero``, ``one-cycle``) then goes on as it would stand
    in the longer training: the run is not what that would have been from its start.

    Args:
        run: the run folder.
        epochs: a new, higher ``training.epochs``.
        machine: data root, devices and threads.
        verbose: show progress.
        allow_code: whether a run that was not trained here may name code outside this
            package (:mod:`bsnn_tha.training.allowed`).

    Raises:
        RunError: no such run, none of its checkpoints can be read, or another
            process is training in the folder.
        InvalidValueError: fewer epochs than the run was configured for.
    """
    folder = RunFolder.open(run)
    config = run_config(folder, allow_code)
    if epochs is not None:
        if epochs < config.training.epochs:
            raise InvalidValueError(
                f"a resumed run can be made longer than its {config.training.epochs} epochs, "
                f"but got epochs={epochs}"
            )
        config = config.with_changes({"training.epochs": epochs})
    if summary := finished(folder, config):
        return RunResult(folder, summary if machine.leads else {})
    if stopped := read_summary(folder).get("stopped"):
        raise InvalidValueError(
            f"{run} ended before its last epoch ({stopped}), and more epochs would not begin; "
            "train anew with a higher training.patience"
        )
    resumable_checkpoint(folder)  # refuses a run that has none, before anything is touched
    session = Session.prepare(config, machine)
    return _keep(session, folder, verbose, begun=True)


def _keep(session: Session, folder: RunFolder, verbose: bool, *, begun: bool) -> RunResult:
    """Train and measure, writing the run's files in the process that leads."""
    if not session.machine.leads:
        with interruptible():
            _fit(session, folder, resumable_checkpoint(folder) if begun else None, verbose=False)
        return RunResult(folder, {})
    with folder.claimed(), interruptible(lambda: _go_on(folder)):
        # Another process may have trained on, or ended, since this one looked.
        if begun and (summary := finished(folder, session.config)):
            return RunResult(folder, summary)
        checkpoint = resumable_checkpoint(folder) if begun else None
        if checkpoint == folder.previous:  # a damaged last one must not take its place
            folder.last.unlink(missing_ok=True)
        with replace_atomically(folder.config) as temporary:
            temporary.write_text(session.config.to_toml(), encoding="utf-8")
        remember(folder.path, session.config)
        earlier = uses_of_test_set(read_summary(folder))
        summary = _fit(session, folder, checkpoint, verbose)
        if session.dataset.test is not None:
            summary = _measure(session, folder, summary, earlier)
        write_summary(folder, summary)
        folder.previous.unlink(missing_ok=True)
    return RunResult(folder, summary)


def _fit(
    session: Session, folder: RunFolder, checkpoint: Path | None, verbose: bool
) -> dict[str, Any]:
    """Train; the summary of everything but the test set."""
    config, monitor = session.config, session.monitor
    recorder = OutputRecorder(folder.recording) if config.training.record_output else None
    snapshots = Snapshots(folder, config.snapshots, session.dataset)
    figure = None if session.selection is None else f"val_{session.module.figure}"
    best, last = _checkpoints(folder, figure)
    sources: list[Columns] = [monitor, *([session.silencing] if session.silencing else [])]
    fitted = session.fit(
        before_annealing=[*([recorder] if recorder else []), snapshots],
        after_epoch=[
            EpochTable(folder.metrics, *sources),
            best,
            last,
            *([progress(monitor)] if verbose else []),
        ],
        logger=_loggers(folder),
        checkpoint=checkpoint,
    )
    return of_training(session, fitted, best, recorder)


def _measure(
    session: Session, folder: RunFolder, summary: dict[str, Any], earlier: int
) -> dict[str, Any]:
    """The summary with what the selected checkpoint does on the test set."""
    test, selected = session.dataset.test, folder.checkpoint("best")
    assert test is not None
    load_weights(session.module, selected)
    options = session.machine.trainer_options(together=False)
    measured = measure(session.module, session.dataset, test, options)
    _write_activity(folder, session, measured.counts)
    return with_test(summary, session, measured, selected.name, earlier)


def _write_activity(folder: RunFolder, session: Session, counts: list[Activity]) -> None:
    """``activity.npz``: see :mod:`bsnn_tha.observe.recording`."""
    layers = spiking_layers(session.module)
    arrays: dict[str, Any] = {
        "samples": counts[0].samples,
        "time_steps": counts[0].presentations // counts[0].samples,
        "layer_names": np.array([layer_name(layer) for layer in layers]),
        "thresholds": np.array([layer.neuron.threshold.mean().item() for layer in layers]),
    }
    for number, activity in enumerate(counts, start=1):
        mean = activity.counts.flatten().cpu().double() / activity.samples
        arrays[f"shape_{number}"] = np.array(activity.counts.shape)
        arrays[f"mean_counts_{number}"] = mean.float().numpy()
    with replace_atomically(folder.activity) as path, path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _go_on(folder: RunFolder) -> str:
    """How to go on with a run that is interrupted now."""
    there = folder.last.exists() or folder.previous.exists()
    where = "from the last finished epoch" if there else "from the start, as no epoch has ended,"
    return f"interrupted; go on {where} with bsnn-tha train --resume {folder.path}"


def _checkpoints(
    folder: RunFolder, figure: str | None
) -> tuple[MovableCheckpoint, MovableCheckpoint]:
    """One that keeps the best validation epoch (if any is selected), one the last epoch."""
    common: dict[str, Any] = {"dirpath": folder.path, "enable_version_counter": False}
    best = MovableCheckpoint(
        filename=folder.best.stem,
        monitor=figure,
        mode="max",
        save_top_k=1 if figure else 0,
        **common,
    )
    # Not save_last: that would copy the best one in epochs that are no better.
    last = MovableCheckpoint(filename=folder.last.stem, save_on_train_epoch_end=True, **common)
    return best, last


def _loggers(folder: RunFolder) -> Any:
    """TensorBoard, where it is installed."""
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        return False
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(folder.path, name="", version="tensorboard")
