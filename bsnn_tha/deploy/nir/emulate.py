"""What a reader makes of a file, in 32-bit floating point, without the reader."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bsnn_tha.deploy.network import Array, DeployedNetwork
from bsnn_tha.deploy.nir.profiles import Neurons
from bsnn_tha.deploy.nir.scaling import Scaled
from bsnn_tha.deploy.reference import sums


def emulate(
    folded: DeployedNetwork,
    numbers: list[Scaled],
    kinds: list[Neurons],
    inputs: Array,
    num_steps: int | None,
) -> list[NDArray[np.float32]]:
    """Spikes of every layer, ``[time, batch, ...]``; several at once where a reader fires so.

    Args:
        folded: the network in floating point.
        numbers: of each layer, in the reader's scale.
        kinds: what its neurons became.
        inputs, num_steps: as :func:`bsnn_tha.deploy.reference.run` takes them.
    """
    frames = inputs[None] if num_steps is not None else inputs
    steps, batch = num_steps or len(inputs), frames.shape[1]
    spikes: list[NDArray[np.float32]] = []
    for index, (layer, scale, kind) in enumerate(zip(folded.layers, numbers, kinds, strict=True)):
        total: Array = layer.each(scale.offset).astype(np.float32)
        recurrent = None
        for term in layer.terms:
            if term.comes_back_to(index):
                assert term.weights is not None
                weights = term.weights * (term.gain * scale.factor)[:, None]
                recurrent = weights.astype(np.float32)
                continue
            given = [spikes[index] for index in term.reads] or [frames]
            joined = np.concatenate(given, axis=2) if len(given) > 1 else given[0]
            counts = sums(term, joined.reshape(-1, *joined.shape[2:])).astype(np.float32)
            counts = counts.reshape(len(joined), batch, *layer.output_shape)
            gain = np.broadcast_to(term.gain * scale.factor, (layer.channels,))
            total = total + layer.each(gain).astype(np.float32) * counts
        currents = np.broadcast_to(total, (steps, batch, *layer.output_shape))
        spikes.append(
            _window(currents, layer.decay.astype(np.float32), layer.synaptic_decay,
                    scale.threshold.astype(np.float32), kind, recurrent)
        )  # fmt: skip
    return spikes


def _window(
    currents: Array,
    decay: Array,
    synaptic: Array | None,
    threshold: Array,
    kind: Neurons,
    recurrent: Array | None,
) -> NDArray[np.float32]:
    fired = np.zeros(currents.shape, np.float32)
    u = np.zeros(currents.shape[1:], np.float32)
    i = np.zeros_like(u)
    for step, current in enumerate(currents):
        if recurrent is not None and step:
            current = current + fired[step - 1] @ recurrent.T
        if synaptic is not None:
            current = i = synaptic.astype(np.float32) * i + current
        u = decay * u + current
        if kind == "self-inhibition" and step:
            u = u - fired[step - 1] * threshold
        if kind == "integrator":
            continue
        if kind == "at once":
            fired[step] = np.maximum(np.trunc(u / threshold), 0)
            u = u - fired[step] * threshold
        else:
            fired[step] = u >= threshold
        if kind == "to zero":
            u = u * (1 - fired[step])
    return fired
