"""Runs that are killed and go on: with the same bits as if nothing had happened."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from commands import Command
from lightning.pytorch.plugins.io import TorchCheckpointIO
from study_workers import PATIENCE, until
from training_runs import (
    FINISHED,
    MACHINE,
    PER_EPOCH,
    WITH_SNAPSHOTS,
    assert_same_run,
    at_call,
    contents,
    fail_after,
    interrupt,
    killed,
    names,
    table,
    tiny,
    train_tiny,
)

from bsnn_tha.errors import InvalidValueError, RunError
from bsnn_tha.presets import load_preset
from bsnn_tha.run_folder import RunFolder
from bsnn_tha.training import run as running
from bsnn_tha.training import summary
from bsnn_tha.training.callbacks import stopwatch
from bsnn_tha.training.module import SpikingModule
from bsnn_tha.training.run import resume, train
from bsnn_tha.training.session import Session

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::DeprecationWarning"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes can be forked here"),
]

# All that has a state, or draws random numbers, at once.
EVERYTHING = {
    "network__dropout": 0.3,
    "training__weight_clip": 0.5,
    "training__grad_clip": 1.0,
    "training__accumulate": 2,
    "training__patience": 20,
    "snapshots__count": 3,
}
# No learning to speak of: validation never improves on the first epoch.
STOPS_EARLY = {
    "training__epochs": 9,
    "training__patience": 2,
    "network__norm": "none",
    "optimizer__lr": 1e-12,
    "threshold__theta_inf": None,
    "threshold__alpha": None,
}
# The rate grows too large for it: the best epoch is long past at the end.
WANDERS = {"training__epochs": 5, "optimizer__lr": 0.05, "optimizer__schedule": "none"}
RECORDED = load_preset("temporal-coding", "tha").with_changes(
    {
        "network.notation": "12Dense9Dense1",
        "data.num_steps": 20,
        "data.options.inputs": 12,
        "data.options.iterations": 4,
        "data.options.target_step": 15,
        "data.options.peak": 3.3,
        "threshold.theta_0": 1.5,
        "threshold.theta_inf": 2.5,
        "threshold.alpha": 0.1,
        "optimizer.lr": 5e-3,
        "training.epochs": 3,
    }
)
CONFIGS = {
    "everything": tiny(**EVERYTHING),
    "stops_early": tiny(**STOPS_EARLY),
    "wanders": tiny(**WANDERS),
    "recorded": RECORDED,
    "short": tiny(training__epochs=2, snapshots__count=2, data__subset=32, data__num_steps=3),
    "epochs_3": tiny(training__epochs=3),
    "not_selected": tiny(data__validation=0.0),
}


def go_on(path, **options):
    return resume(path, machine=MACHINE, verbose=False, **options)


def start(config, path):
    return train(config, output=path, machine=MACHINE, verbose=False)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """By name of the configuration, a run that nothing happened to."""
    results = {}

    def get(name):
        if name not in results:
            folder = tmp_path_factory.mktemp("uninterrupted") / "run"
            results[name] = start(CONFIGS[name], folder).folder
        return results[name]

    return get


def kill_first(name, path, stop):
    """A run, killed."""
    assert killed(lambda: start(CONFIGS[name], path), stop)


def kill_again(path, stop):
    """A killed run, resumed and killed."""
    assert killed(lambda: go_on(path), stop)


def kill_in_epoch(name, path, epoch):
    """A run, killed in the middle of an epoch (from 0)."""
    kill_first(name, path, at_call(SpikingModule, "training_step", epoch * PER_EPOCH + 2))


# Killed at an exact place

STEP, END = (SpikingModule, "training_step"), (SpikingModule, "on_train_epoch_end")
PLACES = {
    "before_training": at_call(*STEP, 1),
    "in_the_first_epoch": at_call(*STEP, 2, after=True),
    "in_a_later_epoch": at_call(*STEP, PER_EPOCH + 2),
    "in_validation": at_call(SpikingModule, "validation_step", 3),
    "at_the_end_of_an_epoch": at_call(*END, 2),
    "in_the_test": at_call(SpikingModule, "test_step", 1),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_a_run_that_was_killed_ends_as_if_it_had_not_been(place, uninterrupted, tmp_path):
    kill_first("everything", tmp_path / "run", place)
    result = go_on(tmp_path / "run")
    assert_same_run(result.folder, uninterrupted("everything"))
    assert names(result.folder.path) == WITH_SNAPSHOTS


def test_what_a_run_is_when_it_is_killed_is_kept(uninterrupted, tmp_path):
    """Dropout, clipping and accumulation all matter in the run that is compared above."""
    expected = torch.load(uninterrupted("everything").last, weights_only=True)
    assert expected["global_step"] == 6  # two optimizer steps from three batches, in 3 epochs
    assert expected["lr_schedulers"][0]["last_epoch"] == 6
    assert expected["optimizer_states"][0]["state"][0]["step"] == 6
    for change in ({"network.dropout": 0.0}, {"training.weight_clip": None}):
        other = start(CONFIGS["everything"].with_changes(change), tmp_path / next(iter(change)))
        key = "network.layers.0.synapse.latent_weight"
        weights = torch.load(other.folder.last, weights_only=True)["state_dict"]
        assert not torch.equal(weights[key], expected["state_dict"][key])


def at_change_of_a_file(number, end):
    """Kill before the ``number``-th time that the disk is told anything."""
    count = 0
    for name in ("replace", "fsync", "unlink"):
        original = getattr(os, name)

        def counted(*args, original=original, **kwargs):
            nonlocal count
            count += 1
            if count == number:
                end()
            return original(*args, **kwargs)

        setattr(os, name, counted)


def test_killed_before_any_change_of_a_file_a_run_goes_on(uninterrupted, tmp_path):
    """Between best.ckpt and last.ckpt, last.ckpt and previous.ckpt, and everywhere else."""
    expected, left = uninterrupted("short"), set()
    for number in itertools.count(1):
        path = tmp_path / f"{number}"
        run, stop = partial(start, CONFIGS["short"], path), partial(at_change_of_a_file, number)
        if not killed(run, stop):
            break
        left.add(tuple(n for n in names(path) if n.endswith(".ckpt")))
        # Killed before it had written anything, the same command may be given again.
        was_finished = RunFolder(path).summary.exists()
        result = go_on(path) if RunFolder(path).config.exists() else run()
        if was_finished:  # and is left as it is, not quite tidy
            for name in (".lock", "previous.ckpt"):
                (path / name).unlink(missing_ok=True)
        assert_same_run(result.folder, expected)
    assert number > 15
    assert left == {
        (),
        ("best.ckpt",),
        ("best.ckpt", "last.ckpt"),
        ("best.ckpt", "previous.ckpt"),  # between two renames
        ("best.ckpt", "last.ckpt", "previous.ckpt"),
    }


def half_a_checkpoint(end):
    original = TorchCheckpointIO.save_checkpoint
    count = 0

    def save(self, checkpoint, path, storage_options=None):
        nonlocal count
        original(self, checkpoint, path, storage_options)
        count += path.name.startswith(".last.ckpt.")
        if count == 2:
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
            end()

    TorchCheckpointIO.save_checkpoint = save


def test_half_a_checkpoint_never_gets_its_name(uninterrupted, tmp_path):
    path = tmp_path / "run"
    kill_first("epochs_3", path, half_a_checkpoint)
    assert [n for n in names(path) if n.startswith(".last.ckpt.")], "no half checkpoint was left"
    assert torch.load(path / "last.ckpt", weights_only=True)["epoch"] == 0
    result = go_on(path)
    assert_same_run(result.folder, uninterrupted("epochs_3"))
    assert names(path) == FINISHED


def test_a_run_may_be_killed_in_every_epoch(uninterrupted, tmp_path):
    kill_first("everything", tmp_path / "run", at_call(*STEP, PER_EPOCH - 1))
    for _ in range(2):
        kill_again(tmp_path / "run", at_call(*STEP, PER_EPOCH + 1))
    assert_same_run(go_on(tmp_path / "run").folder, uninterrupted("everything"))


def test_an_interrupted_run_goes_on(uninterrupted, monkeypatch, tmp_path):
    fail_after(monkeypatch, PER_EPOCH + 1, interrupt)
    with pytest.raises(KeyboardInterrupt):
        start(CONFIGS["epochs_3"], tmp_path / "run")
    monkeypatch.undo()
    assert_same_run(go_on(tmp_path / "run").folder, uninterrupted("epochs_3"))


@pytest.mark.parametrize("name", ["everything", "stops_early", "recorded", "not_selected"])
@pytest.mark.parametrize("place", ["in_the_second_epoch", "after_the_last_epoch"])
def test_every_kind_of_run_goes_on(name, place, uninterrupted, tmp_path):
    per_epoch = 4 if name == "recorded" else PER_EPOCH
    if place == "in_the_second_epoch":
        kill_first(name, tmp_path / "run", at_call(*STEP, per_epoch + 2))
    else:
        kill_first(name, tmp_path / "run", at_call(summary.json, "dumps", 1))
    assert_same_run(go_on(tmp_path / "run").folder, uninterrupted(name))


def test_a_run_interrupted_while_it_is_measured_goes_on(uninterrupted, monkeypatch, tmp_path):
    def test_step(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(SpikingModule, "test_step", test_step)
    with pytest.raises(KeyboardInterrupt, match=rf"--resume {re.escape(str(tmp_path))}"):
        start(CONFIGS["epochs_3"], tmp_path / "run")
    monkeypatch.undo()
    assert_same_run(go_on(tmp_path / "run").folder, uninterrupted("epochs_3"))


def test_early_stopping_waits_no_longer_for_a_resumed_run(uninterrupted, tmp_path):
    assert len(table(uninterrupted("stops_early"))) == 3
    for epoch in (1, 2):
        kill_in_epoch("stops_early", tmp_path / f"{epoch}", epoch)
        result = go_on(tmp_path / f"{epoch}")
        assert result.summary["epochs"] == 3
        assert_same_run(result.folder, uninterrupted("stops_early"))


# Damaged checkpoints

DAMAGE = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "end_missing": lambda content: content[:-100],
    "other_bytes": lambda content: bytes(range(256)) * 20,
}


def spoil(path, damage=DAMAGE["truncated"]):
    path.write_bytes(damage(path.read_bytes()))


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_checkpoint_gives_way_to_the_one_before(damage, uninterrupted, tmp_path):
    folder = RunFolder(tmp_path / "run")
    kill_in_epoch("epochs_3", folder.path, 2)
    spoil(folder.last, damage)
    assert torch.load(folder.previous, weights_only=True)["epoch"] == 0
    go_on(folder.path)
    assert_same_run(folder, uninterrupted("epochs_3"))


def test_a_damaged_checkpoint_never_takes_the_place_of_the_one_before(uninterrupted, tmp_path):
    folder = RunFolder(tmp_path / "run")
    kill_in_epoch("epochs_3", folder.path, 2)
    spoil(folder.last)

    def between_the_renames(end):
        original = os.replace

        def replace(source, target):
            original(source, target)
            if Path(target) == folder.previous:
                end()
            if Path(target) == folder.last:
                end()

        os.replace = replace

    kill_again(folder.path, between_the_renames)
    go_on(folder.path)
    assert_same_run(folder, uninterrupted("epochs_3"))


def test_without_any_readable_checkpoint_nothing_is_changed(tmp_path):
    folder = RunFolder(tmp_path / "run")
    kill_in_epoch("epochs_3", folder.path, 2)
    spoil(folder.last)
    spoil(folder.previous)
    before = contents(folder.path)
    with pytest.raises(RunError) as refusal:
        go_on(folder.path)
    text = str(refusal.value)
    assert "\n" not in text
    assert text.startswith(f"{folder.last} and {folder.previous} cannot be read")
    assert str(folder.config) in text
    assert contents(folder.path) == before


def test_without_any_checkpoint_the_run_starts_over_in_its_folder(uninterrupted, tmp_path):
    folder = RunFolder(tmp_path / "run")
    kill_in_epoch("epochs_3", folder.path, 0)
    assert not list(folder.path.glob("*.ckpt"))
    assert go_on(folder.path).folder == folder
    assert_same_run(folder, uninterrupted("epochs_3"))


def test_a_run_that_was_moved_remembers_its_best_epoch(uninterrupted, tmp_path):
    expected = uninterrupted("wanders")
    best = torch.load(expected.best, weights_only=True)["epoch"]
    assert best < 4, "this run cannot tell whether the best epoch is remembered"
    kill_in_epoch("wanders", tmp_path / "run", 4)
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "run", tmp_path / "elsewhere" / "moved")
    result = go_on(tmp_path / "elsewhere" / "moved")
    assert_same_run(result.folder, expected)
    assert not (tmp_path / "run").exists()


# Finished runs


@pytest.fixture
def copy(done, tmp_path):
    """A finished run that may be changed."""
    return RunFolder(Path(shutil.copytree(done.folder.path, tmp_path / "run")))


def test_resuming_a_finished_run_changes_nothing(done, copy):
    before = contents(copy.path)
    for options in ({}, {"epochs": 3}):
        assert go_on(copy.path, **options).summary == done.summary
        assert contents(copy.path) == before


def assert_used_before(folder, fresh):
    """A run that is made longer says that the test set was used before; all else is the same."""
    summary = json.loads(folder.summary.read_text())
    assert summary.pop("test_uses") == 2
    assert "test set used 2 times, as the run was made longer" in summary.pop("protocol")
    same = {key: json.loads(fresh.summary.read_text())[key] for key in ("test_uses", "protocol")}
    assert same["test_uses"] == 1
    folder.summary.write_text(json.dumps(summary | same))


def test_a_finished_run_can_be_made_longer(copy, tmp_path):
    result = go_on(copy.path, epochs=5)
    expected = train_tiny(tmp_path / "five", training__epochs=5)
    assert_used_before(result.folder, expected.folder)
    assert_same_run(result.folder, expected.folder)
    assert result.summary["epochs"] == 5
    assert go_on(copy.path).summary["test"] == result.summary["test"]


def test_an_unfinished_run_can_be_made_longer(uninterrupted, tmp_path):
    kill_in_epoch("epochs_3", tmp_path / "run", 1)
    result = go_on(tmp_path / "run", epochs=5)
    expected = train_tiny(tmp_path / "five", training__epochs=5)
    assert_same_run(result.folder, expected.folder)


def test_a_run_that_is_made_longer_and_killed_is_not_finished(copy, tmp_path):
    assert killed(lambda: go_on(copy.path, epochs=5), at_call(*STEP, 2))
    result = go_on(copy.path)
    assert result.summary["epochs"] == 5
    assert len(table(copy)) == 5
    expected = train_tiny(tmp_path / "five", training__epochs=5)
    assert_used_before(copy, expected.folder)
    assert_same_run(copy, expected.folder)


def test_a_run_that_stopped_early_is_not_made_longer(tmp_path):
    """More epochs would not begin, and the test set would be used again."""
    path = start(CONFIGS["stops_early"], tmp_path / "run").folder.path
    before = contents(path)
    with pytest.raises(InvalidValueError, match=r"no better for 2 epochs.*training\.patience$"):
        go_on(path, epochs=12)
    assert contents(path) == before


@pytest.mark.parametrize("epochs", [2, 0, -1])
def test_a_run_is_not_made_shorter(epochs, copy):
    before = contents(copy.path)
    with pytest.raises(InvalidValueError, match=rf"its 3 epochs, but got epochs={epochs}$"):
        go_on(copy.path, epochs=epochs)
    assert contents(copy.path) == before


def test_what_is_no_run_cannot_be_resumed(tmp_path):
    for path, why in ((tmp_path, r"it has no config\.toml"), (tmp_path / "absent", "there is no")):
        with pytest.raises(RunError, match=f"is not a run folder: {why}"):
            go_on(path)
    assert names(tmp_path) == []


def test_seconds_of_finished_epochs_are_carried_on(tmp_path, monkeypatch):
    looks = itertools.count()  # at the clock: one when training starts, one after each epoch
    clock = SimpleNamespace(perf_counter=lambda: 2.0 ** next(looks))
    monkeypatch.setattr(stopwatch, "time", clock)
    before = train_tiny(tmp_path / "run", training__epochs=2).summary
    assert before["train_seconds"] == 4 - 1
    assert go_on(tmp_path / "run", epochs=4).summary["train_seconds"] == (4 - 1) + (32 - 8)


# Several processes in one folder


def test_two_processes_do_not_train_in_one_folder(uninterrupted, tmp_path):
    folder = RunFolder(tmp_path / "run")
    kill_in_epoch("epochs_3", folder.path, 1)
    before = {path: content for path, content in contents(folder.path).items()}
    ready, told = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            with folder.claimed():
                os.write(told, b"!")
                time.sleep(PATIENCE)
        finally:
            os._exit(0)
    try:
        assert os.read(ready, 1) == b"!"
        with pytest.raises(RunError) as refusal:
            go_on(folder.path)
        assert str(refusal.value).startswith(f"another process is training in {folder.path}")
        assert contents(folder.path) == before
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    go_on(folder.path)  # a killed process lets go
    assert_same_run(folder, uninterrupted("epochs_3"))


def test_what_a_killed_process_left_half_written_is_removed(uninterrupted, tmp_path):
    folder = RunFolder(tmp_path / "run")
    kill_in_epoch("epochs_3", folder.path, 1)
    for name in (".last.ckpt.12345.tmp", ".metrics.csv.12345.tmp"):
        (folder.path / name).write_text("half")
    go_on(folder.path)
    assert names(folder.path) == FINISHED


# Killed at any moment, as a scheduler or the kernel would


def test_processes_that_are_killed_at_any_moment_end_alike(tmp_path):
    moments = random.Random(0)
    config = tiny(**EVERYTHING, training__epochs=30)
    (tmp_path / "config.toml").write_text(config.to_toml(), encoding="utf-8")
    folder = RunFolder(tmp_path / "run")
    arguments = ["--config", tmp_path / "config.toml", "--output", folder.path]
    for number in range(3):
        trains = tmp_path / f"trains-{number}"
        within = never_finished(trains)
        command = Command("train", *arguments, "--threads=1", cwd=tmp_path, within=within)
        until(lambda command=command, trains=trains: command.ended() or trains.exists())
        time.sleep(moments.uniform(0.0, 0.4))
        assert not command.ended(), command.complained
        command.kill()
        assert command.wait() == -signal.SIGKILL
        arguments = ["--resume", folder.path]
    command = Command("train", *arguments, "--threads=1", cwd=tmp_path)
    assert command.wait() == 0, command.complained
    expected = start(config, tmp_path / "uninterrupted").folder
    assert_same_run(folder, expected)


@contextlib.contextmanager
def never_finished(trains):
    """Tell that training begins; a process that is to be killed is there for it, however fast."""
    fit = Session.fit

    def told(session, *arguments, **options):
        trains.touch()
        return fit(session, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "fit", told)
        patch.setattr("bsnn_tha.training.run.write_summary", lambda *_: time.sleep(PATIENCE))
        yield


def test_a_run_that_another_process_has_ended_meanwhile_is_left_as_it_is(monkeypatch, tmp_path):
    """It was asked for before, and claimed after."""
    done = train_tiny(tmp_path / "run", training__epochs=1, data__subset=32)
    asked = iter([None, done.summary])
    monkeypatch.setattr(running, "finished", lambda folder, config: next(asked))
    assert resume(done.folder.path, machine=MACHINE, verbose=False).summary == done.summary
    assert json.loads(done.folder.summary.read_text())["test_uses"] == 1
