"""What one trial is: train a configuration, score it, report every epoch.

The test set is not loaded into it: a trial is scored on the validation split,
by the best epoch, as the checkpoint of a run is selected.
"""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from bsnn_tha.config import RunConfig
from bsnn_tha.data.dataset import Dataset
from bsnn_tha.errors import InvalidValueError, TrainingError
from bsnn_tha.training.callbacks.output import OutputRecorder
from bsnn_tha.training.evaluation import load_data
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.module import SpikingModule
from bsnn_tha.training.session import Session
from studies.checkpoints import Checkpoints, TrialCheckpoint, epochs_in
from studies.errors import StudyError, TrialFailedError, TrialPausedError
from studies.optuna_internals import storage_of, trial_id
from studies.race import INSTANCES
from studies.rungs import SEEDS, UNTIL, root_of, trained
from studies.space import Depth, Space
from studies.study import COMPARED, OBJECTIVES, Plan

LOST = "trained again"
"""User attribute of a trial: epochs that were trained anew, since no checkpoint was to be had."""


class EpochReport(Callback):
    """After each epoch: report it, stop where the trial pauses, watch for a dead network.

    Args:
        trial: that runs.
        session: whose monitor knows the output's spikes.
        compared: whether trials are compared by their epochs, and may be pruned.
        until: epochs after which the trial pauses.
        reported: epochs that it has reported before, which are not reported again.
        deadline: ``time.monotonic()`` at which it pauses as well; None for no limit.
        seen: called with the epoch and the validation accuracy.
    """

    def __init__(
        self,
        trial: optuna.Trial,
        session: Session,
        compared: bool,
        until: int,
        reported: int,
        deadline: float | None,
        seen: Callable[[int, float | None], None],
    ) -> None:
        self.trial, self.session, self.compared, self.seen = trial, session, compared, seen
        self.until, self.reported, self.deadline = until, reported, deadline
        self.best: float | None = None
        self.epochs = 0
        self.time_is_up = False
        self._since = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SpikingModule)
        figure = trainer.callback_metrics.get(f"val_{pl_module.figure}")
        value = None if figure is None else figure.item()
        if value is not None:
            self.best = value if self.best is None else max(self.best, value)
        epoch = trainer.current_epoch
        self.epochs = epoch + 1
        self.seen(epoch, value)
        report = self.compared and value is not None
        if report and epoch >= self.reported:
            assert value is not None
            self.trial.report(value, epoch)
        output = self.session.monitor.layers()[-1]
        if output["threshold"] is not None and not output["spikes_per_sample"]:
            raise optuna.TrialPruned(f"dead network: no output spike in epoch {epoch + 1}")
        if self.epochs == trainer.max_epochs:
            return
        if report and self.trial.should_prune():
            raise optuna.TrialPruned
        self.time_is_up = self._another_is_too_late()
        if self.epochs >= self.until or self.time_is_up:
            trainer.should_stop = True

    def _another_is_too_late(self) -> bool:
        now = time.monotonic()
        return self.deadline is not None and now + (now - self._since) > self.deadline

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.epochs = state_dict["best"], state_dict["epochs"]


class TrainingObjective:
    """Trains what a trial suggests; called with an ``optuna.Trial``.

    Args:
        plan: of the study.
        space: that the plan's table describes.
        machine: where it trains.
        seen: told ``(trial number, epoch, validation accuracy)``.
        checkpoints: where trials that pause are kept; None keeps none.
        deadline: ``time.monotonic()`` at which a running trial pauses, after its epoch.
        dataset: the one the plan's configuration names, if it is loaded already.
        depth: of the plan's network, if it was built already.

    Raises:
        StudyError: an objective does not fit the task.
    """

    def __init__(
        self,
        plan: Plan,
        space: Space,
        machine: Machine,
        seen: Callable[[int, int, float | None], None] = lambda *_: None,
        dataset: Dataset | None = None,
        depth: Depth | None = None,
        checkpoints: Checkpoints | None = None,
        deadline: float | None = None,
    ) -> None:
        self.config = plan.base
        self.objectives = plan.objectives
        self.race = plan.race
        self.space = space
        self.machine = machine
        self.seen = seen
        self.checkpoints = checkpoints
        self.deadline = deadline
        # Loaded once; the test split is out of every trial's reach.
        self.dataset = _without_test(dataset or load_data(self.config, machine))
        self.depth = depth or Depth.of(self.config.build_network(self.dataset.input_shape))
        check_objectives(self.objectives, self.dataset)

    def __call__(self, trial: optuna.Trial) -> tuple[float, ...]:
        config = self.config.with_changes(self.space.suggest(trial, self.depth))
        trial.set_user_attr("config", config.to_toml())
        try:
            return self._train(trial, config)
        except TrainingError as error:
            # A result like any other: the sampler learns to stay away.
            raise optuna.TrialPruned(str(error)) from None
        except InvalidValueError as error:
            raise TrialFailedError(str(error)) from None
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise TrialFailedError(f"out of memory: {error}") from None
        except RuntimeError as error:
            if "can't allocate memory" in str(error):
                raise TrialFailedError(f"out of memory: {error}") from None
            raise
        finally:
            # Lightning's trainer and module hold each other; graphs go with them.
            gc.collect()

    def _train(self, trial: optuna.Trial, config: RunConfig) -> tuple[float, ...]:
        """Scores of the setting, the mean over the trial's seeds."""
        instances: list[dict[str, float]] = trial.user_attrs.get(INSTANCES, [])
        # Of several objectives none says what is beaten: all settings have all seeds.
        each = self.race.least if len(self.objectives) == 1 else self.race.most
        for seed in trial.user_attrs.get(SEEDS, range(each))[len(instances) :]:
            seeded = config.with_changes({"training.seed": config.training.seed + seed})
            instances.append(self._train_instance(trial, seeded, first=not instances))
            if self.race.most > 1:
                trial.set_user_attr(INSTANCES, instances)
        scores = {
            name: statistics.fmean(instance[name] for instance in instances)
            for name in instances[0]
        }
        trial.set_user_attr("seconds", round(scores.pop("seconds") * len(instances), 2))
        trial.set_user_attr("scores", scores)
        return tuple(scores[name] for name in self.objectives)

    def _train_instance(
        self, trial: optuna.Trial, config: RunConfig, first: bool
    ) -> dict[str, float]:
        """Scores of one seed. The first is compared at rungs and by pruners."""
        epochs = config.training.epochs
        until = trial.user_attrs.get(UNTIL, epochs) if first else epochs
        reported = trained(storage_of(trial.study).get_trial(trial_id(trial))) if first else 0
        if until < epochs and reported >= until:
            raise TrialPausedError(until)  # its worker died when there was no more to do
        dataset = self.dataset
        if config.data != self.config.data:  # e.g. a target that follows the threshold
            dataset = _without_test(load_data(config, self.machine))
        session = Session.prepare(config, self.machine, dataset)
        report = EpochReport(
            trial,
            session,
            # Optuna takes reports of one objective, and compares what it is.
            first and self.objectives in COMPARED,
            until,
            reported,
            self.deadline if self.checkpoints else None,
            seen=lambda epoch, value: self.seen(trial.number, epoch, value),
        )
        recorder = OutputRecorder(None) if "timing" in self.objectives else None
        keep, start = self._checkpoint(trial, config, reported)
        fitted = session.fit(
            before_annealing=[recorder] if recorder else [],
            after_epoch=[report, *([keep] if keep else [])],
            checkpoint=start,
        )
        if report.epochs < epochs:
            raise TrialPausedError(report.epochs, report.time_is_up)
        scores = {
            session.module.figure: report.best,
            "spikes": sum(row["spikes_per_sample"] for row in fitted.layers),
            "dead": session.monitor.dead_share(),
            "operations": fitted.workload["effective_acs"],
            "timing": _timing_score(recorder) if recorder else None,
            "seconds": session.stopwatch.seconds,
        }
        return {name: value for name, value in scores.items() if value is not None}

    def _checkpoint(
        self, trial: optuna.Trial, config: RunConfig, reported: int
    ) -> tuple[TrialCheckpoint | None, Path | None]:
        """What keeps the trial's checkpoint, and the one it goes on from, if there is one."""
        kept = self.checkpoints
        if kept is None:
            return None, None
        root, text = root_of(trial), config.to_toml()
        keep = TrialCheckpoint(kept.file(root), text, lambda: kept.publish(root))
        start = kept.fetch(root)
        behind = 0 if start is None else epochs_in(start, text) or 0
        if reported > behind:
            lost = trial.user_attrs.get(LOST, 0) + reported - behind
            trial.set_user_attr(LOST, lost)
        return keep, start if behind else None


def _without_test(dataset: Dataset) -> Dataset:
    return dataclasses.replace(dataset, test=None)


def _timing_score(recorder: OutputRecorder) -> float:
    """Share of late iterations on target, less the final loss over a silent network's.

    The loss guides a search while no spike hits the target yet.
    """
    timing = recorder.timing()
    assert timing is not None and recorder.target is not None
    silent = recorder.target.square().mean().item()
    last = recorder.loss[-100:]
    return float(timing["share"] - min(1.5, sum(last) / len(last) / silent))


def check_objectives(objectives: tuple[str, ...], dataset: Dataset) -> None:
    """Refuse objectives that a data set cannot be scored by.

    Raises:
        StudyError: with the objective.
    """
    for name in objectives:
        if name not in OBJECTIVES:
            raise StudyError(
                f"an objective must be one of {', '.join(OBJECTIVES)}, but got {name!r}"
            )
        if objectives.count(name) > 1:
            raise StudyError(f"objectives must differ, but got {name} twice")
    figure, other = ("map", "accuracy") if dataset.boxes else ("accuracy", "map")
    if other in objectives:
        has = "boxes" if dataset.boxes else "none"
        raise StudyError(
            f"accuracy is of classes and map of boxes, of which {dataset.name} has {has}; choose "
            f"another --objective than {other}"
        )
    if figure in objectives and dataset.validation is None:
        raise StudyError(
            f"{figure} needs a validation split, but {dataset.name} has none here; set "
            "data.validation above 0, or choose another --objective"
        )
    if "timing" in objectives and (dataset.num_classes is not None or dataset.boxes):
        has = "boxes" if dataset.boxes else "classes"
        raise StudyError(f"timing needs a target trace, but {dataset.name} has {has}")
