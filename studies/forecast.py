"""What a study will cost, before it starts: time per trial, time in all, and disk.

A few iterations of the study's own network on its own data are trained here, and counted up:
batches, epochs, validation, rungs, seeds, workers. Start-up of workers and whatever else the
machine does come on top; settings that are searched (batch size, time steps) are taken from the
preset.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from bsnn_tha.config import RunConfig
from bsnn_tha.data.dataset import Dataset
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.session import Session
from bsnn_tha.words import duration, size
from studies.race import Race
from studies.rungs import Rungs

FORWARD = 0.35
"""Share of a training iteration that the same samples take in validation."""
FEW, MORE = 1, 4
"""Batches of the two trainings whose difference is measured."""


@dataclass(frozen=True)
class Forecast:
    """Cost of a study.

    Args:
        epoch: seconds of one, validation included.
        epochs: of a trial that runs to its end, from one seed.
        total: seconds that all of its trials take together.
        workers: among how many they are divided.
        checkpoint: bytes of one.
        kept: checkpoints that may have to be kept at a time.
    """

    epoch: float
    epochs: int
    total: float
    workers: int
    checkpoint: int
    kept: int

    def __str__(self) -> str:
        return (
            f"about {duration(self.epoch * self.epochs)} for a whole trial, "
            f"{duration(self.total / self.workers)} in all on this machine; "
            f"at most {self.kept} checkpoint{'s' if self.kept > 1 else ''} of "
            f"{size(self.checkpoint)}"
        )


def forecast(
    config: RunConfig,
    dataset: Dataset,
    machine: Machine,
    trials: int,
    workers: int,
    rungs: Rungs | None,
    race: Race,
) -> Forecast:
    """Measure a few iterations and count up.

    Args:
        config: that trials change.
        dataset: the one that it names.
        machine: where it trains, with the threads of one worker.
        trials: how many are still to be begun.
        workers: that share them on this machine.
        rungs: at which they pause, if they do.
        race: how many seeds they get.
    """
    batch = config.data.batch_size
    samples = config.data.subset or len(dataset.train)
    few, more = min(FEW * batch, samples), min(MORE * batch, samples)
    _seconds(config, dataset, machine, few)  # compiles what has to be compiled
    short, weights = _seconds(config, dataset, machine, few)
    if more > few:
        longer, _ = _seconds(config, dataset, machine, more)
        # On a busy machine the longer one may have been the faster: then start-up is counted in.
        per_sample = (longer - short) / (more - few) if longer > short else longer / more
    else:
        per_sample = short / few
    validated = 0 if dataset.validation is None else len(dataset.validation)
    epoch = per_sample * (samples + FORWARD * validated)
    epochs = config.training.epochs
    finals = race.finals(trials, epochs, rungs)
    settings = trials - finals
    first = rungs.epochs(settings) if rungs else settings * epochs
    seeds = (race.least - 1) * settings + finals
    kept = (rungs.largest if rungs else 1) * workers
    return Forecast(epoch, epochs, epoch * (first + seeds * epochs), workers, 12 * weights, kept)


def _seconds(
    config: RunConfig, dataset: Dataset, machine: Machine, samples: int
) -> tuple[float, int]:
    """Seconds of an epoch of so many samples, and how many weights it trains."""
    short = config.with_changes({"training.epochs": 1, "data.subset": samples})
    session = Session.prepare(
        short, machine, dataclasses.replace(dataset, validation=None, test=None)
    )
    session.fit()
    weights = sum(parameter.numel() for parameter in session.module.parameters())
    return session.stopwatch.seconds, weights
