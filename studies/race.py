"""Seeds as instances: a setting is trained from another seed while it may still be the best.

Accuracies of one setting scatter by 1 to 2.6 points between seeds here, and settings differ by
less: whoever takes the best of many single trainings takes the luckiest. So every setting is
trained from the same seeds, s, s + 1, …, one after the other, and stops when it is beaten:

    mean  <  mean of the leader.

The leader is the setting with the highest lower bound, mean − z·σ/√n, n the seeds it has had
and σ the scatter between seeds, pooled over all settings of the study: one lucky seed leads
nobody. What is the best in the end is told by neighbouring settings as well
(:mod:`studies.surface`).

Why not Optuna's Wilcoxon pruner, which is made for instances? It compares ranks on common
seeds, and n of them cannot give a p-value below 2⁻ⁿ: no setting would be given up before its
fourth seed, and the budget would pay for a quarter of the settings. Most are much worse than
the leader, which one seed tells if the scatter is known; and it is, since it is about the same
for all. Ranks would be the better choice if some seeds were hard for every setting.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from studies.errors import StudyError

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
        z: of the lower bound, in standard errors.
    """

    least: int = 1
    most: int = 1
    z: float = 1.0

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
            Race(least=1, most=5, z=1.0)
        """
        least, dots, most = text.partition("..")
        if not least.isdecimal() or (dots and not most.isdecimal()):
            raise StudyError(
                f"seeds per trial must be a number from 1, or two as in 1..5, but got {text!r}"
            )
        return cls(int(least), int(most or least))

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least}..{self.most}"

    def goes_on(self, own: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
        """Whether a setting gets another seed.

        Args:
            own: what it scored so far, the more the better.
            others: what the other settings of the study scored.

        Example:
            >>> others = [[0.95, 0.96, 0.955, 0.965], [0.80]]
            >>> Race(1, 4).goes_on([0.95], others), Race(1, 4).goes_on([0.96], others)
            (False, True)
        """
        if len(own) < self.least:
            return True
        if len(own) >= self.most:
            return False
        sigma = scatter([own, *others])
        leader = max(others, key=lambda scores: self.lower(scores, sigma), default=own)
        return statistics.fmean(own) >= statistics.fmean(leader)

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
