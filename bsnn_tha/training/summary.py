"""``summary.json``: what a run did, and the sentences that say how; each from what happened."""

from __future__ import annotations

import json
from typing import Any

from bsnn_tha.config import RunConfig
from bsnn_tha.errors import RunError
from bsnn_tha.functional.running import joined
from bsnn_tha.observe.metrics import weight_bits
from bsnn_tha.observe.workload import footprint
from bsnn_tha.run_folder import RunFolder, replace_atomically
from bsnn_tha.training.callbacks.output import OutputRecorder
from bsnn_tha.training.checkpoint import MovableCheckpoint
from bsnn_tha.training.evaluation import Measured
from bsnn_tha.training.machine import machine_facts
from bsnn_tha.training.session import Fitted, Patience, Session


def read_summary(folder: RunFolder) -> dict[str, Any]:
    """The summary of a run that has finished, perhaps with fewer epochs; {} of one that has not.

    Raises:
        RunError: the file is damaged.
    """
    if not folder.summary.exists():
        return {}
    try:
        values = json.loads(folder.summary.read_text(encoding="utf-8"))
    except ValueError:  # no JSON, or no UTF-8
        values = None
    if not isinstance(values, dict):
        raise RunError(
            f"{folder.summary} is damaged; delete it, then bsnn-tha train --resume {folder.path} "
            "measures the network anew"
        )
    return values


def finished(folder: RunFolder, config: RunConfig) -> dict[str, Any] | None:
    """The summary of a run that has done all it was configured for, else None.

    A run that is made longer has one of fewer epochs until it ends.

    Args:
        folder: of the run.
        config: its own, or one with more epochs.

    Raises:
        RunError: the summary is damaged.
    """
    summary = read_summary(folder)
    return summary if summary and summary["planned_epochs"] >= config.training.epochs else None


def write_summary(folder: RunFolder, summary: dict[str, Any]) -> None:
    """Write it whole or not at all; a run that has it is finished."""
    with replace_atomically(folder.summary) as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def of_training(
    session: Session,
    fitted: Fitted,
    best: MovableCheckpoint,
    recorder: OutputRecorder | None,
) -> dict[str, Any]:
    """Everything but what :func:`with_test` adds.

    Args:
        session: that was trained.
        fitted: what training left.
        best: knows the selected checkpoint, if one was.
        recorder: of the output, if it was recorded.
    """
    config, trainer, seconds = session.config, fitted.trainer, session.stopwatch.seconds
    epochs, planned = trainer.current_epoch, config.training.epochs
    summary: dict[str, Any] = {
        "dataset": config.data.name,
        "variant": config.variant,
        "seed": config.training.seed,
        "data": session.dataset.source,
        "protocol": protocol(session, selected=bool(best.best_model_path), test_uses=0),
        "epochs": epochs,
        "planned_epochs": planned,
        "iterations": trainer.global_step,
        "train_seconds": round(seconds, 2),
        "seconds_per_iteration": round(seconds / max(1, trainer.global_step), 5),
        "train": fitted.train,
        "layers": fitted.layers,
        "layers_of": "the last training epoch",
        "workload": fitted.workload,
        "routes": joined(fitted.routes, session.module.network.routes()),
        "footprint_bytes": footprint(session.module.network),
        "weight_bits": weight_bits(session.module.network)._asdict(),
        # Where it trained: by now Lightning has taken the network to the CPU.
        "machine": machine_facts(trainer.strategy.root_device) | {"processes": trainer.world_size},
    }
    if session.module.schedule is not None and epochs:
        share = session.module.schedule(trainer.global_step, trainer.global_step / epochs)
        summary["learning_rate_share"] = round(share, 4)
    if epochs < planned and (reason := _patience_ended(session, trainer.early_stopping_callbacks)):
        summary["stopped"] = reason
    if recorder and (timing := recorder.timing()):
        summary["timing"] = timing
    if best.best_model_score is not None:
        figure = session.module.figure
        summary["validation"] = {f"best_{figure}": best.best_model_score.item()}
    return summary


def with_test(
    summary: dict[str, Any], session: Session, measured: Measured, checkpoint: str, earlier: int
) -> dict[str, Any]:
    """The summary with what a checkpoint did on the test set.

    Args:
        summary: of :func:`of_training`.
        session: that was trained.
        measured: on the test set.
        checkpoint: name of the file that was measured.
        earlier: how often this run used the test set before, when it had fewer epochs.
    """
    uses = earlier + 1
    return summary | {
        "protocol": protocol(session, selected=checkpoint == "best.ckpt", test_uses=uses),
        "test": measured.values,
        "test_uses": uses,
        "layers": measured.layers,
        "layers_of": f"the test set, {checkpoint}",
        "workload": measured.workload,
        "routes": joined(summary["routes"], session.module.network.routes()),
    }


def uses_of_test_set(summary: dict[str, Any]) -> int:
    """How often a run that has finished before used the test set."""
    return int(summary.get("test_uses", "test" in summary))


def protocol(session: Session, *, selected: bool, test_uses: int) -> str:
    """How the checkpoint came about and how often the test set was used, in words for results.

    Args:
        session: that was trained.
        selected: whether a checkpoint was selected.
        test_uses: how often the network was measured on the test set.
    """
    if not selected:
        return "no validation split: the last checkpoint is used"
    if session.config.training.protocol == "paper":
        return "paper's protocol: checkpoint selected on the test set, so accuracy is optimistic"
    times = {0: "no test set was used", 1: "test set used once"}
    used = times.get(test_uses, f"test set used {test_uses} times, as the run was made longer")
    return f"checkpoint selected on the validation split; {used}"


def _patience_ended(session: Session, callbacks: Any) -> str | None:
    """Why training ended before its last epoch; None if not for want of patience."""
    for callback in callbacks:
        if isinstance(callback, Patience) and callback.wait_count >= callback.patience:
            split = "test" if session.config.training.protocol == "paper" else "validation"
            epochs = f"{callback.patience} epoch{'s' if callback.patience > 1 else ''}"
            figure = {"map": "mAP"}.get(session.module.figure, session.module.figure)
            return f"{split} {figure} no better for {epochs}"
    return None
