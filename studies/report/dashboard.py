"""A report where optuna-dashboard shows it: notes and artifacts in the study's own storage.

The study's note has what the page begins with; trials that are among the best, or that ended
with a reason, have one each. Whatever stands above our heading in a note is somebody's own, and
stays. Artifacts are the report's files: a newer report takes the place of an older one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial

from studies.errors import StudyError
from studies.figures.drawn import Figures
from studies.measured import in_words
from studies.optuna_internals import artifact_ids, noted
from studies.ranking import best_trials, estimates, score
from studies.report.words import TOP, budget, counts, described, reasons, without_best
from studies.study import OpenStudy

HEADING = "## bsnn-tha"
_MOST = 100
"""Trials that have a note for how they ended, the last ones: each is a record in the storage."""


def publish(opened: OpenStudy, drawn: Figures, files: Iterable[Path], artifacts: Path) -> None:
    """Write notes, and copy files where the dashboard finds them.

    Args:
        opened: the study.
        drawn: its figures, which know the importances.
        files: of the report.
        artifacts: the folder for ``optuna-dashboard --artifact-dir``.

    Raises:
        StudyError: optuna-dashboard is not installed, or the folder cannot be written.
    """
    try:
        import optuna_dashboard  # noqa: F401
    except ImportError:
        raise StudyError(
            "notes for optuna-dashboard need its package; install it with: "
            "pip install 'bsnn-tha[dashboard]'"
        ) from None
    _keep(opened, files, artifacts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        opened.study.set_metric_names([*map(in_words, opened.plan.objectives)])
    _note(opened, None, _of_study(opened, drawn))
    known, best = estimates(opened), best_trials(opened)[:TOP]
    for place, trial in enumerate(best, start=1):
        _note(opened, trial, f"Place {place} of {len(known)}.\n\n" + _of_trial(opened, trial))
    told = {trial.number for trial in best}
    ended = [
        trial
        for trial in opened.study.get_trials(deepcopy=False)
        if trial.user_attrs.get("reason") and trial.number not in told
    ]
    for trial in ended[-_MOST:]:
        _note(opened, trial, _of_trial(opened, trial))


def _keep(opened: OpenStudy, files: Iterable[Path], artifacts: Path) -> None:
    from optuna.artifacts import FileSystemArtifactStore, upload_artifact

    try:
        artifacts.mkdir(parents=True, exist_ok=True)
        store = FileSystemArtifactStore(artifacts)
        known = artifact_ids(opened.study)
        for path in files:
            if path.name in known:
                with path.open("rb") as file:
                    store.write(known[path.name], file)
            else:
                upload_artifact(
                    artifact_store=store, file_path=str(path), study_or_trial=opened.study
                )
    except OSError as error:
        raise StudyError(f"cannot write artifacts to {artifacts}: {error.strerror}") from None


def _note(opened: OpenStudy, trial: FrozenTrial | None, text: str) -> None:
    """Put a text under our heading, and write nothing if it stands there already."""
    from optuna_dashboard import get_note, save_note

    about = noted(opened.study, trial)
    before = get_note(about)
    own, heading, _ = before.partition(HEADING)
    if not heading and own:
        own = own.rstrip("\n") + "\n\n"
    if (note := f"{own}{HEADING}\n\n{text}") != before:
        save_note(about, note)


def _of_study(opened: OpenStudy, drawn: Figures) -> str:
    plan, known = opened.plan, estimates(opened)
    base = plan.base
    count = ", ".join(f"{count} {name}" for name, count in counts(opened.study).items())
    parts = [
        f"{base.data.name}, variant {base.variant}: {base.network.notation}. {budget(opened)}. "
        f"Trials: {count}."
    ]
    names = ", ".join(map(in_words, plan.objectives))
    if best := best_trials(opened)[:TOP]:
        places = [(str(trial.number), score(opened, trial, known)) for trial in best]
        parts.append(_table(("trial", names), places))
        parts.append("The best configuration is the artifact `best.toml`.")
    else:
        parts.append(f"The study {without_best(opened)}.")
    for measured, shares in zip(drawn.measured, drawn.shares, strict=True):
        if shares:
            rows = [(name, f"{s.mean:.2f} ± {s.spread:.2f}") for name, s in shares.items()]
            parts.append(_table(("setting", f"share of the variance of {measured.what}"), rows))
    if wrong := reasons(opened.study)[:TOP]:
        rows = [(f"{state}: {why}", f"{len(numbers)}") for state, why, numbers in wrong]
        parts.append(_table(("what went wrong", "trials"), rows))
    return "\n\n".join(parts)


def _of_trial(opened: OpenStudy, trial: FrozenTrial) -> str:
    """How a trial ended, in lines; its settings are in the dashboard already."""
    ended, _, _ = described(opened, trial, estimates(opened)).partition("\n\n")
    return "\n".join(f"- {_plain(line)}" for line in ended.splitlines()[1:])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in row) + " |" for row in lines)


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is."""
    text = " ".join(text.split()).replace("\\", "\\\\")
    for mark in "|*_`<[":
        text = text.replace(mark, f"\\{mark}")
    return text
