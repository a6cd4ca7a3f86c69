"""Training that cannot go on, and what is refused before it begins."""

from __future__ import annotations

import math
import signal

import pytest
import torch
from training_runs import (
    MACHINE,
    PER_EPOCH,
    assert_alike,
    digits,
    fail_after,
    interrupt,
    measure,
    names,
    run_files,
    table,
    tiny,
    train_tiny,
)

from bsnn_tha.errors import InvalidValueError, TrainingError
from bsnn_tha.run_folder import RunFolder
from bsnn_tha.training.evaluation import evaluate
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.run import train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning")

AFTER_AN_EPOCH = run_files("best.ckpt", "config.toml", "last.ckpt", "metrics.csv")


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=["nan", "inf"])
def test_a_loss_that_is_not_finite_ends_training_and_keeps_earlier_checkpoints(
    value, monkeypatch, tmp_path
):
    fail_after(monkeypatch, 4, lambda loss: loss * value)
    with pytest.raises(TrainingError) as refusal:
        train_tiny(tmp_path / "run")
    text = str(refusal.value)
    assert "\n" not in text
    assert f"is {value} at iteration 4" in text
    assert "--set training.grad_clip=1.0" in text
    folder = RunFolder.open(tmp_path / "run")
    assert names(folder.path) == AFTER_AN_EPOCH
    assert len(table(folder)) == 1
    assert torch.load(folder.last, weights_only=True)["global_step"] == PER_EPOCH
    monkeypatch.undo()
    result = evaluate(folder.path, checkpoint="last", machine=MACHINE)
    assert_alike(result, measure(folder.last, digits().test))


@pytest.mark.parametrize("finished", [1, 2])
def test_an_interrupt_leaves_the_finished_epochs_and_says_how_to_go_on(
    finished, monkeypatch, tmp_path
):
    handler = signal.getsignal(signal.SIGINT)
    fail_after(monkeypatch, finished * PER_EPOCH + 1, interrupt)
    with pytest.raises(KeyboardInterrupt) as interruption:
        train_tiny(tmp_path / "run")
    assert str(interruption.value) == (
        "interrupted; go on from the last finished epoch with "
        f"bsnn-tha train --resume {tmp_path / 'run'}"
    )
    assert signal.getsignal(signal.SIGINT) is handler
    folder = RunFolder.open(tmp_path / "run")
    before = ["previous.ckpt"] if finished > 1 else []
    assert names(folder.path) == sorted([*AFTER_AN_EPOCH, *before])
    assert len(table(folder)) == finished
    last = torch.load(folder.last, weights_only=True)
    assert last["global_step"] == finished * PER_EPOCH
    assert last["state_dict"]["network.layers.0.neuron.rule.iteration"] == finished * PER_EPOCH
    monkeypatch.undo()
    result = evaluate(folder.path, checkpoint="last", machine=MACHINE)
    assert_alike(result, measure(folder.last, digits().test))


def test_an_interrupt_before_the_first_iteration_leaves_no_checkpoint(monkeypatch, tmp_path):
    fail_after(monkeypatch, 0, interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path / "run")
    assert names(tmp_path / "run") == run_files("config.toml")


@pytest.mark.parametrize("action", ["interrupt", "nan"])
def test_a_recording_is_kept_however_training_ends(action, monkeypatch, tmp_path):
    fail_after(monkeypatch, 4, interrupt if action == "interrupt" else lambda loss: loss * math.nan)
    with pytest.raises((KeyboardInterrupt, TrainingError)):
        train_tiny(tmp_path / "run", training__record_output=True, data__subset=96)
    assert RunFolder.open(tmp_path / "run").recording.exists()


def test_a_recording_with_a_smaller_last_batch_works_or_is_refused_in_time(tmp_path):
    try:
        result = train_tiny(tmp_path / "run", training__record_output=True)
    except InvalidValueError:
        assert names(tmp_path) == []
    else:
        assert result.folder.recording.exists()
        assert result.folder.summary.exists()


# What is refused

INVALID = {
    "theta_inf_below_theta_0": {"threshold.theta_inf": [0.4, 2.5]},
    "alpha_above_1": {"threshold.alpha": 1.5},
    "alpha_0": {"threshold.alpha": 0.0},
    "beta_above_1": {"neuron.beta": 1.1},
    "slope_0": {"neuron.slope": 0.0},
    "correct_rate": {"loss.correct_rate": 1.5},
    "notation": {"network.notation": "4C3-AP9-10"},
    "surrogate": {"neuron.surrogate": "fast_sigmod"},
    "dropout": {"network.dropout": 1.0},
    "option": {"data.options.peak": 1.0},
    "subset_larger_than_the_data": {"data.subset": 1296},
    "patience_without_validation": {"training.patience": 2, "data.validation": 0.0},
    "seed_beyond_32_bits": {"training.seed": 2**32},
    "adam_betas": {"optimizer.betas": [0.9, 1.5]},
    "sgd_momentum": {"optimizer.name": "sgd", "optimizer.momentum": -1.0},
    "learning_rate_beyond_float32": {"optimizer.lr": 1e39},
    "fewer_outputs_than_classes": {"network.notation": "4C3-AP2-5"},
    "membrane_loss_without_a_membrane_target": {"loss.name": "membrane"},
    "float16_without_a_gpu": {"training.precision": "16-mixed"},
    "silencing_across_neurons": {"training.check_silencing": True, "neuron.lateral_width": 3},
}


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("changes", INVALID.values(), ids=INVALID.keys())
def test_an_invalid_configuration_leaves_no_folder_behind(changes, tmp_path):
    output = tmp_path / "new" / "run"
    with pytest.raises(InvalidValueError) as refusal:
        train_tiny(output, **changes)
    assert "\n" not in str(refusal.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "machine", [Machine(device="gpu"), Machine(device="cpu", threads=0)], ids=["device", "threads"]
)
def test_an_unknown_machine_is_refused_before_a_folder_is_made(machine, tmp_path):
    with pytest.raises(InvalidValueError, match="device|threads"):
        train(tiny(), output=tmp_path / "run", machine=machine, verbose=False)
    assert names(tmp_path) == []


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_is_refused_before_a_folder_is_made(tmp_path):
    with pytest.raises(InvalidValueError, match="mps"):
        train(tiny(), output=tmp_path / "run", machine=Machine(device="mps"), verbose=False)
    assert names(tmp_path) == []
