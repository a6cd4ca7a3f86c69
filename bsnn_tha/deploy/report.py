"""What a deployed network needs: memory, operations and energy, layer by layer.

Flash holds weights and the numbers of channels; RAM the states of neurons and the spikes of one
time step. Both are those of the arrays: what a target's program needs besides is its own report's.

Operations are counted over the test set: additions are spikes (and nonzero inputs) times the
weights they meet (:mod:`bsnn_tha.observe.workload`), updates are neurons times time steps, each
a multiplication by β (and κ), an addition, a comparison. An image meets the first layer's weights
once, not at every time step; recurrent weights meet the spikes of the last step as well.

Energy is an estimate: these counts times the constants of :mod:`bsnn_tha.observe.energy`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bsnn_tha.deploy.bits import bytes_per_output
from bsnn_tha.deploy.measure import Comparison
from bsnn_tha.deploy.network import Array, DeployedNetwork, Layer
from bsnn_tha.nn.layer import SpikingLayer
from bsnn_tha.nn.network import SpikingNetwork
from bsnn_tha.observe.energy import FLOAT_BITS, Costs
from bsnn_tha.observe.workload import dense_operations, effective_operations


@dataclass(frozen=True)
class LayerCost:
    """One layer; operations and energy are of a sample's whole window.

    Attributes:
        weight_bits, parameters: 1-bit weights; numbers of gain, offset, threshold, decay.
        flash, ram: bytes.
        additions: of nonzero inputs.
        dense_additions: if no input were zero.
        updates: of neurons.
        energy_nj: in nJ.
        float_energy_nj: of a float32 network that multiplies every input by every weight.
    """

    neurons: int
    weight_bits: int
    parameters: int
    flash: int
    ram: int
    rate: float
    additions: float
    dense_additions: int
    updates: int
    energy_nj: float
    float_energy_nj: float


def layer_costs(
    network: DeployedNetwork,
    trained: SpikingNetwork,
    comparison: Comparison,
    costs: Costs | None = None,
) -> list[LayerCost]:
    """What each layer needs, by what it did on the samples of a comparison.

    Args:
        network: in whole numbers.
        trained: the same network, which knows the fan-out of each input.
        comparison: of both.
        costs: energy of operations; the default ones if None.
    """
    return list(_layer_costs(network, trained, comparison, costs or Costs()))


def _layer_costs(
    network: DeployedNetwork, trained: SpikingNetwork, comparison: Comparison, costs: Costs
) -> Iterator[LayerCost]:
    assert network.state_bits is not None and comparison.input_counts is not None
    steps, samples = network.num_steps, comparison.samples
    image = network.input.kind == "image"
    for index, layer in enumerate(network.layers):
        module = trained.layers[index]
        assert isinstance(module, SpikingLayer)
        additions, dense = 0.0, 0
        for connection, reads in module.connections():
            seen = _seen(reads, comparison)
            once = 1 if reads or not image else steps  # an image is summed once
            additions += effective_operations(connection.synapse, torch.from_numpy(seen)) / once
            shape = connection.input_shape
            dense += dense_operations(connection.synapse, shape) * (steps // once)
        additions /= samples
        updates = layer.neurons * steps
        states = 1 + (layer.synaptic_decay is not None)
        word = network.state_bits // 8
        parameters = _parameters(layer)
        weights = sum(0 if term.weights is None else term.weights.size for term in layer.terms)
        energy = costs.of_inputs(additions, weight_bits=1, graded=False)
        energy += costs.of_neurons(updates, states, word)
        real = costs.of_inputs(dense, FLOAT_BITS, graded=True)
        real += costs.of_neurons(updates, states, real=True)
        yield LayerCost(
            layer.neurons,
            weights,
            parameters,
            _weight_bytes(layer) + 4 * parameters,
            layer.neurons * states * word + (layer.neurons + 7) // 8,
            float(comparison.counts[index].sum()) / (layer.neurons * steps * samples),
            additions,
            dense,
            updates,
            energy / 1000,
            real / 1000,
        )


def _seen(reads: Sequence[int], comparison: Comparison) -> Array:
    """How often each input of a term was nonzero."""
    if not reads:
        assert comparison.input_counts is not None
        return comparison.input_counts
    joined = [torch.from_numpy(comparison.counts[source]) for source in reads]
    counts: Array = torch.cat(joined).numpy()
    return counts


def _weight_bytes(layer: Layer) -> int:
    return sum(
        0 if term.weights is None else layer.channels * bytes_per_output(term.fan_in)
        for term in layer.terms
    )


def _parameters(layer: Layer) -> int:
    """Numbers that differ between channels or neurons, or one that all share."""
    given = [layer.offset, layer.threshold, layer.decay, *(term.gain for term in layer.terms)]
    if layer.synaptic_decay is not None:
        given.append(layer.synaptic_decay)
    return sum(1 if (values == values.flat[0]).all() else values.size for values in given)


def text(figures: dict[str, Any]) -> str:
    """A report (:func:`bsnn_tha.deploy.export.export`) as Markdown."""
    rows = figures["layers"]
    lines = [
        f"# {figures['name']}, deployed",
        "",
        f"{figures['notation']} on {figures['dataset']}, {figures['num_steps']} time steps; "
        f"inputs of {figures['input_bits']} bits, states of {figures['state_bits']}, decays in "
        f"2^-{figures['decay_bits']}.",
        "",
        "| on the test set | |",
        "|---|---|",
        f"| samples | {figures['samples']:,} |",
        f"| accuracy as trained, float32 | {figures['trained_accuracy']:.2%} |",
        f"| accuracy in whole numbers | {figures['deployed_accuracy']:.2%} |",
        f"| same answer | {figures['same_answers']:.2%} |",
        f"| spikes that differ | {figures['differing_spikes']:.2e} of all |",
        f"| inputs held at their bounds | {figures['held_inputs']:,} |",
        "",
        "| layer | neurons | weight bits | flash, B | RAM, B | bits of sum, current, state "
        "| firing rate | additions | of dense | updates | energy, nJ | float32, nJ |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for number, row in enumerate(rows, start=1):
        lines.append(
            f"| {number} | {row['neurons']:,} | {row['weight_bits']:,} | {row['flash']:,} "
            f"| {row['ram']:,} | {row['sum_bits']}, {row['current_bits']}, {row['membrane_bits']} "
            f"| {row['rate']:.2%} | {row['additions']:,.0f} "
            f"| {row['additions'] / row['dense_additions']:.1%} | {row['updates']:,} "
            f"| {row['energy_nj']:,.1f} | {row['float_energy_nj']:,.1f} |"
        )
    lines.append(
        "| all | "
        + " | ".join(f"{sum(r[key] for r in rows):,}" for key in ("neurons", "weight_bits"))
        + " | "
        + " | ".join(f"{sum(r[key] for r in rows):,}" for key in ("flash", "ram"))
        + f" | | | {sum(r['additions'] for r in rows):,.0f} | "
        + f"{sum(r['additions'] for r in rows) / sum(r['dense_additions'] for r in rows):.1%} | "
        + f"{sum(r['updates'] for r in rows):,} | {sum(r['energy_nj'] for r in rows):,.1f} | "
        + f"{sum(r['float_energy_nj'] for r in rows):,.1f} |"
    )
    lines += [
        "",
        "Widths are proven from the weights, for any input. Operations and energy are of one "
        f"sample's window; energy is an estimate from constants ({figures['costs']['source']}).",
        "",
        f"Target {figures['target']}:",
        "",
        *(f"- {key}: {_shown(value)}" for key, value in figures["written"].items()),
        "",
    ]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(each)}" for key, each in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)
