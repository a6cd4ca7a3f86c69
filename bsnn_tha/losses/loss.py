"""What a loss is to the training loop."""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from bsnn_tha.nn.window import NetworkWindow


@runtime_checkable
class Loss(Protocol):
    """A scalar from a network's window and the targets, and what it reads as the answer."""

    @property
    def needs_membranes(self) -> bool:
        """Whether it reads the output membranes, which are recorded only if it does."""
        ...

    classifies: ClassVar[bool]
    """Whether targets are classes; otherwise a trace."""

    def __call__(self, window: NetworkWindow, targets: Tensor) -> Tensor: ...

    def scores(self, window: NetworkWindow) -> Tensor:
        """``[batch, classes]``: the network's answer is the highest, the first of equals."""
        ...
