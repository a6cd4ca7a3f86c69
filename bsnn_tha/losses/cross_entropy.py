"""Cross-entropy of what the output neurons did: their spikes, or their membranes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.inputs import labels
from bsnn_tha.losses.readouts import READOUTS, Readout
from bsnn_tha.nn.window import NetworkWindow


@dataclass(frozen=True)
class CrossEntropyLoss:
    r"""Cross-entropy of softmax(scores / temperature) with the classes.

    Args:
        readout: which scores: a name of :data:`bsnn_tha.losses.readouts.READOUTS`,
            ``module:function``, or a function of the window.
            The membranes are those of an output layer that does not fire, where
            its threshold is out of reach.
        temperature: τ > 0. Scores of 1-bit weights are sums of many ±1 and need a
            high one, rates a low one.
        label_smoothing: share ε in [0, 1) of the target that all classes have alike.

    Raises:
        InvalidValueError: no such readout, or a value outside its range.

    Example:
        >>> import torch
        >>> membranes = torch.tensor([[[0.0, 2.0]], [[0.0, 4.0]]])  # [time, batch, classes]
        >>> window = NetworkWindow(torch.zeros(2, 1, 2), membranes, ())
        >>> loss = CrossEntropyLoss(temperature=3.0)
        >>> loss.scores(window)
        tensor([[0., 3.]])
        >>> loss(window, torch.tensor([1]))  # log(1 + exp(-3 / 3))
        tensor(0.3133)
    """

    classifies: ClassVar[bool] = True

    readout: str | Readout = "mean_membrane"
    temperature: float = 1.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        READOUTS.find(self.readout)
        if not self.temperature > 0:
            raise InvalidValueError(
                f"temperature must be above 0, but got temperature={self.temperature:g}"
            )
        if not 0 <= self.label_smoothing < 1:
            raise InvalidValueError(
                "label_smoothing must be in [0, 1), but got "
                f"label_smoothing={self.label_smoothing:g}"
            )

    @property
    def needs_membranes(self) -> bool:
        """Whether the output membranes must be recorded."""
        return self.readout != "spike_rate"

    def __call__(self, window: NetworkWindow, targets: Tensor) -> Tensor:
        return F.cross_entropy(
            self.scores(window) / self.temperature,
            labels(targets),
            label_smoothing=self.label_smoothing,
        )

    def scores(self, window: NetworkWindow) -> Tensor:
        """What the readout gives, ``[batch, classes]``."""
        scores: Tensor = READOUTS.find(self.readout)(window)
        return scores
