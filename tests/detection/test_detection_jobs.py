"""What is done with detectors as with all networks: killed and resumed, shared out, compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from detectors import SMALL, detector
from places import ROOT
from training_runs import assert_same_run, at_call, killed, table, weights
from typer.testing import CliRunner

from bsnn_tha.campaigns.merit import ACCURACY, PRECISION
from bsnn_tha.campaigns.reproduction.campaign import Campaign
from bsnn_tha.campaigns.reproduction.plan import load_plan
from bsnn_tha.cli import app
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.run_folder import RunFolder
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.module import SpikingModule
from bsnn_tha.training.run import resume, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boxes")
    return Machine(folder / "data", folder / "cache", device="cpu", threads=1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes can be forked here")
def test_a_killed_run_goes_on_to_the_same_bits(machine, tmp_path):
    """In the second epoch, and again while its boxes are being validated."""
    config = detector(snapshots__count=4)
    whole = train(config, output=tmp_path / "whole", machine=machine, verbose=False)
    steps = whole.summary["iterations"] // 2
    path = tmp_path / "killed"

    def start():
        train(config, output=path, machine=machine, verbose=False)

    def go_on():
        resume(path, machine=machine, verbose=False)

    assert killed(start, at_call(SpikingModule, "training_step", steps + 2))
    assert killed(go_on, at_call(SpikingModule, "validation_step", 1, after=True))
    go_on()
    assert_same_run(RunFolder(path), whole.folder)


def test_two_processes_train_and_measure_as_one(machine, tmp_path):
    # Batch norm's statistics are each process's own, so there is none.
    config = detector(
        network__norm="none", network__weights="float", network__init="pytorch",
        optimizer__lr=1e-3, loss__least_score=0.02, training__epochs=1,
    )  # fmt: skip
    alone = train(config, output=tmp_path / "alone", machine=machine, verbose=False).folder
    (tmp_path / "config.toml").write_text(config.to_toml(), encoding="utf-8")
    words = ["--config", tmp_path / "config.toml", "--output", tmp_path / "joint", "--threads", 1,
             "--data-root", machine.data_root, "--cache-root", machine.cache_root,
             "--device", "cpu", "--devices", 2]  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-m", "bsnn_tha", "train", *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    joint = RunFolder(tmp_path / "joint")
    for row, wanted in zip(table(joint), table(alone), strict=True):
        assert row == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    assert {"val_map", "val_loss"} <= table(joint)[0].keys()
    for name, tensor in weights(alone.last).items():
        torch.testing.assert_close(weights(joint.last)[name], tensor, rtol=1e-4, atol=1e-6)
    tests = [json.loads(folder.summary.read_text())["test"] for folder in (joint, alone)]
    assert tests[0]["boxes"] == tests[1]["boxes"] > 0
    assert tests[0]["map"] == pytest.approx(tests[1]["map"], abs=1e-4)


def test_rules_are_compared_by_precision(machine, tmp_path):
    sets = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    words = [
        "compare", "--dataset", "moving-boxes", "--rules", "annealed,lt-snn", "--seeds", 1, *sets,
        "--weights", "binary,float", "--output", tmp_path / "out", "--data-root",
        machine.data_root, "--cache-root", machine.cache_root, "--device", "cpu", "--threads", 1,
    ]  # fmt: skip
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8"))
    assert [(row["rule"], row["weights"]) for row in rows] == [
        (rule, weights) for weights in ("binary", "float") for rule in ("annealed", "lt-snn")
    ]
    for row in rows:
        run = tmp_path / f"out/runs/{row['rule']}-{row['weights']}/seed-0"
        measured = json.loads((run / "summary.json").read_text(encoding="utf-8"))["test"]
        assert row["maps"] == [measured["map"]] and row["mean"] == measured["map"]
        assert len(row["curves"]["val_map"][0]) == 2
        assert f" {measured['map']:.3f} " in result.output
    assert "validation mAP" in result.output
    assert (tmp_path / "out/overview.png").stat().st_size > 5000


PLAN = """
title = "Boxes"
source = "nobody"

[[rows]]
name = "tiny"
preset = "moving-boxes/fixed"
seeds = 1
printed = {mean = 0.298}
"""


def test_a_table_of_detectors_has_their_precision(machine, tmp_path):
    lines = "".join(f'"{key}" = {json.dumps(value)}\n' for key, value in SMALL.items())
    text = PLAN + "\n[rows.set]\n" + lines
    (tmp_path / "boxes.toml").write_text(text, encoding="utf-8")
    plan = load_plan(str(tmp_path / "boxes.toml"))
    assert plan.merit == PRECISION and load_plan("best").merit == ACCURACY
    told = []
    campaign = Campaign(plan, tmp_path / "runs", tmp_path / "records")
    campaign.train(machine=machine, tell=told.append)
    (entry,) = campaign.entries()
    measured = entry["summary"]["test"]
    assert told == [f"1/1  tiny, seed 0  seed 0  test mAP {measured['map']:.3f}"]
    assert len(entry["epochs"]["val_map"]) == 2
    page = (tmp_path / "records/boxes/README.md").read_text(encoding="utf-8")
    assert "Test mAP, over seeds" in page and "| – / 0.298 / – |" in page
    written = [f"{measured[key]:.3f}" for key in ("map_50", "map_75")]
    assert "| " + " | ".join(written) + " |" in page
    other = text + '\n[[rows]]\nname = "digits"\npreset = "digits/best"\n'
    (tmp_path / "mixed.toml").write_text(other, encoding="utf-8")
    with pytest.raises(InvalidValueError, match="'digits' is judged by its accuracy, but .*'tiny'"):
        load_plan(str(tmp_path / "mixed.toml"))
