"""Training steps of the papers' networks in other sizes: what growth and profile measure.

Each is forward, loss, backward and Adam on random input as sparse as the data, with
the settings of the presets' variant ``bsnn-unit``, whose thresholds are the same in all layers.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bsnn_tha import SpikingNetwork, spike_count_loss
from bsnn_tha.nn.notation import ConvSpec, parse_network
from bsnn_tha.nn.per_layer import values_of
from bsnn_tha.presets import load_preset


@dataclass(frozen=True)
class Sizes:
    """A network and its window."""

    preset: str
    input_shape: tuple[int, ...]
    rate: float
    """Share of inputs that are 1."""
    static: bool
    """One image for all steps."""
    steps: int
    batch: int
    hidden: tuple[int, ...]
    """Channels or neurons of the hidden layers."""
    classes: int

    @property
    def notation(self) -> str:
        """In the papers' words."""
        if len(self.input_shape) == 1:
            return "-".join(str(width) for width in (*self.hidden, self.classes))
        return "-".join([*(f"{width}C5-AP2" for width in self.hidden), str(self.classes)])

    @property
    def multiplications(self) -> int:
        """Of a window forward, zeros included; a static image's first layer counts once."""
        first, *deep = self._multiplications()
        return self.batch * (first * (1 if self.static else self.steps) + sum(deep) * self.steps)

    @property
    def deep_multiplications(self) -> int:
        """Of the convolutions that read other layers: of their inputs' gradients as well."""
        return self.batch * self.steps * sum(self._multiplications()[1:-1])

    def _multiplications(self) -> list[int]:
        """Of each layer, for a sample and a step."""
        found, shape = [], self.input_shape
        for plan in parse_network(self.notation, shape):
            spec, output_shape = plan.spec, plan.output_shape
            if isinstance(spec, ConvSpec):
                kernel = spec.kernel + spec.pool - 1  # pooled in the same convolution
                found.append(shape[0] * kernel**2 * torch.Size(output_shape).numel())
            else:
                found.append(torch.Size(shape).numel() * spec.outputs)
            shape = output_shape
        return found

    def neurons_bytes(self, half: bool) -> int:
        """That the neurons of all layers must move, if none is in one pass with its weights.

        Three windows read or written each way.
        """
        plans = parse_network(self.notation, self.input_shape)
        neurons = sum(torch.Size(plan.output_shape).numel() for plan in plans)
        return 2 * 3 * (2 if half else 4) * neurons * self.steps * self.batch


NETWORKS = {
    "MNIST": Sizes("mnist", (1, 28, 28), 0.19, True, 100, 128, (16, 64), 10),
    "SHD": Sizes("shd", (700,), 0.024, False, 333, 32, (3000,), 20),
    "DVS": Sizes("dvs-gesture", (2, 32, 32), 0.1, False, 100, 8, (16, 32), 11),
}


def training_step(sizes: Sizes, half: bool = False) -> Callable[[], None]:
    """One training step, ready to be called again and again."""
    config = load_preset(sizes.preset, "bsnn-unit")
    torch.manual_seed(0)
    network = SpikingNetwork(
        sizes.notation,
        sizes.input_shape,
        norm=config.network.norm,
        dropout=max(values_of(config.network.dropout)),
        beta=config.neuron.beta,
        slope=config.neuron.slope,
        theta_0=config.threshold.theta_0,
    )
    lead = (sizes.batch,) if sizes.static else (sizes.steps, sizes.batch)
    input: Tensor = torch.empty(*lead, *sizes.input_shape).bernoulli_(sizes.rate)
    if sizes.static:
        input *= torch.rand_like(input)
    targets = torch.randint(sizes.classes, (sizes.batch,))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    num_steps = sizes.steps if sizes.static else None

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            spikes = network(input, num_steps).spikes
        loss = spike_count_loss(spikes.float(), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def scaled(sizes: Sizes, axis: str, factor: float) -> Sizes:
    """A network whose T, batch or width is multiplied, or that has more hidden layers."""
    if axis == "width":
        return replace(sizes, hidden=tuple(int(width * factor) for width in sizes.hidden))
    if axis == "depth":
        return replace(sizes, hidden=sizes.hidden * int(factor))
    if axis == "batch":
        return replace(sizes, batch=max(1, int(sizes.batch * factor)))
    return replace(sizes, steps=max(1, int(sizes.steps * factor)))


def median_seconds(steps: list[Callable[[], None]], turns: int) -> list[float]:
    """Of each, taking turns; a first turn does not count."""
    seconds: list[list[float]] = [[] for _ in steps]
    for turn in range(1 + turns):
        for taken, step in zip(seconds, steps, strict=True):
            begin = time.perf_counter()
            step()
            if turn:
                taken.append(time.perf_counter() - begin)
    return [statistics.median(taken) for taken in seconds]
