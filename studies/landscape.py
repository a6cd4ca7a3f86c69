"""What is to be expected of one or two settings, whatever the others are.

A Gaussian process learns what trials are worth from these settings alone: neighbours have similar
values, and all that the other settings and the seeds do is noise, of a size that is learned as
well. Where it finds nothing but noise, its surface is flat.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution

from studies.cube import columns
from studies.importances import common_space
from studies.measured import Measured

Array = NDArray[np.float64]
AT_LEAST = 10
"""Trials below which a surface says nothing."""
MOST = 300
"""Trials that are learned from, spread over the study: time grows with their cube."""
STEPS = 25
"""Places along a setting that is a number."""


@dataclass(frozen=True)
class Landscape:
    """Expected values on a grid.

    Args:
        names: of one or two settings.
        grid: for each, places from the lowest to the highest, 0 to 1; of a choice, a number
            for each option.
        values: ``[places]``, or ``[places of the first, places of the second]``.
    """

    names: tuple[str, ...]
    grid: tuple[Array, ...]
    values: Array


def landscape(measured: Measured, names: Sequence[str]) -> Landscape | None:
    """What trials tell of one or two of their settings; None if they are too few.

    Args:
        measured: trials and what they are compared by.
        names: of settings that all trials have.
    """
    trials, space = measured.trials, common_space(measured.trials)
    if len(trials) < AT_LEAST or len(set(measured.values)) == 1:
        return None
    if not names or not set(names) <= space.keys():
        return None
    kept = np.unique(np.linspace(0, len(trials) - 1, min(MOST, len(trials))).astype(int))
    points = [column for name in names for column in columns(name, [trials[i] for i in kept])]
    predict = _learned(np.array(points).T, np.array(measured.values)[kept])
    grid = [_places(space[name]) for name in names]
    mesh = np.meshgrid(*(range(len(own)) for own in grid), indexing="ij")
    asked = [
        _coordinates(own, space[name])[which.ravel()]
        for name, own, which in zip(names, grid, mesh, strict=True)
    ]
    values = predict(np.concatenate(asked, axis=1)).reshape(mesh[0].shape)
    return Landscape(tuple(names), tuple(grid), values)


def _places(distribution: BaseDistribution) -> Array:
    if isinstance(distribution, CategoricalDistribution):
        return np.arange(len(distribution.choices), dtype=np.float64)
    return np.linspace(0, 1, STEPS)


def _coordinates(places: Array, distribution: BaseDistribution) -> Array:
    """Places of a grid as the trials' coordinates, ``[places, coordinates]``."""
    if isinstance(distribution, CategoricalDistribution):
        return np.eye(len(places))
    return places[:, None]


def _learned(points: Array, values: Array) -> Callable[[Array], Array]:
    """What predicts values, ``[points]``, at ``[points, coordinates]``."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    centre, scale = values.mean(), values.std()
    lengths = np.full(points.shape[1], 0.5)
    kernel = ConstantKernel(1.0, (1e-2, 1e1)) * Matern(lengths, (0.15, 5.0), nu=2.5)
    process = GaussianProcessRegressor(kernel + WhiteKernel(0.3, (1e-4, 2.0)))
    with warnings.catch_warnings():  # a setting without influence has a length at its bound
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(points, (values - centre) / scale)
    return lambda asked: process.predict(asked) * scale + centre
