"""Batch normalisation of currents, between weights and neurons.

``per-step``: in the networks of Eshraghian and Lu (2022) batch norm is called at
every time step of the loop: each step is normalised by its own batch statistics,
and one training iteration updates the running statistics T times. Both are done
here for the whole window at once.

``tdbn``: threshold-dependent batch normalisation (Zheng et al. 2021, "Going deeper
with directly-trained larger spiking neural networks", Eq. 6 to 8), used by LT-SNN.
The statistics of a channel are taken over time steps, samples and places jointly,
and the result is on the scale of the threshold:

    y = λ α V_th (x − μ) / √(σ² + ε) + b,

with λ = 1 and b = 0 at first, and α = 1/√2 where two currents are added.

A single value (one sample whose map is 1 × 1, as the last batch of an epoch may leave
over) has no spread to be normalised by. It is normalised with the running statistics, as
in evaluation, and they are left as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.batch_norm import batch_norm_steps, takes
from bsnn_tha.functional.running import note
from bsnn_tha.inputs import signal
from bsnn_tha.nn.recompute import recomputing

Watch = Callable[[Tensor, Tensor, int], None]
"""Gets mean and unbiased variance, ``[C]``, of what a window is normalised by."""


class BatchNormPerStep(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` applied to each time step of a window.

    Args:
        num_features: channels C.
        eps, momentum: as in ``nn.BatchNorm2d``; momentum must be a number.

    Attributes:
        watch: in training called for each window, or part of one, with the means over its
            steps and how many these are; or None.

    A window of T steps leaves the running statistics where T calls of
    ``nn.BatchNorm2d`` would have left them: with r the statistic before and
    s[t] that of step t, r (1 − m)^T + Σ_t m (1 − m)^(T − 1 − t) s[t]. A window
    that is run again for the backward pass (:mod:`bsnn_tha.nn.recompute`) has
    been counted and leaves them alone.

    Example:
        >>> norm = BatchNormPerStep(16)
        >>> norm(torch.rand(100, 8, 16, 12, 12)).shape  # [time, batch, C, H, W]
        torch.Size([100, 8, 16, 12, 12])
        >>> norm(torch.rand(8, 16, 12, 12), repeats=100).shape  # a constant input
        torch.Size([8, 16, 12, 12])
    """

    needs_whole_window: ClassVar[bool] = False
    momentum: float
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        if momentum is None:
            raise InvalidValueError("momentum must be a number in [0, 1], but got None")
        super().__init__(num_features, eps, momentum)
        self.watch: Watch | None = None

    def forward(self, input: Tensor, repeats: int = 1) -> Tensor:
        """Normalise a window, or one step that stands for several.

        Args:
            input: ``[time, batch, C, H, W]``; or ``[batch, C, H, W]`` for a
                single step.
            repeats: with a single step, how many time steps see this same
                input. Their statistics are equal, so it is normalised once
                and the running statistics are updated in closed form.

        Returns:
            A tensor of the same shape.
        """
        input = signal("input", input, self.weight.dtype)
        self._check_input_dim(input)
        if not self.training or _single(input[0] if input.dim() == 5 else input):
            return _by_running_statistics(self, input, self.weight)
        if input.dim() == 4:
            return self._constant(input, repeats)
        return self._window(input)

    def _constant(self, input: Tensor, repeats: int) -> Tensor:
        note("batch_norm")
        if self.watch is not None:
            variance, mean = torch.var_mean(input.detach().to(self.running_mean.dtype), (0, 2, 3))
            self.watch(mean, variance, repeats)
        # Run again for the backward pass, the step has been counted: momentum 0
        # leaves the running statistics as they are.
        update = not recomputing()
        if update:
            self._count(repeats)
        # The library rounds another way where channels are innermost. A constant current's
        # rounding adds up over the window, so it is the way of a loop over time steps.
        normalised = F.batch_norm(
            input.contiguous(),
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=True,
            momentum=1 - (1 - self.momentum) ** repeats if update else 0.0,
            eps=self.eps,
        )
        innermost = input.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if innermost else torch.contiguous_format
        return normalised.contiguous(memory_format=layout)

    def _window(self, input: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or not takes(input):
            normalised, mean, variance = self._library(input)
        else:
            normalised, mean, variance = batch_norm_steps(input, self.weight, self.bias, self.eps)
        self.seen(mean, variance)
        return normalised

    @torch.no_grad()
    def seen(self, mean: Tensor, variance: Tensor) -> None:
        """Update the running statistics; not while a window is run again for its gradients.

        Args:
            mean, variance: of every step of a window, unbiased, ``[time, C]``.
        """
        if self.watch is not None:
            self.watch(mean.mean(0), variance.mean(0), len(mean))
        if recomputing():
            return
        steps = len(mean)
        self._count(steps)
        keep = (1 - self.momentum) ** torch.arange(
            steps, -1, -1, dtype=mean.dtype, device=mean.device
        )
        weights = self.momentum * keep[1:]
        for running, statistic in ((self.running_mean, mean), (self.running_var, variance)):
            running.mul_(keep[0]).add_((weights.unsqueeze(1) * statistic).sum(0))

    def _library(self, input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The window, and mean and unbiased variance of each step, ``[time, C]``."""
        note("batch_norm")
        steps, batch, channels, *space = input.shape
        # Every (step, channel) pair is a channel of its own to one library
        # call; with momentum 1 it hands back the statistics themselves.
        mean = input.new_zeros(steps * channels, dtype=self.running_mean.dtype)
        variance = torch.zeros_like(mean)
        normalised = F.batch_norm(
            input.transpose(0, 1).reshape(batch, steps * channels, *space),
            mean,
            variance,
            self.weight.repeat(steps),
            self.bias.repeat(steps),
            training=True,
            momentum=1.0,
            eps=self.eps,
        )
        return (
            normalised.view(batch, steps, channels, *space).transpose(0, 1),
            mean.view(steps, channels),
            variance.view(steps, channels),
        )

    def _count(self, steps: int) -> None:
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(steps)

    def _check_input_dim(self, input: Tensor) -> None:
        _check_maps(input)


class ThresholdDependentBatchNorm(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` over time and batch, scaled to the threshold (tdBN).

    Args:
        num_features: channels C.
        scale: α V_th > 0, a constant: the threshold that the layer starts with.
        eps, momentum: as in ``nn.BatchNorm2d``.

    Attributes:
        watch: in training called for each window, which counts as one step; or None.

    The running statistics are updated once for each window.

    Example:
        >>> norm = ThresholdDependentBatchNorm(16, scale=0.5)
        >>> normalised = norm(torch.rand(4, 8, 16, 12, 12))  # [time, batch, C, H, W]
        >>> round(normalised.std().item(), 2)
        0.5
    """

    needs_whole_window: ClassVar[bool] = True
    momentum: float
    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, num_features: int, scale: float, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__(num_features, eps, momentum)
        self.scale = scale
        self.watch: Watch | None = None

    def forward(self, input: Tensor, repeats: int = 1) -> Tensor:
        """Normalise a window, or one step that stands for several.

        Args:
            input: ``[time, batch, C, H, W]``; or ``[batch, C, H, W]`` for a
                single step.
            repeats: with a single step, how many time steps see this same input.

        Returns:
            A tensor of the same shape.
        """
        input = signal("input", input, self.weight.dtype)
        self._check_input_dim(input)
        if not self.training or _single(input):
            return _by_running_statistics(self, input, self.weight * self.scale)
        samples = input.flatten(0, 1) if input.dim() == 5 else input
        weight = self.weight * self.scale
        # All steps, samples and places are one step of a batch norm.
        if torch.compiler.is_compiling() or not takes(samples.unsqueeze(0)):
            normalised, mean, variance = self._library(samples, weight)
        else:
            steps = batch_norm_steps(samples.unsqueeze(0), weight, self.bias, self.eps)
            normalised, mean, variance = (its[0] for its in steps)
        self.seen(mean, variance, samples.numel() // samples.shape[1], repeats)
        return normalised.view(input.shape)

    def _library(self, samples: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The samples, and mean and unbiased variance of them all, ``[C]``."""
        note("batch_norm")
        # With momentum 1 the library call hands back the statistics themselves.
        mean, variance = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        normalised = F.batch_norm(
            samples, mean, variance, weight, self.bias, training=True, momentum=1.0, eps=self.eps
        )
        return normalised, mean, variance

    @torch.no_grad()
    def seen(self, mean: Tensor, variance: Tensor, values: int, repeats: int = 1) -> None:
        """Show the statistics, and let the running ones follow unless a window is run again.

        Args:
            mean, variance: of a window, unbiased, ``[C]``.
            values: of which they are, for each channel.
            repeats: for how many time steps these are the currents.
        """
        if self.watch is not None:
            self.watch(mean, variance, 1)
        if recomputing():
            return
        # Bessel's correction counts the values of every step; that of one step was applied.
        variance = variance * ((values - 1) / values) * (values * repeats / (values * repeats - 1))
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)

    def _check_input_dim(self, input: Tensor) -> None:
        _check_maps(input)

    def extra_repr(self) -> str:
        """The settings in one line, for ``print(network)``."""
        return f"{super().extra_repr()}, scale={self.scale:.4g}"


BatchNorm = BatchNormPerStep | ThresholdDependentBatchNorm


def _single(maps: Tensor) -> bool:
    """Whether there is one value for each channel, of ``[..., C, H, W]``."""
    return maps.numel() == maps.shape[-3]


def _by_running_statistics(norm: BatchNorm, input: Tensor, weight: Tensor) -> Tensor:
    flat = input.flatten(0, 1) if input.dim() == 5 else input
    normalised = F.batch_norm(
        flat, norm.running_mean, norm.running_var, weight, norm.bias, eps=norm.eps
    )
    return normalised.view(input.shape)


def _check_maps(input: Tensor) -> None:
    if input.dim() not in (4, 5):
        raise ValueError(
            "batch norm needs [time, batch, C, H, W] or [batch, C, H, W], "
            f"but got {list(input.shape)}"
        )
