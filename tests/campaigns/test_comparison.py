"""Comparing threshold rules: recipes, plans, and a real comparison that is stopped and goes on."""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
import shutil
import signal
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Command, forked_pool
from typer.testing import CliRunner

from bsnn_tha.campaigns.comparison import results, tables
from bsnn_tha.campaigns.comparison.plan import Cell, Comparison, bases_of
from bsnn_tha.campaigns.comparison.recipes import RECIPES, find_recipe
from bsnn_tha.campaigns.comparison.runner import run_all, run_folder
from bsnn_tha.cli import app
from bsnn_tha.errors import InvalidValueError, RunError
from bsnn_tha.presets import load_preset, preset_names
from bsnn_tha.training.machine import Machine

QUICK = {
    "training.epochs": 2,
    "data.subset": 96,
    "data.num_steps": 6,
    "data.batch_size": 32,
    "network.notation": "8C3-AP2-10",
    "threshold.theta_0": [0.5, 0.5],
    "threshold.theta_inf": [1.0, 1.0],
    "threshold.alpha": 0.02,
    "snapshots.count": 0,
}
MACHINE = Machine(threads=1)
PATIENCE = 120


@pytest.fixture(scope="module")
def digits():
    return load_preset("digits", "tha")


# Recipes


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_on_every_data_set(name):
    for dataset, variants in preset_names().items():
        if "tha" not in variants:
            continue
        config = load_preset(dataset, "tha")
        if config.threshold.theta_inf is not None:
            changed = find_recipe(name)(config)
            assert changed.threshold.theta_0 == config.threshold.theta_0
            assert (changed.data, changed.loss) == (config.data, config.loss)
            assert changed.network == config.network


def built(name, config):
    return find_recipe(name)(config).build_network((1, 8, 8))


def test_recipes_are_the_papers_choices(digits):
    """The table at the end of PAPERS.md: rule, reset, surrogate, gradient of θ."""
    expected = {
        "fixed": ("Fixed", "subtract", "FastSigmoid", "none", False),
        "annealed": ("Annealed", "subtract", "FastSigmoid", "none", False),
        "rouser": ("Learned", "zero", "Exponential", "none", False),
        "ltmd": ("Tanh", "zero", "Rectangle", "none", False),
        "lt-snn": ("Learned", "zero", "Triangle", "sigmoid", True),
    }
    for name, choices in expected.items():
        for layer in built(name, digits).layers:
            neuron = layer.neuron
            path = neuron.threshold_gradient
            assert choices == (
                type(neuron.rule).__name__,
                neuron._reset_mechanism,
                type(neuron.surrogate).__name__,
                path.window,
                path.fired_only,
            )
            per_neuron = neuron.threshold.numel() > 1
            assert per_neuron == (name == "rouser")


@pytest.mark.parametrize(
    ("name", "theta", "shape"),
    [
        ("rouser", 1.25, lambda x: 1.5 / 3.75 * math.exp(-abs(x) / 3.75)),
        ("ltmd", math.tanh(0.5), lambda x: float(abs(x) < 0.5)),
        ("lt-snn", 1.0, lambda x: max(0.0, 1 - abs(x))),
    ],
)
def test_surrogates_are_the_papers_measured_in_thresholds(digits, name, theta, shape):
    """s(θ0 (1 + r)) θ0 is the paper's at the same distance r in its own thresholds."""
    for layer, theta_0 in zip(built(name, digits).layers, digits.threshold.theta_0, strict=True):
        for r in (-0.7, -0.1, 0.0, 0.4, 0.9):
            u, centre = torch.tensor(theta_0 * (1 + r)), torch.tensor(theta_0)
            expected = shape(r * theta) * theta
            actual = layer.neuron.surrogate(u, centre).item() * theta_0
            assert actual == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_thresholds_alone_leave_the_neurons(digits):
    for name in ("rouser", "ltmd", "lt-snn"):
        whole, alone = find_recipe(name)(digits), find_recipe(name)(digits, only_thresholds=True)
        assert alone.threshold == whole.threshold and alone.optimizer == whole.optimizer
        centred = digits.neuron.model_copy(update={"surrogate_centre": "moving"})
        assert alone.neuron == centred != whole.neuron
    assert find_recipe("annealed")(digits, only_thresholds=True).neuron == digits.neuron


def test_at_the_papers_own_threshold_nothing_is_scaled(digits):
    config = find_recipe("rouser")(digits.with_changes({"threshold.theta_0": 1.25}))
    assert config.neuron.slope == pytest.approx(1 / 3.75)
    assert config.optimizer.threshold_lr == pytest.approx(config.optimizer.lr)


def test_an_unknown_rule_names_the_nearest():
    with pytest.raises(InvalidValueError, match="unknown rule 'rousser'; did you mean 'rouser'?"):
        find_recipe("rousser")


# Plans


def test_a_swept_threshold_does_not_change_the_surrogate(digits):
    comparison = Comparison({"binary": digits}, ("lt-snn", "annealed"), 2, (0.5, 1.0))
    assert [cell.name for cell in comparison.cells()] == [
        "lt-snn-binary-x0.5", "lt-snn-binary", "annealed-binary-x0.5", "annealed-binary",
    ]  # fmt: skip
    half, whole = (comparison.config(cell, 1) for cell in comparison.cells()[:2])
    assert half.neuron == whole.neuron
    assert half.threshold.theta_0 == [theta / 2 for theta in digits.threshold.theta_0]
    assert half.training.seed == digits.training.seed + 1
    annealed = comparison.config(comparison.cells()[2], 0)
    assert annealed.threshold.theta_inf == [theta / 2 for theta in digits.threshold.theta_inf]


def test_bases_share_data_and_anneal_in_proportion():
    bases = bases_of("spoken-digits", ["binary", "float"], {"training.epochs": 3})
    binary, floating = bases["binary"], bases["float"]
    assert binary.data == floating.data and binary.training.epochs == floating.training.epochs == 3
    assert floating.threshold.theta_0 == load_preset("spoken-digits", "flt32").threshold.theta_0
    for theta, own, published, reached in zip(
        [floating.threshold.theta_0] * 2,
        floating.threshold.theta_inf,
        binary.threshold.theta_0,
        binary.threshold.theta_inf,
        strict=True,
    ):
        assert own / theta == pytest.approx(reached / published)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda base: Comparison({"binary": base}, (), 1), "rules must be one or more, each once"),
        (lambda base: Comparison({"binary": base}, ("fixed", "fixed"), 1), "rules must be one or"),
        (lambda base: Comparison({"binary": base}, ("fixed",), 0), "seeds must be at least 1"),
        (lambda base: Comparison({"binary": base}, ("fixed",), 1, (0.0,)), "factors of theta_0"),
        (lambda base: bases_of("digits", ["ternary"], {}), "weights must be binary or float"),
        (
            lambda base: Comparison(bases_of("temporal-coding", ["binary"], {}), ("fixed",), 1),
            "a comparison, row fixed-binary, is of test accuracies or of boxes found, but ",
        ),
        (
            lambda base: Comparison({"binary": load_preset("digits", "bsnn")}, ("annealed",), 1),
            "the rule 'annealed' needs a schedule",
        ),
    ],
)
def test_broken_rules_are_named(digits, make, message):
    with pytest.raises(InvalidValueError) as refusal:
        make(digits)
    assert str(refusal.value).startswith(message) and "\n" not in str(refusal.value)


# A comparison that runs


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Two rules, two seeds, two initial thresholds."""
    folder = tmp_path_factory.mktemp("compare") / "runs"
    bases = bases_of("digits", ["binary"], QUICK)
    comparison = Comparison(bases, ("fixed", "rouser"), 2, (1.0, 2.0))
    with forked_pool():
        run_all(comparison, folder, machine=MACHINE)
    return comparison, folder


def test_rows_are_what_the_runs_say(compared):
    comparison, folder = compared
    rows = results.read(comparison, folder)
    assert [(row["rule"], row["factor"]) for row in rows] == [
        ("fixed", 1.0), ("fixed", 2.0), ("rouser", 1.0), ("rouser", 2.0),
    ]  # fmt: skip
    for row, cell in zip(rows, comparison.cells(), strict=True):
        paths = [run_folder(folder, cell, seed) for seed in (0, 1)]
        summaries = [json.loads((path / "summary.json").read_text()) for path in paths]
        accuracies = [summary["test"]["accuracy"] for summary in summaries]
        assert row["accuracies"] == accuracies and row["failed"] == []
        assert row["best"] == max(accuracies)
        assert row["mean"] == pytest.approx(sum(accuracies) / 2)
        assert row["std"] == pytest.approx(statistics.stdev(accuracies))
        spikes = [sum(layer["spikes_per_sample"] for layer in s["layers"]) for s in summaries]
        assert row["spikes_per_sample"] == pytest.approx(sum(spikes) / 2)
        assert np.shape(row["curves"]["val_accuracy"]) == (2, 2)
        assert {"dead", "threshold_1", "rate_2"} <= row["curves"].keys()
    learned = rows[2]["curves"]["threshold_1"][0]
    assert learned[0] != learned[1]
    assert set(rows[0]["curves"]["threshold_1"][0]) == {0.5}
    assert set(rows[1]["curves"]["threshold_1"][0]) == {1.0}


def test_the_epoch_that_reaches_the_goal(compared):
    comparison, folder = compared
    rows = results.read(comparison, folder, reach=0.0)
    assert all(row["epochs_to_reach"] == [1, 1] for row in rows)
    rows = results.read(comparison, folder, reach=1.01)
    assert all(row["epochs_to_reach"] == [None, None] for row in rows)
    best = max(np.mean(r["curves"]["val_accuracy"], 0).max() for r in results.read(*compared))
    assert results.read(*compared)[0]["reach"] == pytest.approx(0.95 * best)


def test_finished_runs_are_not_repeated_and_lost_ones_are(compared):
    comparison, folder = compared
    kept, lost = (run_folder(folder, comparison.cells()[0], seed) for seed in (0, 1))
    before = (kept / "summary.json").stat().st_mtime_ns
    (lost / "summary.json").unlink()
    again = Comparison.load(folder)
    assert again == comparison
    with forked_pool():
        run_all(again, folder, machine=MACHINE)
    assert (kept / "summary.json").stat().st_mtime_ns == before
    assert (lost / "summary.json").exists()


def test_table_and_figures(compared, tmp_path):
    rows = results.read(*compared)
    written = tables.write(rows, tmp_path)
    assert {path.name for path in written} == {
        "results.json", "table.md", "overview.png", "thresholds.png", "sweep.png",
    }  # fmt: skip
    assert json.loads((tmp_path / "results.json").read_text()) == rows
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[0].startswith("| rule") and "θ0" in lines[0]
    assert f"{100 * rows[0]['mean']:.2f}" in lines[2]
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in written[2:])


def test_a_run_that_diverges_is_a_row_that_failed(tmp_path):
    changes = {**QUICK, "training.epochs": 1, "optimizer.lr": 1e37, "training.grad_clip": None}
    bases = bases_of("digits", ["float"], changes | {"training.weight_clip": None})
    comparison = Comparison(bases, ("fixed",), 1)
    for _ in range(2):  # and stays so
        with forked_pool():
            run_all(comparison, tmp_path, machine=MACHINE)
        (row,) = results.read(comparison, tmp_path)
        assert row["seeds"] == [] and "finite" in row["failed"][0]["reason"]
    assert "failed" in tables.table([row])
    assert [path.name for path in tables.write([row], tmp_path)] == ["results.json", "table.md"]


def test_the_command_reports_a_folder_again(compared, monkeypatch):
    _, folder = compared
    # Nothing is left to train, so no process is started for it.
    monkeypatch.setattr(multiprocessing.get_context("spawn"), "Process", None)
    result = CliRunner().invoke(app, ["compare", "--output", str(folder), "--threads", "1"])
    assert result.exit_code == 0, result.output
    assert "rouser" in result.output and "epochs to" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rules", "fixd"], "did you mean 'fixed'?"),
        (["--theta-0", "a,b"], "--theta-0 takes numbers separated by commas"),
        (["--dataset", "digts"], "did you mean 'digits'?"),
        (["--jobs", "0"], "jobs must be at least 1"),
        (["--reach", "nan"], "reach must be above 0 and at most 1, but got nan"),
        (["--theta-0", "inf"], "factors of theta_0 must be finite and above 0, but got inf"),
        (["--weights", "binary,binary"], "weights must be binary or float or both, each once"),
        (["--weights", ""], "weights must be binary or float or both, each once"),
        (["--set", "data.validation=0"], "follows the accuracy on validation samples"),
    ],
)
def test_wrong_options(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["compare", *options])
    assert isinstance(result.exception, InvalidValueError) and message in str(result.exception)


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path):
    file = tmp_path / "file"
    file.write_text("a regular file")
    comparison = Comparison(bases_of("digits", ["binary"], QUICK), ("fixed",), 1)
    with pytest.raises(RunError, match=r"^cannot write output folder .*file: File exists$"):
        run_all(comparison, file, machine=MACHINE)
    assert file.read_text() == "a regular file"


def processes_of(session):
    """Processes of a session that have not ended, by the kernel's own account."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        state, _, _, its_session, *_ = rest.split()
        if int(its_session) == session and state != "Z":
            found.append(stat.parent.name)
    return found


def wait_until(true):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("killed", [False, True], ids=["Ctrl-C", "killed"])
def test_no_process_outlives_a_comparison_that_is_stopped(killed, tmp_path):
    folder = tmp_path / "runs"
    sets = [f"--set={key}={value}" for key, value in (QUICK | {"training.epochs": 100_000}).items()]
    options = ["--rules=fixed,rouser", "--weights=binary", "--seeds=3", "--jobs=2", *sets]
    # Where the whole group is interrupted, runs are in new processes, as they are for a user.
    forked = forked_pool() if killed else contextlib.nullcontext()
    command = Command("compare", f"--output={folder}", *options, cwd=tmp_path, within=forked)
    try:
        wait_until(lambda: len(list(folder.glob("runs/*/*/config.toml"))) == 2)
        if killed:
            command.kill()
        else:
            os.killpg(command.pid, signal.SIGINT)
        assert command.wait() == (-signal.SIGKILL if killed else 130)
        if not killed:
            assert f"go on with: bsnn-tha compare --output {folder}" in command.complained
        wait_until(lambda: not processes_of(command.pid))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)


def test_folders_are_named_for_what_they_hold():
    assert Cell("fixed", "binary", 1.0).name == "fixed-binary"
    assert Cell("fixed", "binary", 0.25).name == "fixed-binary-x0.25"


def test_a_plan_from_elsewhere_leads_to_no_other_folder(tmp_path):
    mine = Comparison(bases_of("digits", ["binary"], QUICK), ("fixed",), 1)
    mine.save(tmp_path)
    plan = tmp_path / "comparison.toml"
    plan.write_text(plan.read_text().replace("bases.binary", 'bases."../../binary"'))
    with pytest.raises(RunError, match=r"weights must be binary or float, but got '\.\./\.\./"):
        Comparison.load(tmp_path)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("rules = 3", r"rules must be a valid list, but got 3$"),
        ("seeds = '3'", r"seeds must be a valid integer, but got '3'$"),
        ("base = 3", r"comparison\.toml has no key 'base'; did you mean 'bases'\?$"),
        ("", r"rules is missing; add it to comparison\.toml$"),
    ],
)
def test_a_damaged_plan_is_refused_in_one_line(written, message, tmp_path):
    keys = {"rules": '["fixed"]', "seeds": 1, "factors": "[1.0]", "only_thresholds": "false"}
    keys.pop(written.partition(" ")[0] or "rules", None)
    lines = [written, *(f"{key} = {value}" for key, value in keys.items()), "[bases]"]
    (tmp_path / "comparison.toml").write_text("\n".join(lines))
    with pytest.raises(RunError, match=message):
        Comparison.load(tmp_path)


def test_a_plan_with_a_byte_order_mark_is_read(tmp_path):
    mine = Comparison(bases_of("digits", ["binary"], QUICK), ("fixed",), 1)
    mine.save(tmp_path)
    plan = tmp_path / "comparison.toml"
    plan.write_text(plan.read_text(), encoding="utf-8-sig")
    assert Comparison.load(tmp_path) == mine


def test_a_comparison_made_here_may_go_on_with_code_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_norms.py").write_text("import torch\nclass Norm(torch.nn.BatchNorm2d): pass\n")
    own = bases_of("digits", ["binary"], QUICK | {"network.norm": "my_norms:Norm"})
    mine = Comparison(own, ("fixed",), 1)
    mine.save(tmp_path)
    assert Comparison.load(tmp_path) == mine
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tmp_path, elsewhere)
    with pytest.raises(RunError, match="--allow-code"):
        Comparison.load(elsewhere)
    assert Comparison.load(elsewhere, allow_code=True) == mine
