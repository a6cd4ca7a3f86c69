"""Networks that look trained, and what they do, for tests of deployment."""

from __future__ import annotations

import numpy as np
import torch

from bsnn_tha import SpikingNetwork
from bsnn_tha.deploy.network import InputEncoding


def look_trained(network: SpikingNetwork, seed: int = 0) -> SpikingNetwork:
    """Statistics, scales of both signs (and a zero), biases; thresholds on their way to θ∞."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(tensor: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.empty_like(tensor).uniform_(low, high, generator=generator)

    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.copy_(drawn(module.running_mean, -2, 2))
                module.running_var.copy_(drawn(module.running_var, 0.5, 4))
                module.weight.copy_(drawn(module.weight, 0.5, 2))
                module.weight[1::3] *= -1
                module.bias.copy_(drawn(module.bias, -0.5, 1))
                if len(module.weight) > 4:
                    module.weight[0] = 0
            elif getattr(module, "bias", None) is not None and "synapse" in name:
                module.bias.copy_(drawn(module.bias, -1, 1))
    for layer in network.layers:
        layer.neuron.anneal(7)
        layer.route = "reference"  # tensor operations: nothing to compile
    return network.eval().double()


def behaviour(
    network: SpikingNetwork, inputs: torch.Tensor, num_steps: int | None
) -> tuple[list[np.ndarray], np.ndarray]:
    """Spikes of every layer, and the output's membranes."""
    spikes: list[np.ndarray] = []
    hooks = [
        layer.register_forward_hook(
            lambda _, __, window: spikes.append(window.spikes.numpy().astype(np.uint8))
        )
        for layer in network.layers
    ]
    with torch.no_grad():
        window = network(inputs, num_steps, record=True)
    for hook in hooks:
        hook.remove()
    return spikes, window.recorded_membranes().numpy()


def random_input(
    encoding: InputEncoding, steps: int, batch: int, seed: int = 0, rate: float = 0.3
) -> np.ndarray:
    """Whole numbers for an image, spikes for events."""
    generator = np.random.default_rng(seed)
    if encoding.kind == "image":
        shape = (batch, *encoding.shape)
        return generator.integers(encoding.low, encoding.high + 1, shape)
    return (generator.random((steps, batch, *encoding.shape)) < rate).astype(np.int64)


def image(shape: tuple[int, ...]) -> InputEncoding:
    """Pixels of 8 bits in [0, 1]."""
    return InputEncoding("image", shape, 8, False, 1 / 255)


def events(shape: tuple[int, ...]) -> InputEncoding:
    """Spikes, or a few at once."""
    return InputEncoding("events", shape, 2, False, 1.0)
