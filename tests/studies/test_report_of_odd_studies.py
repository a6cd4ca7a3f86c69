"""Reports of studies that are small, failed, constrained, unfinished, or of few settings."""

from __future__ import annotations

import json
import socket

import pytest
from made_studies import BETA, CLIP, NORM, made
from optuna.trial import TrialState
from study_workers import Process
from typer.testing import CliRunner

from bsnn_tha.cli import app, study
from studies import report
from studies.errors import StudyError
from studies.storage import open_storage


def written(opened, folder):
    """The page, and what else was written."""
    report.write(opened, folder)
    return (folder / "report.html").read_text(encoding="utf-8"), {
        path.name for path in folder.iterdir()
    }


def beta(trial, settings):
    return settings["neuron.beta"]


@pytest.mark.parametrize("trials", [1, 2])
def test_few_trials_have_a_page_without_what_they_cannot_tell(trials, tmp_path):
    page, files = written(made(beta, trials), tmp_path)
    assert {"best.toml", "trials.csv", "history.png", "slices.png"} <= files
    assert not {"importances.png", "contour.png", "learning_curves.png"} & files
    assert "What matters" not in page


def test_a_study_of_failures_says_why(tmp_path):
    def fail(trial, settings):
        trial.set_user_attr("reason", "out of memory: <8 GiB>")
        return TrialState.FAIL

    opened = made(fail, 3)
    page, files = written(opened, tmp_path)
    assert files == {"report.html", "study.json", "trials.csv"}
    assert "The study has no complete trial yet." in page
    assert "<td>out of memory: &lt;8 GiB&gt;</td><td>3</td><td>0, 1, 2</td>" in page
    assert "3 trials failed: out of memory: <8 GiB>" in report.text(opened)
    with pytest.raises(StudyError, match="'made' has no complete trial yet"):
        report.best_config(opened)


def test_trials_that_were_all_pruned_have_curves(tmp_path):
    def prune(trial, settings):
        trial.report(0.5, 0)
        trial.report(0.6 + 0.01 * trial.number, 1)
        return TrialState.PRUNED

    page, files = written(made(prune, 6), tmp_path)
    assert {"history.png", "learning_curves.png", "slices.png"} <= files
    assert "best.toml" not in files and "parallel_coordinates.png" not in files
    assert "accuracy 0.62 after 2 epochs" in page


def test_one_setting_is_a_line(tmp_path):
    page, files = written(made(beta, 12, rows=(BETA,)), tmp_path)
    assert "contour.png" in files and 'aria-label="map of two settings for accuracy"' in page


def test_settings_that_are_all_choices(tmp_path):
    def score(trial, settings):
        return float(settings["training.grad_clip"] is None) + 0.01 * trial.number

    page, files = written(made(score, 12, rows=(CLIP, NORM)), tmp_path)
    assert {"importances.png", "contour.png"} <= files
    assert "training.grad_clip = off" in page


def test_a_setting_with_a_single_value_is_drawn(tmp_path):
    from studies.space import Choice, Number

    rows = (BETA, Number("neuron.slope", 5.0, 5.0), Choice("network.norm", "none"))
    _, files = written(made(beta, 6, rows=rows), tmp_path)
    assert {"slices.png", "parallel_coordinates.png"} <= files


def constrained(limit):
    def score(trial, settings):
        trial.set_constraint("size", settings["neuron.beta"] - limit)
        return settings["neuron.beta"]

    return score


def test_the_best_keeps_the_constraints(tmp_path):
    opened = made(constrained(0.5), 12)
    allowed = [t for t in opened.study.trials if t.params["neuron.beta"] <= 0.5]
    best = max(allowed, key=lambda trial: trial.value)
    assert report.best_config(opened).neuron.beta == best.params["neuron.beta"] < 0.5
    page, _ = written(opened, tmp_path)
    assert page.count("breaks a constraint") == 1  # in the legend of the history
    assert "constraint size: " in page
    none = made(constrained(0.0), 4)
    with pytest.raises(StudyError, match="no trial that keeps the constraints, of 4 complete"):
        report.best_config(none)
    page, files = written(none, tmp_path / "none")
    assert "best.toml" not in files and "no trial that keeps the constraints" in page


def test_three_objectives_have_a_front_for_each_two(tmp_path):
    def score(trial, settings):
        value = settings["neuron.beta"]
        return value, 100 * value**2, 1 - value

    names = ("accuracy", "spikes", "dead")
    page, files = written(made(score, 6, objectives=names), tmp_path)
    fronts = {name for name in files if name.startswith("pareto_front")}
    assert fronts == {
        "pareto_front_accuracy_spikes.png",
        "pareto_front_accuracy_dead.png",
        "pareto_front_spikes_dead.png",
    }
    assert {"history.png", "history_spikes.png", "importances_dead.png"} <= files
    assert "<th>accuracy</th><th>spikes per sample</th><th>share of dead neurons</th>" in page


def test_the_page_of_a_running_study_shows_what_runs_and_loads_itself_again(tmp_path):
    def score(trial, settings):
        if trial.number < 2:
            return 0.5
        trial.report(0.25, 0)  # and goes on
        return None

    opened = made(score, 3)
    page, _ = written(opened, tmp_path)
    assert '<meta http-equiv="refresh" content="20">' in page
    assert '<tr data-key="2"><td>2</td><td>1</td><td>0.2500</td>' in page
    tips = json.loads(page.partition('id="tips">')[2].partition("</script>")[0])
    assert tips["2"].startswith("trial 2, running\naccuracy 0.25 after 1 epoch\n")
    opened.study.tell(2, 0.6)
    page, _ = written(opened, tmp_path)
    assert "refresh" not in page and "Running trials" not in page


def test_the_page_is_written_anew_until_the_study_is_at_rest(tmp_path, monkeypatch):
    storage = open_storage(str(tmp_path), "made", create=True)
    opened = made(lambda trial, _: 0.5 if trial.number < 1 else None, 2, storage=storage)
    opened.study.set_user_attr("plan", opened.plan.to_json())
    page = tmp_path / "made" / "report.html"
    seen = []

    def sleep(seconds):
        seen.append((seconds, "refresh" in page.read_text(encoding="utf-8")))
        if len(seen) == 2:
            opened.study.tell(1, 0.6)

    monkeypatch.setattr(study.time, "sleep", sleep)
    command = ["study", "report", "made", "--storage", str(tmp_path), "--every", "7"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    # It runs, runs, has ended, and has nothing new.
    assert seen == [(7.0, True), (7.0, True), (7.0, False)]
    assert result.output.splitlines()[0] == "study made: 2 complete"


def test_nobody_waits_for_a_trial_whose_worker_was_killed(tmp_path, monkeypatch):
    killed = Process(lambda: None)
    assert killed.wait() == 0
    storage = open_storage(str(tmp_path), "made", create=True)
    opened = made(lambda trial, _: 0.5 if trial.number < 1 else None, 2, storage=storage)
    opened.study.set_user_attr("plan", opened.plan.to_json())
    running = opened.study.trials[1]._trial_id
    storage.set_trial_user_attr(running, "worker", f"{socket.gethostname()}:{killed.pid}")
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        assert len(slept) < 3

    monkeypatch.setattr(study.time, "sleep", sleep)
    command = ["study", "report", "made", "--storage", str(tmp_path), "--every", "7"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert slept == [7.0] and opened.study.trials[1].state == TrialState.RUNNING


@pytest.mark.parametrize("seconds", ["0", "-1"])
def test_no_time_between_two_pages_is_refused(seconds):
    result = CliRunner().invoke(app, ["study", "report", "made", "--every", seconds])
    assert str(result.exception) == f"--every must be above 0 seconds, but got {seconds}"
