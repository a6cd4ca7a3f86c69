"""What is private in Optuna stands in files named after it, which its version bound protects."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

import optuna
import torch
from places import ROOT

import studies
from bsnn_tha.nn.network import SpikingNetwork
from bsnn_tha.training import evaluation
from bsnn_tha.training.machine import Machine
from studies import objective, runner
from studies.options import Options
from studies.optuna_internals import storage_of, suggest, trial_id


def test_one_room_reaches_into_optuna():
    private = re.compile(
        r"trial\._suggest|\._contains\(|study\._storage|\._trial_id|optuna\.\S*\._\w"
    )
    found = {
        path.parent.name
        for path in Path(studies.__file__).parent.rglob("*.py")
        if private.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"optuna_internals"}


def test_the_version_bound_is_around_the_tested_version():
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg")
    (line,) = re.findall(r"^optuna (.*)$", parser["options"]["install_requires"], re.M)
    assert line == ">= 5.0, < 5.1"
    assert optuna.__version__.startswith("5.0.")
    constraints = (ROOT / "constraints.txt").read_text()
    assert f"optuna=={optuna.__version__}\n" in constraints


def test_what_is_private_does_what_it_is_for():
    study = optuna.create_study()
    trial = study.ask()
    value = suggest(trial, "x", optuna.distributions.FloatDistribution(2, 3))
    assert 2 <= value <= 3 and trial.params == {"x": value}
    assert storage_of(study).get_trial(trial_id(trial)).params == {"x": value}


def test_a_study_loads_its_data_and_builds_its_network_once_before_its_trials(
    monkeypatch, tmp_path
):
    loads, networks = [], []
    load, build = evaluation.load_dataset, SpikingNetwork.__init__

    def loaded(*args, **kwargs):
        loads.append(1)
        return load(*args, **kwargs)

    def counted(self, *args, **kwargs):
        networks.append(1)
        build(self, *args, **kwargs)

    def trial(self, trial):
        trial.suggest_float("x", 0, 1)
        return (len(loads) + len(networks) / 10,)

    monkeypatch.setattr(evaluation, "load_dataset", loaded)
    monkeypatch.setattr(SpikingNetwork, "__init__", counted)
    monkeypatch.setattr(objective.TrainingObjective, "__call__", trial)
    options = Options("digits", "tha", 1, storage=str(tmp_path), published=False, threads=1)
    opened = runner.run_study(options)
    assert opened.study.best_value == 1.1


def test_asking_for_options_changes_no_threads(monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda count: 1 / 0)
    assert Machine(device="cpu", threads=1).trainer_options()["accelerator"] == "cpu"
