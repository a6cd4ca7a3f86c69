"""The temporal coding task (Eshraghian and Lu 2022, Section 4.1).

One fixed Poisson-like input pattern; one output neuron whose membrane should
rise linearly to a peak just above its threshold at a target step, fire there,
and rest at zero afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from bsnn_tha.data.dataset import Dataset
from bsnn_tha.errors import InvalidValueError


@dataclass(frozen=True)
class RepeatedSplit:
    """One sample, presented again and again.

    Args:
        input: ``[time, features]``.
        targets: ``[time, outputs]``.
        length: presentations per epoch.
    """

    input: Tensor
    targets: Tensor
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return tuple(
            trace.unsqueeze(1).expand(-1, len(indices), -1) for trace in (self.input, self.targets)
        )  # type: ignore[return-value]


def membrane_target(num_steps: int, target_step: int, peak: float) -> Tensor:
    """The output membrane's target: a ramp from 0 to ``peak``, then 0.

    Args:
        num_steps: T.
        target_step: step of the peak, from 0.
        peak: in the paper 1.1 times the final threshold.

    Returns:
        ``[time]``, float32.

    Example:
        >>> membrane_target(5, target_step=2, peak=4.0)
        tensor([0., 2., 4., 0., 0.])
    """
    if not 0 < target_step < num_steps:
        raise InvalidValueError(
            f"target_step must be between 1 and num_steps - 1 = {num_steps - 1}, "
            f"but got target_step={target_step}"
        )
    steps = torch.arange(num_steps, dtype=torch.float32)
    return torch.where(steps <= target_step, steps * (peak / target_step), 0.0)


def load_temporal_coding(
    *,
    seed: int,
    num_steps: int,
    peak: Annotated[float, Field(gt=0, allow_inf_nan=False)],
    target_step: int = 75,
    inputs: Annotated[int, Field(ge=1)] = 100,
    iterations: Annotated[int, Field(ge=1)] = 1000,
) -> Dataset:
    """The task with its input pattern drawn from ``seed``.

    As in the published notebook every input and time step gets a firing
    probability of its own, uniform in [0, 1], and the pattern is drawn once.

    Args:
        seed: of the input pattern.
        num_steps: T, 100 in the paper.
        peak: of the target membrane, in units of the threshold's.
        target_step: 75 in the paper.
        inputs: number of input neurons.
        iterations: presentations per epoch.

    Returns:
        A data set with a training split only: input ``[time, batch, inputs]``,
        target membrane ``[time, batch, 1]``.
    """
    generator = torch.Generator().manual_seed(seed)
    probability = torch.rand(num_steps, inputs, generator=generator)
    pattern = torch.bernoulli(probability, generator=generator)
    target = membrane_target(num_steps, target_step, peak).unsqueeze(1)
    return Dataset(
        name="temporal-coding",
        input_shape=(inputs,),
        num_classes=None,
        static=False,
        train=RepeatedSplit(pattern, target, iterations),
        validation=None,
        test=None,
        source=f"one Poisson pattern (seed {seed}), target peak {peak:g} at step {target_step}",
    )
