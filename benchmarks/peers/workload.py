"""What is measured: networks of the paper, their weights and their input.

Three are the paper's own; ``mnist-t4`` and ``mnist-t6`` are its network for MNIST as it is accurate
after minutes: few time steps, thresholds of 1, batch norm over the window (tdBN).

A workload is plain data, so that a process that has nothing but PyTorch and one
peer can build its network from it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


TURN_SECONDS = 0.3
"""What the repetitions of a peer's turn take together, at least."""


@dataclass(frozen=True)
class Layer:
    """A convolution (``kernel`` > 0) or a fully connected layer, and its neurons."""

    inputs: int
    outputs: int
    kernel: int
    pool: int
    bias: bool
    norm: bool
    theta: float
    dropout: float
    window_norm: bool = False
    """Batch norm by the statistics of the whole window rather than of each step."""


@dataclass(frozen=True)
class Workload:
    """A network, its training and the window it sees."""

    name: str
    steps: int
    batch: int
    static: bool
    """One image for all steps rather than a frame for each."""
    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    beta: float
    slope: float
    lr: float
    betas: tuple[float, float]
    correct_rate: float
    incorrect_rate: float
    settings: dict[str, Any] = field(default_factory=dict)
    """For :class:`bsnn_tha.SpikingNetwork`: the preset in its own words."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Workload:
        values = json.loads(text)
        values["layers"] = tuple(Layer(**layer) for layer in values["layers"])
        values["input_shape"] = tuple(values["input_shape"])
        values["betas"] = tuple(values["betas"])
        return cls(**values)

    def shrunk(self, steps: int, batch: int) -> Workload:
        """The same network on a smaller window."""
        return replace(self, steps=min(steps, self.steps), batch=min(batch, self.batch))

    def without_dropout(self) -> Workload:
        """Masks are random: outputs can only be compared without them."""
        return replace(
            self,
            layers=tuple(replace(layer, dropout=0.0) for layer in self.layers),
            settings=self.settings | {"dropout": 0.0},
        )


@dataclass(frozen=True)
class Source:
    """Where a network comes from and how its random input and weights are drawn."""

    preset: str
    input_shape: tuple[int, ...]
    rate: float
    """Share of pixels that are not black, or of input neurons that spike in a step."""
    lift: float = 0.0
    """Added to the latent weights, as a share of their bound: a random network of the
    preset's thresholds may be silent in its deep layers, a trained one is not."""
    variant: str = "tha"
    changes: dict[str, Any] = field(default_factory=dict)
    """Of the preset's settings."""


PAPERS = {
    "mnist": Source("mnist", (1, 28, 28), 0.19),
    "shd": Source("shd", (700,), 0.024),
    "dvs": Source("dvs-gesture", (2, 32, 32), 0.1, lift=0.05),
}
_SHORT = {"network.norm": "tdbn", "network.dropout": 0.0, "neuron.beta": 0.5, "neuron.slope": 2.0}
SOURCES = PAPERS | {
    f"mnist-t{steps}": Source(
        "mnist", (1, 28, 28), 0.19, variant="bsnn-unit", changes=_SHORT | {"data.num_steps": steps}
    )
    for steps in (4, 6)
}


def from_preset(name: str) -> Workload:
    """A network with the settings of its preset and variant, at iteration 0."""
    from bsnn_tha.losses import SpikeCountLoss
    from bsnn_tha.nn.notation import ConvSpec, parse_network
    from bsnn_tha.nn.per_layer import DENSE, kinds_of, per_layer
    from bsnn_tha.presets import load_preset

    source = SOURCES[name]
    config = load_preset(source.preset, source.variant).with_changes(source.changes)
    network, threshold, neuron = config.network, config.threshold, config.neuron
    loss = SpikeCountLoss(**config.loss.options)
    if network.weights != "binary" or neuron.reset_mechanism != "subtract" or neuron.learn_beta:
        raise ValueError(f"the peers are configured for other neurons than those of {name}")
    parsed = parse_network(network.notation, source.input_shape)
    kinds = kinds_of(parsed)
    thetas = per_layer("theta_0", threshold.theta_0, kinds)
    dropouts = per_layer("dropout", network.dropout, [names for names in kinds if DENSE in names])
    layers = []
    for theta, plan in zip(thetas, parsed, strict=True):
        spec, shape = plan.spec, plan.input_shape
        if isinstance(spec, ConvSpec):
            layers.append(
                Layer(
                    inputs=shape[0],
                    outputs=spec.channels,
                    kernel=spec.kernel,
                    pool=spec.pool,
                    bias=False,
                    norm=network.norm in ("per-step", "tdbn"),
                    theta=theta,
                    dropout=0.0,
                    window_norm=network.norm == "tdbn",
                )
            )
        else:
            layers.append(
                Layer(
                    inputs=int(np.prod(shape)),
                    outputs=spec.outputs,
                    kernel=0,
                    pool=1,
                    bias=True,
                    norm=False,
                    theta=theta,
                    dropout=dropouts.pop(0),
                )
            )
    assert isinstance(neuron.beta, float) and isinstance(neuron.slope, float)
    return Workload(
        name=name,
        steps=config.data.num_steps,
        batch=config.data.batch_size,
        static=source.preset == "mnist",
        input_shape=source.input_shape,
        layers=tuple(layers),
        beta=neuron.beta,
        slope=neuron.slope,
        lr=config.optimizer.lr,
        betas=config.optimizer.betas,
        correct_rate=loss.correct_rate,
        incorrect_rate=loss.incorrect_rate,
        settings=network.model_dump() | neuron.model_dump() | threshold.model_dump(),
    )


def draw(workload: Workload, seed: int = 0) -> Arrays:
    """Weights, input and targets. Drawn by numpy: the same in every version of PyTorch."""
    random = np.random.default_rng(seed)
    source = SOURCES[workload.name]
    arrays: Arrays = {}
    for index, layer in enumerate(workload.layers):
        area = max(layer.kernel, 1) ** 2
        shape = (layer.outputs, layer.inputs) + (layer.kernel,) * (2 if layer.kernel else 0)
        bound = (1.5 / ((layer.inputs + layer.outputs) * area)) ** 0.5  # as bsnn_tha's "glorot"
        latent = random.uniform(-bound, bound, shape) + source.lift * bound
        arrays[f"{index}.weight"] = latent.astype(np.float32)
        if layer.bias:
            arrays[f"{index}.bias"] = np.zeros(layer.outputs, np.float32)
            if any(its.window_norm for its in workload.layers):
                # Sums of ±1 meet θ = 1 exactly, where > and ≥ differ.
                bias = random.uniform(0, 1, layer.outputs)
                arrays[f"{index}.bias"] = bias.astype(np.float32)
        if layer.norm:
            arrays[f"{index}.norm.weight"] = np.ones(layer.outputs, np.float32)
            arrays[f"{index}.norm.bias"] = np.zeros(layer.outputs, np.float32)
    lead = (workload.batch,) if workload.static else (workload.steps, workload.batch)
    input = (random.random((*lead, *workload.input_shape)) < source.rate).astype(np.float32)
    if workload.static:
        input *= random.random(input.shape, np.float32)
    arrays["input"] = input
    arrays["targets"] = random.integers(0, workload.layers[-1].outputs, workload.batch)
    return arrays
