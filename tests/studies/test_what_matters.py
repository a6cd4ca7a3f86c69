"""Which settings matter, how sure that is, and what is to be expected of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_studies import BETA, CLIP, NORM, SLOPE, made
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from studies.importances import Importance, _shares, importances
from studies.landscape import landscape
from studies.measured import Measured, measured


def height(settings):
    """A slope's place in its range, 0 to 1 on its log scale."""
    return math.log(settings["neuron.slope"] / 0.1) / math.log(300)


def noisy(scale, seed=0):
    random = np.random.default_rng(seed)
    return lambda: scale * random.standard_normal()


def both(noise):
    """β counts twice as much as the slope, on the latter's log scale: shares of 4 to 1."""

    def score(trial, settings):
        return 2 * (settings["neuron.beta"] - 0.1) / 0.89 + height(settings) + noise()

    return score


# Importances


def test_shares_are_those_of_the_variance_on_the_scale_of_the_search():
    found = importances(measured(made(both(noisy(0.0)), 80)))
    assert list(found)[:2] == ["neuron.beta", "neuron.slope"]
    assert sum(own.mean for own in found.values()) == pytest.approx(1)
    beta, slope, clip = found.values()
    # With the slope on a linear scale, Optuna's evaluator says 95 to 5.
    assert beta.mean == pytest.approx(0.8, abs=0.1) and 0 < beta.spread < 0.1
    assert slope.mean == pytest.approx(0.2, abs=0.1)
    assert clip.mean < 0.02


def test_few_noisy_trials_are_less_sure_than_many():
    few = importances(measured(made(both(noisy(0.3)), 12)))
    many = importances(measured(made(both(noisy(0.3)), 60)))
    assert few["neuron.beta"].spread > 2 * many["neuron.beta"].spread


def test_the_same_trials_have_the_same_importances_and_few_have_none():
    opened = made(both(noisy(0.1)), 12)
    assert importances(measured(opened), 3) == importances(measured(opened), 3)
    assert importances(measured(made(both(noisy(0.1)), 4))) == {}
    assert importances(measured(made(lambda *_: 0.5, 20))) == {}
    only = importances(measured(made(both(noisy(0.1)), 8, rows=(BETA, SLOPE))), 2)
    assert only.keys() == {"neuron.beta", "neuron.slope"}


def test_settings_that_only_some_trials_have_are_left_out():
    opened = made(both(noisy(0.0)), 12)
    late = opened.study.ask()
    late.suggest_float("neuron.beta", 0.1, 0.99)
    opened.study.tell(late, 0.5)
    found = importances(measured(opened), 2)
    assert found == {"neuron.beta": Importance(1.0, 0.0)}


# What trials are compared by


def halving(trial, settings):
    """Of nine, three get to three epochs and one to the end, as rungs have it."""
    number = trial.number % 9
    epochs = 1 if number > 2 else 3 if number else 9
    for epoch in range(epochs):
        trial.report(settings["neuron.beta"] + 0.01 * epoch, epoch)
    return settings["neuron.beta"] + 1 if epochs == 9 else TrialState.PRUNED


def test_where_most_are_beaten_early_all_count_by_what_they_had_then():
    opened = made(halving, 18)
    own = measured(opened)
    assert own.what == "accuracy after 1 epoch" and len(own.trials) == 18
    assert own.values == [trial.params["neuron.beta"] for trial in own.trials]
    assert next(iter(importances(own, 3))) == "neuron.beta"


def test_where_most_are_complete_their_values_count():
    own = measured(made(both(noisy(0.0)), 6))
    assert own.what == "accuracy"
    assert own.values == [trial.value for trial in own.trials]


def test_each_objective_has_its_own_values():
    opened = made(lambda trial, s: (s["neuron.beta"], 10.0), 3, objectives=("accuracy", "spikes"))
    assert measured(opened, 1).what == "spikes per sample"
    assert measured(opened, 1).values == [10.0] * 3


# Maps


def test_a_map_has_its_summit_where_the_best_settings_are():
    def hill(trial, settings):
        far = (settings["neuron.beta"] - 0.7) ** 2 / 0.05 + (height(settings) - 0.3) ** 2 / 0.05
        return math.exp(-far)

    known = landscape(measured(made(hill, 60)), ["neuron.beta", "neuron.slope"])
    first, second = np.unravel_index(known.values.argmax(), known.values.shape)
    assert 0.1 + 0.89 * known.grid[0][first] == pytest.approx(0.7, abs=0.08)
    assert known.grid[1][second] == pytest.approx(0.3, abs=0.08)
    assert known.values.max() == pytest.approx(1.0, abs=0.15)


def test_a_map_of_noise_is_nearly_flat():
    noise = noisy(1.0, seed=3)
    known = landscape(measured(made(lambda *_: noise(), 60)), ["neuron.beta", "neuron.slope"])
    assert np.ptp(known.values) < 0.5 * 4  # of about four standard deviations among 60


def test_choices_are_places_and_one_setting_is_a_line():
    def score(trial, settings):
        return float(settings["training.grad_clip"] is None) + 0.5 * (
            settings["network.norm"] == "none"
        )

    opened = made(score, 24, rows=(CLIP, NORM))
    known = landscape(measured(opened), ["training.grad_clip", "network.norm"])
    assert known.values == pytest.approx(np.array([[1.0, 1.5], [0.0, 0.5]]), abs=0.05)
    line = landscape(measured(made(both(noisy(0.0)), 20)), ["neuron.beta"])
    assert line.values.shape == (25,) and line.values[-1] > line.values[0] + 1


def test_too_few_trials_or_a_setting_that_is_not_there_have_no_map():
    opened = made(both(noisy(0.0)), 9)
    assert landscape(measured(opened), ["neuron.beta"]) is None
    opened = made(both(noisy(0.0)), 12)
    assert landscape(measured(opened), []) is None
    assert landscape(measured(opened), ["network.norm"]) is None


@pytest.mark.slow
@pytest.mark.parametrize("trials", [20, 60])
def test_whiskers_are_as_wide_as_studies_differ(trials):
    """docs/studies states these numbers; forests that differ by their seeds alone say half."""
    settings = {f"x{number}": FloatDistribution(0, 1) for number in range(6)}
    means, spreads, seeds = [], [], []
    for repetition in range(12):
        random = np.random.default_rng(repetition)
        points = random.random((trials, 6))
        values = points @ [2, 1, 0.5, 0, 0, 0] + 0.3 * random.standard_normal(trials)
        named = [dict(zip(settings, map(float, point), strict=True)) for point in points]
        own = Measured(
            [create_trial(value=0.0, params=p, distributions=settings) for p in named],
            values.tolist(),
            "",
        )
        found = importances(own)
        means.append(found["x0"].mean)
        spreads.append(found["x0"].spread)
        forests = [_shares(named, values, settings, seed)["x0"] for seed in range(6)]
        seeds.append(np.std(forests, ddof=1))
    between = np.std(means, ddof=1)
    print(f"{between:.3f} between studies, {np.mean(spreads):.3f}, seeds {np.mean(seeds):.3f}")
    assert 0.8 * between < np.mean(spreads) < 2 * between
    assert np.mean(seeds) < 0.7 * between
