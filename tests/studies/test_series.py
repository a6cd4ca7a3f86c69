"""Series of studies: plans, what is told before, workers that come and go, the page."""

from __future__ import annotations

from dataclasses import replace

import pytest
from optuna.trial import TrialState
from study_workers import Process, until
from typer.testing import CliRunner

from bsnn_tha.cli import app
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.presets import load_preset
from bsnn_tha.training.machine import Machine
from studies.errors import StudyError
from studies.series import pages
from studies.series.plan import load_series, series_names
from studies.series.work import existing, outlook, run_series, take_turns
from studies.worker import finished

pytest_plugins = ["study_database"]
pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:DeprecationWarning")

PLAN = """
title = "Two searches"
source = "nobody"
trials = 3
sampler = "random"
sampler_seed = 0
pruner = "none"

[set]
"network.notation" = "4C3-AP2-10"
"training.epochs" = 1
"data.subset" = 64
"data.num_steps" = 3
"network.dropout" = 0.0

[[studies]]
name = "fixed"
preset = "digits/bsnn"
printed = {mean = 12.5}
set = {"threshold.theta_0" = 0.5}

[[studies]]
name = "unit"
preset = "digits/bsnn-unit"
"""
MACHINE = {"device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def plan_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("series") / "two.toml"
    path.write_text(PLAN, encoding="utf-8")
    return path


def options(plan_file, storage, **given):
    series = load_series(str(plan_file))
    return [series.options(s, storage=str(storage), **MACHINE, **given) for s in series.studies]


def command(*words):
    result = CliRunner().invoke(app, ["study", "series", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.output


# Plans


def test_the_papers_appendix_is_sixteen_studies_of_500_trials_with_tpe():
    series = load_series("appendix-d")
    presets = {search.preset for search in series.studies}
    datasets = ("mnist", "fashion-mnist", "dvs-gesture", "shd")
    variants = ("flt32", "bsnn-unit", "bsnn", "tha")
    assert presets == {f"{data}/{variant}" for data in datasets for variant in variants}
    assert (series.trials, series.sampler, series.pruner) == (500, "tpe", "none")
    means = {search.name: search.printed.mean for search in series.studies}
    assert means["mnist-tha"] == 99.07 and means["shd-bsnn"] == 62.48
    small = load_series("appendix-d-small")
    assert {s.preset for s in small.studies} == {p for p in presets if "mnist" in p}


def test_what_a_plan_says_is_what_its_studies_are_asked_for():
    series = load_series("appendix-d-small")
    (search,) = series.only(["mnist-flt32"])
    asked = series.options(search, trials=7, pruner=None)
    assert asked.study_name == "appendix-d-small-mnist-flt32"
    assert (asked.dataset, asked.variant, asked.trials) == ("mnist", "flt32", 7)
    assert (asked.pruner, asked.seed, asked.sampler) == ("none", 0, "tpe")
    config = load_preset("mnist", "flt32").with_changes(asked.changes)
    assert (config.training.epochs, config.data.subset, config.data.num_steps) == (1, 512, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PLAN.replace("trials = 3", "trials = 0"), "trials must be"),
        (PLAN.replace('"unit"', '"fixed"'), "rows need a name each"),
        (PLAN.replace("data.subset", "data.subste"), "data has no key 'subste'"),
        (PLAN.replace("digits/bsnn-unit", "digits/bsn"), "bsn"),
        (PLAN.replace("sampler =", "samplr ="), "samplr"),
        (PLAN.replace('"random"', '"randm"'), "unknown sampler 'randm'"),
    ],
)
def test_a_plan_that_breaks_a_rule_is_refused(tmp_path, text, message):
    path = tmp_path / "wrong.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidValueError, match=message):
        load_series(str(path))


def test_unknown_names_are_told_with_the_nearest():
    with pytest.raises(InvalidValueError, match="unknown series 'appendix-e'; did you mean 'appen"):
        load_series("appendix-e")
    with pytest.raises(InvalidValueError, match="no study 'mnist-th'; did you mean 'mnist-tha'"):
        load_series("appendix-d").only(["mnist-th"])
    assert all(name in command() for name in series_names())


def test_options_of_a_series_that_is_not_named_are_refused():
    refused = CliRunner().invoke(app, ["study", "series", "--only", "mnist-tha"]).exception
    assert str(refused).startswith("--only is of a series, and none is named; ")


# Work


def test_the_cost_is_told_before_and_a_dry_run_writes_nothing(plan_file, tmp_path):
    said = command(plan_file, "--dry-run", "--storage", tmp_path / "store", "--device", "cpu")
    assert "two-fixed" in said and "6 trials to go, about" in said
    assert not (tmp_path / "store").exists()


def test_a_dry_run_downloads_nothing(plan_file, tmp_path, monkeypatch):
    monkeypatch.setattr("studies.series.work.prepare", lambda _: pytest.fail("would download"))
    first, _ = options(plan_file, tmp_path)
    first = replace(first, changes={**first.changes, "data.name": "mnist"}, data_root=str(tmp_path))
    told = outlook(first, downloads=False)
    assert told.reason == f"mnist is not in {tmp_path}; bsnn-tha data check mnist downloads it"


def test_what_cannot_be_trained_is_told_before_any_trial(plan_file, tmp_path):
    first, second = options(plan_file, tmp_path)
    second = replace(second, changes={**second.changes, "data.name": "dvs-gesture"})
    outlooks = [outlook(first), outlook(replace(second, data_root=str(tmp_path / "no-data")))]
    assert outlooks[0].forecast and not outlooks[1].forecast
    with pytest.raises(StudyError, match=r"^two-unit: .*; name those .* with --only"):
        run_series(outlooks, lambda *_: pytest.fail("nothing may begin"))
    assert existing(first) is None


def test_a_series_runs_goes_on_and_ends_as_a_page(plan_file, tmp_path):
    store = ["--storage", tmp_path, "--device", "cpu", "--threads", 1]
    said = command(plan_file, "--trials", 1, *store)
    assert "two-fixed  1/1  trial 0" in said and "two-unit  1/1  trial 0" in said
    assert "none" in command(plan_file, "--trials", 1, *store)  # to do
    only = command(plan_file, "--only", "unit", *store)
    assert "two-unit  3/3" in only and "two-fixed" not in only
    counts = [len(finished(existing(each).study)) for each in options(plan_file, tmp_path)]
    assert counts == [1, 3]
    assert "written to" in command(plan_file, "--report", *store)
    page = (tmp_path / "two" / pages.PAGE).read_text(encoding="utf-8")
    assert "# Two searches" in page and "12.50" in page
    assert "| [fixed](fixed/trials.csv) | 1 / 0 |" in page
    assert "[unit](unit/trials.csv) | 3 / 0 |" in page or "trials.csv) | 2 / 1 |" in page
    assert "- unit: θ 1; β " in page
    for name in ("fixed/best.toml", "unit/trials.csv", pages.HISTORY):
        assert (tmp_path / "two" / name).is_file()


def test_the_page_tells_what_fresh_seeds_give(plan_file, tmp_path):
    series, (first, _) = load_series(str(plan_file)), options(plan_file, tmp_path, trials=1)
    take_turns([first], None, lambda event: None)
    chosen = series.only(["fixed"])
    pages.write(series, chosen, [first], tmp_path / "page", Machine(**MACHINE), retrain=2)
    assert ", 2 seeds | 12.50 |" in (tmp_path / "page" / pages.PAGE).read_text(encoding="utf-8")


def test_training_again_goes_on_and_never_speaks_for_another_best_setting(plan_file, tmp_path):
    series, (first, second) = load_series(str(plan_file)), options(plan_file, tmp_path, trials=1)
    take_turns([first], None, lambda event: None)
    folder, machine = tmp_path / "page", Machine(**MACHINE)

    def said(retrain):
        pages.write(series, series.studies, [first, second], folder, machine, retrain)
        return (folder / pages.PAGE).read_text(encoding="utf-8")

    said(1)
    summary = folder / "fixed" / "retrained" / "seed-1" / "summary.json"
    begun = summary.stat().st_mtime_ns
    take_turns([second], None, lambda event: None)  # which a page for both had no trials of
    page = said(2)
    assert page.count(", 2 seeds | ") == 2 and summary.stat().st_mtime_ns == begun
    assert ", 2 seeds | " in said(1)  # never fewer than there are

    plan = folder / "fixed" / "retrained" / "trials.toml"
    text = plan.read_text(encoding="utf-8")
    plan.write_text(text.replace("trial 0", "trial 7"), encoding="utf-8")
    assert said(None).count(", 2 seeds | ") == 1
    with pytest.raises(StudyError, match=r"has 1 epochs of .*trial 7, not .*trial 0; move it"):
        said(2)


def test_the_page_says_what_each_study_was_asked_for(plan_file, tmp_path):
    begin = 'preset = "digits/bsnn-unit"\nbegin = {"neuron.beta" = 0.7}'
    text = PLAN.replace('preset = "digits/bsnn-unit"', begin)
    (tmp_path / "two.toml").write_text(text, encoding="utf-8")
    studies = options(tmp_path / "two.toml", tmp_path, trials=1)
    take_turns(studies[1:], None, lambda event: None)
    (trial,) = existing(studies[1]).study.trials
    assert trial.params["neuron.beta"] == 0.7
    series = load_series(str(tmp_path / "two.toml"))
    page = pages.page(series, [pages.Row(search, None) for search in series.studies])
    assert "- fixed: preset `digits/bsnn`, with `threshold.theta_0 = 0.5`" in page
    assert "- unit: preset `digits/bsnn-unit`, to begin with `neuron.beta = 0.7`" in page


def test_a_study_may_have_another_number_of_trials(plan_file, tmp_path):
    more = PLAN.replace('preset = "digits/bsnn-unit"', 'preset = "mnist/bsnn-unit"\ntrials = 7')
    (tmp_path / "two.toml").write_text(more, encoding="utf-8")
    assert [each.trials for each in options(plan_file, tmp_path)] == [3, 3]
    assert [each.trials for each in options(tmp_path / "two.toml", tmp_path)] == [3, 7]
    assert [each.trials for each in options(tmp_path / "two.toml", tmp_path, trials=2)] == [2, 2]
    series = load_series(str(tmp_path / "two.toml"))
    page = pages.page(series, [pages.Row(search, None) for search in series.studies])
    assert "3 (digits) or 7 (mnist) trials of `random` each" in page.replace("\n", " ")


def test_workers_on_a_database_spread_over_the_studies_and_may_die(plan_file, database, tmp_path):
    studies = options(plan_file, database, trials=4)
    for each in studies:  # as run_series does before it starts processes
        take_turns([replace(each, trials=1)], None, lambda event: None)

    def held(event):  # each worker in its first trial
        until((tmp_path / "released").exists)

    def running():
        return [len(study.get_trials(states=(TrialState.RUNNING,))) for study in opened]

    first = Process(take_turns, studies, None, held)
    second = Process(take_turns, [replace(s, worker=1) for s in studies], None, held)
    opened = [existing(each).study for each in studies]
    until(lambda: sum(running()) == 2)
    assert running() == [1, 1]
    second.kill()
    second.wait()
    (tmp_path / "released").touch()
    assert first.wait() == 0
    died = []
    for each in studies:
        trials = existing(each).study.trials
        assert sum(trial.state.is_finished() for trial in trials) == len(trials)
        done = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        assert len(done) == 4
        died += [trial.user_attrs["reason"] for trial in trials if trial.state == TrialState.FAIL]
    assert died == ["its worker died"]
