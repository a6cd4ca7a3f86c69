"""Seeds as instances: who gets another seed, and who is the best in the end."""

from __future__ import annotations

import copy
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
from studies.finals import SEED, Finals, is_final, settings
from studies.objective import TrainingObjective
from studies.optuna_internals import begin, put_back
from studies.race import INSTANCES, SCATTER, WEIGHT, Race, scatter
from studies.ranking import best_trials, estimates, score
from studies.rungs import EPOCHS, FURTHER, UNTIL, Rungs
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


def test_the_next_seed_goes_where_the_truth_may_be_highest():
    mean, error = np.array([0.95, 0.94, 0.90]), np.array([0.002, 0.01, 0.01])
    assert Race(1, 5).next_seed(mean, error, [1, 1, 1]) == 1  # 0.96 against 0.954 and 0.92
    assert Race(1, 5).next_seed(mean, error, [1, 5, 1]) == 0  # that has had all
    assert [Race(1, 5).finals(n) for n in (4, 5, 99)] == [0, 1, 19] and Race(5, 5).finals(99) == 0


def test_a_lucky_seed_leads_nobody():
    # The mean of one is higher, the lower bound of many seeds is.
    known = [[0.88, 0.92] * 4, [0.91]]
    sigma = scatter(known)
    assert max(known, key=lambda s: Race().lower(s, sigma)) == known[0]


# In a study


def run(config, seeds, trials, objectives=("accuracy",), score=None, betas=(), keep=()):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plan = Plan(config.to_toml(), tuple(BETA.table()), objectives, seeds)
    study = optuna.create_study(directions=plan.directions, pruner=optuna.pruners.NopPruner())
    for beta in betas:
        study.enqueue_trial({"neuron.beta": beta})
    opened = OpenStudy(study, plan)
    if isinstance(keep, list):
        keep.append(opened)
    again(opened, trials, score)
    return opened


def again(opened, trials, score=None):
    """Go on with a study."""
    objective = TrainingObjective(opened.plan, BETA, MACHINE)
    if score is not None:
        objective._train_instance = score
    Worker(opened.study, objective, trials, finals=Finals.of(opened.plan)).work()


def running(further, number):
    """A trial that was queued, as it is when a worker has taken it."""
    trial = copy.copy(further)
    trial.state, trial.number = TrialState.RUNNING, number
    return trial


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


def test_the_last_trials_are_further_seeds_of_settings_that_may_be_the_best():
    betas = [0.6, 0.95, 0.7, 0.97, 0.55, 0.65, 0.75, 0.5]
    opened = run(tiny(), "1..3", 10, score=synthetic, betas=betas)
    tried, finals = opened.study.trials[:8], opened.study.trials[8:]
    assert [trial.params["neuron.beta"] for trial in tried] == betas
    assert [trial.user_attrs[FURTHER] for trial in finals] == [3, 3]
    assert [trial.params["neuron.beta"] for trial in finals] == [0.97, 0.97]
    assert [trial.user_attrs[SEED] for trial in finals] == [1, 2]
    assert [trial.value for trial in finals] == pytest.approx([0.98, 0.96])
    assert not any(trial.intermediate_values for trial in finals)
    best = best_trials(opened)  # settings, not trainings
    assert [trial.number for trial in best] == [3, 1, 6, 2, 5, 0, 4, 7]
    known = estimates(opened)
    assert (
        known[3].mean == pytest.approx((0.96 + 0.98 + 0.96) / 3)
        and known[3].margin < known[6].margin
    )
    assert known[8] == known[3]
    assert score(opened, best[0], known).startswith("0.9600 from 3 seeds, expected 0.9667 ± 0.0")
    assert "0.7400 from 1 seed, expected 0.7400 ± " in score(opened, best[2], known)


def test_a_study_that_goes_on_tries_new_settings_before_more_finals():
    opened = run(tiny(), "1..3", 5, score=synthetic, betas=[0.6, 0.95, 0.7, 0.9])
    assert [is_final(trial) for trial in opened.study.trials] == [False] * 4 + [True]
    again(opened, 10, synthetic)
    assert [is_final(trial) for trial in opened.study.trials] == (
        [False] * 4 + [True] + [False] * 4 + [True]
    )
    pairs = [
        (t.user_attrs[FURTHER], t.user_attrs[SEED]) for t in opened.study.trials if is_final(t)
    ]
    assert len(set(pairs)) == 2


def test_no_setting_has_more_seeds_than_it_may():
    opened = run(tiny(), "1..2", 10, score=synthetic, betas=[0.97] + [0.6] * 7)
    finals = [trial.user_attrs[FURTHER] for trial in opened.study.trials if is_final(trial)]
    assert finals[0] == 0 and len(set(finals)) == 2


def test_workers_at_once_train_other_seeds():
    opened = run(tiny(), "1..3", 5, score=synthetic, betas=[0.97, 0.6, 0.6, 0.6])
    trials = opened.study.trials[:4]  # before the final
    finals = Finals.of(opened.plan)
    given = set()
    for _ in range(3):
        further = finals.next(trials)
        given.add((further.user_attrs[FURTHER], further.user_attrs[SEED]))
        trials = [*trials, running(further, len(trials))]
    assert len(given) == 3 and (0, 1) in given


def test_a_seed_that_two_workers_trained_counts_once():
    opened = run(tiny(), "1..3", 5, score=synthetic, betas=[0.97, 0.6, 0.6, 0.6])
    once = settings(opened.study.trials, opened.plan)
    opened.study.add_trial(opened.study.trials[4])
    assert [s.scores for s in settings(opened.study.trials, opened.plan)] == [
        s.scores for s in once
    ]


def test_finals_are_in_no_bracket():
    rungs = Rungs.halving(9)
    study = optuna.create_study(direction="maximize")
    for number in range(9):
        trial = begin(study)
        trial.report(number / 10, 0)
        trial.set_user_attr(EPOCHS, 1)
        trial.set_user_attr(UNTIL, 1)
        put_back(study, trial)
    without = rungs.decide(study.trials, 0)
    study.add_trial(
        optuna.create_trial(value=9.0, user_attrs={FURTHER: 8, SEED: 1}, state=TrialState.COMPLETE)
    )
    assert len(without.go_on) == 3
    assert rungs.decide(study.trials, 0) == without


def test_seeds_of_a_killed_final_are_trained_again():
    seeds = []

    def dies_once(trial, config, first):
        seeds.append(config.training.seed - tiny().training.seed)
        if len(seeds) == 5:
            raise ZeroDivisionError
        return synthetic(trial, config, first)

    with pytest.raises(ZeroDivisionError):
        run(tiny(), "1..3", 5, score=dies_once, betas=[0.97, 0.6, 0.6, 0.6], keep=(kept := []))
    again(kept[0], 5, dies_once)
    assert seeds == [0, 0, 0, 0, 1, 1]
    last = kept[0].study.trials[-1]
    assert (last.user_attrs[FURTHER], last.user_attrs[SEED], last.state) == (
        0,
        1,
        TrialState.COMPLETE,
    )


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


def test_what_is_minimized_has_its_finals_at_the_other_end():
    opened = run(tiny(), "1..3", 5, ("spikes",), synthetic, [0.6, 0.95, 0.5, 0.9])
    assert opened.study.trials[4].user_attrs[FURTHER] == 2
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
