"""A layer's neurons as nodes of a graph: where currents enter, and where 0 or 1 comes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bsnn_tha.deploy.network import Array, Shape
from bsnn_tha.deploy.nir.profiles import Neurons, Profile
from bsnn_tha.errors import InvalidValueError

_FOREVER = 2.0**60
"""Time steps of a time constant that stands for β = 1: 1 − 1 / this is 1."""
_NO_TIME = 1e-3
"""Time steps of one that stands for β = 0: exp(−1 / this) is 0."""


@dataclass
class Nodes:
    """Some nodes and their edges.

    Attributes:
        entry: the node that adds up the currents.
        nodes, edges: of the graph.
    """

    entry: str
    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Dynamics:
    """What a layer's neurons do, each value of ``shape``.

    Attributes:
        kind: what they become.
        shape: of the layer.
        threshold: θ, or out of reach.
        decay: β.
        synaptic_decay: κ, or None.
        recurrent: ``[neurons, neurons]``, the currents that their spikes bring back to them, or
            None.
        where: which layer it is, for errors.
    """

    kind: Neurons
    shape: Shape
    threshold: NDArray[np.float64]
    decay: NDArray[np.float64]
    synaptic_decay: NDArray[np.float64] | None
    recurrent: NDArray[np.float64] | None
    where: str

    @property
    def fired_at(self) -> NDArray[np.float64]:
        """The largest number of 32 bits below θ: above it is at θ."""
        below = np.nextafter(self.threshold.astype(np.float32), np.float32(-np.inf))
        return below.astype(np.float64)


def current_based(index: int, made: Dynamics, profile: Profile) -> Nodes:
    """One ``CubaLIF``, and what comes back to it."""
    import nir

    name, one = f"neurons_{index}", np.ones(made.shape)
    synaptic, membrane = made.decay, 0 * one
    if made.kind == "to zero":
        kappa = made.synaptic_decay
        synaptic, membrane = (0 * one if kappa is None else kappa), made.decay
    steps = [1 / np.maximum(1 - share, 1 / _FOREVER) for share in (synaptic, membrane)]
    if any((each != each.flat[0]).any() for each in steps):
        # Readers turn one number into their own type, and leave arrays in theirs.
        steps = [each.astype(np.float32) for each in steps]
    typed = steps[0].dtype
    threshold = made.fired_at if profile.fires_above else made.threshold
    node = nir.CubaLIF(
        tau_syn=steps[0] * profile.dt, tau_mem=steps[1] * profile.dt,
        w_in=steps[0], r=steps[1], v_leak=np.zeros(made.shape, typed),
        v_threshold=threshold.astype(typed), v_reset=np.zeros(made.shape, typed),
    )  # fmt: skip
    nodes = Nodes(name, {name: node})
    _come_back(nodes, index, name, made, profile)
    return nodes


def integrator_based(index: int, made: Dynamics, profile: Profile) -> Nodes:
    """A leaky integrator, and comparators that make of k = ⌊u/θ⌋ spikes the one there is.

    A comparator is a neuron that forgets at once. k − 1, where it is positive, comes from
    another one and is taken off again.
    """
    import nir

    membrane, count, spikes = f"membrane_{index}", f"count_{index}", f"neurons_{index}"
    one = _some(np.ones(made.shape), made)

    def integrator(decay: NDArray[np.float64]) -> Any:
        tau = _steps_of_exponential(_some(decay, made)).astype(np.float32)
        return nir.LI(tau=tau, r=one, v_leak=0 * one)

    def comparator(threshold: NDArray[np.float64]) -> Any:
        return nir.LIF(
            tau=_NO_TIME * one, r=one, v_leak=0 * one, v_reset=0 * one,
            v_threshold=_some(threshold, made).astype(np.float32),
        )  # fmt: skip

    nodes = Nodes(membrane, {membrane: integrator(made.decay)})
    if made.synaptic_decay is not None:
        nodes.entry = f"synapse_{index}"
        nodes.nodes[nodes.entry] = integrator(made.synaptic_decay)
        nodes.edges.append((nodes.entry, membrane))
    if made.kind == "integrator":
        nodes.nodes[spikes] = comparator(made.threshold)
        nodes.edges.append((membrane, spikes))
        return nodes
    ones = np.ones(made.shape)
    besides, over, off = (f"{part}_{index}" for part in ("besides", "over", "off"))
    nodes.nodes |= {
        count: comparator(made.threshold),
        besides: each_by(ones, made, -1.0),
        over: comparator(ones),
        off: each_by(-ones, made),
        spikes: each_by(ones, made),
    }
    # In this order: what is read must have been computed where readers walk along the edges.
    nodes.edges += [
        (membrane, count), (count, besides), (besides, over), (over, off), (off, spikes),
        (count, spikes),
    ]  # fmt: skip
    _come_back(nodes, index, membrane, made, profile)
    return nodes


def _come_back(nodes: Nodes, index: int, to: str, made: Dynamics, profile: Profile) -> None:
    """Add the way of spikes back to the node of u, one step later: −θ, and recurrent weights.

    The two are one matrix. There is no synaptic current where there are recurrent weights.
    """
    inhibits = made.kind == "self-inhibition"
    if made.recurrent is not None:
        back = f"recurrent_{index}"
        taken = np.diag(made.threshold) if inhibits else 0
        nodes.nodes[back] = affine(made.recurrent - taken, np.zeros(made.shape))
    elif inhibits:
        back = f"reset_{index}"
        nodes.nodes[back] = each_by(-made.threshold, made)
    else:
        return
    nodes.edges.append((f"neurons_{index}", back))
    if profile.pairs and len(made.shape) == 1:
        nodes.nodes[f"{back}_back"] = each_by(np.ones(made.shape), made)
        nodes.edges.append((back, f"{back}_back"))
        back = f"{back}_back"
    nodes.edges.append((back, to))


def plain(index: int, made: Dynamics, profile: Profile) -> Nodes:
    """One ``LIF``, with whatever reset the reader gives it."""
    import nir

    name = f"neurons_{index}"
    if made.synaptic_decay is not None:
        raise InvalidValueError(
            f"{made.where} has synaptic neurons, which are no plain LIF; leave out plain"
        )
    if not profile.current_based:
        tau = _steps_of_exponential(_some(made.decay, made)).astype(np.float32)
        one, threshold = np.ones_like(tau), _some(made.threshold, made)
        node = nir.LIF(
            tau=tau, r=one, v_leak=0 * one, v_reset=0 * one,
            v_threshold=threshold.astype(np.float32),
        )  # fmt: skip
        nodes = Nodes(name, {name: node})
        _come_back(nodes, index, name, made, profile)
        return nodes
    if (made.decay == 0).any() or (made.decay == 1).any():
        raise InvalidValueError(
            f"{made.where} has a decay of 0 or 1, for which a plain LIF has no time constant; "
            "leave out plain"
        )
    steps = (1 / (1 - made.decay)).astype(np.float32)
    threshold = made.fired_at if profile.fires_above else made.threshold
    r = np.ones_like(steps) if profile.leaky_input else steps
    if profile.leaky_input:
        threshold = threshold * (1 - made.decay)
    node = nir.LIF(
        tau=steps * np.float32(profile.dt), r=r, v_leak=0 * steps, v_reset=0 * steps,
        v_threshold=threshold.astype(np.float32),
    )  # fmt: skip
    nodes = Nodes(name, {name: node})
    _come_back(nodes, index, name, made, profile)
    return nodes


def each_by(factor: Array, made: Dynamics, bias: float = 0.0) -> Any:
    """A node that multiplies each neuron by its own number, and adds one."""
    channels = made.shape[0]
    if len(made.shape) == 1:
        return affine(np.diag(factor), np.full(channels, bias))
    each = factor.reshape(channels, -1)
    if (each != each[:, :1]).any():
        raise _of_a_map(made.where)
    weights = np.diag(each[:, 0])[:, :, None, None]
    return convolution(weights, np.full(channels, bias), made.shape)


def affine(weights: Array, bias: Array) -> Any:
    """``nir.Affine`` in 32 bits."""
    import nir

    return nir.Affine(weights.astype(np.float32), bias.astype(np.float32))


def convolution(
    weights: Array, bias: Array, shape: Shape, stride: int = 1, padding: int = 0
) -> Any:
    """``nir.Conv2d`` in 32 bits, of maps of a shape."""
    import nir

    return nir.Conv2d(
        input_shape=(shape[1], shape[2]),
        weight=weights.astype(np.float32),
        stride=stride,
        padding=padding,
        dilation=1,
        groups=1,
        bias=bias.astype(np.float32),
    )


def _some(values: NDArray[np.float64], made: Dynamics) -> NDArray[np.float64]:
    """Of maps one place: sinabs reads arrays of one row, and spreads them over the maps."""
    if len(made.shape) == 1:
        return values
    some = values[:, :1, :1]
    if (values != some).any():
        raise _of_a_map(made.where)
    return some


def _of_a_map(where: str) -> InvalidValueError:
    return InvalidValueError(
        f"{where} has a threshold for each neuron of a map, for which this reader has no node; "
        "train with threshold.per = 'layer'"
    )


def _steps_of_exponential(decay: NDArray[np.float64]) -> NDArray[np.float64]:
    """τ with exp(−1/τ) = β.

    Example:
        >>> np.exp(-1 / _steps_of_exponential(np.array([0.5, 0.0, 1.0]))).round(12).tolist()
        [0.5, 0.0, 1.0]
    """
    return -1 / np.log(decay.clip(1e-300, 1 - 2.0**-53))
