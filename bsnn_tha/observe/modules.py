"""What the neurons of any model do: seen by hooks, in the order in which they are called."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.inputs import signal
from bsnn_tha.nn.neurons.kept_state import reset
from bsnn_tha.nn.neurons.neuron import WindowNeuron


class Seen(NamedTuple):
    """A module of neurons over a window."""

    neuron: WindowNeuron
    spikes: Tensor
    """``[time, samples, *neurons]``."""
    membranes: Tensor
    """Likewise."""


def watch_steps(model: nn.Module, input: Tensor, num_steps: int | None = None) -> list[Seen]:
    """Run a model from cleared states and see its neurons, step by step.

    Where all neurons keep their states (``init_hidden=True``) the model is called for
    each time step; otherwise once, with all of ``input``, and goes through time itself.

    Args:
        model: e.g. an ``nn.Sequential``, with neurons of this package.
        input: ``[time, samples, ...]``, or ``[time, features]`` of one sample; with
            ``num_steps`` the same without time.
        num_steps: for how many time steps a still input is seen.

    Raises:
        InvalidValueError: no neurons, or none that were called as modules.
    """
    neurons = [module for module in model.modules() if isinstance(module, WindowNeuron)]
    if not neurons:
        raise InvalidValueError(
            f"what is recorded must have neurons of bsnn_tha, but {type(model).__name__} has none"
        )
    keeping = all(neuron.init_hidden for neuron in neurons)
    if isinstance(model, nn.Sequential) and not keeping:
        raise InvalidValueError(
            "an nn.Sequential hands on spikes alone, so its neurons must keep their states; build "
            "them with init_hidden=True"
        )
    parameter = next(model.parameters(), None)
    input = signal("input", input, None if parameter is None else parameter.dtype)
    window = input if num_steps is None else input.expand(num_steps, *input.shape)
    seen: dict[WindowNeuron, list[tuple[Tensor, Tensor]]] = {}

    def see(neuron: WindowNeuron, given: Any, output: Any) -> None:
        spikes = output[0] if isinstance(output, tuple) else output
        membrane = neuron.mem if neuron.init_hidden else output[-1]
        seen.setdefault(neuron, []).append((spikes.detach(), membrane.detach()))

    handles = [neuron.register_forward_hook(see) for neuron in neurons]
    try:
        reset(model)
        if keeping:
            for step in window:
                model(step)
        else:
            model(window)
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise InvalidValueError(
            "neurons are seen where they are called as modules, but the model called none; "
            "build them with init_hidden=True, or record a bsnn_tha.SpikingNetwork"
        )
    for steps in seen.values():
        if len(steps) != len(window):
            raise InvalidValueError(
                f"each module of neurons must be called once at each of the {len(window)} time "
                f"steps, but one was called {len(steps)} times; neurons with init_hidden=True "
                "belong in a model that takes one step, and each in one place"
            )
    return [Seen(neuron, *_stacked(steps)) for neuron, steps in seen.items()]


def _stacked(steps: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    spikes, membranes = (torch.stack(values) for values in zip(*steps, strict=True))
    if spikes.dim() == 2:  # one sample, without an axis of samples
        spikes, membranes = spikes.unsqueeze(1), membranes.unsqueeze(1)
    return spikes, membranes
