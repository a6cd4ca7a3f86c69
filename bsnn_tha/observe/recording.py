"""What a network does, as arrays: recorded from a network or read from a run.

:func:`record` runs any network once and returns the traces of chosen neurons.
:class:`Recording` reads the snapshots that a training run took, also while it is
still running; :func:`read_activity` what every neuron did over the test set;
:func:`read_output_recording` the output of every iteration, where that was kept.

Time is counted in time steps from 0, neurons by their flat index within a layer,
training iterations from 0 (iteration γ ran with the threshold θ(γ) of Eq. 4),
layers from 1, as in ``metrics.csv``; L is their number. Files hold plain arrays,
so that :func:`numpy.load` reads them without this package:

``RUN/snapshots/probe.npz``: what does not change from snapshot to snapshot

=========================  =================================================
``inputs``                 of the probe, as the network sees them: still images
                           ``[samples, ...]`` or frames ``[time, samples, ...]``
``static``                 whether they are still images
``num_steps``              T
``step_ms``                one time step in ms, NaN if unknown
``targets``                class of each sample, ``[samples]``; or the target
                           trace, ``[time, samples, outputs]``
``samples``, ``split``     which samples of which split
``dataset``                its name
``class_names``            ``[classes]``, empty if unknown
``layer_names``            ``[L]``, e.g. ``16C5``
``surrogate``              its name
``surrogate_centre``       ``clamped`` or ``moving``
``slopes``                 of the surrogate, ``[L]``
``theta_0``, ``theta_inf``, ``alpha``  of the schedule, ``[L]``; infinite where a layer
                           does not fire
``planned_iterations``     of the whole run
``epoch_iterations``       of an epoch
``shape_1``, ...           of the layer's output for one sample
``neurons_1``, ...         the n neurons whose traces are kept
``rate_neurons_1``, ...    the m neurons whose firing rates are kept
=========================  =================================================

``RUN/snapshots/iteration-000000123.npz``: one training iteration

=========================  =================================================
``iteration``, ``epoch``   from 0
``loss``                   of the iteration's batch
``thresholds``, ``centres``  θ and the surrogate's centre, ``[L]``, as the
                           iteration ran with
``thresholds_1``, ``centres_1``, ...  of each recorded neuron, ``[n]``, where it
                           has its own; ``[L]`` has their mean
``membranes_1``, ...       of the probe, in eval mode with the iteration's
                           weights, ``[time, samples, n]``, float32
``spikes_1``, ...          likewise, uint8
``histograms``             ``[L, bins]``: of the training batch's membranes; the
                           first and the last bin also count what lies beyond
``edges``                  of the bins, ``[L, bins + 1]``
``rates_1``, ...           spikes per time step in the training batch, ``[m]``
``dead_shares``            neurons that never fired in it, ``[L]``; NaN, as the masses
                           are, of a layer without a threshold
``surrogate_masses``       mean surrogate gradient in it, ``[L]``
=========================  =================================================

The training batch's figures are those of its first 16 samples in the forward
pass that was trained on; histograms and surrogate masses are of at most 65,536
of a layer's membrane potentials, evenly spread over time, samples and neurons.

``RUN/activity.npz``: the test set and the selected checkpoint, when a run ends

=========================  =================================================
``samples``, ``time_steps``  of the test set
``layer_names``            ``[L]``
``thresholds``             ``[L]``, infinite where a layer does not fire
``shape_1``, ...           of the layer's output for one sample
``mean_counts_1``, ...     spikes per sample of every neuron, float32
=========================  =================================================
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
import torch
from torch import Tensor, nn

from bsnn_tha.equations.lif import LIFWindow
from bsnn_tha.errors import DataError, InvalidValueError, RunError
from bsnn_tha.nn.layer import LayerInput, SpikingLayer
from bsnn_tha.nn.network import SpikingNetwork
from bsnn_tha.nn.neurons.neuron import WindowNeuron
from bsnn_tha.nn.recompute import uncounted
from bsnn_tha.observe.modules import watch_steps
from bsnn_tha.run_folder import RunFolder

Parsed = TypeVar("Parsed")

_SNAPSHOT = re.compile(r"iteration-(\d+)\.npz")

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
    with torch.no_grad(), uncounted(), _unchanged(network, input):
        if isinstance(network, SpikingNetwork):
            return _traces_of_network(network, input, num_steps, neurons)
        seen = watch_steps(network, input, num_steps)
        shapes = [tuple(layer.spikes.shape[2:]) for layer in seen]
        return [
            _trace(layer.neuron, layer.membranes, layer.spikes, indices)
            for layer, indices in zip(seen, _choose(neurons, shapes), strict=True)
        ]


def _traces_of_network(
    network: SpikingNetwork, input: Tensor, num_steps: int | None, neurons: Any
) -> list[LayerTrace]:
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
        network.walk(input, num_steps, run)
    return traces


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


# What runs have recorded


@dataclass(frozen=True)
class ProbeLayer:
    """One layer of a recorded network."""

    name: str
    """E.g. ``16C5``, or the outputs of a fully connected layer."""
    shape: tuple[int, ...]
    """Of its output for one sample."""
    neurons: np.ndarray
    """Whose traces are kept, flat indices."""
    rate_neurons: np.ndarray
    """Whose firing rates are kept, flat indices."""
    slope: float
    theta_0: float
    theta_inf: float
    """θ0 for a fixed threshold."""
    alpha: float
    """0 for a fixed threshold."""


@dataclass(frozen=True)
class Probe:
    """The samples that every snapshot looks at, and what is recorded of them."""

    inputs: np.ndarray
    """``[samples, ...]`` if static, else frames ``[time, samples, ...]``."""
    static: bool
    num_steps: int
    step_ms: float | None
    targets: np.ndarray
    """Classes ``[samples]``, or a trace ``[time, samples, outputs]``."""
    samples: np.ndarray
    """Indices within the split."""
    split: str
    """``validation`` or ``training``."""
    dataset: str
    class_names: tuple[str, ...]
    surrogate: str
    surrogate_centre: str
    planned_iterations: int
    epoch_iterations: int
    layers: tuple[ProbeLayer, ...]


@dataclass(frozen=True)
class SnapshotLayer:
    """One layer in one training iteration."""

    trace: LayerTrace
    """Of the probe."""
    histogram: np.ndarray
    """Membranes of the training batch, counts ``[bins]``; end bins are open."""
    edges: np.ndarray
    """Of the bins, ``[bins + 1]``."""
    rates: np.ndarray
    """Spikes per time step of ``rate_neurons``, float32, in [0, 1]."""
    dead_share: float
    surrogate_mass: float


@dataclass(frozen=True)
class Snapshot:
    """One training iteration."""

    iteration: int
    epoch: int
    loss: float
    layers: tuple[SnapshotLayer, ...]


class LayerActivity(NamedTuple):
    """What every neuron of a layer did over the test set."""

    name: str
    mean_counts: np.ndarray
    """Spikes per sample, of the layer's shape, float32."""
    threshold: float
    samples: int
    time_steps: int

    @property
    def dead_share(self) -> float:
        """Share of neurons that never fired; NaN of a layer without a threshold."""
        return float((self.mean_counts == 0).mean()) if self.fires else np.nan

    @property
    def fires(self) -> bool:
        """Whether the layer has a threshold."""
        return bool(np.isfinite(self.threshold))


class Recording(Sequence[Snapshot]):
    """The snapshots of a run, in the order of their iterations, read one by one.

    Open it again to see those that a running training has taken since.

    Args:
        folder: of the snapshots.

    Attributes:
        iterations: of the snapshots there are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        found = ((_SNAPSHOT.fullmatch(path.name), path) for path in folder.iterdir())
        self._paths = {int(match[1]): path for match, path in found if match}
        self.iterations = tuple(sorted(self._paths))

    @classmethod
    def open(cls, run: Path) -> Recording:
        """The recording of a run folder, whether the run has ended or not.

        Raises:
            RunError: no such run, or one without a recording.
        """
        folder = RunFolder.open(run)
        if not folder.probe.exists():
            raise RunError(
                f"{run} has no recording; make one with bsnn-tha train ... --set snapshots.count=50"
            )
        return cls(folder.snapshots)

    @cached_property
    def probe(self) -> Probe:
        """What every snapshot looks at.

        Raises:
            DataError: the file is damaged.
        """
        return _parsed(self.folder / "probe.npz", _probe)

    def __len__(self) -> int:
        return len(self.iterations)

    @overload
    def __getitem__(self, index: int) -> Snapshot: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Snapshot]: ...

    def __getitem__(self, index: int | slice) -> Snapshot | Sequence[Snapshot]:
        """The snapshot at this place in :attr:`iterations`; of a slice, all at once.

        Raises:
            DataError: its file is damaged or gone.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        path = self._paths[self.iterations[index]]
        probe = self.probe
        return _parsed(path, lambda arrays: _snapshot(arrays, probe))

    def __iter__(self) -> Iterator[Snapshot]:
        return (self[index] for index in range(len(self)))


def read_activity(run: Path) -> list[LayerActivity]:
    """What every neuron did over the test set, layer by layer.

    Raises:
        RunError: no such run, or it has not been measured on a test set.
        DataError: the file is damaged.
    """
    folder = RunFolder.open(run)
    if not folder.activity.exists():
        raise RunError(
            f"{run} has no activity.npz: it is written when a run with a test set ends; "
            f"go on with bsnn-tha train --resume {run}, or train anew if it has ended"
        )
    return _parsed(folder.activity, _activity)


def read_output_recording(run: Path) -> dict[str, np.ndarray]:
    """The output of every training iteration, as far as the run has got.

    Returns:
        The arrays of :class:`bsnn_tha.training.callbacks.output.OutputRecorder`.

    Raises:
        RunError: no such run, or it did not record its output.
        DataError: the file is damaged.
    """
    folder = RunFolder.open(run)
    if not folder.recording.exists():
        raise RunError(
            f"{run} has no recording of its output; make one with "
            "bsnn-tha train ... --set training.record_output=true"
        )
    return _parsed(folder.recording, lambda arrays: arrays)


def _parsed(path: Path, parse: Callable[[dict[str, np.ndarray]], Parsed]) -> Parsed:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return parse(dict(arrays))
    except FileNotFoundError:
        raise DataError(f"{path} is gone; open the recording again") from None
    except Exception as error:  # of zipfile, zlib or numpy, depending on what is damaged
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path} is not a readable recording ({reason}); remove it or record anew"
        ) from error


def _activity(arrays: dict[str, np.ndarray]) -> list[LayerActivity]:
    layers = zip(arrays["layer_names"], arrays["thresholds"], strict=True)
    return [
        LayerActivity(
            str(name),
            arrays[f"mean_counts_{i}"].reshape(arrays[f"shape_{i}"]),
            float(theta),
            int(arrays["samples"]),
            int(arrays["time_steps"]),
        )
        for i, (name, theta) in enumerate(layers, start=1)
    ]


def _probe(arrays: dict[str, np.ndarray]) -> Probe:
    step_ms = float(arrays["step_ms"])
    layers = tuple(
        ProbeLayer(
            str(name),
            tuple(arrays[f"shape_{i}"].tolist()),
            arrays[f"neurons_{i}"],
            arrays[f"rate_neurons_{i}"],
            *(float(arrays[key][i - 1]) for key in ("slopes", "theta_0", "theta_inf", "alpha")),
        )
        for i, name in enumerate(arrays["layer_names"], start=1)
    )
    return Probe(
        inputs=arrays["inputs"],
        static=bool(arrays["static"]),
        num_steps=int(arrays["num_steps"]),
        step_ms=None if np.isnan(step_ms) else step_ms,
        targets=arrays["targets"],
        samples=arrays["samples"],
        split=str(arrays["split"]),
        dataset=str(arrays["dataset"]),
        class_names=tuple(arrays["class_names"].tolist()),
        surrogate=str(arrays["surrogate"]),
        surrogate_centre=str(arrays["surrogate_centre"]),
        planned_iterations=int(arrays["planned_iterations"]),
        epoch_iterations=int(arrays["epoch_iterations"]),
        layers=layers,
    )


def _snapshot(arrays: dict[str, np.ndarray], probe: Probe) -> Snapshot:
    layers = tuple(
        SnapshotLayer(
            LayerTrace(
                arrays[f"membranes_{i}"],
                arrays[f"spikes_{i}"],
                layer.neurons,
                arrays.get(f"thresholds_{i}", float(arrays["thresholds"][i - 1])),
                arrays.get(f"centres_{i}", float(arrays["centres"][i - 1])),
            ),
            arrays["histograms"][i - 1],
            arrays["edges"][i - 1],
            arrays[f"rates_{i}"].astype(np.float32),
            float(arrays["dead_shares"][i - 1]),
            float(arrays["surrogate_masses"][i - 1]),
        )
        for i, layer in enumerate(probe.layers, start=1)
    )
    return Snapshot(int(arrays["iteration"]), int(arrays["epoch"]), float(arrays["loss"]), layers)
