"""No threshold: neurons that integrate and do not fire."""

from __future__ import annotations

import torch

from bsnn_tha.nn.thresholds.rule import ThresholdRule


class Never(ThresholdRule):
    """θ = ∞: the membrane is read, it never fires and is never reset.

    What a network's last layer has with ``output = "membrane"``. Its neurons take no reset but
    ``"none"``: there is no θ to take off.

    Example:
        >>> from bsnn_tha import Leaky
        >>> neuron = Leaky(0.5, Never(), reset_mechanism="none")
        >>> spikes, membranes = neuron.sequence(torch.full((3, 1, 1), 1e6), record=True)
        >>> spikes.flatten().tolist(), membranes.flatten().tolist()
        ([0.0, 0.0, 0.0], [1000000.0, 1500000.0, 1750000.0])
    """

    def __init__(self) -> None:
        super().__init__(1.0)
        # No part of checkpoints, whose numbers are finite.
        self.register_buffer("theta_0", torch.tensor(torch.inf), persistent=False)

    def extra_repr(self) -> str:
        """In words, for ``print(network)``."""
        return "does not fire"
