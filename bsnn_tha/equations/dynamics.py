"""How a layer's neurons behave, as one bundle from the neuron to the kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from bsnn_tha.equations.lif import Reset
from bsnn_tha.equations.surrogate import Surrogate
from bsnn_tha.equations.threshold_gradient import SHARED, ThresholdGradient


@dataclass(frozen=True, eq=False)
class Dynamics:
    """Everything that Eq. 1, 2 and 8 know of a layer besides its current and its states.

    The tensors are one number, or broadcast against a step ``[batch, ...]``. A neuron makes
    one for each window (``neuron.dynamics()``), with θ as it is now.

    Example:
        >>> import torch
        >>> from bsnn_tha.equations.surrogate import FastSigmoid
        >>> one = torch.tensor(1.0)
        >>> dynamics = Dynamics(0.9 * one, one, one, FastSigmoid())
        >>> dynamics.reset, dynamics.learned
        ('subtract', False)
    """

    beta: Tensor
    """β, decay of the membrane per time step, in [0, 1]."""
    threshold: Tensor
    """θ, in the unit of the membrane potential."""
    centre: Tensor
    """Where the surrogate is centred; gets no gradient."""
    surrogate: Surrogate
    """Shape of the surrogate gradient, with its slope and scale."""
    reset: Reset = "subtract"
    """What a spike does to the membrane of the next step."""
    threshold_gradient: ThresholdGradient = SHARED
    """Which part of a spike's gradient reaches θ."""
    alpha: Tensor | None = None
    """κ, decay of a synaptic current that leaks into the membrane; None for none: the current
    enters at once. (snnTorch calls it alpha.)"""

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """β, θ and the centre, in the order in which every kernel takes them."""
        return self.beta, self.threshold, self.centre

    @property
    def learned(self) -> bool:
        """Whether β or θ wants a gradient."""
        return self.beta.requires_grad or self.threshold.requires_grad

    def with_tensors(self, beta: Tensor, threshold: Tensor, centre: Tensor) -> Self:
        """The same with others in place of :attr:`tensors`."""
        return replace(self, beta=beta, threshold=threshold, centre=centre)

    def of_sample(self, neurons: tuple[int, ...]) -> Self | None:
        """The same with each of :attr:`tensors` one number ``[]``, or one for each neuron.

        Args:
            neurons: the shape of a sample's.

        Returns:
            The dynamics; None where a tensor differs between samples, or does not fit.

        Example:
            >>> import torch
            >>> from bsnn_tha.equations.surrogate import FastSigmoid
            >>> one, of_channel = torch.ones(1), torch.ones(4, 1, 1)
            >>> dynamics = Dynamics(one, of_channel, one, FastSigmoid()).of_sample((4, 5, 5))
            >>> [tuple(its.shape) for its in dynamics.tensors]
            [(), (4, 5, 5), ()]
        """
        try:
            return self.mapped(
                lambda its: its.reshape(()) if its.numel() == 1 else its.expand(neurons)
            )
        except RuntimeError:
            return None

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Self:
        """The same with a function of each of :attr:`tensors`, e.g. in another dtype."""
        return self.with_tensors(*map(function, self.tensors))
