"""What runs are judged by, and how it is written: accuracy, or the precision of boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bsnn_tha.config import RunConfig
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.losses import LOSSES
from bsnn_tha.words import DASH


@dataclass(frozen=True)
class Merit:
    """A figure of the test split that tables of runs are made of.

    Args:
        key: in ``summary["test"]``; with ``val_`` before it, of a column of ``metrics.csv``.
        plural: key of the values of several runs.
        name: in words.
        scale: from the value to what tables show.
        digits: after the point there.

    Example:
        >>> ACCURACY.written(0.975), PRECISION.written(0.1014), PRECISION.written(None)
        ('97.50', '0.101', '–')
        >>> ACCURACY.said({"accuracy": 0.975}), PRECISION.said({"map": 0.1014})
        ('accuracy 97.50%', 'mAP 0.101')
    """

    key: str
    plural: str
    name: str
    scale: float
    digits: int

    @property
    def unit(self) -> str:
        """Of what tables show."""
        return "%" if self.scale == 100 else ""

    def of(self, test: Mapping[str, Any]) -> float:
        """The value of a run, from ``summary["test"]``; 0 where there was no box to find."""
        return float(test[self.key] or 0.0)

    def written(self, value: float | None) -> str:
        """A value, or a spread of values, as tables show it; a dash where there is none."""
        return DASH if value is None else f"{self.scale * value:.{self.digits}f}"

    def said(self, test: Mapping[str, Any]) -> str:
        """The value of a run in words, from ``summary["test"]``."""
        return f"{self.name} {self.written(self.of(test))}{self.unit}"


ACCURACY = Merit("accuracy", "accuracies", "accuracy", 100, 2)
PRECISION = Merit("map", "maps", "mAP", 1, 3)
MERITS = {merit.key: merit for merit in (ACCURACY, PRECISION)}


def merit_of(config: RunConfig, where: str) -> Merit:
    """What runs of a configuration are judged by.

    A loss of one's own is not asked, for that would run its code: it is taken to classify.

    Args:
        config: of a run.
        where: what the runs are for, for the error.

    Raises:
        InvalidValueError: neither classes nor boxes are found.
    """
    name = config.loss.name
    loss = LOSSES.find(name) if name in LOSSES else None
    if loss is None or loss.classifies:
        return ACCURACY
    if getattr(loss, "detects", False):
        return PRECISION
    raise InvalidValueError(
        f"{where} is of test accuracies or of boxes found, but {config.data.name} with loss.name "
        f"= {name!r} has neither; train it by itself with bsnn-tha train"
    )


def one_merit(configs: Iterable[RunConfig], where: Callable[[int], str]) -> Merit:
    """What all runs of a table are judged by.

    Args:
        configs: of its rows.
        where: the row of that number in words, for errors.

    Raises:
        InvalidValueError: rows that cannot stand in one table, or that cannot be judged.
    """
    merits = [merit_of(config, where(number)) for number, config in enumerate(configs)]
    for number, merit in enumerate(merits):
        if merit != merits[0]:
            raise InvalidValueError(
                f"{where(number)} is judged by its {merit.name}, but {where(0)} by its "
                f"{merits[0].name}; make a table of each"
            )
    return merits[0]


def merit_in(test: Mapping[str, Any]) -> Merit:
    """What a finished run was judged by, from its ``summary["test"]``."""
    return ACCURACY if ACCURACY.key in test else PRECISION
