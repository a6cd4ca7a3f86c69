"""A run's page: what it says is in the run's files, it needs no other file, and it can be live."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
import tomllib

import numpy as np
import pytest
import tomli_w
import torch
from training_runs import train_tiny
from typer.testing import CliRunner

import bsnn_tha
from animations.report.answers import Answers
from animations.report.curves import curves
from animations.report.page import write_report
from bsnn_tha.cli import app
from bsnn_tha.data.images import load_digits
from bsnn_tha.errors import InvalidValueError, RunError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "tiny <run>"
    train_tiny(folder, **{"training.epochs": 2, "snapshots.count": 2})
    return folder


@pytest.fixture(scope="module")
def text(run):
    return write_report(run).read_text(encoding="utf-8")


class _Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.outside = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href") and not str(value).startswith("data:"):
                self.outside.append(value)


def test_it_says_what_the_run_measured_and_needs_no_other_file(run, text):
    summary = json.loads((run / "summary.json").read_text())
    assert f"{summary['test']['accuracy']:.2%}" in text
    page = _Page(text)
    assert page.outside == []
    assert {"iframe", "img", "table", "details"} <= set(page.tags)
    assert "<title>tiny &lt;run&gt;</title>" in text
    written = re.search(r'id="summary">(.*?)</script>', text)[1]
    assert json.loads(written) == summary
    assert 'http-equiv="refresh"' not in text


def test_mistakes_are_those_of_the_network(run, tmp_path, text):
    test = load_digits(tmp_path, validation=0.1, seed=0).test
    trained = bsnn_tha.load(run)
    answers = Answers.of(trained, test, batch=100)
    images, labels = test[[*range(len(test))]]
    wrong = (trained.predict(images) != labels).nonzero().flatten()
    assert f"{len(wrong)} of {len(labels)} wrong" in text
    matrix = answers.matrix()
    assert matrix.sum() == len(labels) and matrix.diagonal().sum() == len(labels) - len(wrong)
    rows = re.findall(r"<tr><th>\d</th>(.*?)</tr>", text)
    shown = [[int(n or 0) for n in re.findall(r"<td[^>]*>(\d*)</td>", row)] for row in rows]
    assert shown == matrix.tolist()
    worst = answers.worst()
    pairs = [f"{answers.targets[i]} → {answers.predicted[i]}" for i in worst]
    assert re.findall("<figcaption>(.*?)</figcaption>", text) == pairs
    assert set(worst) <= set(wrong.tolist())
    margins = answers.margins()
    assert margins[worst].tolist() == sorted(margins[wrong].tolist())[: len(worst)]
    assert torch.all(margins[wrong] <= 0)


def test_while_it_trains_the_page_is_live_and_leaves_the_test_set_alone(run, tmp_path):
    training = tmp_path / "training"
    shutil.copytree(run, training, ignore=shutil.ignore_patterns("summary.json", "report.html"))
    text = write_report(training, film=False).read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' in text
    assert "2 of 2" in text and "epochs so far" in text
    assert "the validation split, after the last epoch" in text
    assert "test accuracy" not in text and "iframe" not in text


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_curves_of_a_detector_have_its_map_over_whole_epochs(count):
    epochs = {
        "epoch": np.arange(count),
        "lr": np.ones(count),
        "val_loss": np.linspace(9, 1, count),
        **{f"{column}_1": np.ones(count) for column in ("threshold", "rate", "dead")},
        "val_map": np.linspace(0, 0.2, count),
    }
    drawn = dict(curves(epochs))
    assert list(drawn)[:2] == ["loss", "mAP"]
    (axes,) = drawn["mAP"].axes
    assert axes.lines[0].get_ydata().tolist() == epochs["val_map"].tolist()
    ticks = axes.get_xticks()
    shown = ticks[(ticks >= axes.get_xlim()[0]) & (ticks <= axes.get_xlim()[1])]
    assert len(shown) and (shown == shown.round()).all()


def test_a_run_that_has_just_begun_has_a_page_and_no_run_has_none(run, tmp_path):
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(run / "config.toml", begun)
    text = write_report(begun).read_text(encoding="utf-8")
    assert "0 of 2" in text and "no epoch has ended" in text
    with pytest.raises(RunError, match="not a run folder"):
        write_report(tmp_path / "none")


def test_the_command_names_its_page(run, tmp_path):
    path = tmp_path / "pages" / "run.html"
    done = CliRunner().invoke(app, ["report", str(run), "-o", str(path), "--no-film"])
    assert done.exit_code == 0, done.output
    assert done.output.strip().replace("\n", "") == str(path)
    assert path.stat().st_size > 10_000


def report(*words):
    return CliRunner().invoke(app, ["report", *map(str, words)])


def test_trials_have_a_page_for_each_seed_that_has_begun(run, tmp_path):
    trials = tmp_path / "trials"
    (trials / "seed-3").mkdir(parents=True)
    config = (run / "config.toml").read_text(encoding="utf-8")
    plan = {"trials": 2, "config": tomllib.loads(config)}  # of seeds 3 and 4
    (trials / "trials.toml").write_text(tomli_w.dumps(plan), encoding="utf-8")
    assert "no trial of" in str(report(trials).exception)
    for file in run.iterdir():
        if file.is_file() and file.name != "report.html":
            shutil.copy(file, trials / "seed-3")
    done = report(trials, "--no-film")
    assert done.exit_code == 0, done.output
    assert done.output.replace("\n", "") == str(trials / "seed-3" / "report.html")
    assert "one for each seed" in str(report(trials, "-o", tmp_path / "a.html").exception)


def test_a_network_of_the_zoo_has_no_page_and_says_what_it_has():
    refused = report("zoo:digits").exception
    assert isinstance(refused, InvalidValueError)
    assert "bsnn-tha evaluate zoo:digits" in str(refused)


def test_a_run_that_is_made_longer_is_live_again(run, tmp_path):
    longer = tmp_path / "longer"
    shutil.copytree(run, longer, ignore=shutil.ignore_patterns("report.html"))
    config = (longer / "config.toml").read_text(encoding="utf-8")
    (longer / "config.toml").write_text(config.replace("epochs = 2", "epochs = 3"))
    text = write_report(longer, film=False).read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' in text and "epochs so far" in text
    assert "the validation split, after the last epoch" in text and "test accuracy" not in text
