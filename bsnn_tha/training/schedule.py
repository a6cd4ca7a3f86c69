"""The learning rate as a pure function of the training iteration."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from bsnn_tha.config import OptimizerSection
from bsnn_tha.errors import InvalidValueError

Schedule = Callable[[int, float], float]
"""Share of the initial learning rate after so many iterations, of so many in an epoch."""


def schedule_of(settings: OptimizerSection, epochs: int) -> Schedule | None:
    """The schedule that ``[optimizer]`` names; None if the learning rate stays.

    Args:
        settings: the optimizer's.
        epochs: of the whole training, where some schedules end.

    Raises:
        InvalidValueError: steps that are no epochs and rates.

    Example:
        >>> share = schedule_of(OptimizerSection(lr=0.4, schedule="steps", steps={"5": 0.1}), 10)
        >>> share(49, 10), share(50, 10)
        (1.0, 0.25)
    """
    if settings.steps:
        return step_factor(settings.lr, settings.steps)
    if settings.schedule in ("cosine-to-zero", "one-cycle"):
        factor = to_zero_factor if settings.schedule == "cosine-to-zero" else one_cycle_factor
        return lambda iteration, in_epoch: factor(iteration, epochs * in_epoch, settings.warmup)
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


def to_zero_factor(iteration: int, iterations: float, warmup: float) -> float:
    """Share of the highest learning rate: a linear rise, then half a cosine down to zero.

    Binary weights keep flipping their signs while the rate is high; what is measured is the
    network that is left when it has reached zero.

    Args:
        iteration: γ ≥ 0.
        iterations: of the whole training.
        warmup: share of the training, in [0, 1), in which the rate rises.

    Example:
        >>> [round(to_zero_factor(step, 100, 0.1), 3) for step in (0, 4, 9, 10, 55, 100)]
        [0.1, 0.5, 1.0, 1.0, 0.5, 0.0]
    """
    rise = warmup * iterations
    if iteration < rise:
        return min(1.0, (iteration + 1) / rise)
    done = min(1.0, (iteration - rise) / (iterations - rise))
    return 0.5 * (1 + math.cos(math.pi * done))


def one_cycle_factor(iteration: int, iterations: float, warmup: float) -> float:
    """Share of the highest learning rate: from 1/25 of it up and down to zero, by cosines.

    Smith and Topin (2018), with the library's first rate and without cycling momentum.

    Args:
        iteration, iterations, warmup: as of :func:`to_zero_factor`.

    Example:
        >>> [round(one_cycle_factor(step, 100, 0.3), 3) for step in (0, 15, 30, 65, 100)]
        [0.04, 0.52, 1.0, 0.5, 0.0]
    """
    rise = warmup * iterations
    if iteration < rise:
        low = 1 / 25
        return low + (1 - low) * 0.5 * (1 - math.cos(math.pi * iteration / rise))
    return to_zero_factor(iteration, iterations, warmup)
