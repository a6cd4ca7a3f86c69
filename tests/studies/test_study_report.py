"""What comes back from a study: files that others can read."""

from __future__ import annotations

import csv
import json
from html.parser import HTMLParser

import matplotlib.image
import optuna
import pytest
from optuna.trial import TrialState

from bsnn_tha.config import RunConfig
from bsnn_tha.html_page import DPI
from bsnn_tha.presets import load_preset
from studies import report
from studies.errors import StudyError, TrialFailedError
from studies.figures.drawn import Figures
from studies.ranking import best_trials
from studies.space import Choice, Depth, Number, Space
from studies.storage import open_storage
from studies.study import OpenStudy, Plan
from studies.worker import Worker

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
BASE = load_preset("digits").with_changes({"training.epochs": 3})
SPACE = Space(
    Number("neuron.beta", 0.1, 0.99),
    Number("neuron.slope", 0.1, 30.0, log=True),
    Choice("training.grad_clip", None, 1.0),
)


def objective(count):
    """A score that β decides, with every way a trial can end."""

    def score(trial):
        config = BASE.with_changes(SPACE.suggest(trial, Depth(3, 1)))
        trial.set_user_attr("config", config.to_toml())
        if trial.number == 2:
            if count == 1:
                trial.report(0.2, 0)
            raise optuna.TrialPruned("loss is <nan> & more")
        if trial.number == 3:
            raise TrialFailedError('out of memory: "8 GiB", [/red]')
        value = config.neuron.beta
        if count == 1:
            trial.report(value, 0)
        trial.set_user_attr("scores", {"accuracy": value, "spikes": 100 * value**2})
        trial.set_user_attr("seconds", 1.5)
        return (value, 100 * (value - 0.5) ** 2 + 1)[:count]

    return score


def study(trials=12, objectives=("accuracy",), name="<study> & co"):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plan = Plan(BASE.to_toml(), tuple(SPACE.table()), objectives)
    made = optuna.create_study(
        study_name=name,
        directions=plan.directions,
        sampler=optuna.samplers.RandomSampler(seed=1),
    )
    first = {"neuron.beta": 0.93, "neuron.slope": 3.8, "training.grad_clip": None}
    made.enqueue_trial(first, user_attrs={"published": True})
    Worker(made, objective(len(objectives)), trials).work()
    return OpenStudy(made, plan)


@pytest.fixture(scope="module")
def opened():
    return study()


@pytest.fixture(scope="module")
def folder(opened, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "deep" / "er"
    report.write(opened, folder)
    return folder


class Page(HTMLParser):
    """What a page is made of, and whether its tags fit together."""

    VOID = ("meta", "img")

    def __init__(self, text):
        super().__init__()
        self.open, self.drawings, self.references, self.said = [], {}, [], []
        self.elements, self.last = {}, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if attributes.get("class") == "drawing":
            self.drawings[attributes["aria-label"]] = []
        if tag == "circle" and "data-key" in attributes:
            place = float(attributes["cx"]), float(attributes["cy"])
            self.drawings[list(self.drawings)[-1]].append((attributes["data-key"], place))
        self.references += [attributes[key] for key in ("src", "href") if key in attributes]
        self.last = attributes.get("id")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)
        if self.last:
            self.elements[self.last] = self.elements.get(self.last, "") + data


def test_a_report_has_its_files_and_no_other(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "best.toml",
        "contour.png",
        "history.png",
        "importances.png",
        "learning_curves.png",
        "parallel_coordinates.png",
        "report.html",
        "slices.png",
        "study.json",
        "trials.csv",
    ]


def test_the_best_configuration_is_that_of_the_best_trial(opened, folder):
    best = opened.study.best_trial
    config = RunConfig.from_file(folder / "best.toml")
    assert config.neuron.beta == best.params["neuron.beta"]
    assert config.source == f"study <study> & co, trial {best.number}"
    own = RunConfig.from_toml(best.user_attrs["config"])
    assert config.with_changes({"source": own.source}) == own


def test_the_table_has_a_row_for_each_trial_with_how_it_ended(opened, folder):
    with (folder / "trials.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    trials = opened.study.trials
    assert [int(row["trial"]) for row in rows] == list(range(len(trials)))
    assert [row["state"] for row in rows] == [trial.state.name.lower() for trial in trials]
    assert rows[2]["reason"] == "loss is <nan> & more"
    assert rows[3]["reason"] == 'out of memory: "8 GiB", [/red]'
    for row, trial in zip(rows, trials, strict=True):
        assert float(row["neuron.beta"]) == trial.params["neuron.beta"]
        if trial.state == TrialState.COMPLETE:
            assert float(row["accuracy"]) == trial.value and float(row["seconds"]) == 1.5


def test_figures_are_images_of_the_size_they_were_drawn_in(opened, folder):
    for name, figure in Figures(opened).files().items():
        width, height = figure.get_size_inches() * DPI
        pixels = matplotlib.image.imread(folder / f"{name}.png")
        assert pixels.shape[:2] == pytest.approx((height, width), abs=1)
        assert pixels[..., :3].std() > 0.01  # not blank


def test_the_page_stands_alone(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "://" not in text
    page = Page(text)
    assert not page.open
    assert list(page.drawings)[:4] == [
        "accuracy of each trial",
        "learning curves of all trials",
        "importances for accuracy",
        "map of two settings for accuracy",
    ]
    assert [name for name in page.drawings if name.startswith("values of")] == [
        f"values of {row.key}" for row in SPACE.rows
    ]
    assert page.references == []  # of drawings: within themselves


def test_the_page_escapes_what_comes_from_outside(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "<study>" not in text and "&lt;study&gt; &amp; co" in text
    said = "".join(Page(text).said)
    assert (folder / "best.toml").read_text() in said
    assert 'out of memory: "8 GiB", [/red]' in said and "loss is <nan> & more" in said


def test_a_point_says_how_its_trial_ended_and_its_settings(opened, folder):
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    texts = json.loads(page.elements["tips"])
    assert list(texts) == [str(trial.number) for trial in opened.study.trials]
    trial = opened.study.trials[5]
    assert texts["5"].splitlines() == [
        "trial 5, complete",
        f"accuracy {trial.value:.6g}",
        f"spikes {100 * trial.value**2:.6g}",
        "",
        f"neuron.beta = {trial.params['neuron.beta']:.6g}",
        f"neuron.slope = {trial.params['neuron.slope']:.6g}",
        f"training.grad_clip = {'1' if trial.params['training.grad_clip'] else 'off'}",
    ]
    assert texts["0"].startswith("trial 0, complete, published")
    assert texts["2"].splitlines()[:3] == [
        "trial 2, pruned",
        "accuracy 0.2 after 1 epoch",
        "loss is <nan> & more",
    ]


def test_the_text_names_counts_budget_best_and_published(opened):
    lines = report.text(opened).splitlines()
    assert lines[0] == "study <study> & co: 11 complete, 1 pruned, 1 failed"
    assert "budget: 3 epochs, all training samples, 25 time steps" in lines[1]
    best = opened.study.best_trial
    assert lines[2].split() == ["1.", "trial", str(best.number), "accuracy", f"{best.value:.4f}"]
    assert lines[-1] == "settings to begin with: trial 0, 0.9300"


def test_two_objectives_are_sorted_by_the_first_and_have_a_front(tmp_path):
    both = study(objectives=("accuracy", "spikes"))
    best = best_trials(both)
    assert {t.number for t in best} == {t.number for t in both.study.best_trials}
    assert [t.values[0] for t in best] == sorted((t.values[0] for t in best), reverse=True)
    report.write(both, tmp_path)
    assert (tmp_path / "pareto_front.png").exists()
    page = Page((tmp_path / "report.html").read_text())
    numbers = {str(trial.number) for trial in both.study.trials if trial.values}
    assert {number for number, _ in page.drawings["pareto front"]} == numbers


def test_one_complete_trial_is_enough_for_a_report(tmp_path):
    report.write(study(trials=1), tmp_path)
    assert not (tmp_path / "importances.png").exists()


def test_a_study_that_has_not_begun_has_no_report(tmp_path):
    empty = OpenStudy(optuna.create_study(study_name="empty"), study(trials=1).plan)
    empty.study.enqueue_trial({"neuron.beta": 0.5})
    with pytest.raises(StudyError, match="study 'empty' has no complete trial yet"):
        report.write(empty, tmp_path / "report")
    assert not (tmp_path / "report").exists()
    assert report.text(empty).startswith("study empty: 0 complete")


def test_published_settings_that_were_tried_again_are_those_of_the_last_try():
    opened = study(trials=2)
    opened.study.add_trial(
        optuna.create_trial(state=TrialState.COMPLETE, value=0.5, user_attrs={"published": True})
    )
    assert report.text(opened).splitlines()[-1] == "settings to begin with: trial 2, 0.5000"


# Whose folder it is


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_report_takes_the_place_of_an_earlier_one_of_the_same_study_only(tmp_path):
    mine, other = study(4, name="digits-tha"), study(4, name="digits-tha")
    report.write(mine, tmp_path)
    before = files(tmp_path)
    with pytest.raises(StudyError, match=r"has the report of another study; .* with --output$"):
        report.write(other, tmp_path)
    assert files(tmp_path) == before
    Worker(mine.study, objective(1), 5).work()  # it goes on
    report.write(mine, tmp_path)
    assert files(tmp_path)["trials.csv"].count(b"\n") == 1 + 6  # with one that failed


@pytest.mark.parametrize(("name", "taken"), [("digits-tha", True), ("digits-bsnn", False)])
def test_a_report_without_a_mark_is_known_by_its_source(tmp_path, name, taken):
    report.write(study(4, name="digits-tha"), tmp_path)
    (tmp_path / "study.json").unlink()
    before = files(tmp_path)
    if taken:
        report.write(study(4, name=name), tmp_path)
        assert "study.json" in files(tmp_path)
        return
    with pytest.raises(StudyError, match="the report of another study"):
        report.write(study(4, name=name), tmp_path)
    assert files(tmp_path) == before


def test_somebodys_own_best_configuration_is_not_written_over(tmp_path):
    (tmp_path / "best.toml").write_text(load_preset("digits").to_toml())
    before = files(tmp_path)
    with pytest.raises(StudyError, match="the report of another study"):
        report.write(study(4), tmp_path)
    assert files(tmp_path) == before


def test_studies_of_one_name_in_two_storages_have_a_report_each(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from bsnn_tha.cli import app

    monkeypatch.chdir(tmp_path)
    for folder in ("runs/studies", "elsewhere"):
        made = study(4, name="digits-tha")
        made.study.set_user_attr("plan", made.plan.to_json())
        kept = open_storage(folder, "digits-tha", create=True)
        optuna.copy_study(
            from_study_name="digits-tha", from_storage=made.study._storage, to_storage=kept
        )
        options = [] if folder == "runs/studies" else ["--storage", folder]
        result = CliRunner().invoke(app, ["study", "report", "digits-tha", *options])
        assert result.exit_code == 0, result.output
        assert result.output.splitlines()[-1] == f"written to {folder}/digits-tha"
    first, second = (
        (tmp_path / folder / "digits-tha" / "study.json").read_text()
        for folder in ("runs/studies", "elsewhere")
    )
    assert first != second


def test_the_budget_is_what_trials_had(tmp_path):
    opened = study(3)
    wider = load_preset("digits").with_changes({"training.epochs": 5, "data.subset": 100})
    trial = opened.study.ask()
    trial.set_user_attr("config", wider.to_toml())
    opened.study.tell(trial, 0.5)
    line = report.text(opened).splitlines()[1]
    assert "budget: 3 or 5 epochs, 100 or all training samples, 25 time steps" in line
