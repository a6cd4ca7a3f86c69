"""A film of the best trial, of a run that trained it once more.

Trials take no snapshots. Its configuration is trained again, and this time it is filmed; a trial
ends with the same bits, unless it is a final from another seed (:mod:`studies.finals`):

    runs/studies/digits-tha/trial-12/     a run folder like any other
"""

from __future__ import annotations

from pathlib import Path

from animations.film import Film
from animations.runs import training_film
from bsnn_tha.config import RunConfig
from bsnn_tha.observe.recording import Recording
from bsnn_tha.run_folder import RunFolder
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.run import resume, train
from studies.ranking import best_trials
from studies.report.fresh_seeds import RETRAINED
from studies.report.words import best_config
from studies.study import OpenStudy

FRAMES, DPI = 24, 60


def filmed_run(opened: OpenStudy, folder: Path) -> Path | None:
    """A run of the best trial's configuration that took snapshots; None if there is none.

    Args:
        opened: the study.
        folder: of its report.
    """
    source = best_config(opened).source
    places = [_place(opened, folder), *sorted((folder / RETRAINED).glob("seed-*"))]
    for place in places:
        run = RunFolder(place)
        if run.probe.exists() and RunConfig.from_file(run.config, allow_code=True).source == source:
            return place
    return None


def train_to_film(
    opened: OpenStudy, folder: Path, machine: Machine, allow_code: bool = False
) -> Path:
    """Train the best trial's configuration again, with snapshots; go on with it, if it was begun.

    Args:
        opened: the study.
        folder: of its report.
        machine: where it trains.
        allow_code: the study may be anyone's: whether it may name code of its own.

    Returns:
        The run folder.
    """
    config, place = best_config(opened), _place(opened, folder)
    if RunFolder(place).config.exists():
        resume(place, machine=machine, allow_code=allow_code)
    else:
        allowed = RunConfig.from_toml(config.to_toml(), config.source, allow_code=allow_code)
        train(allowed, output=place, machine=machine)
    return place


def film_of(run: Path) -> Film:
    """A short film of a run's training."""
    return training_film(Recording.open(run), frames=FRAMES)


def write_gif(opened: OpenStudy, folder: Path) -> Path | None:
    """The film as a GIF in the report's folder, for what shows no pages; None if there is none."""
    run = filmed_run(opened, folder) if best_trials(opened) else None
    return None if run is None else film_of(run).save(folder / "film.gif", dpi=DPI)


def _place(opened: OpenStudy, folder: Path) -> Path:
    return folder / f"trial-{best_trials(opened)[0].number}"
