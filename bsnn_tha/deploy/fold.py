"""A trained network as ±1 weights and numbers for each channel, without rounding.

What reaches the neurons of channel c is, with s the pooled sum of signs,

    I = a_c s + b_c,      a = γ α V_th / (√(σ² + ε) p²),      b = bias or β_norm − μ γ α V_th / √(σ² + ε)

(batch norm in evaluation is the same at every time step; p is the side of average pooling; an
input's scale is part of a). Potentials are then counted in units of |a_c|: the sum is left as it
is, threshold and offset are θ / |a_c| and b_c / |a_c|, and the sign of a_c goes into the weights.
Dividing a membrane and its threshold by the same positive number changes no spike.

- After maximum pooling a negative a_c stays in the gain: max(−s) is not −max(s).
- Where a_c = 0 the gain is 0, and what is left is the offset.
- A residual sum has two scales, and so has what a recurrent layer adds to its current, of which
  the norm knows nothing: the larger is the unit, the other a gain below 1. Beside an input that
  counts in s, what comes back counts with s times its scale, and its gain may be up to 1 / s.
- Where the output's membranes are read, its channels share the largest unit, so that they can be
  compared. One that does not fire has θ = ∞.
"""  # noqa: E501 (one equation, one line)

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from bsnn_tha.deploy.network import (
    Array,
    DeployedNetwork,
    InputEncoding,
    Layer,
    Readout,
    Shape,
    Term,
)
from bsnn_tha.equations.binarize import Binary
from bsnn_tha.equations.bounds import held_decay
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.connection import Connection
from bsnn_tha.nn.layer import SpikingLayer
from bsnn_tha.nn.network import SpikingNetwork
from bsnn_tha.nn.neurons.lateral import LateralLeaky
from bsnn_tha.nn.neurons.leaky import AnnealedLeaky, Leaky
from bsnn_tha.nn.neurons.neuron import WindowNeuron
from bsnn_tha.nn.neurons.synaptic import Synaptic
from bsnn_tha.nn.norms.batch_norm import BatchNormPerStep, ThresholdDependentBatchNorm
from bsnn_tha.nn.notation import ConvSpec
from bsnn_tha.nn.weights.derived import weight_of


def fold(
    network: SpikingNetwork, encoding: InputEncoding, readout: Readout, num_steps: int
) -> DeployedNetwork:
    """The network in floating point, float64, as it computes in evaluation mode.

    Args:
        network: with binary weights.
        encoding: of its input.
        readout: what the answer is read from.
        num_steps: T.

    Raises:
        InvalidValueError: something of it has no exact counterpart; the message names the
            nearest setting that has.

    Example:
        >>> network = SpikingNetwork("16C3-AP2-10", (1, 8, 8), beta=0.9, theta_0=5.0)
        >>> folded = fold(network, InputEncoding("image", (1, 8, 8), 4, False, 1 / 15),
        ...               "spike_count", 20)
        >>> folded.layers[0].terms[0].weights.shape, folded.layers[0].threshold.shape
        ((16, 1, 3, 3), (16,))
    """
    layers = []
    for index, layer in enumerate(network.layers):
        assert isinstance(layer, SpikingLayer)
        last = index == len(network.layers) - 1
        where = f"layer {index + 1} of {network.notation}"
        _check_neuron(layer.neuron, where, last)
        scale = 1.0 if layer.reads else encoding.scale
        shared = last and readout == "membrane_sum"
        layers.append(_folded(layer, where, scale, shared))
    return DeployedNetwork(encoding, tuple(layers), readout, num_steps)


def _check_neuron(neuron: WindowNeuron, where: str, last: bool) -> None:
    if isinstance(neuron, LateralLeaky):
        raise InvalidValueError(
            f"{where} has lateral interaction, whose weights are no bits; train it with "
            "neuron.lateral_width = 0"
        )
    if type(neuron) not in (Leaky, AnnealedLeaky, Synaptic):
        raise InvalidValueError(
            f"{where} has neurons of {type(neuron).__name__}, whose equations are not known here; "
            "train it with neuron.model = 'leaky' or 'synaptic'"
        )
    if neuron.emits == "membrane" and not last:
        raise InvalidValueError(
            f"{where} hands on membrane potentials, which are no bits; train it with "
            "neuron.emits = 'spikes'"
        )
    if neuron.graded:
        raise InvalidValueError(
            f"{where} hands on graded spikes; train it with graded_spikes_factor=1"
        )


class _Way:
    """A term before its scale is divided out."""

    def __init__(
        self,
        connection: Connection,
        reads: tuple[int, ...],
        where: str,
        output_shape: Shape,
        input_scale: float,
    ) -> None:
        spec, synapse = connection.spec, connection.synapse
        self.weights = _signs(synapse, where)
        channels = len(self.weights)
        self.scale = np.full(channels, input_scale)
        self.offset = np.zeros(channels) if synapse.bias is None else _float(synapse.bias)
        self.settings: dict[str, Any] = {"kind": "dense"}
        pooling = "sum"
        if isinstance(spec, ConvSpec):
            pooling = "sum" if spec.pooling == "average" else "max"
            self.settings = {
                "kind": "conv",
                "stride": spec.stride,
                "padding": spec.padding,
                "groups": connection.input_shape[0] if spec.depthwise else 1,
                "pool": spec.pool,
                "pooling": pooling,
            }
            if pooling == "sum":
                self.scale /= spec.pool**2
        elif spec.of_means:
            self.settings["sums_maps"] = True
            self.scale /= connection.input_shape[1] * connection.input_shape[2]
        self.settings |= {
            "reads": reads,
            "input_shape": connection.input_shape,
            "output_shape": output_shape,
        }
        gain, shift = _norm(connection.norm, channels, where)
        self.scale *= gain
        self.offset = self.offset * gain + shift
        if pooling == "sum":
            signs = np.where(self.scale < 0, -1, 1).astype(np.int8)
            self.weights = self.weights * signs.reshape(-1, *(1,) * (self.weights.ndim - 1))
            self.scale = np.abs(self.scale)

    def term(self, unit: Array) -> Term:
        return Term(weights=self.weights, gain=self.scale / unit, **self.settings)


def _folded(layer: SpikingLayer, where: str, input_scale: float, shared_unit: bool) -> Layer:
    shape, neuron = layer.output_shape, layer.neuron
    first, *others = layer.connections()
    ways = [_Way(*first, where, shape, input_scale)]
    ways += [_Way(*other, where, shape, 1.0) for other in others]
    as_they_are = layer.shortcut is not None and layer.shortcut.connection is None
    # Not against an input's 1 but against the whole numbers that it counts in: its gain would
    # otherwise be left with few bits.
    beside = [input_scale * np.abs(way.scale) for way in ways[1:]]
    scale = np.max([np.abs(ways[0].scale), *beside], axis=0)
    if as_they_are:
        scale = np.maximum(scale, 1.0)
    offset = np.sum([way.offset for way in ways], axis=0)
    # A channel without weight that counts has no scale of its own.
    unit = np.where(scale > 0, scale, 1.0)
    if shared_unit:
        unit = np.full_like(unit, unit.max())
    terms = [way.term(unit) for way in ways]
    if as_they_are:
        assert layer.shortcut is not None
        terms.append(Term("spikes", layer.shortcut.reads, shape, shape, None, 1.0 / unit))
    synaptic = isinstance(neuron, Synaptic)
    folded = Layer(
        tuple(terms),
        shape,
        offset / unit,
        _threshold(neuron, shape, unit),
        _decay(neuron.beta, shape),
        _decay(neuron.alpha, shape) if synaptic else None,
        neuron._reset_mechanism,
        unit,
    )
    # θ = ∞ is an output that does not fire.
    reach = folded.threshold if neuron.fires else np.zeros(())
    numbers = (folded.offset, reach, folded.decay, *(term.gain for term in terms))
    if not all(np.isfinite(values).all() for values in numbers):
        raise InvalidValueError(f"{where} has parameters that are not finite; train it anew")
    return folded


def _signs(synapse: Any, where: str) -> Array:
    quantizer = getattr(synapse, "quantizer", None)
    if not isinstance(quantizer, Binary):
        kind = (
            "full-precision weights"
            if quantizer is None
            else f"weights of {quantizer.bits} bits ({type(quantizer).__name__})"
        )
        raise InvalidValueError(
            f"{where} has {kind}, where only −1 and +1 can be deployed; train it with "
            "network.weights = 'binary'"
        )
    weights = _float(weight_of(synapse))
    if not (np.abs(weights) == 1).all():
        raise InvalidValueError(
            f"{where} has pruned weights, and a bit knows no zero; train it without pruning"
        )
    return weights.astype(np.int8)


def _norm(norm: Any, channels: int, where: str) -> tuple[Array, Array]:
    """Scale and shift of a norm that uses its running statistics."""
    if norm is None:
        return np.ones(channels), np.zeros(channels)
    if type(norm) not in (BatchNormPerStep, ThresholdDependentBatchNorm):
        raise InvalidValueError(
            f"{where} has the norm {type(norm).__name__}, which is not known here; train it with "
            "network.norm = 'per-step', 'tdbn' or 'none'"
        )
    gain = _float(norm.weight) * getattr(norm, "scale", 1.0)
    gain = gain / np.sqrt(_float(norm.running_var) + norm.eps)
    return gain, _float(norm.bias) - _float(norm.running_mean) * gain


def _threshold(neuron: WindowNeuron, shape: Shape, unit: Array) -> Array:
    """θ in units, ``[channels]`` if neurons of a channel share it."""
    each = np.broadcast_to(_float(neuron.threshold), shape).reshape(shape[0], -1)
    if (each == each[:, :1]).all():
        return each[:, 0] / unit
    return (each / unit[:, None]).reshape(shape)


def _decay(decay: Tensor, shape: Shape) -> Array:
    values = _float(held_decay(decay))
    return values.reshape(()) if values.size == 1 else np.broadcast_to(values, shape).copy()


def _float(values: Tensor) -> Array:
    return values.detach().cpu().double().numpy()
