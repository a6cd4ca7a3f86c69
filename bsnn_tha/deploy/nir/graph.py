"""A folded network as a NIR graph, for one reader."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bsnn_tha.deploy.network import Array, DeployedNetwork, Layer, Shape, Term
from bsnn_tha.deploy.nir.neuron_nodes import (
    Dynamics,
    affine,
    convolution,
    current_based,
    integrator_based,
    plain,
)
from bsnn_tha.deploy.nir.profiles import Neurons, Profile, neurons, never
from bsnn_tha.deploy.nir.scaling import Scaled, scaled
from bsnn_tha.errors import InvalidValueError


def neuron_name(index: int) -> str:
    """Of the node whose output are a layer's spikes."""
    return f"neurons_{index}"


class GraphMaker:
    """Collects nodes and edges.

    Attributes:
        kinds: what each layer's neurons became.
        numbers: each layer in the reader's scale.

    Args:
        folded: the network in floating point.
        fires: for each layer, whether any of its neurons ever can.
        profile: of the reader.
        plain: whether neurons are one ``LIF`` each, whatever the reader makes of it.

    Raises:
        InvalidValueError: something has no node that this reader knows.
    """

    def __init__(
        self,
        folded: DeployedNetwork,
        fires: tuple[bool, ...],
        profile: Profile,
        plain: bool = False,
    ) -> None:
        self.folded, self.profile, self.plain = folded, profile, plain
        self.kinds: list[Neurons] = []
        self.numbers: list[Scaled] = []
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self._flat: dict[str, str] = {}
        for index, layer in enumerate(folded.layers):
            self._layer(index, layer, fires[index])

    def graph(self) -> Any:
        """The ``nir.NIRGraph``."""
        import nir

        shape, layers = self.folded.input.shape, self.folded.layers
        ends = {
            "input": nir.Input(np.array(shape)),
            **self.nodes,
            "output": nir.Output(np.array(layers[-1].output_shape)),
        }
        edges = [*self.edges, (neuron_name(len(layers) - 1), "output")]
        return nir.NIRGraph(ends, edges, type_check=self.profile.states_maps)

    def _layer(self, index: int, layer: Layer, fires: bool) -> None:
        where, profile = f"layer {index + 1}", self.profile
        kind = neurons(profile, layer, fires, self.plain)
        self._check(kind, index, layer, where)
        numbers = scaled(layer, profile.one_threshold and fires, where)
        self.kinds.append(kind)
        self.numbers.append(numbers)
        threshold = numbers.threshold
        if kind == "integrator":
            threshold = np.full(layer.output_shape, never())
        decay = self._decay(layer.decay, layer, where)
        synaptic = None
        if layer.synaptic_decay is not None:
            synaptic = self._decay(layer.synaptic_decay, layer, where)
        back = next((term for term in layer.terms if term.comes_back_to(index)), None)
        # What never fires brings nothing back.
        recurrent = None if back is None or not fires else self._weighted(back, numbers)
        made = Dynamics(kind, layer.output_shape, threshold, decay, synaptic, recurrent, where)
        form = integrator_based
        if self.plain:
            form = plain
        elif profile.current_based:
            form = current_based
        nodes = form(index, made, profile)
        for k, term in enumerate(layer.terms):
            if term is not back:
                name = f"weights_{index}" if k == 0 else f"shortcut_{index}"
                self._term(name, term, numbers, nodes.entry, first=k == 0)
        self.nodes |= nodes.nodes
        self.edges += nodes.edges

    def _check(self, kind: Neurons, index: int, layer: Layer, where: str) -> None:
        profile = self.profile
        if kind == "to zero" and layer.reset == "zero" and not profile.current_based:
            raise InvalidValueError(
                f"{where} resets to zero, which {profile.name} cannot read; choose "
                "reader=snntorch, spikingjelly or norse"
            )
        at_once = [term for term in layer.terms if not term.comes_back_to(index)]
        if not profile.joins and (len(at_once) > 1 or len(at_once[0].reads) > 1):
            raise InvalidValueError(
                f"{where} adds up what comes by several ways, of which {profile.name} takes all "
                "but one a time step late; choose reader=snntorch or spikingjelly"
            )
        if layer.synaptic_decay is not None and kind != "to zero" and profile.current_based:
            raise InvalidValueError(
                f"{where} has synaptic neurons that do not reset to zero, for which "
                f"{profile.name} has no node; choose reader=sinabs, or train with "
                "neuron.reset_mechanism = 'zero'"
            )

    def _weighted(self, term: Term, numbers: Scaled) -> Array:
        """Weights of a term times its gains, in the reader's scale."""
        gain = term.gain * numbers.factor
        if not term.reads:
            gain = gain / self.folded.input.scale
        weights = _full(term)
        return weights * gain.reshape(-1, *(1,) * (weights.ndim - 1))

    def _term(self, name: str, term: Term, numbers: Scaled, to: str, first: bool) -> None:
        offset = numbers.offset if first else np.zeros_like(numbers.offset)
        weights = self._weighted(term, numbers)
        start = 0
        for source in term.reads or (None,):
            shape = self.folded.input.shape if source is None else self._shape(source)
            node = name if len(term.reads) < 2 else f"{name}_from_{source}"
            spikes = "input" if source is None else neuron_name(source)
            here = weights[:, start : start + shape[0]] if weights.ndim == 4 else weights
            if weights.ndim == 2 and len(term.reads) > 1:
                size = math.prod(shape)
                here = weights[:, start * size // shape[0] : (start + shape[0]) * size // shape[0]]
            bias = offset if start == 0 else 0 * offset
            start += shape[0]
            self._weights(node, term, here, bias, spikes, shape, to)

    def _weights(
        self, name: str, term: Term, weights: Array, bias: Array, source: str, shape: Shape, to: str
    ) -> None:
        import nir

        if weights.ndim == 2:
            self.nodes[name] = affine(weights, bias)
            self.edges += [(self._flattened(source, shape), name), (name, to)]
            return
        cells = term.pool**2
        if term.pool > 1 and term.pooling == "max":
            raise InvalidValueError(
                f"{name.replace('weights_', 'the weights of layer ')} (from 0) end in maximum "
                "pooling, for which NIR has no node; train with average pooling, AP"
            )
        averages = self.profile.pooling == "AvgPool2d"
        if averages:
            weights = weights * cells
        else:
            bias = bias / cells
        self.nodes[name] = convolution(weights, bias, shape, term.stride, term.padding)
        self.edges.append((source, name))
        if term.pool > 1:
            side, pool = np.array([term.pool, term.pool]), f"{name}_pooled"
            self.nodes[pool] = getattr(nir, self.profile.pooling)(side, side, np.array([0, 0]))
            self.edges.append((name, pool))
            name = pool
        self.edges.append((name, to))

    def _flattened(self, source: str, shape: Shape) -> str:
        """A node with the maps in one row."""
        import nir

        if len(shape) == 1:
            return source
        if source not in self._flat:
            # Counted from the end: some readers count the batch, and some do not.
            node = nir.Flatten({"input": np.array(shape)}, -3, -1)
            self._flat[source] = f"{source}_flat"
            self.nodes[self._flat[source]] = node
            self.edges.append((source, self._flat[source]))
        return self._flat[source]

    def _shape(self, index: int) -> Shape:
        return self.folded.layers[index].output_shape

    def _decay(self, decay: Array, layer: Layer, where: str) -> NDArray[np.float64]:
        if self.profile.one_decay and (decay != decay.flat[0]).any():
            raise InvalidValueError(
                f"{where} has a decay for each neuron, and {self.profile.name} reads one for the "
                "layer; choose reader=snntorch or norse"
            )
        return np.broadcast_to(np.asarray(decay, np.float64), layer.output_shape).copy()


def _full(term: Term) -> Array:
    """Weights between all channels: those of the fully connected, or of a convolution."""
    if term.weights is None:
        return np.eye(term.output_shape[0])[:, :, None, None]
    weights = term.weights.astype(np.float64)
    if term.sums_maps:
        _, height, width = term.input_shape
        return np.repeat(weights, height * width, axis=1)
    if term.groups > 1:  # readers know no groups
        full = np.zeros((len(weights), term.input_shape[0], *weights.shape[2:]))
        full[np.arange(len(weights)), np.arange(len(weights))] = weights[:, 0]
        return full
    return weights
