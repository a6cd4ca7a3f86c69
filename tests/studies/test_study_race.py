"""Seeds as instances: who gets another seed, and who is the best in the end."""

from __future__ import annotations

import random
import statistics

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState
from training_runs import MACHINE, tiny

from bsnn_tha.training.evaluation import load_data
from bsnn_tha.training.session import Session
from studies.errors import StudyError
from studies.objective import TrainingObjective
from studies.race import INSTANCES, SCATTER, WEIGHT, Race, scatter
from studies.ranking import best_trials, estimates, score
from studies.space import Number, Space
from studies.study import OpenStudy, Plan
from studies.surface import coordinates, posterior
from studies.worker import Worker

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:DeprecationWarning")
BETA = Space(Number("neuron.beta", 0.5, 0.99))


def test_seeds_are_one_number_or_two():
    assert str(Race.parse("3")) == "3" and str(Race.parse("1..5")) == "1..5"
    for text in ("0", "5..1", "1-5", "", "..5", "1..x", "-1"):
        with pytest.raises(StudyError, match="seeds per trial must be"):
            Race.parse(text)


def test_the_scatter_is_pooled_over_settings_of_any_mean():
    generator = random.Random(0)
    settings = [[m + generator.gauss(0, 0.03) for _ in range(4)] for m in (0.2, 0.9) * 200]
    assert scatter(settings) == pytest.approx(0.03, rel=0.05)
    # By hand: two settings with two seeds each, and what is taken for granted.
    squares = 2 * 0.01**2 + 2 * 0.02**2 + WEIGHT * SCATTER**2
    wanted = (squares / (2 + WEIGHT)) ** 0.5
    assert scatter([[0.5, 0.52], [0.7, 0.74], [0.1]]) == pytest.approx(wanted)


def test_a_setting_has_as_many_seeds_as_it_must_and_no_more_than_it_may():
    leader = [[0.99] * 4]
    assert Race(2, 4).goes_on([0.1], leader) and not Race(2, 4).goes_on([0.1, 0.1], leader)
    assert not Race(1, 3).goes_on([1.0] * 3, leader)
    assert Race(1, 3).goes_on([0.5], [])  # nobody else


def test_a_lucky_seed_leads_nobody():
    # The mean of one is higher, the lower bound of many seeds is.
    known = [[0.88, 0.92] * 4, [0.91]]
    sigma = scatter(known)
    assert max(known, key=lambda s: Race().lower(s, sigma)) == known[0]


# In a study


def run(config, seeds, trials, objectives=("accuracy",), score=None, betas=()):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plan = Plan(config.to_toml(), tuple(BETA.table()), objectives, seeds)
    study = optuna.create_study(directions=plan.directions, pruner=optuna.pruners.NopPruner())
    for beta in betas:
        study.enqueue_trial({"neuron.beta": beta})
    objective = TrainingObjective(plan, BETA, MACHINE)
    if score is not None:
        objective._train_instance = score
    Worker(study, objective, trials).work()
    return OpenStudy(study, plan)


def test_a_trials_value_is_the_mean_of_trainings_from_the_seeds_that_follow():
    config = tiny(training__epochs=1, neuron__beta=0.8)
    (trial,) = run(config, "2", 1, betas=[0.8]).study.trials
    accuracies, dataset = [], load_data(config, MACHINE)  # validated on the same samples
    for seed in (config.training.seed, config.training.seed + 1):
        session = Session.prepare(config.with_changes({"training.seed": seed}), MACHINE, dataset)
        trainer = session.fit().trainer
        accuracies.append(trainer.callback_metrics["val_accuracy"].item())
    assert [entry["accuracy"] for entry in trial.user_attrs[INSTANCES]] == accuracies
    assert trial.value == trial.user_attrs["scores"]["accuracy"] == statistics.fmean(accuracies)
    assert len(trial.intermediate_values) == 1  # of the first seed


def synthetic(trial, config, first):
    """One training without one: β is the accuracy, but for a seed that helps a bad setting."""
    beta, seed = config.neuron.beta, config.training.seed - tiny().training.seed
    assert first == (seed == 0)
    accuracy = beta + (0.01 if seed % 2 else -0.01)
    return {"accuracy": accuracy, "spikes": 100 * beta, "seconds": 1.0}


def test_bad_settings_are_given_up_after_a_seed_and_good_ones_are_not():
    opened = run(tiny(), "1..4", 4, score=synthetic, betas=[0.6, 0.95, 0.7, 0.97])
    seeds = [len(trial.user_attrs[INSTANCES]) for trial in opened.study.trials]
    assert seeds == [4, 4, 1, 4]
    assert all(trial.state == TrialState.COMPLETE for trial in opened.study.trials)
    assert [t.user_attrs["seconds"] for t in opened.study.trials] == [4.0, 4.0, 1.0, 4.0]
    best = best_trials(opened)
    assert [trial.params["neuron.beta"] for trial in best] == [0.97, 0.95, 0.7, 0.6]
    known = estimates(opened)
    assert known[1].mean == pytest.approx(0.95) and known[1].margin < known[2].margin
    assert score(opened, best[0], known).startswith("0.9700 from 4 seeds, expected 0.9700 ± 0.00")
    assert "0.6900 from 1 seed, expected 0.6900 ± " in score(opened, best[2], known)


def test_one_lucky_seed_among_bad_neighbours_is_not_the_best():
    x = np.linspace(0, 1, 21)[:, None]
    means = 0.90 + 0.05 * x[:, 0]
    means[6] += 0.05  # more than the best has, 2.5 standard errors of its own
    mean, error = posterior(x, means, np.full(21, 0.02**2))
    assert means.argmax() == 6 and (mean - error).argmax() > 15
    # With many seeds behind it, it is.
    variances = np.full(21, 0.02**2)
    variances[6] /= 400
    mean, error = posterior(x, means, variances)
    assert (mean - error).argmax() == 6


def test_trials_are_points_of_a_cube():
    space = {
        "a": FloatDistribution(0.01, 100, log=True),
        "b": CategoricalDistribution(("on", None)),
        "c": FloatDistribution(-1, 3),
    }
    params = ({"a": 1.0, "b": None, "c": 3.0}, {"a": 100.0, "b": "on"})
    trials = [
        optuna.trial.create_trial(
            params=p, distributions={name: space[name] for name in p}, value=0.0
        )
        for p in params
    ]
    assert coordinates(trials) == pytest.approx(np.array([[0.5, 0, 1, 1], [1, 1, 0, 0.5]]))


def test_what_is_minimized_is_raced_downwards():
    opened = run(tiny(), "1..3", 3, ("spikes",), synthetic, [0.6, 0.95, 0.5])
    assert [len(trial.user_attrs[INSTANCES]) for trial in opened.study.trials] == [3, 1, 3]
    assert best_trials(opened)[0].params["neuron.beta"] == 0.5


def test_of_two_objectives_all_settings_get_all_seeds():
    opened = run(tiny(), "1..3", 2, ("accuracy", "spikes"), synthetic, [0.9, 0.5])
    assert [len(trial.user_attrs[INSTANCES]) for trial in opened.study.trials] == [3, 3]


def test_a_study_with_other_seeds_is_another_plan():
    plans = [Plan(tiny().to_toml(), (), seeds=seeds) for seeds in ("1", "1..5")]
    assert plans[0].differences(plans[1]) == ["1 seeds per trial (asked for 1..5)"]
    assert Plan.from_json(plans[1].to_json()) == plans[1]


def test_seeds_that_were_trained_are_not_trained_again_after_a_kill():
    calls = []

    def dies_once(trial, config, first):
        calls.append(config.training.seed)
        if len(calls) == 3:
            raise ZeroDivisionError
        return synthetic(trial, config, first)

    plan = Plan(tiny().to_toml(), tuple(BETA.table()), seeds="4")
    study = optuna.create_study(direction="maximize")
    objective = TrainingObjective(plan, BETA, MACHINE)
    objective._train_instance = dies_once
    with pytest.raises(ZeroDivisionError):
        Worker(study, objective, 1).work()
    Worker(study, objective, 1).work()
    first = tiny().training.seed
    assert calls == [first, first + 1, first + 2, first + 2, first + 3]
    assert len(study.trials[-1].user_attrs[INSTANCES]) == 4
