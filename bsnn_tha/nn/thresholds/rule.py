"""What every threshold rule has in common.

A rule is a small module: it holds the numbers a firing threshold comes from and
says what the threshold is now. Neurons ask it at every forward pass; training
calls :meth:`ThresholdRule.advance` after every step of the optimizer. Whatever
copies, moves, saves or shares out the network takes the rule along, because it
is a submodule: schedules are buffers, learned thresholds are parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bsnn_tha.equations.anneal import check_threshold
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.suggest import quoted


class ThresholdRule(nn.Module):
    """The firing threshold θ of a layer, and how training changes it.

    As it stands, θ is fixed. A rule of your own derives from it and overrides
    :meth:`forward`; if θ moves without a gradient also :meth:`moved`, and if it
    must be kept in bounds :meth:`project`.

    Args:
        theta_0: initial threshold θ0 > 0, in units of the membrane potential; a
            tensor for thresholds that differ from the start.
        shape: ``()`` for one threshold that the layer shares, or those of the
            tensor; the shape of the layer's neurons for one threshold each.

    Attributes:
        theta_0: θ0, a buffer of that shape.
        iteration: training iterations so far.

    Raises:
        InvalidValueError: θ0 is not a finite number above 0, or has another shape.

    Example:
        >>> class Linear(ThresholdRule):
        ...     "A threshold that rises by `rate` per training iteration."
        ...     def __init__(self, theta_0, rate, shape=()):
        ...         super().__init__(theta_0, shape)
        ...         self.rate = rate
        ...     def forward(self):
        ...         return self.theta_0 + self.rate * self.iteration
        >>> rule = Linear(1.0, rate=0.5)
        >>> rule.advance(2)
        >>> rule()
        tensor(2.)
    """

    theta_0: Tensor
    iteration: Tensor

    def __init__(self, theta_0: float | Tensor, shape: Sequence[int] = ()) -> None:
        super().__init__()
        check_threshold(theta_0)
        self.register_buffer("theta_0", _each(theta_0, tuple(shape)))
        self.register_buffer("iteration", torch.tensor(0))

    def forward(self) -> Tensor:
        """θ now, ``[]`` or one per neuron; differentiable where it is learned."""
        return self.theta_0

    def final(self) -> Tensor:
        """Where θ goes without further gradients: θ itself if it has no schedule."""
        return self().detach()

    @property
    def annealed(self) -> bool:
        """Whether θ follows a schedule."""
        return False

    @property
    def learned(self) -> bool:
        """Whether θ has parameters of its own."""
        return any(True for _ in self.parameters())

    @torch.no_grad()
    def advance(self, iterations: int = 1) -> None:
        """Go on by training iterations, after the optimizer's step.

        Args:
            iterations: how many, ≥ 0. They are counted by every rule.

        Raises:
            InvalidValueError: a negative number.
        """
        if iterations < 0:
            raise InvalidValueError(f"iterations must be at least 0, but got {iterations}")
        self.iteration += iterations
        self.moved()
        self.project()

    def moved(self) -> None:
        """Set what depends on :attr:`iteration`. Nothing, unless overridden."""

    def project(self) -> None:
        """Bring learned parameters back into their bounds. Nothing, unless overridden."""

    def _apply(self, fn: Any, recurse: bool = True) -> ThresholdRule:
        # A schedule is not data: casting the network to half precision moves
        # these buffers to the new device but leaves them in full precision,
        # where steps of α (θ∞ − θ) would otherwise vanish.
        exact = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, before in exact.items():
            after = self._buffers.get(name)
            if before is not None and after is not None and after.itemsize < before.itemsize:
                self._buffers[name] = before.to(after.device)
        return self

    def extra_repr(self) -> str:
        """The threshold in one line, for ``print(network)``."""
        return _shown(self())


class Fixed(ThresholdRule):
    """θ = θ0 throughout.

    Args:
        theta_0: θ0 > 0; a tensor for one per neuron.

    Example:
        >>> Fixed(1.5)()
        tensor(1.5000)
        >>> Fixed(torch.tensor([1.0, 2.0]))()
        tensor([1., 2.])
    """

    def __init__(self, theta_0: float | Tensor) -> None:
        super().__init__(theta_0)


def single(name: str, value: float | Tensor) -> float:
    """A number, of a rule that starts alike for all neurons.

    Raises:
        InvalidValueError: a tensor with several.
    """
    if isinstance(value, list | tuple):
        raise InvalidValueError(
            f"{name} must be one number for a layer's neurons, but got {quoted(value)}; several "
            "layers have a neuron each, or are a SpikingNetwork"
        )
    if isinstance(value, Tensor) and value.numel() != 1:
        raise InvalidValueError(
            f"{name} must be one number, but got a tensor of shape {list(value.shape)}; thresholds "
            "that differ from the start are Fixed or Learned"
        )
    return float(value)


def _each(theta_0: float | Tensor, shape: tuple[int, ...]) -> Tensor:
    """θ0 for each of ``shape``, in a tensor that is not shared with the caller's."""
    if not isinstance(theta_0, Tensor):
        return torch.full(shape, float(theta_0))
    if shape and theta_0.dim() and tuple(theta_0.shape) != shape:
        raise InvalidValueError(
            f"theta_0 must be one number or have the shape {list(shape)}, "
            f"but got {list(theta_0.shape)}"
        )
    values = theta_0.detach().expand(shape or theta_0.shape).clone()
    return values if values.is_floating_point() else values.to(torch.get_default_dtype())


def _shown(threshold: Tensor) -> str:
    if threshold.numel() == 1:
        return f"theta={threshold.item():.4g}"
    values = threshold.detach()
    return f"theta={values.min().item():.4g} to {values.max().item():.4g} per neuron"
