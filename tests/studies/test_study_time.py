"""Time as a budget: said before, kept within an epoch, and gone on with later."""

from __future__ import annotations

import time

import optuna
import pytest
from optuna.trial import TrialState
from training_runs import MACHINE, tiny

from bsnn_tha.training.evaluation import load_data
from studies.checkpoints import Checkpoints
from studies.forecast import FORWARD, forecast
from studies.objective import LOST, TrainingObjective
from studies.race import Race
from studies.rungs import EPOCHS, Rungs, is_paused
from studies.space import Number, Space
from studies.study import Plan
from studies.worker import Worker

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:DeprecationWarning")
BETA = Space(Number("neuron.beta", 0.5, 0.99))
COMPLETE, WAITING = TrialState.COMPLETE, TrialState.WAITING


@pytest.mark.parametrize("rungs", [None, Rungs.halving(6)])
def test_time_is_up_after_an_epoch_and_the_trial_goes_on_from_there(tmp_path, rungs):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plan = Plan(tiny(training__epochs=6).to_toml(), tuple(BETA.table()))
    seen = []

    def work(study, deadline, checkpoints):
        objective = TrainingObjective(
            plan,
            BETA,
            MACHINE,
            lambda *event: seen.append(event),
            checkpoints=checkpoints,
            deadline=deadline and deadline(),
        )
        # The worker itself is not late yet: its trial must see that another epoch is too much.
        Worker(study, objective, 1, rungs=rungs, checkpoints=checkpoints).work()

    study, other = (optuna.create_study(direction="maximize") for _ in range(2))
    for begun in (study, other):
        begun.enqueue_trial({"neuron.beta": 0.9})
    kept = Checkpoints(tmp_path / "kept")
    for epochs in (1, 2):
        work(study, time.monotonic, kept)
        (trial,) = study.trials
        assert is_paused(trial) and trial.user_attrs[EPOCHS] == epochs == len(seen)
        assert kept.has(0)
    work(study, None, kept)
    (trial,) = study.trials
    assert trial.state == COMPLETE and [epoch for _, epoch, _ in seen] == list(range(6))
    assert LOST not in trial.user_attrs and not kept.has(0)
    work(other, None, None)
    assert other.trials[0].intermediate_values == trial.intermediate_values
    assert other.trials[0].values == trial.values


def test_a_forecast_counts_up_epochs_rungs_seeds_and_workers(monkeypatch):
    # A second for every sample that is trained, and one for the way there.
    monkeypatch.setattr("studies.forecast._seconds", lambda c, d, m, samples: (1.0 + samples, 100))
    config = tiny(training__epochs=9, data__subset=96)
    dataset = load_data(config, MACHINE)
    epoch = 96 + FORWARD * len(dataset.validation)
    plain = forecast(config, dataset, MACHINE, 10, 1, None, Race())
    assert plain.epoch == pytest.approx(epoch) and plain.epochs == 9
    assert plain.total == pytest.approx(10 * 9 * epoch) and plain.kept == 1
    rungs = forecast(config, dataset, MACHINE, 9, 2, Rungs.halving(9), Race())
    assert rungs.total == pytest.approx((9 + 3 * 2 + 6) * epoch)
    assert (rungs.kept, rungs.checkpoint) == (2 * 9, 1200)
    assert str(rungs) == (
        f"about {9 * epoch / 60:.0f} min for a whole trial, "
        f"{21 * epoch / 120:.0f} min in all on this machine; at most 18 checkpoints of 1.2 kB"
    )
    seeds = forecast(config, dataset, MACHINE, 10, 1, None, Race(3, 3))
    assert seeds.total == pytest.approx(3 * plain.total)
    finals = forecast(config, dataset, MACHINE, 10, 1, Rungs.halving(9), Race(1, 5))
    assert finals.total == pytest.approx((Rungs.halving(9).epochs(7) + 3 * 9) * epoch)


def test_a_forecast_is_of_the_size_of_what_happens():
    config = tiny(training__epochs=1, data__subset=320)
    dataset = load_data(config, MACHINE)
    said = forecast(config, dataset, MACHINE, 1, 1, None, Race())
    assert 0 < said.epoch < 60 and said.checkpoint > 12 * 4 * 4 * 10
