"""What optuna-dashboard, a real one, serves of a study after its report was published."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import NamedTuple

import optuna
import pytest
from local_server import reserved_port
from made_studies import BETA, SLOPE, made
from optuna.trial import TrialState
from study_workers import PATIENCE, until
from typer.testing import CliRunner

from bsnn_tha.cli import app
from studies import report
from studies.errors import StudyError
from studies.report.dashboard import HEADING
from studies.storage import artifact_folder, open_storage, shown
from studies.study import load_existing

pytest.importorskip("optuna_dashboard")
pytest_plugins = ["study_database"]


def score(trial, settings):
    trial.set_user_attr("scores", {"accuracy": settings["neuron.beta"], "spikes": 12.5})
    if trial.number == 2:
        trial.report(0.1, 0)
        trial.set_user_attr("reason", "dead | <network>")
        return TrialState.PRUNED
    return settings["neuron.beta"]


class Place(NamedTuple):
    """Where a study is, and what was made of it."""

    storage: str
    report: Path
    artifacts: Path
    given: str
    """To the dashboard."""


@pytest.fixture(scope="module", params=["journal", "postgresql"])
def place(request, tmp_path_factory):
    """One of seven trials, published by the command."""
    folder = tmp_path_factory.mktemp("studies")
    if request.param == "journal":
        place = Place(str(folder), folder / "made", folder / ".artifacts", f"{folder}/made.journal")
        options = []
    else:
        from study_database import address

        server = request.getfixturevalue("postgresql")
        server.psql("CREATE DATABASE published TEMPLATE prepared")
        url = address(server, "published")
        place = Place(url, folder / "report", folder / "artifacts", url)
        options = ["-o", place.report, "--artifacts", place.artifacts]
    storage = open_storage(place.storage, "made", create=True)
    opened = made(score, 7, rows=(BETA, SLOPE), storage=storage)
    opened.study.set_user_attr("plan", opened.plan.to_json())
    command = ["study", "report", "made", "--storage", place.storage, "--dashboard", *options]
    result = CliRunner().invoke(app, list(map(str, command)))
    assert result.exit_code == 0, result.output
    command = f"optuna-dashboard {shlex.quote(shown(place.given))} --artifact-dir {place.artifacts}"
    assert result.output.splitlines()[-1] == f"to look at it: {command}"
    return place


@pytest.fixture(scope="module")
def dashboard(place):
    """The address of the dashboard that the command's last line starts."""
    code = "import sys; from optuna_dashboard._cli import main; main()"
    with reserved_port() as port:
        options = ["--artifact-dir", str(place.artifacts), "--port", str(port), "--quiet"]
        process = subprocess.Popen(
            [sys.executable, "-c", code, place.given, *options],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        at = f"http://127.0.0.1:{port}"
        try:
            until(lambda: process.poll() is not None or _answers(at))
            yield at
        finally:
            process.kill()
            process.wait()


def _answers(address):
    try:
        return bool(fetch(f"{address}/api/meta"))
    except OSError:
        return False


def fetch(address):
    with urllib.request.urlopen(address, timeout=PATIENCE) as response:
        return response.read()


def study_of(address):
    (listed,) = json.loads(fetch(f"{address}/api/studies"))["study_summaries"]
    number = listed["study_id"]
    return number, json.loads(fetch(f"{address}/api/studies/{number}"))


def reopened(place):
    storage = open_storage(place.storage, "made", create=False)
    return load_existing(storage, place.storage, "made")


def test_the_study_has_its_note_and_its_objective_by_name(place, dashboard):
    _, study = study_of(dashboard)
    note = study["note"]["body"]
    best = reopened(place).study.best_trial
    assert note.startswith(f"{HEADING}\n\ndigits, variant tha")
    assert f"| {best.number} | {best.value:.4f} |" in note
    assert "| neuron.beta | " in note and " ± " in note
    assert "| pruned: dead \\| \\<network> | 1 |" in note
    assert study["objective_names"] == ["accuracy"]


def test_trials_that_have_ended_have_notes(place, dashboard):
    _, study = study_of(dashboard)
    notes = {trial["number"]: trial["note"]["body"] for trial in study["trials"]}
    best = reopened(place).study.best_trial
    assert notes[best.number].startswith(f"{HEADING}\n\nPlace 1 of 6.")
    assert "- spikes 12.5" in notes[best.number]
    assert "- dead \\| \\<network>" in notes[2]


def test_the_reports_files_come_out_as_they_are(place, dashboard):
    number, study = study_of(dashboard)
    names = {artifact["filename"]: artifact for artifact in study["artifacts"]}
    made = {path.name for path in place.report.iterdir() if path.name != "study.json"}
    assert names.keys() == made
    assert names["importances.png"]["mimetype"] == "image/png"
    for name, artifact in names.items():
        served = fetch(f"{dashboard}/artifacts/{number}/{artifact['artifact_id']}")
        assert served == (place.report / name).read_bytes(), name


# What a second report does


def published(folder):
    """A study in a storage of its own, published."""
    opened = made(score, 3, rows=(BETA,), storage=open_storage(str(folder), "made", create=True))
    publish(opened, folder)
    return opened


def publish(opened, folder):
    written = report.write(opened, folder / "report")
    report.publish(opened, written.drawn, written.files, artifact_folder(str(folder)))


def test_a_second_report_takes_the_place_of_the_first(tmp_path):
    opened = published(tmp_path)
    journal, kept = tmp_path / "made.journal", artifact_folder(str(tmp_path))
    before, names = journal.read_bytes(), sorted(kept.iterdir())
    publish(opened, tmp_path)
    assert sorted(kept.iterdir()) == names
    assert b"note_str" not in journal.read_bytes()[len(before) :]  # no word of it is new
    trial = opened.study.ask({"neuron.beta": BETA.distribution})
    trial.set_user_attr("config", opened.study.trials[0].user_attrs["config"])
    opened.study.tell(trial, 0.999)
    publish(opened, tmp_path)
    assert sorted(kept.iterdir()) == names
    page = (tmp_path / "report" / "report.html").read_bytes()
    assert page in [path.read_bytes() for path in kept.iterdir()]
    assert "| 3 | 0.9990 |" in note(opened.study)


def note(study):
    from optuna_dashboard import get_note

    return get_note(study)


def test_what_somebody_wrote_above_is_kept_and_what_was_deleted_comes_back(tmp_path):
    from optuna_dashboard import save_note

    opened = published(tmp_path)
    ours = note(opened.study)
    save_note(opened.study, "mine\n\n" + ours + "\n\nold")
    attributes = opened.study._storage.get_study_system_attrs(opened.study._study_id)
    gone = next(name for name in attributes if name.startswith("artifacts:"))
    # As optuna-dashboard deletes one.
    opened.study._storage.set_study_system_attr(opened.study._study_id, gone, "null")
    (artifact_folder(str(tmp_path)) / gone.removeprefix("artifacts:")).unlink()
    publish(opened, tmp_path)
    assert note(opened.study) == "mine\n\n" + ours
    save_note(opened.study, "mine alone")
    publish(opened, tmp_path)
    assert note(opened.study) == "mine alone\n\n" + ours
    kept = artifact_folder(str(tmp_path))
    assert len([*kept.iterdir()]) == len([*(tmp_path / "report").iterdir()]) - 1  # study.json


def test_a_missing_package_is_named_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(StudyError, match=r"pip install 'bsnn-tha\[dashboard\]'"):
        published(tmp_path)
    assert not artifact_folder(str(tmp_path)).exists()


def test_a_study_without_a_complete_trial_can_be_published(tmp_path):
    def fail(trial, settings):
        trial.set_user_attr("reason", "out of memory")
        return TrialState.FAIL

    opened = made(fail, 2, rows=(BETA,), storage=optuna.storages.InMemoryStorage())
    publish(opened, tmp_path)
    assert "The study has no complete trial yet." in note(opened.study)
    assert Path(tmp_path / "report" / "report.html").exists()
