"""Trials: one configuration from several seeds, and the statistics over them."""

from __future__ import annotations

import json
import math
import re
import shutil

import pytest
from training_runs import (
    BATCH,
    FINISHED,
    MACHINE,
    PER_EPOCH,
    SEED,
    assert_same_run,
    at_call,
    contents,
    killed,
    names,
    table,
    tiny,
    train_tiny,
)

from bsnn_tha.cli import show
from bsnn_tha.config import RunConfig
from bsnn_tha.errors import BsnnThaError, InvalidValueError, RunError
from bsnn_tha.run_folder import RunFolder
from bsnn_tha.training.module import SpikingModule
from bsnn_tha.training.trials import (
    are_trials,
    evaluate_trials,
    resume_trials,
    train_trials,
    trial_folders,
    trials_finished,
    trials_summary,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning:lightning", "ignore::DeprecationWarning"
)

SHORT = {"training__epochs": 2}
SEEDS = [SEED, SEED + 1, SEED + 2]


def run_trials(path, count=3, **changes):
    config = tiny(**SHORT | changes)
    return train_trials(config, count, output=path, machine=MACHINE, verbose=False)


def go_on(path):
    return resume_trials(path, machine=MACHINE, verbose=False)


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    return run_trials(tmp_path_factory.mktemp("trials") / "trials")


def test_every_trial_has_a_run_folder_named_by_its_seed(trials):
    folders = [f"seed-{seed}" for seed in SEEDS]
    assert names(trials.path) == sorted([*folders, "trials.json", "trials.toml"])
    for folder, seed in zip(folders, SEEDS, strict=True):
        assert names(trials.path / folder) == FINISHED
        config = RunConfig.from_file(RunFolder(trials.path / folder).config)
        assert config == tiny(**SHORT, training__seed=seed)
    assert json.loads((trials.path / "trials.json").read_text()) == trials.summary


def test_a_trial_equals_a_single_run_with_its_seed(trials, tmp_path):
    single = train_tiny(tmp_path / "run", **SHORT, training__seed=SEEDS[1])
    assert_same_run(RunFolder(trials.path / f"seed-{SEEDS[1]}"), single.folder)


def test_the_statistics_are_those_of_the_runs(trials):
    runs = [
        json.loads(RunFolder(trials.path / f"seed-{seed}").summary.read_text()) for seed in SEEDS
    ]
    accuracies = [run["test"]["accuracy"] for run in runs]
    assert len(set(accuracies)) > 1
    mean = sum(accuracies) / 3
    sigma = math.sqrt(sum((value - mean) ** 2 for value in accuracies) / 2)  # of a sample: n - 1
    summary = trials.summary
    assert summary["seeds"] == SEEDS
    assert summary["accuracies"] == accuracies
    assert summary["accuracy"]["best"] == max(accuracies)
    assert summary["accuracy"]["mean"] == pytest.approx(mean, rel=1e-9)
    assert summary["accuracy"]["std"] == pytest.approx(sigma, rel=1e-7)
    assert summary["groups"] == {}
    assert summary["protocol"] == runs[0]["protocol"]
    seconds = sum(run["train_seconds"] for run in runs)
    assert summary["train_seconds"] == pytest.approx(seconds, abs=0.011)


def summaries(*accuracies, **groups):
    return [
        {
            "seed": seed,
            "protocol": "as it was",
            "train_seconds": 1.25,
            "test": {
                "accuracy": accuracy,
                "groups": {name: values[seed] for name, values in groups.items()},
            },
        }
        for seed, accuracy in enumerate(accuracies)
    ]


def test_best_mean_and_sigma_by_hand():
    # Mean 6/4, deviations -0.5, 0.5, -1, 1: their squares sum to 2.5, over 3.
    summary = trials_summary(summaries(1.0, 2.0, 0.5, 2.5))
    assert summary["accuracy"] == {
        "best": 2.5,
        "mean": 1.5,
        "std": pytest.approx(math.sqrt(2.5 / 3), abs=1e-9),
    }
    assert summary["train_seconds"] == 5.0


def test_one_trial_has_no_spread():
    assert trials_summary(summaries(0.75))["accuracy"] == {"best": 0.75, "mean": 0.75, "std": None}
    assert "best 75.00, mean 75.00, σ – %" in show.trials(trials_summary(summaries(0.75)))


def test_trials_that_differ_in_how_they_were_selected_say_so():
    runs = summaries(0.5, 0.7, 0.6)
    runs[1]["protocol"] = "otherwise"
    assert trials_summary(runs)["protocol"] == "seed 0, 2: as it was; seed 1: otherwise"


def test_groups_have_their_own_statistics():
    summary = trials_summary(summaries(0.5, 0.7, old=[0.4, 0.6], new=[0.9, 0.9]))
    assert summary["groups"] == {
        "old": {"best": 0.6, "mean": 0.5, "std": pytest.approx(0.02**0.5, abs=1e-9)},
        "new": {"best": 0.9, "mean": 0.9, "std": 0.0},
    }


def test_trials_of_a_task_without_test_data_have_no_accuracy():
    runs = summaries(0.5, 0.7)
    for run in runs:
        del run["test"]
    summary = trials_summary(runs)
    assert "accuracy" not in summary
    assert summary["seeds"] == [0, 1]
    assert "2 trials in 2.5 s of training" in show.trials(summary)


def test_the_report_names_every_seed_and_the_papers_three_numbers():
    summary = trials_summary(summaries(0.5, 0.75, 0.625, old=[0.25, 0.5, 0.375]))
    assert show.trials(summary).splitlines() == [
        "3 trials in 3.8 s of training",
        "  seed 0  test accuracy 50.00%",
        "  seed 1  test accuracy 75.00%",
        "  seed 2  test accuracy 62.50%",
        "test accuracy best 75.00, mean 62.50, σ 12.50 %",
        "  old best 50.00, mean 37.50, σ 12.50 %",
        "(as it was)",
    ]


# Stopped and resumed


@pytest.mark.parametrize(
    ("call", "unfinished"),
    [
        (2 * PER_EPOCH + 1, []),  # in the second trial's first epoch
        (3 * PER_EPOCH + 2, [f"seed-{SEEDS[1]}/last.ckpt"]),
    ],
    ids=["first_epoch", "second_epoch"],
)
def test_trials_go_on_with_the_one_that_was_stopped(call, unfinished, trials, tmp_path):
    path = tmp_path / "trials"
    assert killed(lambda: run_trials(path), at_call(SpikingModule, "training_step", call))
    assert sorted(str(p.relative_to(path)) for p in path.glob("seed-*/last.ckpt")) == [
        f"seed-{SEEDS[0]}/last.ckpt",
        *unfinished,
    ]
    assert not (path / "trials.json").exists()
    first = RunFolder(path / f"seed-{SEEDS[0]}")
    before = {file: file.stat().st_mtime_ns for file in first.path.rglob("*")}
    result = go_on(path)
    assert {file: file.stat().st_mtime_ns for file in first.path.rglob("*")} == before
    for seed in SEEDS:
        name = f"seed-{seed}"
        assert_same_run(RunFolder(path / name), RunFolder(trials.path / name))
    assert names(path) == names(trials.path)
    assert without_seconds(result.summary) == without_seconds(trials.summary)


def without_seconds(summary):
    return {key: value for key, value in summary.items() if key != "train_seconds"}


def test_trials_that_were_stopped_before_a_trial_had_begun_go_on(tmp_path):
    from bsnn_tha.training import run

    path = tmp_path / "trials"
    # Its folder is there, but nothing is in it yet.
    assert killed(lambda: run_trials(path, 1), at_call(run.RunFolder, "claimed"))
    assert names(path / f"seed-{SEED}") == []
    assert go_on(path).summary["seeds"] == [SEED]
    assert len(table(RunFolder(path / f"seed-{SEED}"))) == 2


def test_resuming_finished_trials_changes_nothing(trials):
    before = contents(trials.path)
    assert go_on(trials.path).summary == trials.summary
    assert contents(trials.path) == before


def test_an_interrupt_says_how_all_trials_go_on(monkeypatch, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(SpikingModule, "training_step", interrupt)
    with pytest.raises(KeyboardInterrupt, match=rf"--resume {re.escape(str(tmp_path / 'all'))}$"):
        run_trials(tmp_path / "all")


# Measured again


def test_every_seed_is_evaluated(trials):
    before = contents(trials.path)
    results, values = evaluate_trials(trials.path, machine=MACHINE)
    assert [result["accuracy"] for result in results] == trials.summary["accuracies"]
    assert values == {key: trials.summary[key] for key in values}
    assert {"seeds", "accuracies", "accuracy", "groups"} == values.keys()
    assert contents(trials.path) == before


def test_trials_that_are_not_finished_say_how_to_finish_them(trials, tmp_path):
    path = tmp_path / "trials"
    shutil.copytree(trials.path, path)
    shutil.rmtree(path / f"seed-{SEEDS[2]}")
    with pytest.raises(RunError, match=rf"no network of seed {SEEDS[2]} yet; .* --resume {path}$"):
        evaluate_trials(path, machine=MACHINE)


# What is refused


@pytest.mark.parametrize("count", [0, -1])
def test_fewer_than_one_trial_are_refused(count, tmp_path):
    with pytest.raises(InvalidValueError, match=rf"must be at least 1, but got {count}$"):
        run_trials(tmp_path / "trials", count)
    assert names(tmp_path) == []


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(RunError, match="is not empty"):
        run_trials(tmp_path)
    assert names(tmp_path) == ["mine"]


def test_an_invalid_configuration_is_refused_before_a_folder_is_made(tmp_path):
    with pytest.raises(BsnnThaError, match="beta must be in"):
        run_trials(tmp_path / "trials", neuron__beta=1.5)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [None, "trials = ", "trials = 3", 'trials = "many"\n[config]', "trials = 3\n[config]\nx = 1"],
    ids=["absent", "no_toml", "no_config", "no_count", "other_config"],
)
def test_what_are_no_trials_cannot_be_resumed(content, tmp_path):
    if content is not None:
        (tmp_path / "trials.toml").write_text(content)
    assert are_trials(tmp_path) == (content is not None)
    with pytest.raises(BsnnThaError) as refusal:
        go_on(tmp_path)
    assert "\n" not in str(refusal.value)
    assert str(tmp_path) in str(refusal.value)


def test_a_run_is_not_trials(trials):
    assert are_trials(trials.path)
    assert not are_trials(trials.path / f"seed-{SEED}")


def test_numbered_folders_are_those_of_runs(tmp_path):
    config = tiny(training__epochs=1, data__subset=BATCH)
    for number in (1, 2):
        result = train_trials(config, 1, parent=tmp_path, machine=MACHINE, verbose=False)
        assert result.path == tmp_path / f"digits-tha-{number}"


def test_the_last_seeds_are_refused_in_one_line_when_they_are_too_large(tmp_path):
    with pytest.raises(InvalidValueError, match=r"training\.seed"):
        run_trials(tmp_path / "trials", 2, training__seed=2**32 - 1)
    assert names(tmp_path) == []


def test_trials_are_finished_when_the_last_planned_one_is(tmp_path):
    config = tiny(training__epochs=1, data__subset=BATCH)
    path = train_trials(config, 2, output=tmp_path / "trials", machine=MACHINE, verbose=False).path
    assert trials_finished(path)
    shutil.rmtree(path / f"seed-{SEED + 1}")  # planned, not begun
    assert trial_folders(path) == [path / f"seed-{SEED}"] and not trials_finished(path)


def test_trials_that_are_there_are_kept_when_more_are_asked_for(tmp_path):
    config = tiny(training__epochs=1, data__subset=BATCH)
    path = train_trials(config, 1, output=tmp_path / "trials", machine=MACHINE, verbose=False).path
    before = (path / f"seed-{SEED}" / "summary.json").stat().st_mtime_ns
    for at_least in (2, 1):  # and never fewer
        summary = resume_trials(path, at_least=at_least, machine=MACHINE, verbose=False).summary
        assert summary["seeds"] == [SEED, SEED + 1]
    assert (path / f"seed-{SEED}" / "summary.json").stat().st_mtime_ns == before
