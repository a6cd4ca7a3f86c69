"""The learning rate as a pure function of the training iteration."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from bsnn_tha.config import OptimizerSection
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.suggest import quoted

Schedule = Callable[[int, float], float]
"""Share of the initial learning rate after so many iterations, of so many in an epoch."""


def schedule_of(settings: OptimizerSection) -> Schedule | None:
    """The schedule that ``[optimizer]`` names; None if the learning rate stays.

    Raises:
        InvalidValueError: steps without their schedule, or the schedule without steps, or
            steps that are no epochs and rates.

    Example:
        >>> share = schedule_of(OptimizerSection(lr=0.4, schedule="steps", steps={"5": 0.1}))
        >>> share(49, 10), share(50, 10)
        (1.0, 0.25)
    """
    if (settings.schedule == "steps") != bool(settings.steps):
        raise InvalidValueError(
            "optimizer.schedule = 'steps' and optimizer.steps go together, but got "
            f"schedule = {settings.schedule!r} with steps = {quoted(settings.steps)}"
        )
    if settings.steps:
        return step_factor(settings.lr, settings.steps)
    if settings.schedule == "cosine":
        return lambda iteration, in_epoch: cosine_factor(iteration, settings.period * in_epoch)
    return None


def step_factor(lr: float, steps: Mapping[str, float]) -> Schedule:
    """A learning rate that is set anew after some epochs, as a share of the first one.

    Args:
        lr: the first one.
        steps: after how many epochs, which rate.
    """
    for epochs, rate in steps.items():
        if not (epochs.isdecimal() and int(epochs) > 0 and 0 < rate < math.inf):
            raise InvalidValueError(
                "optimizer.steps must have numbers of epochs of at least 1 and rates above 0, "
                f"but got {epochs} = {rate:g}"
            )
    shares = sorted((int(epochs), rate / lr) for epochs, rate in steps.items())

    def factor(iteration: int, in_epoch: float) -> float:
        return next(
            (share for after, share in reversed(shares) if iteration >= after * in_epoch), 1.0
        )

    return factor


def cosine_factor(iteration: int, period: float) -> float:
    """Share of the initial learning rate (Eshraghian and Lu 2022, Eq. 28).

    η[γ] / η = ½ (1 + cos(π γ / period)). The published code steps this every
    iteration without restarting it, so after one period the rate climbs back
    along the cosine; the paper's text calls that warm restarts.

    Args:
        iteration: γ ≥ 0.
        period: in iterations, > 0 (10 epochs in the paper).

    Example:
        >>> [round(cosine_factor(step, period=100), 3) for step in (0, 50, 100, 150, 200)]
        [1.0, 0.5, 0.0, 0.5, 1.0]
    """
    return 0.5 * (1 + math.cos(math.pi * iteration / period))
