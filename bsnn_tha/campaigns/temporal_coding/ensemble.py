"""Many small dense networks trained side by side, each on its own task.

A temporal coding run has one sample per iteration, so a single run keeps a
processor waiting for Python. Here every run of a list is one slice of a batch
of networks: products become batched products, and one call of
:func:`bsnn_tha.lif_sequence` advances all runs. Each run has its own
configuration and seed and starts from the same weights and input pattern as
``bsnn-tha train --config`` would give it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bsnn_tha import Leaky, lif_sequence
from bsnn_tha.config import RunConfig
from bsnn_tha.data import load_dataset
from bsnn_tha.equations.quantizers import Quantizer
from bsnn_tha.observe.metrics import SpikeTiming, spike_timing
from bsnn_tha.training.schedule import schedule_of


@dataclass(frozen=True)
class EnsembleResult:
    """What every run's output neuron did in every iteration."""

    membranes: Tensor
    """``[iterations, runs, time]``."""
    spikes: Tensor
    """Like ``membranes``, uint8."""
    thresholds: Tensor
    """Output threshold, ``[iterations, runs]``."""
    loss: Tensor
    """Mean squared error over time, ``[iterations, runs]``."""
    target: Tensor
    """``[runs, time]``."""

    def timing(self, run: int) -> SpikeTiming:
        """How one run meets its target step; see :func:`~bsnn_tha.observe.metrics.spike_timing`."""
        return spike_timing(self.spikes[:, run], int(self.target[run].argmax()))


@dataclass
class _Layer:
    """One fully connected layer of all runs."""

    weight: Tensor  # latent, [runs, in, out]
    bias: Tensor  # [runs, 1, out]
    neurons: list[Leaky]

    def beta(self) -> Tensor:
        """β, ``[runs, 1]``."""
        return torch.stack([neuron.beta for neuron in self.neurons]).unsqueeze(1)

    def threshold(self) -> Tensor:
        """θ of this iteration, ``[runs, 1]``."""
        return torch.stack([neuron.rule() for neuron in self.neurons]).unsqueeze(1)

    def theta_0(self) -> Tensor:
        """θ before the first iteration, ``[runs, 1]``."""
        return torch.stack([neuron.rule.theta_0 for neuron in self.neurons]).unsqueeze(1)

    def anneal(self) -> None:
        """On to the next iteration's θ."""
        for neuron in self.neurons:
            neuron.anneal()


def train_ensemble(
    configs: Sequence[RunConfig], progress: Callable[[int], None] | None = None
) -> EnsembleResult:
    """Train every configuration; all must have the same network and length.

    Args:
        configs: temporal coding configurations with SGD; the seed is
            ``training.seed`` of each.
        progress: called with the number of finished iterations.
    """
    first = configs[0]
    iterations = first.data.options.get("iterations", 1000) * first.training.epochs
    inputs, target = _tasks(configs)
    layers = _layers(configs)
    slopes = torch.tensor([[config.neuron.slope] for config in configs])
    parameters = [tensor for layer in layers for tensor in (layer.weight, layer.bias)]
    momenta = [torch.zeros_like(tensor) for tensor in parameters]
    momentum = _per_run([config.optimizer.momentum for config in configs])
    weights = torch.tensor([_loss_weight(config) for config in configs])
    quantizer = first.network.quantizer()
    history: dict[str, list[Tensor]] = {"membranes": [], "spikes": [], "thresholds": [], "loss": []}
    for iteration in range(iterations):
        spikes, membranes, threshold = _forward(layers, inputs, slopes, quantizer, configs)
        losses = (membranes - target).square().mean(0)
        gradients = torch.autograd.grad(losses @ weights, parameters)
        rate = _per_run([_learning_rate(config, iteration, iterations) for config in configs])
        with torch.no_grad():
            for tensor, moment, gradient in zip(parameters, momenta, gradients, strict=True):
                moment.mul_(momentum).add_(gradient)
                tensor.sub_(rate * moment)
        for layer in layers:
            layer.anneal()
        history["membranes"].append(membranes.detach().T.clone())
        history["spikes"].append(spikes.detach().T.to(torch.uint8))
        history["thresholds"].append(threshold)
        history["loss"].append(losses.detach())
        if progress:
            progress(iteration + 1)
    stacked = {name: torch.stack(values) for name, values in history.items()}
    return EnsembleResult(**stacked, target=target.T)


def _tasks(configs: Sequence[RunConfig]) -> tuple[Tensor, Tensor]:
    """Inputs ``[runs, time, features]`` and targets ``[time, runs]``."""
    patterns, targets = [], []
    for config in configs:
        dataset = load_dataset(
            config.data.name,
            root=Path(),
            cache=Path(),
            seed=config.training.seed,
            validation=0.0,
            num_steps=config.data.num_steps,
            options=config.data.options,
        )
        pattern, target = dataset.train[[0]]
        assert isinstance(pattern, Tensor)
        patterns.append(pattern[:, 0])
        targets.append(target[:, 0, 0])
    return torch.stack(patterns), torch.stack(targets, dim=1)


def _layers(configs: Sequence[RunConfig]) -> list[_Layer]:
    networks = []
    for config in configs:
        torch.manual_seed(config.training.seed)
        networks.append(config.build_network((config.data.options.get("inputs", 100),)))
    layers = []
    for parts in zip(*(network.layers for network in networks), strict=True):
        synapses: list[nn.Linear] = [part.synapse for part in parts]
        weights = [next(synapse.parameters()).detach().T for synapse in synapses]
        biases = [synapse.bias.detach().unsqueeze(0) for synapse in synapses]
        layers.append(
            _Layer(
                torch.stack(weights).contiguous().requires_grad_(),
                torch.stack(biases).requires_grad_(),
                [part.neuron for part in parts],
            )
        )
    return layers


def _forward(
    layers: list[_Layer],
    inputs: Tensor,
    slopes: Tensor,
    quantizer: Quantizer | None,
    configs: Sequence[RunConfig],
) -> tuple[Tensor, Tensor, Tensor]:
    """Output spikes and membranes ``[time, runs]`` and output threshold ``[runs]``."""
    clamped = torch.tensor([[c.neuron.surrogate_centre == "clamped"] for c in configs])

    def surrogate(membrane: Tensor, centre: Tensor) -> Tensor:  # Eq. 8, a slope per run
        return (1 + slopes * (membrane - centre).abs()).square().reciprocal()

    spikes = inputs
    for layer in layers:
        theta_0, threshold = layer.theta_0(), layer.threshold()
        weight = layer.weight if quantizer is None else quantizer(layer.weight)
        current = torch.baddbmm(layer.bias, spikes, weight).transpose(0, 1)
        window = lif_sequence(
            current,
            layer.beta(),
            threshold,
            torch.where(clamped, theta_0, threshold),
            surrogate,
            record=True,
        )
        spikes = window.spikes.transpose(0, 1)
    assert window.membranes is not None
    return window.spikes[:, :, 0], window.membranes[:, :, 0], threshold[:, 0]


def _loss_weight(config: RunConfig) -> float:
    """What the mean squared error is multiplied by: T where the loss is Eq. 29's sum."""
    return float(config.data.num_steps) if config.loss.options["reduction"] == "sum" else 1.0


def _learning_rate(config: RunConfig, iteration: int, iterations: int) -> float:
    epochs = config.training.epochs
    share = schedule_of(config.optimizer, epochs)
    return config.optimizer.lr * (1.0 if share is None else share(iteration, iterations / epochs))


def _per_run(values: list[float]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1)
