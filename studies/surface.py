"""What a study has learned of any setting from all settings: a Gaussian process over them.

Neighbouring settings have similar accuracies. One lucky training among many does not make a
good setting, and a good setting has good neighbours: the posterior at a setting that was trained
from one seed knows more than that seed. Scatter between seeds is noise, whose variance is divided
by the number of seeds a setting has had.

With points x of D coordinates, the covariance of true values is that of what settings do together
and of what each does alone,

    k(x, x') = a·κ(√Σ_d (x_d − x'_d)²/ℓ_d²) + b/D·Σ_d κ(|x_d − x'_d|/λ_d),
    κ(s) = (1 + r + r²/3)·exp(−r), r = √5·s   (Matérn 5/2).

With noise N = diag(σ²/n_i) and measurements y, the posterior at x* has

    mean K* (K + N)⁻¹ y,   covariance K** − K* (K + N)⁻¹ K*ᵀ.

a, b, ℓ, λ and σ² are where the marginal likelihood times a prior is highest. The prior is what lets
a hundred noisy trainings tell anything of seventeen settings: logs are normal, of a about −1 and b
about 0 with a deviation of 1.5, of ℓ about log(√D/4), as the diagonal of the cube grows, and λ
about log(1/2) with 1, and of σ² about what seeds of the same settings showed, with √(2/ν), as the
log of a variance that was estimated with ν degrees of freedom has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_JITTER = 1e-8
"""Added to the noise, so that settings that were tried twice do no harm."""
_STEPS = 60
"""Of the search for the likeliest lengths."""


@dataclass(frozen=True)
class Likeness:
    """How alike neighbours are, in units of the measurements' standard deviation.

    Args:
        together, alone: a and b, variances of true values.
        lengths, own_lengths: ℓ and λ, ``[coordinates]``.
        noise: σ², variance between seeds.
    """

    together: float
    alone: float
    lengths: Array
    own_lengths: Array
    noise: float

    @classmethod
    def of_logs(cls, logs: Array) -> Likeness:
        """From logs of all, in their order."""
        values = np.exp(logs)
        count = (len(logs) - 3) // 2
        lengths, own = values[2 : 2 + count], values[2 + count : -1]
        return cls(float(values[0]), float(values[1]), lengths, own, float(values[-1]))

    @property
    def variance(self) -> float:
        """Of a true value, before anything was measured."""
        return self.together + self.alone

    def covariance(self, one: Array, other: Array) -> Array:
        """Of true values at two sets of points, ``[points of one, points of the other]``."""
        apart = np.abs(one[:, None] - other)
        both = self.together * _matern(np.sqrt(apart**2 @ self.lengths**-2))
        return both + self.alone * _matern(apart / self.own_lengths).mean(axis=-1)


@dataclass(frozen=True)
class Surface:
    """True values as far as measurements tell them.

    Args:
        points: ``[measurements, coordinates]``.
        values: what was measured there, ``[measurements]``: each a mean over seeds.
        seeds: over how many, ``[measurements]``.
        likeness: of neighbours, of values less the centre and in units of the scale.
        centre, scale: of the values.
    """

    points: Array
    values: Array
    seeds: Array
    likeness: Likeness
    centre: float
    scale: float

    @classmethod
    def learned(
        cls, points: Array, values: Array, seeds: Array, scatter: float, freedom: float = 8.0
    ) -> Surface:
        """The most probable one.

        Args:
            points, values, seeds: measurements.
            scatter: standard deviation between seeds that is expected.
            freedom: degrees of freedom that it was estimated with.
        """
        centre, scale = float(values.mean()), max(float(values.std()), scatter)
        expected, doubt = (scatter / scale) ** 2, float(np.sqrt(2 / freedom))
        likeness = _likeliest(points, (values - centre) / scale, seeds, expected, doubt)
        return cls(points, values, seeds, likeness, centre, scale)

    @property
    def scatter(self) -> float:
        """Standard deviation between seeds of one setting, as it was learned."""
        return self.scale * float(np.sqrt(self.likeness.noise))

    def at(self, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the true values at points, ``[points]`` each."""
        whitened = self._whitened(points)
        mean = whitened.T @ self._told
        variance = self.likeness.variance - np.sum(whitened**2, axis=0)
        deviation = np.sqrt(np.maximum(variance, 0.0))
        return mean * self.scale + self.centre, deviation * self.scale

    def covariance(self, one: Array, other: Array) -> Array:
        """Of the true values at two sets of points, ``[points of one, points of the other]``."""
        prior = self.likeness.covariance(one, other)
        return (prior - self._whitened(one).T @ self._whitened(other)) * self.scale**2

    def expecting(self, points: Array) -> Surface:
        """As it will be when trainings at points, from one seed, measure what is expected."""
        return replace(
            self,
            points=np.concatenate([self.points, points]),
            values=np.concatenate([self.values, self.at(points)[0]]),
            seeds=np.concatenate([self.seeds, np.ones(len(points))]),
        )

    @cached_property
    def _factor(self) -> Array:
        """L of the Cholesky decomposition K + N = L Lᵀ."""
        noise = self.likeness.noise / self.seeds + _JITTER
        prior = self.likeness.covariance(self.points, self.points)
        return np.asarray(np.linalg.cholesky(prior + np.diag(noise)), dtype=np.float64)

    @cached_property
    def _told(self) -> Array:
        """L⁻¹ y."""
        from scipy.linalg import solve_triangular

        values = (self.values - self.centre) / self.scale
        told: Array = solve_triangular(self._factor, values, lower=True)
        return told

    def _whitened(self, points: Array) -> Array:
        """L⁻¹ K*ᵀ, ``[measurements, points]``."""
        from scipy.linalg import solve_triangular

        prior = self.likeness.covariance(self.points, points)
        whitened: Array = solve_triangular(self._factor, prior, lower=True)
        return whitened


def _matern(distance: Array) -> Array:
    """κ."""
    r = np.sqrt(5) * distance
    return (1 + r + r * r / 3) * np.exp(-r)


def _matern_slope(distance: Array) -> Array:
    """−κ'(s)/s, which is finite at 0."""
    r = np.sqrt(5) * distance
    return (5 / 3) * (1 + r) * np.exp(-r)


def _likeliest(points: Array, values: Array, seeds: Array, noise: float, doubt: float) -> Likeness:
    """The most probable likeness, for values of variance 1 and a noise that is expected."""
    from scipy.optimize import minimize

    count = points.shape[1]
    lengths = np.full(count, np.log(np.sqrt(count) / 4)), np.full(count, np.log(0.5))
    usual = np.concatenate([[-1.0, 0.0], *lengths, [np.log(noise)]])
    spread = np.concatenate([[1.5, 1.5], np.ones(2 * count), [doubt]])
    apart = np.abs(points[:, None] - points)
    squares = apart**2

    def cost(logs: Array) -> tuple[float, Array]:
        """−log(likelihood · prior), but for a constant, and its slope."""
        from scipy.linalg import cho_solve

        like = Likeness.of_logs(logs)
        distance, own = np.sqrt(squares @ like.lengths**-2), apart / like.own_lengths
        together = like.together * _matern(distance)
        alone = like.alone * _matern(own).mean(axis=-1)
        scattered = like.noise / seeds
        factor = np.linalg.cholesky(together + alone + np.diag(scattered + _JITTER))
        inverse = cho_solve((factor, True), np.eye(len(values)))
        weights = inverse @ values
        away = (logs - usual) / spread
        found = 0.5 * values @ weights + np.log(np.diag(factor)).sum() + 0.5 * away @ away
        # By each log θ it is ½ tr(((K + N)⁻¹ − w wᵀ) ∂(K + N)/∂ log θ), with w = (K + N)⁻¹ y.
        half = 0.5 * (inverse - np.outer(weights, weights))
        slopes = [
            [np.sum(half * together), np.sum(half * alone)],
            np.tensordot(half * like.together * _matern_slope(distance), squares, 2)
            * like.lengths**-2,
            np.tensordot(half, _matern_slope(own) * own**2, 2) * (like.alone / count),
            [np.sum(np.diag(half) * scattered)],
        ]
        return float(found), np.concatenate(slopes) + away / spread

    bounds = list(zip(usual - 4 * spread, usual + 4 * spread, strict=True))
    options: dict[str, Any] = {"maxiter": _STEPS}
    found = minimize(cost, usual, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return Likeness.of_logs(found.x)
