"""The files of a study's report, and whose folder they are in."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import NamedTuple

from animations.drawing import on_page
from bsnn_tha.config import RunConfig
from bsnn_tha.html_page import DPI
from bsnn_tha.run_folder import replace_atomically
from studies.errors import StudyError
from studies.figures.drawn import Figures
from studies.race import INSTANCES
from studies.ranking import best_trials
from studies.report.page import study_page
from studies.report.words import best_config, without_best
from studies.study import BEGUN, OpenStudy

_IDENTITY = "study.json"
BEST, TABLE, PAGE = "best.toml", "trials.csv", "report.html"


class Written(NamedTuple):
    """What a report was made of.

    Args:
        drawn: its figures.
        files: that it consists of, the page first.
    """

    drawn: Figures
    files: list[Path]


def write(opened: OpenStudy, folder: Path) -> Written:
    """Write the report's files; ``best.toml`` as soon as there is a best trial.

    Raises:
        StudyError: no trial has begun, the folder cannot be written, or it has the report
            of another study.
    """
    trials = opened.study.get_trials(deepcopy=False)
    if not any(trial.datetime_start for trial in trials):
        raise StudyError(f"study {opened.study.study_name!r} {without_best(opened)}")
    _check_own(opened, folder)
    drawn = Figures(opened)
    images = {f"{name}.png": figure for name, figure in drawn.files().items()}
    files = [PAGE, *([BEST] if best_trials(opened) else []), TABLE, *images]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replace_atomically(folder / _IDENTITY) as temporary:
            temporary.write_text(json.dumps(_identity(opened)) + "\n", encoding="utf-8")
        if BEST in files:
            with replace_atomically(folder / BEST) as temporary:
                temporary.write_text(best_config(opened).to_toml(), encoding="utf-8")
        with replace_atomically(folder / TABLE) as temporary:
            _write_csv(opened, temporary)
        with on_page():
            for name, figure in images.items():
                with replace_atomically(folder / name) as temporary:
                    figure.savefig(temporary, format="png", dpi=DPI)
        with replace_atomically(folder / PAGE) as temporary:
            temporary.write_text(study_page(opened, folder, drawn), encoding="utf-8")
    except OSError as error:
        raise StudyError(f"cannot write the report to {folder}: {error.strerror}") from None
    return Written(drawn, [folder / name for name in files])


def _identity(opened: OpenStudy) -> dict[str, str]:
    """What tells a study from another of the same name, wherever it is kept."""
    if BEGUN in opened.study.user_attrs:
        return {"study": opened.study.study_name, "begun": opened.study.user_attrs[BEGUN]}
    trials = opened.study.get_trials(deepcopy=False)
    begun = [str(trial.datetime_start) for trial in trials if trial.datetime_start is not None]
    return {"study": opened.study.study_name, "begun": min(begun, default="")}


def _check_own(opened: OpenStudy, folder: Path) -> None:
    """Refuse to write over what is not an earlier report of this study."""
    if not any((folder / name).exists() for name in (BEST, _IDENTITY)):
        return
    own = _identity(opened)
    try:
        there = json.loads((folder / _IDENTITY).read_text(encoding="utf-8"))
    except FileNotFoundError:  # of a version that wrote none: the name has to do
        source = RunConfig.from_file(folder / BEST, allow_code=True).source
        there = own if source.startswith(f"study {own['study']}, trial ") else {}
    except (OSError, ValueError):
        there = {}
    if there != own:
        raise StudyError(
            f"{folder} has the report of another study; reports are never overwritten: "
            "choose another folder with --output"
        )


def _write_csv(opened: OpenStudy, path: Path) -> None:
    trials = opened.study.get_trials(deepcopy=False)
    parameters = sorted({name for trial in trials for name in trial.params})
    scores = sorted({name for trial in trials for name in trial.user_attrs.get("scores", {})})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["trial", "state", *scores, "seeds", "epochs", "seconds", "reason", *parameters]
        )
        for trial in trials:
            attributes = trial.user_attrs
            writer.writerow(
                [
                    trial.number,
                    trial.state.name.lower(),
                    *(attributes.get("scores", {}).get(name, "") for name in scores),
                    len(attributes.get(INSTANCES, [])) or "",
                    len(trial.intermediate_values) or "",
                    attributes.get("seconds", ""),
                    attributes.get("reason", ""),
                    *(trial.params.get(name, "") for name in parameters),
                ]
            )
