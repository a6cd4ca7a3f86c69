"""Seeds as instances: between how many and how many seeds a setting gets.

With ``3`` every setting is trained from the seeds s, s + 1, s + 2. With ``1..8`` each has one, s,
and the last trials of a study, its finals (:mod:`studies.finals`), are other seeds of settings
that may be the best, or new settings that may be better. The best in the end has the highest
m − e, m and e the mean and standard error of a setting's true accuracy, by its own trainings and
its neighbours' (:mod:`studies.surface`): no lucky seed is taken at its word.

Why not while a setting is new? Until the end it is not known what it has to beat; and each seed
that an early leader gets is a setting that is not tried. Why not Optuna's Wilcoxon pruner, which
is made for instances? It compares ranks on common seeds, and n of them cannot give a p-value
below 2⁻ⁿ: no setting would be given up before its fourth seed, and the budget would pay for a
quarter of the settings. Most are much worse than the leader, which one seed tells if the scatter
is known; and it is, since it is about the same for all. Ranks would be the better choice if some
seeds were hard for every setting.
"""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from studies.errors import StudyError
from studies.rungs import Rungs

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
        odds: how many times as many epochs finals take as all other trials.
    """

    least: int = 1
    most: int = 1
    z: float = 1.0
    odds: int = 2

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
            Race(least=1, most=5, z=1.0, odds=2)
        """
        least, dots, most = text.partition("..")
        if not least.isdecimal() or (dots and not most.isdecimal()):
            raise StudyError(
                f"seeds per trial must be a number from 1, or two as in 1..5, but got {text!r}"
            )
        return cls(int(least), int(most or least))

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least}..{self.most}"

    def finals(self, trials: int, epochs: int, rungs: Rungs | None = None) -> int:
        """How many of so many trials are finals, which take two thirds of all epochs.

        Args:
            trials: of a study.
            epochs: of a whole training, which every final is.
            rungs: at which other trials pause, if they do.

        Example:
            >>> Race(1, 8).finals(90, 9), Race(1, 8).finals(90, 9, Rungs.halving(9))
            (60, 30)
            >>> Race(3, 3).finals(100, 9)
            0
        """
        if self.most == self.least:
            return 0

        def too_many(finals: int) -> bool:
            settings = trials - finals
            others = rungs.epochs(settings) if rungs else settings * epochs
            return finals * epochs > self.odds * others

        return bisect.bisect_left(range(trials), True, key=too_many) - 1


class Scatter(NamedTuple):
    """Standard deviation between seeds of one setting, and how many degrees of freedom tell it."""

    deviation: float
    freedom: float


def scatter(settings: Iterable[Sequence[float]]) -> Scatter:
    """Between seeds, pooled over settings.

    σ² = (ν₀·σ₀² + Σ Σ (x − mean)²) / (ν₀ + Σ (n − 1)), with σ₀ = :data:`SCATTER` and
    ν₀ = :data:`WEIGHT`; the denominator are the degrees of freedom.

    Example:
        >>> scatter([[0.9]])
        Scatter(deviation=0.015, freedom=2.0)
        >>> found = scatter([[0.90, 0.92], [0.80, 0.78], [0.7]] * 100)
        >>> round(found.deviation, 4), found.freedom
        (0.0142, 202.0)
    """
    squares, freedom = WEIGHT * SCATTER**2, float(WEIGHT)
    for scores in settings:
        if len(scores) > 1:
            mean = statistics.fmean(scores)
            squares += sum((score - mean) ** 2 for score in scores)
            freedom += len(scores) - 1
    return Scatter(math.sqrt(squares / freedom), freedom)
