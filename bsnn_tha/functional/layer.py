"""A layer as its routes look at it: what they ask of its weights and spikes is asked once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeVar

from torch import Tensor
from torch.nn import functional as F

from bsnn_tha.equations.dynamics import Dynamics

Answer = TypeVar("Answer")


class Convolution(NamedTuple):
    """What a convolution is besides its weights, with the pooling behind it."""

    stride: int = 1
    pool: int = 1
    """Size p; windows do not overlap, an incomplete one at the border is dropped."""
    padding: int = 0
    groups: int = 1
    average: bool = True
    """What is pooled: the average, or the largest."""

    @property
    def composes(self) -> bool:
        """Whether convolution and pooling are one convolution with a larger kernel."""
        return self.stride == 1 and (self.pool == 1 or self.average)


class Layer:
    """Weights, dropout and neurons, made anew for each window.

    Args:
        weights: computes the weights, ``[out, in]`` or ``[out, in, k, k]``; called once, by
            whichever route first asks.
        bias: ``[out]`` or None.
        convolution: None for a fully connected layer.
        probability: of dropout, between the weights and the neurons.
        dynamics: of the neurons; None where only the current is wanted.
        start: membranes before the first step, ``[batch, ...]``; zero if None.

    Example:
        >>> import torch
        >>> layer = Layer(lambda: print("binarized") or torch.ones(2, 3))
        >>> layer.weight.shape, layer.weight.shape
        binarized
        (torch.Size([2, 3]), torch.Size([2, 3]))
    """

    def __init__(
        self,
        weights: Callable[[], Tensor],
        bias: Tensor | None = None,
        convolution: Convolution | None = None,
        *,
        probability: float = 0.0,
        dynamics: Dynamics | None = None,
        start: Tensor | None = None,
    ) -> None:
        self._weights = weights
        self._weight: Tensor | None = None
        self._pooled: Tensor | None = None
        self.bias = bias
        self.convolution = convolution
        self.probability = probability
        self.dynamics = dynamics
        self.start = start
        self._answers: dict[Hashable, Any] = {}

    @property
    def weight(self) -> Tensor:
        """What the layer computes with."""
        if self._weight is None:
            self._weight = self._weights()
        return self._weight

    @property
    def pooled_kernel(self) -> Tensor:
        """The kernel that pools as well, applied with the pooling's stride: box_p(W) / p²."""
        assert self.convolution is not None
        pool = self.convolution.pool
        if pool == 1:
            return self.weight
        if self._pooled is None:
            self._pooled = F.avg_pool2d(F.pad(self.weight, [pool - 1] * 4), pool, stride=1)
        return self._pooled

    def without_bias(self) -> Layer:
        """Its weights alone; what has been asked of them is known."""
        other = Layer(lambda: self.weight, convolution=self.convolution)
        other._answers = self._answers
        return other

    def once(self, question: Hashable, ask: Callable[[], Answer]) -> Answer:
        """What ``ask()`` says, or said when it was last asked this question."""
        if question not in self._answers:
            self._answers[question] = ask()
        answer: Answer = self._answers[question]
        return answer
