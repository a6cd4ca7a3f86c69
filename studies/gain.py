"""Which training is worth most: the knowledge gradient (Frazier, Powell and Dayanik 2009).

A training at x, whose outcome is known no better than mean and variance s²(x) + σ², will move the
mean of the true value at x' by c(x, x')/√(s²(x) + σ²)·Z with Z standard normal, c the covariance
of the two now. In the end the setting with the highest mean is taken. So what the training is
expected to gain is

    E max_x' [m(x') + c(x, x')/√(s²(x) + σ²)·Z] − max_x' m(x').

Further seeds of a setting that leads, other settings near it and settings that nobody tried are
all trainings at some x, and compete for the budget on these terms.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from studies.cube import Array, Cube
from studies.surface import Surface

_QUANTILES = 16
"""Of the outcome, over which its expectation is taken."""
_RIVALS = 40
"""Tried settings of the highest means: no other can come to lead by one training."""
_ANYWHERE, _NEAR = 300, 30
"""Candidates of any settings, and near one."""
_LEADERS, _WIDTHS = 5, (0.03, 0.1, 0.25)
"""Settings near which candidates are drawn, and how near."""
_FINER = (0.02, 0.08)
"""How near to the best candidates others are drawn in the end, twice."""

Whole = Callable[[Array], Array]


def gains(surface: Surface, rivals: Array, asked: Array) -> Array:
    """What one training at each of the points asked is expected to gain, ``[asked]``.

    Args:
        surface: what is known.
        rivals: points of settings that can be taken in the end, ``[rivals, coordinates]``.
        asked: ``[asked, coordinates]``; one that is trained can be taken as well.
    """
    from scipy.special import ndtri

    means, own = surface.at(rivals)[0], surface.at(asked)
    outcome = np.sqrt(own[1] ** 2 + surface.scatter**2)
    moved = surface.covariance(rivals, asked) / outcome
    z = ndtri((np.arange(_QUANTILES) + 0.5) / _QUANTILES)[:, None]
    itself = own[0] + own[1] ** 2 / outcome * z
    others = np.max(means[:, None, None] + moved[:, None] * z, axis=0)
    best: Array = np.maximum(itself, others).mean(axis=0) - means.max()
    return best


def most_telling(
    surface: Surface,
    tried: Array,
    spent: Array,
    cube: Cube,
    whole: Whole,
    generator: np.random.Generator,
) -> Array | None:
    """The point of the cube, tried or not, where one more training gains most.

    Args:
        surface: what is known.
        tried: settings that can be taken in the end, as points of the cube, those that are being
            trained among them.
        spent: points of settings that are not to be trained again.
        cube: of settings.
        whole: makes points of the cube into points of the surface.
        generator: of the candidates.

    Returns:
        ``[coordinates]``; None if all settings of a cube are spent.
    """

    def near(points: Array, widths: tuple[float, ...]) -> Array:
        found = [cube.near(p, width, generator, _NEAR) for p in points for width in widths]
        return apart(np.concatenate(found), spent)

    rivals = tried[np.argsort(-surface.at(whole(tried))[0])[:_RIVALS]]
    anywhere = np.concatenate([tried, cube.drawn(generator, _ANYWHERE)])
    asked = np.concatenate([apart(anywhere, spent), near(rivals[:_LEADERS], _WIDTHS)])
    if not len(asked):
        return None
    for _ in _FINER:
        best = asked[np.argsort(-gains(surface, whole(rivals), whole(asked)))[:_LEADERS]]
        asked = np.concatenate([best, near(best, _FINER)])
    found: Array = asked[np.argmax(gains(surface, whole(rivals), whole(asked)))]
    return found


def apart(points: Array, others: Array) -> Array:
    """Points that are none of others: at an end of the cube many steps lead to the same one."""
    return points[~(points[:, None] == others).all(axis=2).any(axis=1)]
