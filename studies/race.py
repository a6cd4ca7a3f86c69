"""Seeds as instances: between how many and how many seeds a setting gets, and who gets more.

Every setting is trained from the same seeds, s, s + 1, …. With ``1..5`` each has one, and the
last trials of a study are further seeds (:mod:`studies.finals`) of settings that may be the best:

    the next seed goes to the highest  m + 2·e,  the best in the end has the highest  m − e,

m and e the mean and standard error of a setting's true accuracy, by its own seeds and its
neighbours (:mod:`studies.surface`), with σ, the scatter between seeds, pooled over all settings.
Optimism decides what to look at again and pessimism what to take, as in the search for the best
arm of a bandit with a fixed budget: seeds go where they may change the answer, a setting that is
sure to be worse gets none, and no lucky seed is taken at its word.

Why not while a setting is new? Until the end it is not known what it has to beat; and each seed
that an early leader gets is a setting that is not tried. Why not Optuna's Wilcoxon pruner, which
is made for instances? It compares ranks on common seeds, and n of them cannot give a p-value
below 2⁻ⁿ: no setting would be given up before its fourth seed, and the budget would pay for a
quarter of the settings. Most are much worse than the leader, which one seed tells if the scatter
is known; and it is, since it is about the same for all. Ranks would be the better choice if some
seeds were hard for every setting.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from studies.errors import StudyError

Array = NDArray[np.float64]
INSTANCES = "instances"
"""User attribute of a trial: what it scored, seed by seed."""
SCATTER = 0.015
"""Standard deviation between seeds as long as a study has not shown its own: of what has been
measured here, 0.01 to 0.026."""
WEIGHT = 2
"""Degrees of freedom that this counts as."""


@dataclass(frozen=True)
class Race:
    """Between how many and how many seeds a setting gets.

    Args:
        least, most: seeds; equal for a fixed number.
        z: of the lower bound, by which the best is chosen, in standard errors.
        hope: of the upper bound, by which finals are given, likewise.
        share: of a study's trials that are finals.
    """

    least: int = 1
    most: int = 1
    z: float = 1.0
    hope: float = 2.0
    share: float = 0.2

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise StudyError(
                "seeds per trial must be a number from 1, or two as in 1..5, but got "
                f"{self.least}..{self.most}"
            )

    @classmethod
    def parse(cls, text: str) -> Race:
        """From ``"5"`` or ``"1..5"``.

        Example:
            >>> Race.parse("1..5")
            Race(least=1, most=5, z=1.0, hope=2.0, share=0.2)
        """
        least, dots, most = text.partition("..")
        if not least.isdecimal() or (dots and not most.isdecimal()):
            raise StudyError(
                f"seeds per trial must be a number from 1, or two as in 1..5, but got {text!r}"
            )
        return cls(int(least), int(most or least))

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least}..{self.most}"

    def finals(self, trials: int) -> int:
        """How many of so many trials are further seeds of settings that were tried before.

        Example:
            >>> Race(1, 5).finals(100), Race(3, 3).finals(100)
            (20, 0)
        """
        return int(self.share * trials) if self.most > self.least else 0

    def next_seed(self, mean: Array, error: Array, seeds: Sequence[int]) -> int:
        """The setting that is trained from another seed; its place.

        Args:
            mean, error: of each setting, by its own seeds and its neighbours, the more the better.
            seeds: that each has had or is being trained from; one has fewer than ``most``.

        Example:
            >>> mean, error = np.array([0.95, 0.94, 0.90]), np.array([0.002, 0.01, 0.01])
            >>> Race(1, 5).next_seed(mean, error, [4, 1, 1])
            1
        """
        upper = mean + self.hope * error
        upper[np.asarray(seeds) >= self.most] = -np.inf
        return int(np.argmax(upper))

    def lower(self, scores: Sequence[float], sigma: float) -> float:
        """Lower bound of a setting's accuracy."""
        return statistics.fmean(scores) - self.z * sigma / math.sqrt(len(scores))


def scatter(settings: Iterable[Sequence[float]]) -> float:
    """Standard deviation between seeds of one setting, pooled over settings.

    σ² = (ν₀·σ₀² + Σ Σ (x − mean)²) / (ν₀ + Σ (n − 1)), with σ₀ = :data:`SCATTER` and
    ν₀ = :data:`WEIGHT`.

    Example:
        >>> scatter([[0.9]]), round(scatter([[0.90, 0.92], [0.80, 0.78], [0.7]] * 100), 4)
        (0.015, 0.0142)
    """
    squares, freedom = WEIGHT * SCATTER**2, float(WEIGHT)
    for scores in settings:
        if len(scores) > 1:
            mean = statistics.fmean(scores)
            squares += sum((score - mean) ** 2 for score in scores)
            freedom += len(scores) - 1
    return math.sqrt(squares / freedom)
