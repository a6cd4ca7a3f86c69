"""What is measured: networks of the paper, their weights and their input.

Three are the paper's own; ``mnist-t4`` and ``mnist-t6`` are its network for MNIST as it is accurate
after minutes: few time steps, thresholds of 1, batch norm over the window (tdBN). ``vgg9`` and
``resnet19`` are deeper ones with the same neurons, on images of CIFAR-10's size.

A workload is plain data, so that a process that has nothing but PyTorch and one
peer can build its network from it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from bsnn_tha.nn.notation import LayerSpec

Arrays = dict[str, np.ndarray]


TURN_SECONDS = 0.3
"""What the repetitions of a peer's turn take together, at least."""


@dataclass(frozen=True)
class Weights:
    """A convolution (``kernel`` > 0) with its pooling and batch norm, or a fully connected layer.

    Example:
        >>> Weights(3, 64, kernel=3, pool=1, bias=False, norm=True).shape
        (64, 3, 3, 3)
    """

    inputs: int
    outputs: int
    kernel: int
    pool: int
    bias: bool
    norm: bool
    window_norm: bool = False
    """Batch norm by the statistics of the whole window rather than of each step."""
    norm_scale: float = 1.0
    """What it is on the scale of: a factor of its weight."""
    stride: int = 1
    padding: int = 0
    of_means: bool = False
    """Whether a fully connected layer reads the mean of each map."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.outputs, self.inputs) + (self.kernel,) * (2 if self.kernel else 0)


@dataclass(frozen=True)
class Shortcut:
    """What is added to a layer's current."""

    reads: int
    """The layer whose spikes it takes, by index."""
    weights: Weights | None
    """Their way through weights; None where the spikes themselves are added."""


@dataclass(frozen=True, kw_only=True)
class Layer(Weights):
    """Weights that read the layer before (the first one the input), and neurons."""

    theta: float
    dropout: float
    shortcut: Shortcut | None = None


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
        values["layers"] = tuple(_layer(layer) for layer in values["layers"])
        values["input_shape"] = tuple(values["input_shape"])
        values["betas"] = tuple(values["betas"])
        return cls(**values)

    def shrunk(self, steps: int, batch: int) -> Workload:
        """The same network on a smaller window."""
        return replace(self, steps=min(steps, self.steps), batch=min(batch, self.batch))

    @property
    def compared_in(self) -> str:
        """What outputs are computed in to be compared.

        In a deep network that has not learned, one spike more in the first layer becomes another
        share of all spikes behind it: rounding in another order would be all that is seen.
        """
        return "float64" if len(self.layers) > 5 else "float32"

    def without_dropout(self) -> Workload:
        """Masks are random: outputs can only be compared without them."""
        return replace(
            self,
            layers=tuple(replace(layer, dropout=0.0) for layer in self.layers),
            settings=self.settings | {"dropout": 0.0},
        )


def _layer(values: dict[str, Any]) -> Layer:
    told = values["shortcut"]
    if told is None:
        return Layer(**values)
    weights = None if told["weights"] is None else Weights(**told["weights"])
    return Layer(**values | {"shortcut": Shortcut(told["reads"], weights)})


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
SHORT: dict[str, Any] = {
    "network.norm": "tdbn",
    "network.dropout": 0.0,
    "neuron.beta": 0.5,
    "neuron.slope": 2.0,
}
"""Of networks with few time steps."""
_DEEP = {"vgg9": 16, "resnet19": 2}
"""Images in a batch, which make a training step of a second or so on one thread."""
SOURCES = (
    PAPERS
    | {
        f"mnist-t{steps}": Source(
            "mnist",
            (1, 28, 28),
            0.19,
            variant="bsnn-unit",
            changes=SHORT | {"data.num_steps": steps},
        )
        for steps in (4, 6)
    }
    | {
        name: Source(
            "mnist",
            (3, 32, 32),
            1.0,
            variant="bsnn-unit",
            changes=SHORT
            | {"data.num_steps": 4, "data.batch_size": batch, "network.notation": name},
        )
        for name, batch in _DEEP.items()
    }
)


def from_preset(name: str) -> Workload:
    """A network with the settings of its preset and variant, at iteration 0."""
    from bsnn_tha.losses import SpikeCountLoss
    from bsnn_tha.nn.notation import ConvSpec, parse_network, write_out
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
    for index, (theta, plan) in enumerate(zip(thetas, parsed, strict=True)):
        if plan.reads != ((index - 1,) if index else ()) or plan.recurrence is not None:
            raise ValueError(f"the peers' layers read the one before, but {name} has others")
        # tdBN is on the scale of the threshold, shared where two currents are added.
        scale = theta / 2**0.5 if plan.shortcut else theta
        shortcut = None
        if plan.shortcut is not None:
            (reads,), inner = plan.shortcut.reads, plan.shortcut.spec
            shape = plan.shortcut.input_shape
            shortcut = Shortcut(
                reads, None if inner is None else _weights(inner, shape, network.norm, scale)
            )
        layers.append(
            Layer(
                **vars(_weights(plan.spec, plan.input_shape, network.norm, scale)),
                theta=theta,
                dropout=0.0 if isinstance(plan.spec, ConvSpec) else dropouts.pop(0),
                shortcut=shortcut,
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
        settings=network.model_dump()
        | {"notation": write_out(network.notation)}
        | neuron.model_dump()
        | threshold.model_dump(),
    )


def _weights(spec: LayerSpec, shape: tuple[int, ...], norm: Any, scale: float) -> Weights:
    """Of a layer or of a shortcut.

    Args:
        spec: in the papers' notation.
        shape: of what they read.
        norm: of the convolutions' current.
        scale: of tdBN.
    """
    from bsnn_tha.nn.notation import ConvSpec

    if not isinstance(spec, ConvSpec):
        inputs = shape[0] if spec.of_means else int(np.prod(shape))
        return Weights(inputs, spec.outputs, 0, 1, spec.bias, False, of_means=spec.of_means)
    if spec.depthwise or (spec.pool > 1 and spec.pooling != "average"):
        raise ValueError(
            f"the peers' convolutions are of all maps with average pooling, not {spec}"
        )
    return Weights(
        inputs=shape[0],
        outputs=spec.channels,
        kernel=spec.kernel,
        pool=spec.pool,
        bias=False,
        norm=norm in ("per-step", "tdbn"),
        window_norm=norm == "tdbn",
        norm_scale=scale if norm == "tdbn" else 1.0,
        stride=spec.stride,
        padding=spec.padding,
    )


def draw(workload: Workload, seed: int = 0) -> Arrays:
    """Weights, input and targets. Drawn by numpy: the same in every version of PyTorch."""
    random = np.random.default_rng(seed)
    source = SOURCES[workload.name]
    arrays: Arrays = {}
    # Sums of ±1 meet θ = 1 exactly, where > and ≥ differ.
    tied = any(layer.window_norm for layer in workload.layers)

    def weights(name: str, its: Weights) -> None:
        area = max(its.kernel, 1) ** 2
        bound = (1.5 / ((its.inputs + its.outputs) * area)) ** 0.5  # as bsnn_tha's "glorot"
        latent = random.uniform(-bound, bound, its.shape) + source.lift * bound
        arrays[f"{name}.weight"] = latent.astype(np.float32)
        if its.bias:
            bias = random.uniform(0, 1, its.outputs) if tied else np.zeros(its.outputs)
            arrays[f"{name}.bias"] = bias.astype(np.float32)
        if its.norm:
            arrays[f"{name}.norm.weight"] = np.ones(its.outputs, np.float32)
            arrays[f"{name}.norm.bias"] = np.zeros(its.outputs, np.float32)

    for index, layer in enumerate(workload.layers):
        weights(f"{index}", layer)
        if layer.shortcut is not None and layer.shortcut.weights is not None:
            weights(f"{index}.shortcut", layer.shortcut.weights)
    lead = (workload.batch,) if workload.static else (workload.steps, workload.batch)
    input = (random.random((*lead, *workload.input_shape)) < source.rate).astype(np.float32)
    if workload.static:
        input *= random.random(input.shape, np.float32)
    arrays["input"] = input
    arrays["targets"] = random.integers(0, workload.layers[-1].outputs, workload.batch)
    return arrays
