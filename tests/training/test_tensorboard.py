"""What TensorBoard is shown of a run."""

from __future__ import annotations

import pytest
from training_runs import EPOCHS, MACHINE, PER_EPOCH, at_call, killed, table, train_tiny

from bsnn_tha.run_folder import RunFolder
from bsnn_tha.training.module import SpikingModule
from bsnn_tha.training.run import resume

event_accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator",
    reason="TensorBoard is not installed",
)


def scalars(folder):
    """By name, (step, value) of every entry."""
    events = event_accumulator.EventAccumulator(str(folder.path / "tensorboard"))
    events.Reload()
    return {
        name: [(entry.step, entry.value) for entry in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def assert_shows(found, folder):
    rows = table(folder)
    shown = set(rows[0]) - {"epoch", "iteration"}
    assert {"train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr"} <= shown
    assert {"threshold_1", "rate_2", "dead_1", "dead", "grad_norm", "flipped_1"} <= shown
    assert shown <= set(found)
    for name in shown:
        assert [step for step, _ in found[name]] == [row["iteration"] - 1 for row in rows], name
        values = [row[name] for row in rows]
        assert [value for _, value in found[name]] == pytest.approx(values, rel=1e-4), name


def test_the_figures_of_every_epoch_are_shown_at_its_last_iteration(done):
    assert len(table(done.folder)) == EPOCHS
    assert_shows(scalars(done.folder), done.folder)


def test_a_resumed_run_goes_on_with_its_curves(done, tmp_path):
    stop = at_call(SpikingModule, "training_step", 2 * PER_EPOCH + 2)
    assert killed(lambda: train_tiny(tmp_path / "run"), stop)
    resume(tmp_path / "run", machine=MACHINE, verbose=False)
    found = scalars(RunFolder(tmp_path / "run"))
    steps = {step for step, _ in found["train_loss"]}
    assert steps <= {row["iteration"] - 1 for row in table(done.folder)}
    assert PER_EPOCH * EPOCHS - 1 in steps
