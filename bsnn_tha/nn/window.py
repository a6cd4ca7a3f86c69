"""What a network gives of a window: its output spikes, membranes, and the state to go on from."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

from bsnn_tha.errors import InvalidValueError

Output = Literal["spikes", "membrane"]
"""What a network's last layer gives."""


class NetworkWindow(NamedTuple):
    """What the output layer did over a window of T time steps."""

    spikes: Tensor
    """``[time, batch, outputs]``, 0 or 1."""
    membranes: Tensor | None
    """Like ``spikes``; None unless recorded, which an output that does not fire always is."""
    state: tuple[Tensor, ...]
    """Final state of every layer: pass it on to continue the window."""

    def fired_spikes(self) -> Tensor:
        """The output spikes, which an output that does not fire refuses to give."""
        return self.spikes

    def recorded_membranes(self) -> Tensor:
        """The output membranes, which must have been recorded."""
        if self.membranes is None:
            raise ValueError("the membranes are needed, run the network with record=True")
        return self.membranes


class MembraneWindow(NamedTuple):
    """:class:`NetworkWindow` of an output layer that does not fire.

    A type of its own rather than a flag, because exporters take tuples of tensors only.
    """

    spikes: Tensor
    """All 0."""
    membranes: Tensor
    state: tuple[Tensor, ...]

    def fired_spikes(self) -> Tensor:
        """There are none.

        Raises:
            InvalidValueError: always.
        """
        raise InvalidValueError(
            "spikes are read of an output layer that does not fire (output='membrane'); read its "
            "membranes, or choose output='spikes'"
        )

    def recorded_membranes(self) -> Tensor:
        """The output membranes."""
        return self.membranes
