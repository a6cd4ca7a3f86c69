"""Densities in place are Optuna's, bit for bit, on every kind of parameter and at its ends."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator

from studies.optuna_internals.parzen import FasterParzenEstimator

SPACE = {
    "linear": FloatDistribution(-1, 2),
    "log": FloatDistribution(1e-3, 10, log=True),
    "step": FloatDistribution(0, 2, step=0.25),
    "int": IntDistribution(1, 9),
    "int log": IntDistribution(1, 300, log=True),
    "choice": CategoricalDistribution(["a", "b", None]),
    **{f"x{index}": FloatDistribution(0, 1) for index in range(9)},
}
PARAMETERS = TPESampler()._parzen_estimator_parameters


def some(space, count):
    """So many values of each parameter, as distributions have them inside."""
    random = np.random.RandomState(count)
    prior = _ParzenEstimator({name: np.array([]) for name in space}, space, PARAMETERS)
    return prior.sample(random, count)


@pytest.mark.parametrize("names", [list(SPACE), ["choice"], ["log"], ["int", "step"]])
@pytest.mark.parametrize("trials", [0, 1, 30, 400])  # erf has two ways, by size
def test_densities_are_the_same_bits(names, trials):
    space = {name: SPACE[name] for name in names}
    observed = some(space, trials) if trials else {name: np.array([]) for name in space}
    expected, ours = (
        kind(observed, space, PARAMETERS) for kind in (_ParzenEstimator, FasterParzenEstimator)
    )
    samples = expected.sample(np.random.RandomState(0), 24)
    for given, at in zip(samples.values(), some(space, 24).values(), strict=True):
        given[::3] = at[::3]
    assert ours.log_pdf(samples).tobytes() == expected.log_pdf(samples).tobytes()


def test_what_is_out_of_range_has_no_density():
    space = {"linear": SPACE["linear"], "x0": SPACE["x0"]}
    observed = some(space, 20)
    expected, ours = (
        kind(observed, space, PARAMETERS) for kind in (_ParzenEstimator, FasterParzenEstimator)
    )
    samples = {"linear": np.array([-1.0, 2.0, -1.1, 0.5]), "x0": np.array([0.0, 1.0, 0.5, 1.5])}
    densities = ours.log_pdf(samples)
    assert np.isneginf(densities).tolist() == [False, False, True, True]
    assert densities.tobytes() == expected.log_pdf(samples).tobytes()


def test_a_kernel_far_out_of_the_range_that_has_moved_is_no_number_as_in_optuna():
    space = {"x": FloatDistribution(0, 1)}
    observed = {"x": np.array([1e20])}
    expected, ours = (
        kind(observed, space, PARAMETERS) for kind in (_ParzenEstimator, FasterParzenEstimator)
    )
    with np.errstate(all="ignore"):
        densities = ours.log_pdf({"x": np.array([0.5])})
        assert (
            np.isnan(densities).all() and np.isnan(expected.log_pdf({"x": np.array([0.5])})).all()
        )
