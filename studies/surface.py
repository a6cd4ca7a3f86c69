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
_JITTER = 1e-10
"""Added to the noise, so that settings that were tried twice do no harm."""


def coordinates(trials: Sequence[FrozenTrial]) -> Array:
    """Trials as points of a cube, ``[trials, coordinates]``.

    Numbers go from 0 to 1, on a log scale where they are searched on one; choices are one
    coordinate for each option. What a trial does not have is in the middle.
    """
    names = dict.fromkeys(name for trial in trials for name in trial.params)
    found = [column for name in names for column in columns(name, trials)]
    return np.array(found, dtype=np.float64).T.reshape(len(trials), len(found))


class Surface:
    """How alike accuracies of neighbouring settings are, learned from those of a study.

    Args:
        points: ``[settings, coordinates]``.
        means: what was measured, ``[settings]``.
        variances: of each mean about the truth, ``[settings]``.
    """

    def __init__(self, points: Array, means: Array, variances: Array) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern

        self._centre, self._scale = float(means.mean()), float(means.std()) or 1.0
        lengths = np.ones(points.shape[1])
        kernel = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(lengths, (0.1, 30.0), nu=2.5)
        process = GaussianProcessRegressor(kernel, alpha=variances / self._scale**2)
        with warnings.catch_warnings():  # a parameter without influence has a length at its bound
            warnings.simplefilter("ignore", ConvergenceWarning)
            process.fit(points, (means - self._centre) / self._scale)
        self._prior: Array = process.kernel_(points)

    def posterior(self, means: Array, variances: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the true values, of these measurements of the points.

        With prior covariance K, noise N = diag(variances) and measurements y, the mean is
        K (K + N)⁻¹ y and the covariance K − K (K + N)⁻¹ K.
        """
        from scipy.linalg import cho_factor, cho_solve

        noisy = self._prior + np.diag(variances / self._scale**2 + _JITTER)
        factor = cho_factor(noisy, lower=True)
        mean = self._prior @ cho_solve(factor, (means - self._centre) / self._scale)
        explained = np.sum(self._prior * cho_solve(factor, self._prior), axis=0)
        variance = np.maximum(np.diag(self._prior) - explained, 0.0)
        return mean * self._scale + self._centre, np.sqrt(variance) * self._scale


def posterior(points: Array, means: Array, variances: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of the true values at the points that were measured.

    Args:
        points, means, variances: as of :class:`Surface`.
    """
    return Surface(points, means, variances).posterior(means, variances)


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
