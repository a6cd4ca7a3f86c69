"""What comes back from a study: the best configuration, tables, figures, a page.

runs/studies/digits-tha/
  study.json      which study this is the report of
  best.toml       the best trial's configuration; ``bsnn-tha train --config`` takes it
  trials.csv      every trial: state, values, parameters, reason, seconds
  *.png           optimization history, importances, slices, parallel coordinates,
                  and the Pareto front of a study with two objectives
  report.html     all of it on one page that needs no other file
  retrained/      the best configuration trained from several seeds, on request
"""

from __future__ import annotations

import csv
import html
import json
import tomllib
from pathlib import Path
from typing import Any

import optuna
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState

from bsnn_tha.config import RunConfig
from bsnn_tha.html_page import DPI, data, page, picture, table
from bsnn_tha.run_folder import replace_atomically
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.trials import TrialsResult, train_trials
from studies import figures
from studies.errors import StudyError
from studies.race import INSTANCES
from studies.ranking import best_trials, estimates, score
from studies.study import BEGUN, OpenStudy
from studies.worker import finished

TOP = 10
"""Trials in the table of the best."""


def best_config(opened: OpenStudy) -> RunConfig:
    """The best trial's configuration.

    Raises:
        StudyError: no trial is complete.
    """
    trials = best_trials(opened)
    if not trials:
        raise StudyError(f"study {opened.study.study_name!r} has no complete trial yet")
    # Read only: to train it may need to be allowed.
    return RunConfig.from_toml(trials[0].user_attrs["config"], allow_code=True).with_changes(
        {"source": f"study {opened.study.study_name}, trial {trials[0].number}"}
    )


def text(opened: OpenStudy) -> str:
    """Counts, the best trials and their parameters, for a terminal."""
    study, plan = opened.study, opened.plan
    lines = [f"study {study.study_name}: {_counts(study)}"]
    base = plan.base
    lines.append(f"{base.data.name}, variant {base.variant}, budget: {_budget(opened)}")
    names, known = ", ".join(plan.objectives), estimates(opened)
    for place, trial in enumerate(best_trials(opened)[:TOP], start=1):
        mark = "  (published settings)" if trial.user_attrs.get("published") else ""
        lines.append(
            f"{place:3}.  trial {trial.number:<4} {names} {score(opened, trial, known)}{mark}"
        )
    if published := _published(study):
        lines.append(
            f"published settings: trial {published.number}, {score(opened, published, known)}"
        )
    return "\n".join(lines)


def write(opened: OpenStudy, folder: Path) -> None:
    """Write the report's files.

    Raises:
        StudyError: no trial is complete, the folder cannot be written, or it has the report
            of another study.
    """
    config = best_config(opened)
    _check_own(opened, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replace_atomically(folder / _IDENTITY) as temporary:
            temporary.write_text(json.dumps(_identity(opened)) + "\n", encoding="utf-8")
        with replace_atomically(folder / "best.toml") as temporary:
            temporary.write_text(config.to_toml(), encoding="utf-8")
        with replace_atomically(folder / "trials.csv") as temporary:
            _write_csv(opened, temporary)
        drawn = figures.all_figures(opened)
        for name, figure in drawn.items():
            with replace_atomically(folder / f"{name}.png") as temporary:
                figure.savefig(temporary, format="png", dpi=DPI)
        with replace_atomically(folder / "report.html") as temporary:
            temporary.write_text(_page(opened, config, drawn), encoding="utf-8")
    except OSError as error:
        raise StudyError(f"cannot write the report to {folder}: {error.strerror}") from None


_IDENTITY = "study.json"


def _identity(opened: OpenStudy) -> dict[str, str]:
    """What tells a study from another of the same name, wherever it is kept."""
    if BEGUN in opened.study.user_attrs:
        return {"study": opened.study.study_name, "begun": opened.study.user_attrs[BEGUN]}
    trials = opened.study.get_trials(deepcopy=False)
    begun = [str(trial.datetime_start) for trial in trials if trial.datetime_start is not None]
    return {"study": opened.study.study_name, "begun": min(begun, default="")}


def _check_own(opened: OpenStudy, folder: Path) -> None:
    """Refuse to write over what is not an earlier report of this study."""
    if not (folder / "best.toml").exists():
        return
    own = _identity(opened)
    try:
        there = json.loads((folder / _IDENTITY).read_text(encoding="utf-8"))
    except FileNotFoundError:  # of a version that wrote none: the name has to do
        source = RunConfig.from_file(folder / "best.toml", allow_code=True).source
        there = own if source.startswith(f"study {own['study']}, trial ") else {}
    except (OSError, ValueError):
        there = {}
    if there != own:
        raise StudyError(
            f"{folder} has the report of another study; reports are never overwritten: "
            "choose another folder with --output"
        )


def retrain(
    opened: OpenStudy,
    folder: Path,
    seeds: int,
    epochs: int | None,
    machine: Machine,
    allow_code: bool = False,
) -> TrialsResult:
    """Train the best configuration from several seeds.

    Seeds start after the study's own, so that none was selected for. The study may be
    anyone's: with ``allow_code`` it may name code outside this package.
    """
    config = best_config(opened)
    config = RunConfig.from_toml(config.to_toml(), config.source, allow_code=allow_code)
    changes: dict[str, Any] = {"training.seed": config.training.seed + opened.plan.race.most}
    if epochs is not None:
        changes["training.epochs"] = epochs
    return train_trials(
        config.with_changes(changes), seeds, output=folder / "retrained", machine=machine
    )


def _budget(opened: OpenStudy) -> str:
    """What trials had of epochs, samples and time steps: those that ended, else as planned.

    It may have been changed by force, and time steps may be searched.
    """
    configs = [
        tomllib.loads(trial.user_attrs["config"])
        for trial in finished(opened.study)
        if "config" in trial.user_attrs
    ] or [tomllib.loads(opened.plan.config)]

    def values(table: str, key: str) -> str:
        found = {config[table].get(key) for config in configs}
        return " or ".join(str(v) for v in sorted(found - {None}) + ["all"] * (None in found))

    return (
        f"{values('training', 'epochs')} epochs, {values('data', 'subset')} training samples, "
        f"{values('data', 'num_steps')} time steps"
    )


def _counts(study: optuna.Study) -> str:
    trials = study.get_trials(deepcopy=False)
    counts = {state: sum(t.state == state for t in trials) for state in TrialState}
    return ", ".join(
        f"{counts[state]} {name}"
        for state, name in (
            (TrialState.COMPLETE, "complete"),
            (TrialState.PRUNED, "pruned"),
            (TrialState.FAIL, "failed"),
            (TrialState.RUNNING, "running"),
        )
        if counts[state] or state == TrialState.COMPLETE
    )


def _published(study: optuna.Study) -> FrozenTrial | None:
    trials = [t for t in study.get_trials(deepcopy=False) if t.user_attrs.get("published")]
    return trials[-1] if trials else None  # the last, if it was tried again


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


def _page(opened: OpenStudy, config: RunConfig, drawn: dict[str, Figure]) -> str:
    plan, study = opened.plan, opened.study
    known = estimates(opened)
    rows = [
        (
            str(t.number),
            score(opened, t, known),
            "published" if t.user_attrs.get("published") else "",
        )
        for t in best_trials(opened)[:TOP]
    ]
    images = "\n".join(
        f"<h2>{html.escape(name.replace('_', ' ').capitalize())}</h2>\n{picture(figure, name)}"
        for name, figure in drawn.items()
    )
    body = f"""<pre>{html.escape(text(opened))}</pre>
<h2>Best trials</h2>
{table(("trial", ", ".join(plan.objectives), ""), rows)}
{images}
<h2>Search space</h2>
{table(("setting", "range", "per"), plan.space)}
<h2>Best configuration</h2>
<p>In <code>best.toml</code>, for <code>bsnn-tha train --config</code>.</p>
<pre>{html.escape(config.to_toml())}</pre>
{data(best_trials(opened)[0].params, "best")}"""
    return page(study.study_name, body)
