"""One trial of a study: what it scores, what it must not see, and how it fails."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState
from study_workers import Process, opened
from training_runs import FIXED, MACHINE, fail_after, table, tiny, train_tiny

from bsnn_tha.config import RunConfig
from bsnn_tha.freed_memory import keep_freed_memory
from bsnn_tha.presets import load_preset
from bsnn_tha.training.evaluation import load_data
from bsnn_tha.training.session import Session
from studies import objective as module
from studies.errors import StudyError
from studies.objective import TrainingObjective
from studies.space import Number, Space
from studies.study import Plan
from studies.worker import Worker

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:DeprecationWarning")
BETA = Space(Number("neuron.beta", 0.5, 0.99))
COMPLETE, PRUNED, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL


class Forbidden:
    """A split that must not even be looked at."""

    def __getattribute__(self, name):
        raise AssertionError(f"the test split was touched: {name}")

    def __len__(self):
        raise AssertionError("the test split was touched")


def run(
    config, space=BETA, objectives=("accuracy",), trials=1, pruner=None, parameters=None, **options
):
    """A study of a few trials."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plan = Plan(config.to_toml(), tuple(space.table()), tuple(objectives))
    study = optuna.create_study(
        directions=plan.directions,
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=pruner or optuna.pruners.NopPruner(),
    )
    if parameters is not None:
        study.enqueue_trial(parameters)
    Worker(study, TrainingObjective(plan, space, MACHINE, **options), trials).work()
    return study


def test_a_trial_is_scored_by_its_best_epoch_as_a_run_is(tmp_path):
    seen = []
    study = run(
        tiny(),
        parameters={"neuron.beta": 0.75},
        pruner=optuna.pruners.MedianPruner(),
        seen=lambda *event: seen.append(event),
    )
    (trial,) = study.trials
    rows = table(train_tiny(tmp_path / "run", neuron__beta=0.75).folder)
    accuracies = [row["val_accuracy"] for row in rows]
    assert trial.values == [pytest.approx(max(accuracies), abs=1e-6)]
    assert list(trial.intermediate_values.values()) == pytest.approx(accuracies, abs=1e-6)
    assert [(number, epoch) for number, epoch, _ in seen] == [(0, 0), (0, 1), (0, 2)]
    assert RunConfig.from_toml(trial.user_attrs["config"]) == tiny(neuron__beta=0.75)
    scores = trial.user_attrs["scores"]
    assert set(scores) == {"accuracy", "spikes", "dead", "operations"}
    assert scores["accuracy"] == trial.value and scores["spikes"] > 0 and 0 <= scores["dead"] <= 1
    assert trial.user_attrs["seconds"] >= 0


def test_the_test_split_is_out_of_every_trials_reach(monkeypatch):
    def load(config, machine):
        return dataclasses.replace(load_data(config, machine), test=Forbidden())

    with pytest.raises(AssertionError, match="touched"):
        len(load(tiny(), MACHINE).test)
    monkeypatch.setattr(module, "load_data", load)
    sessions, prepare = [], Session.prepare

    def watched(*arguments):
        sessions.append(prepare(*arguments))
        return sessions[-1]

    monkeypatch.setattr(Session, "prepare", watched)
    # The second data set is another one, and loaded for its trial.
    space = Space(Number("neuron.beta", 0.5, 0.99), Number("data.validation", 0.1, 0.3))
    study = run(tiny(training__epochs=1), space, trials=2)
    assert [trial.state for trial in study.trials] == [COMPLETE] * 2
    assert [session.dataset.test for session in sessions] == [None, None]


def test_equal_parameters_give_equal_scores():
    config = tiny(training__epochs=1)
    one, two = (run(config, parameters={"neuron.beta": 0.8}).trials[0] for _ in range(2))
    assert one.user_attrs["scores"] == two.user_attrs["scores"]


# Failure is data


def test_a_loss_that_is_not_a_number_is_pruned_with_the_reason(monkeypatch):
    fail_after(monkeypatch, 1, lambda loss: loss * float("nan"))
    (trial,) = run(tiny()).trials
    assert trial.state == PRUNED and "nan" in trial.user_attrs["reason"].lower()
    assert "config" in trial.user_attrs


def test_a_dead_network_is_pruned_with_the_reason():
    (trial,) = run(tiny(**FIXED, threshold__theta_0=1e6)).trials
    assert trial.state == PRUNED
    assert trial.user_attrs["reason"] == "dead network: no output spike in epoch 1"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("8 GiB"),
        torch.OutOfMemoryError("8 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 GiB"),
    ],
)
def test_a_trial_that_runs_out_of_memory_fails_with_the_reason_and_the_study_goes_on(
    monkeypatch, error
):
    fit, raised = Session.fit, []

    def too_large(self, *arguments, **options):
        if not raised:
            raised.append(error)
            raise error
        return fit(self, *arguments, **options)

    monkeypatch.setattr(Session, "fit", too_large)
    study = run(tiny(training__epochs=1))
    assert [trial.state for trial in study.trials] == [FAIL, COMPLETE]
    assert study.trials[0].user_attrs["reason"] == f"out of memory: {error}"


def test_a_setting_that_is_refused_fails_with_the_rule():
    falling = Space(Number("threshold.theta_inf", 0.1, 9.0, per="layer"))
    low = {"threshold.theta_inf.1": 0.2, "threshold.theta_inf.2": 0.2}
    study = run(tiny(training__epochs=1, threshold__theta_0=0.3), falling, parameters=low)
    assert study.trials[0].state == FAIL and study.trials[-1].state == COMPLETE
    assert "theta_inf" in study.trials[0].user_attrs["reason"]


def test_a_bug_in_training_is_not_hidden(monkeypatch):
    def bug(self, *arguments, **options):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Session, "fit", bug)
    with pytest.raises(RuntimeError, match="shapes"):
        run(tiny())


# Pruning and objectives


def test_the_pruner_is_asked_after_each_epoch_but_the_last():
    prune = optuna.pruners.ThresholdPruner(lower=2.0)  # above any accuracy
    (trial,) = run(tiny(), pruner=prune).trials
    assert trial.state == PRUNED and list(trial.intermediate_values) == [0]
    assert "reason" not in trial.user_attrs
    (trial,) = run(tiny(training__epochs=1), pruner=prune).trials
    assert trial.state == COMPLETE and list(trial.intermediate_values) == [0]


def test_two_objectives_are_two_values_and_are_not_pruned():
    study = run(
        tiny(training__epochs=1),
        objectives=("accuracy", "spikes"),
        trials=2,
        pruner=optuna.pruners.ThresholdPruner(lower=2.0),
    )
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    for trial in study.trials:
        scores = trial.user_attrs["scores"]
        assert trial.values == [scores["accuracy"], scores["spikes"]]
        assert not trial.intermediate_values
    assert study.best_trials


def test_three_objectives_are_three_values():
    objectives = ("accuracy", "dead", "operations")
    (trial,) = run(tiny(training__epochs=1), objectives=objectives).trials
    scores = trial.user_attrs["scores"]
    assert trial.values == [scores[name] for name in objectives]
    session = Session.prepare(RunConfig.from_toml(trial.user_attrs["config"]), MACHINE)
    assert scores["operations"] == session.fit().workload["effective_acs"] > 0


def test_temporal_coding_is_scored_by_its_timing():
    config = load_preset("temporal-coding", "solved").with_changes(
        {"network.notation": "20-1", "data.subset": 20}
    )
    space = Space(Number("optimizer.lr", 1e-6, 1e-4, log=True))
    (trial,) = run(config, space, ("timing",)).trials
    if trial.state == COMPLETE:
        assert -1.5 <= trial.value <= 1 and trial.user_attrs["scores"]["timing"] == trial.value
    else:
        assert trial.user_attrs["reason"].startswith("dead network")


@pytest.mark.parametrize(
    ("objectives", "changes", "said"),
    [
        (("accuracy",), {"data__validation": 0.0}, "validation split.*--objective"),
        (("timing",), {}, "timing needs a target trace"),
        (("accuracy", "accuracy"), {}, "twice"),
    ],
)
def test_an_objective_that_does_not_fit_is_refused(objectives, changes, said):
    with pytest.raises(StudyError, match=said):
        run(tiny(**changes), objectives=objectives)


# Memory


def memory_slope(folder, trials, settle):
    """KiB that a process grows by per trial, once it has settled."""

    def work():
        keep_freed_memory()
        config = tiny(training__epochs=1, data__subset=32, data__num_steps=3)
        plan = Plan(config.to_toml(), tuple(BETA.table()))
        pages = []

        def told(trial):
            pages.append(int(Path("/proc/self/statm").read_text().split()[1]))

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        objective = TrainingObjective(plan, BETA, MACHINE)
        Worker(opened(str(folder)), objective, trials, told=told).work()
        (folder / "pages").write_text(json.dumps(pages))

    assert Process(work).wait(patience=600) == 0
    sizes = np.array(json.loads((folder / "pages").read_text())) * os.sysconf("SC_PAGESIZE") / 1024
    assert len(sizes) == trials
    slope = np.polyfit(range(trials - settle), sizes[settle:], 1)[0]
    print(f"{slope:.1f} KiB per trial over {trials - settle} trials")
    return slope


def test_memory_hardly_grows_from_trial_to_trial(tmp_path):
    assert memory_slope(tmp_path, 40, settle=15) < 60


@pytest.mark.slow
def test_memory_does_not_grow_over_500_trials(tmp_path):
    assert memory_slope(tmp_path, 500, settle=100) < 20
