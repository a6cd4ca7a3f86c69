"""Seeds as instances: who gets another seed, and who is the best in the end."""

from __future__ import annotations

import copy
import dataclasses
import math
import random
import statistics
from collections import Counter

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState
from training_runs import MACHINE, tiny

from bsnn_tha.training.evaluation import load_data
from bsnn_tha.training.session import Session
from studies.cube import Cube
from studies.errors import StudyError
from studies.finals import Finals
from studies.gain import gains, most_telling
from studies.lessons import Lessons, settings
from studies.objective import TrainingObjective
from studies.optuna_internals import begin, put_back
from studies.race import INSTANCES, SCATTER, WEIGHT, Race, scatter
from studies.ranking import best_trials, estimates, score
from studies.rungs import EPOCHS, SEEDS, UNTIL, Rungs, is_final
from studies.space import Choice, Number, Space
from studies.study import OpenStudy, Plan
from studies.surface import Surface
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
    assert scatter(settings).deviation == pytest.approx(0.03, rel=0.05)
    # By hand: two settings with two seeds each, and what is taken for granted.
    squares = 2 * 0.01**2 + 2 * 0.02**2 + WEIGHT * SCATTER**2
    wanted = (squares / (2 + WEIGHT)) ** 0.5
    assert scatter([[0.5, 0.52], [0.7, 0.74], [0.1]]) == pytest.approx((wanted, 2 + WEIGHT))


def test_finals_take_two_thirds_of_the_epochs():
    assert Race(1, 5).finals(90, 9) == 60 and Race(5, 5).finals(90, 9) == 0
    rungs = Rungs.halving(9)
    for trials in (2, 10, 61, 250):
        finals = Race(1, 5).finals(trials, 9, rungs)
        assert 9 * finals <= 2 * rungs.epochs(trials - finals)
        assert 9 * (finals + 1) > 2 * rungs.epochs(trials - finals - 1)


# In a study


def run(config, seeds, trials, objectives=("accuracy",), score=None, betas=(), keep=()):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plan = Plan(config.to_toml(), tuple(BETA.table()), objectives, seeds)
    pruner, sampler = optuna.pruners.NopPruner(), optuna.samplers.TPESampler(seed=0)
    study = optuna.create_study(directions=plan.directions, pruner=pruner, sampler=sampler)
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
    Worker(opened.study, objective, trials, finals=Finals.of(opened.plan, seed=(0,))).work()


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
    assert first or seed > 0
    accuracy = beta + (0.01 if seed % 2 else -0.01)
    return {"accuracy": accuracy, "spikes": 100 * beta, "seconds": 1.0}


def test_the_last_trials_are_finals():
    betas = [0.6, 0.95, 0.7, 0.97]
    opened = run(tiny(), "1..3", 12, score=synthetic, betas=betas)
    tried, finals = opened.study.trials[:4], opened.study.trials[4:]
    assert [trial.params["neuron.beta"] for trial in tried] == betas
    assert not any(is_final(trial) for trial in tried)
    seeds = {beta: [0] for beta in betas}
    for trial in finals:
        seeds.setdefault(trial.params["neuron.beta"], []).extend(trial.user_attrs[SEEDS])
    # Settings that nobody tried, and others once more: each from a seed that it has not had.
    assert len(seeds) > 4 and sum(map(len, seeds.values())) == 12
    assert all(len(set(own)) == len(own) and set(own) <= {0, 1, 2} for own in seeds.values())
    # All seeds have their turn.
    turns = Counter(seed for trial in finals for seed in trial.user_attrs[SEEDS])
    assert set(turns) == {0, 1, 2} and min(turns.values()) >= 2
    # They go where it may be high: β is the accuracy, and up to 0.99.
    assert max(trial.params["neuron.beta"] for trial in finals) > 0.98
    best = best_trials(opened)
    assert len({t.params["neuron.beta"] for t in best}) == len(best) == len(seeds)
    assert best[0].params["neuron.beta"] >= 0.97
    known = estimates(opened)
    assert score(opened, best[0], known).endswith(f"± {known[best[0].number].margin:.4f}")


def test_a_study_that_goes_on_tries_new_settings_before_more_finals():
    opened = run(tiny(), "1..3", 6, score=synthetic, betas=[0.6, 0.95])
    again(opened, 12, synthetic)
    assert [is_final(trial) for trial in opened.study.trials] == (
        [False] * 2 + [True] * 4 + [False] * 2 + [True] * 4
    )


def test_where_a_setting_has_had_all_its_seeds_another_one_is_proposed():
    # β is the accuracy, so that all that is near leads to the end of its range, again and again.
    betas = [0.6, 0.99, 0.7, 0.65, 0.8, 0.75]
    opened = run(tiny(), "1..2", 18, score=synthetic, betas=betas)
    finals = opened.study.trials[6:]
    assert all(is_final(trial) for trial in finals) and len(finals) == 12
    assert sum(t.params["neuron.beta"] == 0.99 for t in opened.study.trials) <= 2
    small = Cube({"a": CategoricalDistribution((1, 2))})
    points, seeds = np.eye(2), np.ones(2)
    surface = Surface.learned(points, np.array([0.5, 0.6]), seeds, 0.01)
    asked = [most_telling(surface, points, spent, small, lambda p: p, np.random.default_rng(0))
             for spent in (points[:1], points)]  # fmt: skip
    assert asked[0].tolist() == points[1].tolist() and asked[1] is None


def test_workers_at_once_train_other_things():
    opened = run(tiny(), "1..3", 12, score=synthetic, betas=[0.97, 0.6, 0.8, 0.7])
    trials = opened.study.trials[:4]  # before the finals
    finals = Finals.of(opened.plan, seed=(0,))
    alone = finals.next(trials).system_attrs["fixed_params"]["neuron.beta"]
    another = finals.next([*trials, running(finals.next(trials), 4)])
    assert another.system_attrs["fixed_params"]["neuron.beta"] != alone
    assert another.user_attrs[SEEDS] == [2]
    lessons = Lessons.of(trials, opened.plan)
    # What one trains is told to the next by what is expected of it: there is less to gain.
    point = np.column_stack([lessons.cube.points([{"neuron.beta": alone}]), [1.0]])
    tried = np.column_stack([lessons.tried, np.ones(4)])
    before = gains(lessons.surface, tried, point)
    after = gains(lessons.surface.expecting(point), np.concatenate([tried, point]), point)
    assert 0 <= after[0] < before[0]


def test_no_setting_has_more_seeds_than_it_may():
    # Nothing but one setting: proposals cannot differ from it.
    one = Space(Choice("neuron.reset", "subtract"))
    plan = Plan(tiny().to_toml(), tuple(one.table()), seeds="1..3")
    study = optuna.create_study(direction="maximize")
    for _ in range(3):
        study.add_trial(
            optuna.create_trial(
                params={"neuron.reset": "subtract"},
                distributions={"neuron.reset": CategoricalDistribution(("subtract",))},
                value=0.9,
                user_attrs={INSTANCES: [{"accuracy": 0.9}]},
            )
        )
    further = Finals.of(plan, seed=(0,)).next(study.trials)
    assert further.system_attrs["fixed_params"] == {"neuron.reset": "subtract"}
    assert further.user_attrs[SEEDS] == [1]
    for seed in (1, 2):
        study.add_trial(seed_of(seed, 0.9, study.trials[0]))
    assert Finals.of(plan, seed=(0,)).next(study.trials) is None


def seed_of(seed, value, first):
    """A final of a setting that was tried."""
    return optuna.create_trial(
        params=first.params,
        distributions=first.distributions,
        value=value,
        user_attrs={SEEDS: [seed], INSTANCES: [{"accuracy": value}]},
    )


def test_a_seed_that_two_workers_trained_counts_once():
    opened = run(tiny(), "1", 2, score=synthetic, betas=[0.97, 0.6])
    for seed in (1, 2, 2):
        opened.study.add_trial(seed_of(seed, 0.9 + seed / 100, opened.study.trials[0]))
    plan = dataclasses.replace(opened.plan, seeds="1..4")
    first, second = settings(opened.study.trials, plan)
    assert first.told == pytest.approx({0: 0.96, 1: 0.91, 2: 0.92}) and first.taken == {0, 1, 2}
    assert second.told == pytest.approx({0: 0.59}) and second.trial.number == 1
    assert [t.number for t in first.trials] == [0, 2, 3, 4]
    known = estimates(OpenStudy(opened.study, plan))
    assert known[0] == known[2] == known[4] != known[1] and known[0].seeds == 3


def test_what_is_good_for_one_seed_alone_is_not_climbed():
    def score(trial, config, first):
        beta, seed = config.neuron.beta, config.training.seed - tiny().training.seed
        lucky = 0.2 * math.exp(-(((beta - 0.6) / 0.1) ** 2)) if seed == 0 else 0.0
        return {"accuracy": 0.9 - (beta - 0.9) ** 2 + lucky, "spikes": 1.0, "seconds": 1.0}

    opened = run(tiny(), "1..4", 24, score=score, betas=[0.5, 0.6, 0.7, 0.8, 0.85, 0.95])
    tried = opened.study.trials[:8]
    assert max(tried, key=lambda trial: trial.value).params["neuron.beta"] < 0.7
    assert best_trials(opened)[0].params["neuron.beta"] > 0.8


def test_finals_are_is_final():
    rungs = Rungs.halving(9)
    study = optuna.create_study(direction="maximize")
    for number in range(9):
        trial = begin(study)
        trial.report(number / 10, 0)
        trial.set_user_attr(EPOCHS, 1)
        trial.set_user_attr(UNTIL, 1)
        put_back(study, trial)
    without = rungs.decide(study.trials, 0)
    study.add_trial(optuna.create_trial(value=9.0, user_attrs={SEEDS: [1]}))
    assert len(without.go_on) == 3
    assert rungs.decide(study.trials, 0) == without


def test_a_killed_final_is_trained_again():
    trained = []

    def dies_once(trial, config, first):
        trained.append(config.neuron.beta)
        if len(trained) == 3:
            raise ZeroDivisionError
        return synthetic(trial, config, first)

    with pytest.raises(ZeroDivisionError):
        run(tiny(), "1..3", 6, score=dies_once, betas=[0.97, 0.6], keep=(kept := []))
    again(kept[0], 6, dies_once)
    assert trained[2] == trained[3]
    retried = kept[0].study.trials[3]
    assert is_final(retried) and retried.state == TrialState.COMPLETE
    assert sum(t.state == TrialState.COMPLETE for t in kept[0].study.trials) == 6


def test_one_lucky_seed_among_bad_neighbours_is_not_the_best():
    x = np.linspace(0, 1, 21)[:, None]
    means = 0.90 + 0.05 * x[:, 0]
    means[6] += 0.05  # more than the best has, 2.5 standard errors of its own
    seeds = np.ones(21)
    mean, error = Surface.learned(x, means, seeds, 0.02).at(x)
    assert means.argmax() == 6 and (mean - error).argmax() > 15
    seeds[6] = 400  # with many seeds behind it, it is
    mean, error = Surface.learned(x, means, seeds, 0.02).at(x)
    assert (mean - error).argmax() == 6


def test_what_is_believed_is_the_posterior_of_a_gaussian_process():
    generator = np.random.default_rng(0)
    x, asked = generator.random((30, 3)), generator.random((5, 3))
    y, seeds = x[:, 0] + generator.normal(0, 0.1, 30), generator.integers(1, 5, 30)
    surface = Surface.learned(x, y, seeds, 0.1)
    like = surface.likeness

    def prior(one, other):  # entry by entry
        def kappa(s):
            r = 5**0.5 * s
            return (1 + r + r**2 / 3) * np.exp(-r)

        apart = np.abs(one - other)
        both = like.together * kappa(np.sqrt(np.sum((apart / like.lengths) ** 2)))
        return both + like.alone * np.mean([kappa(d) for d in apart / like.own_lengths])

    joint = np.array([[prior(a, b) for b in (*x, *asked)] for a in (*x, *asked)])
    known = np.linalg.inv(joint[:30, :30] + np.diag(like.noise / seeds))
    mean = joint[30:, :30] @ known @ (y - y.mean()) + y.mean()
    spread = joint[30:, 30:] - joint[30:, :30] @ known @ joint[:30, 30:]
    assert surface.at(asked)[0] == pytest.approx(mean, abs=1e-4)
    assert surface.covariance(asked, asked) == pytest.approx(spread * y.var(), abs=1e-5)
    assert surface.at(asked)[1] ** 2 == pytest.approx(np.diag(spread) * y.var(), abs=1e-5)


def test_a_gain_is_what_the_best_mean_rises_by_when_trainings_are_drawn():
    generator = np.random.default_rng(1)
    x = generator.random((12, 2))
    surface = Surface.learned(x, x[:, 0] + generator.normal(0, 0.1, 12), np.ones(12), 0.1)
    point = np.array([[0.95, 0.5]])
    mean, error = surface.at(point)
    own = np.concatenate([x, point])
    best = []
    for outcome in mean + np.hypot(error, surface.scatter) * generator.normal(size=4000):
        after = dataclasses.replace(
            surface,
            points=own,
            values=np.append(surface.values, outcome),
            seeds=np.ones(13),
        )
        best.append(after.at(own)[0].max())
    rise = statistics.fmean(best) - surface.at(x)[0].max()
    assert gains(surface, x, point)[0] == pytest.approx(rise, rel=0.1)


def test_short_trainings_tell_of_settings_that_none_was_trained_long():
    plan = Plan(tiny(training__epochs=9).to_toml(), tuple(BETA.table()), seeds="1..3")
    study = optuna.create_study(direction="maximize")
    for place in range(27):
        beta = 0.5 + 0.49 * place / 26
        epochs = 9 if place < 5 else 1  # only bad ones were trained to their end
        values = {epoch: beta * (1 - 0.3 ** (epoch + 1)) for epoch in range(epochs)}
        study.add_trial(
            optuna.create_trial(
                state=TrialState.COMPLETE if epochs == 9 else TrialState.PRUNED,
                params={"neuron.beta": beta},
                distributions={"neuron.beta": FloatDistribution(0.5, 0.99)},
                value=max(values.values()) if epochs == 9 else None,
                intermediate_values=values,
            )
        )
    proposed = Finals.of(plan, seed=(0,)).next(study.trials)
    assert proposed.system_attrs["fixed_params"]["neuron.beta"] > 0.9
    assert proposed.user_attrs == {SEEDS: [1], UNTIL: 9}


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
    cube = Cube.of(trials)
    points = cube.points([trial.params for trial in trials])
    assert points == pytest.approx(np.array([[0.5, 0, 1, 1], [1, 1, 0, 0.5]]))
    assert cube.settings(points[0]) == pytest.approx(params[0])
    generator = np.random.default_rng(0)
    drawn = np.concatenate([cube.drawn(generator, 50), cube.near(points[0], 0.3, generator, 50)])
    for point in drawn:
        own = cube.settings(point)
        assert 0.01 <= own["a"] <= 100 and -1 <= own["c"] <= 3
        assert cube.points([own])[0] == pytest.approx(point)


def test_what_is_minimized_has_its_finals_at_the_other_end():
    opened = run(tiny(), "1..3", 12, ("spikes",), synthetic, [0.6, 0.95, 0.5, 0.9])
    finals = [t.params["neuron.beta"] for t in opened.study.trials if is_final(t)]
    assert finals and min(finals) < 0.52
    assert best_trials(opened)[0].params["neuron.beta"] < 0.53


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
