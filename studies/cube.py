"""Settings as points of a cube, and points as settings.

A number is a coordinate from 0 to 1, on a log scale if it is searched on one; a choice has a
coordinate for each of its options, of which one is 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cube:
    """All settings that can be drawn.

    Args:
        distributions: of the parameters, by name.

    Example:
        >>> cube = Cube({"a": FloatDistribution(0.0, 4.0),
        ...              "b": CategoricalDistribution(("on", None))})
        >>> cube.points([{"a": 1.0, "b": None}]).tolist()
        [[0.25, 0.0, 1.0]]
        >>> cube.settings(np.array([0.75, 0.4, 0.6]))
        {'a': 3.0, 'b': None}
    """

    distributions: Mapping[str, BaseDistribution]

    @classmethod
    def of(cls, trials: Sequence[FrozenTrial]) -> Cube:
        """The one that trials were drawn from."""
        return cls({name: d for trial in trials for name, d in trial.distributions.items()})

    def points(self, settings: Sequence[Mapping[str, Any]]) -> Array:
        """Settings as ``[settings, coordinates]``; what one does not have is in the middle."""
        found = [
            column
            for name, distribution in self.distributions.items()
            for column in _columns(name, distribution, settings)
        ]
        return np.array(found, dtype=np.float64).T.reshape(len(settings), len(found))

    def settings(self, point: Array) -> dict[str, Any]:
        """The setting at a point, or next to it."""
        return {
            name: _value(distribution, point[place]) for name, distribution, place in self._places()
        }

    def drawn(self, generator: np.random.Generator, count: int) -> Array:
        """Points of any settings, ``[count, coordinates]``."""
        drawn = [
            np.eye(options := _options(distribution))[generator.integers(options, size=count)]
            if isinstance(distribution, CategoricalDistribution)
            else generator.random((count, 1))
            for distribution in self.distributions.values()
        ]
        return np.concatenate(drawn, axis=1)

    def near(self, point: Array, width: float, generator: np.random.Generator, count: int) -> Array:
        """Points of settings like one, ``[count, coordinates]``.

        Args:
            point: ``[coordinates]``.
            width: standard deviation of numbers, and the share of choices that are drawn anew.
            generator: of random numbers.
            count: how many.
        """
        steps = width * generator.standard_normal((count, len(point)))
        # Steps in half of the directions: settings that are right stay so in some.
        found = np.clip(point + steps * (generator.random(steps.shape) < 0.5), 0, 1)
        for _, distribution, place in self._places():
            if isinstance(distribution, CategoricalDistribution):
                anew, options = generator.random(count) < width, _options(distribution)
                other = np.eye(options)[generator.integers(options, size=count)]
                found[:, place] = np.where(anew[:, None], other, point[place])
        return found

    def _places(self) -> Iterator[tuple[str, BaseDistribution, slice]]:
        first = 0
        for name, distribution in self.distributions.items():
            last = first + _options(distribution)
            yield name, distribution, slice(first, last)
            first = last


def columns(name: str, trials: Sequence[FrozenTrial]) -> list[list[float]]:
    """One setting of all trials: a coordinate, or one for each option of a choice."""
    distribution = next(t.distributions[name] for t in trials if name in t.params)
    return _columns(name, distribution, [trial.params for trial in trials])


def _options(distribution: BaseDistribution) -> int:
    """Coordinates of one parameter."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    return 1


def _columns(
    name: str, distribution: BaseDistribution, settings: Sequence[Mapping[str, Any]]
) -> list[list[float]]:
    if isinstance(distribution, CategoricalDistribution):
        return [
            [float(own.get(name, choice) == choice) for own in settings]
            for choice in distribution.choices
        ]
    low, span = _scale(distribution)
    scaled = np.log if _is_log(distribution) else np.asarray
    return [[(float(scaled(s[name])) - low) / span if name in s else 0.5 for s in settings]]


def _value(distribution: BaseDistribution, place: Array) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(place.argmax())]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, span = _scale(distribution)
    value = low + span * float(place[0])
    value = float(np.exp(value)) if _is_log(distribution) else value
    if distribution.step is not None and not _is_log(distribution):
        value = distribution.low + distribution.step * round(
            (value - distribution.low) / distribution.step
        )
    value = min(max(value, distribution.low), distribution.high)
    return round(value) if isinstance(distribution, IntDistribution) else value


def _scale(distribution: BaseDistribution) -> tuple[float, float]:
    """Where a number's coordinate is 0, and how far from there it is 1."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    if distribution.log:
        low, high = float(np.log(low)), float(np.log(high))
    return low, (high - low) or 1.0


def _is_log(distribution: BaseDistribution) -> bool:
    return isinstance(distribution, FloatDistribution | IntDistribution) and distribution.log
