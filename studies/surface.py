"""What a study has learned of a setting from all settings: a Gaussian process over them.

Neighbouring settings have similar accuracies. One lucky training among many does not make a
good setting, and a good setting has good neighbours: the posterior at a trial that was trained
from one seed knows more than that seed. The scatter between seeds is the noise, its variance
divided by the number of seeds a setting has had.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

Array = NDArray[np.float64]
AT_LEAST = 10
"""Trials below which neighbours say nothing."""


def coordinates(trials: Sequence[FrozenTrial]) -> Array:
    """Trials as points of a cube, ``[trials, coordinates]``.

    Numbers go from 0 to 1, on a log scale where they are searched on one; choices are one
    coordinate for each option. What a trial does not have is in the middle.
    """
    names = dict.fromkeys(name for trial in trials for name in trial.params)
    found = [column for name in names for column in columns(name, trials)]
    return np.array(found, dtype=np.float64).T.reshape(len(trials), len(found))


def posterior(points: Array, means: Array, variances: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of the true values at the points that were measured.

    Args:
        points: ``[trials, coordinates]``.
        means: what was measured, ``[trials]``.
        variances: of each mean about the truth, ``[trials]``.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    centre, scale = means.mean(), means.std() or 1.0
    lengths = np.ones(points.shape[1])
    kernel = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(lengths, (0.1, 30.0), nu=2.5)
    process = GaussianProcessRegressor(kernel, alpha=variances / scale**2)
    with warnings.catch_warnings():  # a parameter without influence has a length at its bound
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(points, (means - centre) / scale)
        mean, deviation = process.predict(points, return_std=True)
    return mean * scale + centre, deviation * scale


def columns(name: str, trials: Sequence[FrozenTrial]) -> list[list[float]]:
    """One setting of all trials: a coordinate, or one for each option of a choice."""
    distribution = next(t.distributions[name] for t in trials if name in t.params)
    if isinstance(distribution, CategoricalDistribution):
        return [
            [float(trial.params.get(name, choice) == choice) for trial in trials]
            for choice in distribution.choices
        ]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    scaled = np.log if distribution.log else np.asarray
    span = float(scaled(high) - scaled(low)) or 1.0
    return [
        [
            float(scaled(trial.params[name]) - scaled(low)) / span if name in trial.params else 0.5
            for trial in trials
        ]
    ]
