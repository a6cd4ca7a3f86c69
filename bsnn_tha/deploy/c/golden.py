"""Golden vectors: samples with what the reference makes of them, to the last spike.

After each time step a digest is taken over the spikes of all layers and the membranes of the
output: a program that goes another way anywhere ends with another one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bsnn_tha.deploy.c.layout import spike_words
from bsnn_tha.deploy.c.program import Program
from bsnn_tha.deploy.network import Array
from bsnn_tha.deploy.reference import Window, run

_START, _FACTOR = 2166136261, 16777619
"""Of the FNV-1a hash, 32 bits."""


@dataclass(frozen=True)
class Golden:
    """Samples, and what becomes of them.

    Attributes:
        inputs: ``[samples, frames, values]``; one frame for all time steps, or one for each.
        answers: by the readout, ``[samples]``.
        digests: ``[samples, time]``.
    """

    inputs: Array
    answers: NDArray[np.int64]
    digests: NDArray[np.uint32]


def golden(program: Program, inputs: Array, num_steps: int | None) -> Golden:
    """Run the reference.

    Args:
        program: whose network is run.
        inputs, num_steps: as :func:`~bsnn_tha.deploy.reference.run` takes them.
    """
    window = run(program.network, inputs, num_steps)
    frames = inputs[:, None] if num_steps is not None else inputs.swapaxes(0, 1)
    flat = frames.reshape(*frames.shape[:2], -1)
    return Golden(flat, window.scores.argmax(1), digests(program, window))


def digests(program: Program, window: Window) -> NDArray[np.uint32]:
    """After each time step, ``[samples, time]``."""
    words = [
        spike_words(spikes, layer.output_shape).astype(np.uint64)
        for spikes, layer in zip(window.layers, program.network.layers, strict=True)
    ]
    membranes = (window.membranes & 0xFFFFFFFF).astype(np.uint64)
    every = np.concatenate([*words, membranes.reshape(*membranes.shape[:2], -1)], axis=2)
    value = np.full(every.shape[:2], _START, np.uint64)
    for word in np.moveaxis(every, 2, 0):
        value = ((value ^ word) * np.uint64(_FACTOR)) & np.uint64(0xFFFFFFFF)
    return value.T.astype(np.uint32)
