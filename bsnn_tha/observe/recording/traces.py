"""Membranes and spikes of chosen neurons, of a network that is run once for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bsnn_tha.equations.lif import LIFWindow
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.layer import LayerInput, SpikingLayer
from bsnn_tha.nn.network import SpikingNetwork
from bsnn_tha.nn.neurons.neuron import WindowNeuron
from bsnn_tha.nn.recompute import uncounted
from bsnn_tha.nn.window import NetworkWindow
from bsnn_tha.observe.modules import watch_steps

# The fractional part of the golden ratio: its multiples fill [0, 1) evenly.
_GOLDEN = 0.6180339887498949


class LayerTrace(NamedTuple):
    """What some neurons of one layer did over a window."""

    membranes: np.ndarray
    """Membrane potentials u, ``[time, samples, n]``, float32."""
    spikes: np.ndarray
    """0 or 1, likewise, uint8."""
    neurons: np.ndarray
    """Flat indices within the layer, ``[n]``, int64."""
    threshold: float | np.ndarray
    """θ; one per recorded neuron ``[n]`` where neurons have their own."""
    centre: float | np.ndarray
    """Where the surrogate gradient is centred, likewise."""

    @property
    def fires(self) -> bool:
        """Whether the layer has a threshold."""
        return bool(np.isfinite(self.threshold).all())


def record(
    network: nn.Module,
    input: Tensor,
    num_steps: int | None = None,
    neurons: int | Sequence[int] | Sequence[Sequence[int] | np.ndarray] = 8,
) -> list[LayerTrace]:
    """Run a network once and keep the traces of some of its neurons.

    The network runs in the mode it is in (see :func:`evaluating`) and comes out
    as it went in: running statistics, kept membranes, random numbers and
    gradients are untouched, and forward hooks on a SpikingNetwork's layers do not run.

    Args:
        network: any, trained or not: a :class:`~bsnn_tha.SpikingNetwork`, or another
            model with neurons of this package, e.g. an ``nn.Sequential`` of layers with
            ``init_hidden=True`` (:func:`~bsnn_tha.observe.modules.watch_steps`).
        input: ``[time, samples, *input_shape]``, or ``[time, features]`` of one sample;
            with ``num_steps`` still images, without time. On the network's device.
        num_steps: for how many time steps a still image is seen.
        neurons: how many of each layer, spread by :func:`spread`; or the flat
            indices of those to record, the same in every layer; or a sequence
            of indices for each layer.

    Returns:
        One trace per layer, input side first.

    Raises:
        InvalidValueError: a neuron that a layer does not have, an input of
            another shape, or a model without neurons that can be seen.

    Example:
        >>> network = SpikingNetwork("8C3-AP2-10", (1, 8, 8), beta=0.9, theta_0=1.0)
        >>> with evaluating(network):
        ...     traces = record(network, torch.rand(2, 1, 8, 8), num_steps=5)
        >>> [trace.membranes.shape for trace in traces]  # [time, samples, n]
        [(5, 2, 8), (5, 2, 8)]
        >>> record(network, torch.rand(2, 1, 8, 8), 5, neurons=[[3], [0, 10]])
        Traceback (most recent call last):
        bsnn_tha.errors.InvalidValueError: neurons of layer 2 must be from 0 to 9, but got 10

        >>> from bsnn_tha import BinaryLinear, Leaky
        >>> model = nn.Sequential(BinaryLinear(4, 6), Leaky(0.9, 1.0, init_hidden=True))
        >>> record(model, torch.rand(5, 4), neurons=3)[0].spikes.shape  # one sample
        (5, 1, 3)
    """
    if isinstance(network, SpikingNetwork):
        return record_answer(network, input, num_steps, neurons)[0]
    with torch.no_grad(), uncounted(), _unchanged(network, input):
        seen = watch_steps(network, input, num_steps)
        shapes = [tuple(layer.spikes.shape[2:]) for layer in seen]
        return [
            _trace(layer.neuron, layer.membranes, layer.spikes, indices)
            for layer, indices in zip(seen, _choose(neurons, shapes), strict=True)
        ]


def record_answer(
    network: SpikingNetwork,
    input: Tensor,
    num_steps: int | None = None,
    neurons: int | Sequence[int] | Sequence[Sequence[int] | np.ndarray] = 8,
) -> tuple[list[LayerTrace], NetworkWindow]:
    """As :func:`record`, with all that the output layer did, for a loss to read.

    Args:
        network, input, num_steps, neurons: as in :func:`record`.

    Returns:
        The traces, and what a call of the network with ``record=True`` returns, but for
        the layers' final states, of which there are none.
    """
    with torch.no_grad(), uncounted(), _unchanged(network, input):
        return _traces_of_network(network, input, num_steps, neurons)


def _traces_of_network(
    network: SpikingNetwork, input: Tensor, num_steps: int | None, neurons: Any
) -> tuple[list[LayerTrace], NetworkWindow]:
    # Of images, [time, C, H, W] would be what somebody gives who forgot num_steps.
    if isinstance(input, Tensor) and num_steps is None and input.dim() == 2:
        input = input.unsqueeze(1)
    input = network.taken(input, num_steps)
    layers = [layer for layer in network.layers if isinstance(layer, SpikingLayer)]
    chosen = _choose(neurons, [layer.output_shape for layer in layers])
    traces: list[LayerTrace] = []

    def run(layer: SpikingLayer, given: LayerInput) -> LIFWindow:
        # Not called as a module: hooks count, and this pass must not be counted.
        window = layer.forward(given.input, given.num_steps, None, False, given.skipped)
        assert window.membranes is not None
        indices = chosen[len(traces)]
        traces.append(_trace(layer.neuron, window.membranes, window.spikes, indices))
        return window

    with _showing(layers):
        output = network.walk(input, num_steps, run)
    return traces, network.answer(output.spikes, output.membranes)


def _trace(
    neuron: WindowNeuron, membranes: Tensor, spikes: Tensor, indices: np.ndarray
) -> LayerTrace:
    """Of some neurons of a layer, whose tensors are ``[time, samples, *neurons]``."""
    kept = torch.from_numpy(indices).to(spikes.device)
    membranes, spikes = (t.flatten(2).index_select(2, kept) for t in (membranes, spikes))
    return LayerTrace(
        membranes.float().cpu().numpy(),
        spikes.to(torch.uint8).cpu().numpy(),
        indices,
        _value(neuron.threshold, kept),
        _value(neuron.centre, kept),
    )


@contextlib.contextmanager
def _showing(layers: Sequence[SpikingLayer]) -> Iterator[None]:
    """Layers show their membranes, on whichever route they take unwatched."""
    before = [layer.show_membranes for layer in layers]
    try:
        for layer in layers:
            layer.show_membranes = True
        yield
    finally:
        for layer, shown in zip(layers, before, strict=True):
            layer.show_membranes = shown


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The network in eval mode; afterwards every module is in the mode it was in.

    Example:
        >>> network = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
        >>> with evaluating(network):
        ...     [module.training for module in network]
        [False, False]
        >>> [module.training for module in network]
        [True, False]
    """
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def spread(size: int, count: int) -> np.ndarray:
    """Indices of up to ``count`` neurons of a layer, evenly spread, ascending.

    One out of each of ``count`` equal blocks, at another place in each: equal
    distances would meet every channel of a convolution at the same pixel.

    Example:
        >>> spread(2304, 4).tolist(), spread(3, 8).tolist()
        ([355, 711, 1643, 1999], [0, 1, 2])
    """
    count = min(size, count)
    borders = np.arange(count + 1) * size // count
    places = np.arange(1, count + 1) * _GOLDEN % 1
    return (borders[:-1] + np.floor(places * np.diff(borders))).astype(np.int64)


@contextlib.contextmanager
def _unchanged(network: nn.Module, input: Tensor) -> Iterator[None]:
    """A forward pass meets copies of all buffers, and its random numbers are undone."""
    # Not restored afterwards: a backward pass to come would take note of the writes.
    originals = [(module, dict(module._buffers)) for module in network.modules()]
    on_gpu = isinstance(input, Tensor) and input.is_cuda
    with torch.random.fork_rng([input.device] if on_gpu else []):
        try:
            for module, buffers in originals:
                for name, buffer in buffers.items():
                    if buffer is not None:
                        module._buffers[name] = buffer.detach().clone()
            yield
        finally:
            for module, buffers in originals:
                module._buffers.update(buffers)


def _choose(neurons: Any, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Flat indices per layer, checked."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    if isinstance(neurons, int):
        if neurons < 1:
            raise InvalidValueError(f"neurons must be at least 1, but got {neurons}")
        return [spread(size, neurons) for size in sizes]
    entries = list(neurons)
    if all(np.ndim(entry) == 0 for entry in entries):
        entries = [entries] * len(sizes)
    if len(entries) != len(sizes):
        raise InvalidValueError(
            f"neurons needs indices for each of the {len(sizes)} layers, but got {len(entries)}"
        )
    chosen = [np.asarray(entry, dtype=np.int64).reshape(-1) for entry in entries]
    for number, (indices, size) in enumerate(zip(chosen, sizes, strict=True), start=1):
        wrong = indices[(indices < 0) | (indices >= size)]
        if len(wrong):
            raise InvalidValueError(
                f"neurons of layer {number} must be from 0 to {size - 1}, but got {wrong[0]}"
            )
    return chosen


def _value(tensor: Tensor, neurons: Tensor) -> float | np.ndarray:
    tensor = tensor.detach().float()
    if tensor.numel() == 1:
        return tensor.item()
    return tensor.flatten()[neurons].cpu().numpy()
