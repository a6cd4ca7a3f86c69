"""A teacher: a finished run whose network's outputs are part of another run's loss.

    L = (1 − λ) L₀ + λ τ² KL(softmax(s / τ) ‖ softmax(t / τ)) with the teacher's scores s
    and the student's t,

where L₀ is the run's own loss. The teacher sees the same changed samples (``[augment]``), in
evaluation mode, and does not learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from bsnn_tha.config import RunConfig
from bsnn_tha.data.dataset import Dataset
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.losses import Loss, distillation_loss
from bsnn_tha.nn.network import NetworkWindow
from bsnn_tha.training.task import Task
from bsnn_tha.training.trained import Trained, load


@dataclass(frozen=True)
class Teacher:
    """A trained network that takes part in a loss.

    Args:
        trained: the network, and how its own loss reads it.
        weight: λ in (0, 1].
        temperature: τ > 0.
    """

    trained: Trained
    weight: float
    temperature: float

    @classmethod
    def of(cls, config: RunConfig, dataset: Dataset) -> Teacher | None:
        """The teacher that ``[teacher]`` names; None if it names none.

        Raises:
            RunError: no such run, or it has no checkpoint.
            InvalidValueError: it was trained for something else.
        """
        chosen = config.teacher
        if chosen.run is None:
            return None
        trained = load(Path(chosen.run))
        if trained.task != Task.of(dataset) or not trained.loss.classifies:
            raise InvalidValueError(
                f"teacher.run = {chosen.run!r} reads other inputs, or has other classes, than "
                f"{config.data.name}; name a run on the same data"
            )
        trained.network.requires_grad_(False)
        return cls(trained, chosen.weight, chosen.temperature)

    def taught(self, loss: Tensor, own: Loss, window: NetworkWindow, inputs: Tensor) -> Tensor:
        """A student's loss with the teacher's part.

        Args:
            loss: L₀ of the batch.
            own: the student's loss, which reads its scores.
            window: what the student did.
            inputs: what it saw.
        """
        self.trained.network.to(inputs.device)
        target = _logits(self.trained.loss, self.trained(inputs))
        part = distillation_loss(_logits(own, window), target, self.temperature)
        return (1 - self.weight) * loss + self.weight * part


def _logits(loss: Loss, window: NetworkWindow) -> Tensor:
    """Scores as the loss's softmax takes them."""
    return loss.scores(window) / getattr(loss, "temperature", 1.0)
