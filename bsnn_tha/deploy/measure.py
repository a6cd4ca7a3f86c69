"""A deployed network beside the one that was trained, on the test set: is it the same network?"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bsnn_tha.data.dataset import Split
from bsnn_tha.deploy.encode import samples_of
from bsnn_tha.deploy.network import Array, DeployedNetwork
from bsnn_tha.deploy.reference import run
from bsnn_tha.losses import Loss
from bsnn_tha.nn.network import SpikingNetwork

_BATCH = 100


@dataclass
class Comparison:
    """What both did on the same samples.

    Attributes:
        samples: how many.
        right: answers that were right, of the trained network and of the deployed one.
        same_answers: samples with the same answer.
        spikes: of every layer and sample's window that could have been, and how many differ.
        held: input values beyond the encoding's bounds.
        input_counts: nonzero input values, ``[*input shape]``.
        counts: spikes of the deployed network, ``[*output shape]`` of each layer.
    """

    samples: int = 0
    right: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))
    same_answers: int = 0
    possible: list[int] = field(default_factory=list)
    differing: list[int] = field(default_factory=list)
    held: int = 0
    input_counts: Array | None = None
    counts: list[Array] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "samples": self.samples,
            "trained_accuracy": self.right[0] / self.samples,
            "deployed_accuracy": self.right[1] / self.samples,
            "same_answers": self.same_answers / self.samples,
            "differing_spikes": sum(self.differing) / sum(self.possible),
            "differing_spikes_of_layers": [
                differ / possible
                for differ, possible in zip(self.differing, self.possible, strict=True)
            ],
            "held_inputs": self.held,
        }


@torch.no_grad()
def compare(
    trained: SpikingNetwork,
    loss: Loss,
    deployed: DeployedNetwork,
    split: Split,
    *,
    static: bool,
    most: int | None = None,
) -> Comparison:
    """Run both over a split.

    Args:
        trained: in evaluation mode.
        loss: reads its answers.
        deployed: the same network in whole numbers.
        split: samples of classes.
        static: whether a sample is one frame for all time steps.
        most: samples, the first of the split; all if None.
    """
    result = Comparison()
    indices = list(range(len(split) if most is None else min(most, len(split))))
    for first in range(0, len(indices), _BATCH):
        batch, targets = split[indices[first : first + _BATCH]]
        values = samples_of(batch)
        inputs = deployed.input.encode(values)
        steps = deployed.num_steps if static else None
        spikes, answers = _trained(trained, loss, torch.from_numpy(values).float(), steps)
        window = run(deployed, inputs, steps)
        own = window.scores.argmax(-1)
        result.samples += len(own)
        result.right += [int((each == targets.numpy()).sum()) for each in (answers, own)]
        result.same_answers += int((answers == own).sum())
        exact = np.rint(values / deployed.input.scale)
        result.held += int((exact != inputs).sum())
        seen = (inputs != 0).sum(0 if static else (0, 1))
        result.input_counts = seen * (steps or 1) + (
            0 if result.input_counts is None else result.input_counts
        )
        pairs = list(zip(spikes, window.layers, strict=True))
        _add(result.differing, [int((a != b).sum()) for a, b in pairs])
        _add(result.possible, [a.size for a, _ in pairs])
        _add(result.counts, [fired.sum((0, 1), dtype=np.int64) for fired in window.layers])
    return result


def _trained(
    network: SpikingNetwork, loss: Loss, inputs: torch.Tensor, steps: int | None
) -> tuple[list[Array], Array]:
    """Spikes of every layer, and the answers."""
    spikes: list[Array] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, window: spikes.append(window.spikes.numpy() > 0))
        for layer in network.layers
    ]
    try:
        window = network(inputs, steps, record=loss.needs_membranes)
    finally:
        for hook in hooks:
            hook.remove()
    return spikes, loss.scores(window).argmax(-1).numpy()


def _add(totals: list[Any], values: list[Any]) -> None:
    totals[:] = [a + b for a, b in itertools.zip_longest(totals, values, fillvalue=0)]
