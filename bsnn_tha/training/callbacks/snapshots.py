"""Snapshots of training: what the neurons do in some iterations, for films and figures.

A snapshot is one small file, written when its iteration runs: memory does not
grow with their number, a running training can be watched, and a resumed one
writes the same files again. What is in them, and how they are read, is in
:mod:`bsnn_tha.observe.recording`.

With the default settings a snapshot takes 24 kB for the digits' preset, 67 kB
for MNIST, 70 kB for DVS128 Gesture and 119 kB for SHD; ``probe.npz`` 9 to 63 kB.
What they cost in time: ``benchmarks/monitors.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from bsnn_tha.config import SnapshotsSection
from bsnn_tha.data.dataset import Dataset, Split
from bsnn_tha.data.event_batch import EventBatch
from bsnn_tha.detection.boxes import as_rows
from bsnn_tha.equations.counts import neuron_counts
from bsnn_tha.losses import YoloLoss
from bsnn_tha.nn.layer import SpikingLayer
from bsnn_tha.observe.metrics import surrogate_mass
from bsnn_tha.observe.recording import Recording, evaluating, record_answer, spread
from bsnn_tha.run_folder import RunFolder, replace_atomically
from bsnn_tha.training.module import SpikingModule

BINS = 100
"""Of the histogram of membrane potentials."""
BATCH_SAMPLES = 16
"""Samples of the training batch that are looked at."""
RATE_NEURONS = 4096
"""Neurons of a layer, at most, whose firing rates are kept."""
OUTPUT_NEURONS = 16
"""Output layers up to this size are traced whole."""
MEMBRANES = 1 << 16
"""Membrane potentials of a layer, at most, that a histogram counts."""
_FOR_RANGE = 1 << 13
"""Of these, about how many the histogram's range is taken from."""


class Snapshots(Callback):
    """Traces, membranes and firing rates of some training iterations, as files.

    A probe of a few samples, the same all along, is run in eval mode with the
    weights and thresholds of the iteration and the running statistics that its
    batch has left. The other figures are those of the batch's own forward pass.
    Training goes on as it would without: no random number is drawn, no running
    statistic, gradient or counter changes.

    With gradient accumulation an iteration is an optimizer step; its first
    batch is the one that is looked at. Under distributed training the first
    process writes, and looks at its share of the batch.

    Args:
        folder: of the run.
        settings: how many snapshots, of how many samples and neurons.
        dataset: the probe is of its validation split, or, without one, of its
            training split.

    Place it before :class:`~bsnn_tha.training.callbacks.ThresholdAnnealing`,
    so that it sees the thresholds the iteration ran with.
    """

    def __init__(self, folder: RunFolder, settings: SnapshotsSection, dataset: Dataset) -> None:
        self.folder, self.settings, self.dataset = folder, settings, dataset
        self._plan: frozenset[int] = frozenset()
        self._inputs = torch.empty(0)
        self._neurons: list[np.ndarray] = []
        self._layers: list[_BatchLayer] = []
        self._hooks: list[Any] = []
        self._taken = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or not self.settings.count:
            return
        assert isinstance(pl_module, SpikingModule)
        total = int(trainer.estimated_stepping_batches)
        epoch = total // pl_module.config.training.epochs
        self._plan = frozenset(planned_iterations(total, epoch, self.settings.count))
        self._taken = -1
        layers = spiking_layers(pl_module)
        self._neurons = _traced(layers, self.settings.neurons)
        self._layers = [_BatchLayer(layer, pl_module.config.data.num_steps) for layer in layers]
        probe = take_probe(self.dataset, self.settings.samples)
        inputs = trainer.precision_plugin.convert_input(probe.inputs)
        self._inputs = inputs.to(pl_module.device)
        self.folder.snapshots.mkdir(exist_ok=True)
        arrays = {
            "planned_iterations": total,
            "epoch_iterations": epoch,
            **self._probe(probe, pl_module),
        }
        with replace_atomically(self.folder.probe) as path, path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step not in self._plan or trainer.global_step == self._taken:
            return
        self._taken = trainer.global_step
        for seen in self._layers:
            seen.reset()
            seen.layer.show_membranes = True
            self._hooks.append(seen.layer.register_forward_hook(seen.see))

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        # Here weights and θ are still those of the forward pass, and hooks go
        # before a backward pass that runs chunks again.
        if not self._hooks:
            return
        self._ignore()
        assert isinstance(pl_module, SpikingModule)
        with evaluating(pl_module.network), trainer.precision_plugin.val_step_context():
            traces, answer = record_answer(
                pl_module.network, self._inputs, pl_module.num_steps, self._neurons
            )
        arrays: dict[str, Any] = {
            "iteration": trainer.global_step,
            "epoch": trainer.current_epoch,
            "loss": np.float32(pl_module.live["loss"].item()),
            "thresholds": np.array([np.mean(t.threshold) for t in traces], dtype=np.float32),
            "centres": np.array([np.mean(t.centre) for t in traces], dtype=np.float32),
        }
        batch = [layer.figures() for layer in self._layers]
        for name in ("histograms", "edges", "dead_shares", "surrogate_masses"):
            arrays[name] = np.stack([getattr(figures, name) for figures in batch])
        for number, (trace, figures) in enumerate(zip(traces, batch, strict=True), start=1):
            arrays[f"membranes_{number}"] = trace.membranes
            arrays[f"spikes_{number}"] = trace.spikes
            arrays[f"rates_{number}"] = figures.rates
            for name, value in (("thresholds", trace.threshold), ("centres", trace.centre)):
                if isinstance(value, np.ndarray):
                    arrays[f"{name}_{number}"] = value
        if isinstance(pl_module.loss, YoloLoss):
            arrays["found"] = as_rows(pl_module.loss.detect(answer)).float().cpu().numpy()
        target = self.folder.snapshot(trainer.global_step)
        # Waiting for the disk each time would take longer than the rest.
        with replace_atomically(target, durable=False) as path, path.open("wb") as file:
            np.savez(file, **arrays)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        # Not before: chunks are recomputed in the backward pass as they were run.
        self._hide_membranes()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._ignore()
        self._hide_membranes()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._ignore()
        self._hide_membranes()

    def _ignore(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _hide_membranes(self) -> None:
        for seen in self._layers:
            seen.layer.show_membranes = False

    def _probe(self, probe: ProbeSamples, module: SpikingModule) -> dict[str, Any]:
        """Content of ``probe.npz``, but for the plan."""
        layers, neuron, data = spiking_layers(module), module.config.neuron, self.dataset
        # A surrogate of one's own may have none.
        slopes = [getattr(layer.neuron.surrogate, "slope", np.nan) for layer in layers]
        arrays: dict[str, Any] = {
            "inputs": _compact(probe.inputs.numpy(), data.static),
            "static": data.static,
            "num_steps": module.num_steps or len(probe.inputs),
            "step_ms": np.nan if data.step_ms is None else data.step_ms,
            "targets": probe.targets.numpy(),
            "samples": np.array(probe.samples),
            "split": probe.split,
            "dataset": data.name,
            "class_names": np.array(data.class_names, dtype=np.str_),
            "layer_names": np.array([layer_name(layer) for layer in layers]),
            "surrogate": neuron.surrogate,
            "surrogate_centre": neuron.surrogate_centre,
            "slopes": np.array(slopes, dtype=np.float32),
        }
        # What is learned has moved on when a run is resumed: it started where it did.
        begun = self.folder.probe.exists()
        started = Recording(self.folder.snapshots).probe.layers if begun else ()
        for name in ("theta_0", "theta_inf"):
            values = [getattr(layer, name) for layer in started] or [
                getattr(layer.neuron, name).mean().item() for layer in layers
            ]
            arrays[name] = np.array(values, dtype=np.float32)
        rates = [float(getattr(layer.neuron.rule, "alpha", 0.0)) for layer in layers]
        arrays["alpha"] = np.array(rates, dtype=np.float32)
        for number, (layer, neurons) in enumerate(zip(layers, self._neurons, strict=True), start=1):
            size = int(np.prod(layer.output_shape))
            arrays[f"shape_{number}"] = np.array(layer.output_shape)
            arrays[f"neurons_{number}"] = neurons
            arrays[f"rate_neurons_{number}"] = spread(size, RATE_NEURONS)
        return arrays


def planned_iterations(total: int, epoch: int, count: int) -> list[int]:
    """The iterations, from 0, that snapshots are taken of.

    ``count`` of them evenly spread from the first to the last; and the last one
    of each epoch that has none.

    Args:
        total: planned iterations of the run.
        epoch: iterations of an epoch.
        count: at least 1.

    Example:
        >>> planned_iterations(total=100, epoch=50, count=5)
        [0, 25, 50, 74, 99]
        >>> planned_iterations(total=12, epoch=3, count=2)
        [0, 5, 8, 11]
    """
    count = min(count, total)
    even = {round(i * (total - 1) / max(1, count - 1)) for i in range(count)}
    covered = {iteration // epoch for iteration in even}
    ends = {end - 1 for end in range(epoch, total + 1, epoch) if (end - 1) // epoch not in covered}
    return sorted(even | ends)


class ProbeSamples(NamedTuple):
    """The samples that all snapshots of a run look at."""

    inputs: Tensor
    """``[samples, ...]`` or ``[time, samples, ...]``, float32."""
    targets: Tensor
    """``[samples]``, or ``[time, samples, outputs]``."""
    samples: list[int]
    """Indices within the split."""
    split: str


def take_probe(dataset: Dataset, count: int) -> ProbeSamples:
    """Up to ``count`` samples, always the same, of classes that are evenly spread.

    Of the validation split if there is one, else of the training split. No
    random number is drawn from torch's generator.
    """
    split, name = dataset.train, "training"
    if dataset.validation is not None:
        split, name = dataset.validation, "validation"
    if dataset.num_classes is None:
        samples = spread(len(split), count).tolist()
    else:
        samples = _of_all_classes(split.targets, count)
    inputs, targets = _take(split, samples)
    if (
        dataset.num_classes is None and dataset.boxes is None
    ):  # one pattern that is presented again and again
        axis = 0 if dataset.static else 1
        other = _different(inputs.unbind(axis))
        inputs, targets = inputs[:, other] if axis else inputs[other], targets[:, other]
        samples = [samples[i] for i in other]
    return ProbeSamples(inputs, targets, samples, name)


def _of_all_classes(targets: Tensor, count: int) -> list[int]:
    """One sample of each of ``count`` classes; of all of them in turn if there are fewer."""
    members = [(targets == label).nonzero().flatten().tolist() for label in targets.unique()]
    count, turn = min(count, len(targets)), 0
    chosen: list[int] = []
    while len(chosen) < count:
        left = [indices[turn] for indices in members if turn < len(indices)]
        missing = min(count - len(chosen), len(left))
        chosen += [left[i * len(left) // missing] for i in range(missing)]
        turn += 1
    return chosen


def _take(split: Split, samples: list[int]) -> tuple[Tensor, Tensor]:
    # Windows of recordings may start at random.
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        inputs, targets = split[samples]
    return (inputs.dense() if isinstance(inputs, EventBatch) else inputs), targets


def _different(inputs: Sequence[Tensor]) -> list[int]:
    """Indices of those that are unlike all before them."""
    kept: list[int] = []
    for index, sample in enumerate(inputs):
        if not any(torch.equal(sample, inputs[other]) for other in kept):
            kept.append(index)
    return kept


def _compact(inputs: np.ndarray, static: bool) -> np.ndarray:
    """Spikes and counts as bytes, other frames in half precision, images as they are."""
    as_bytes = inputs.astype(np.uint8)
    if np.array_equal(as_bytes, inputs):
        return as_bytes
    return inputs if static else inputs.astype(np.float16)


def layer_name(layer: SpikingLayer) -> str:
    """A layer in the papers' notation, without its pooling: ``16C5``, ``10`` or ``Rec512``."""
    synapse = layer.synapse
    if isinstance(synapse, nn.Linear):
        return f"{'Rec' if layer.recurrence is not None else ''}{synapse.out_features}"
    return f"{synapse.out_channels}C{synapse.kernel_size[0]}"


def spiking_layers(module: nn.Module) -> list[SpikingLayer]:
    """Of a network, input side first."""
    return [layer for layer in module.modules() if isinstance(layer, SpikingLayer)]


def _traced(layers: list[SpikingLayer], count: int) -> list[np.ndarray]:
    sizes = [int(np.prod(layer.output_shape)) for layer in layers]
    chosen = [spread(size, count) for size in sizes]
    if sizes[-1] <= OUTPUT_NEURONS:
        chosen[-1] = np.arange(sizes[-1])
    return chosen


class _Figures(NamedTuple):
    """Of one layer in a training batch; the names are those of a snapshot's arrays."""

    histograms: np.ndarray
    edges: np.ndarray
    rates: np.ndarray
    dead_shares: np.float32
    surrogate_masses: np.float32


class _BatchLayer:
    """What one layer does in a training batch, seen by a forward hook.

    Args:
        layer: of the network.
        num_steps: of the whole window, of which the hook may see chunks.
    """

    def __init__(self, layer: SpikingLayer, num_steps: int) -> None:
        self.layer, self.num_steps = layer, num_steps
        self.size = int(np.prod(layer.output_shape))
        self.reset()

    def reset(self) -> None:
        self._membranes: list[Tensor] = []
        self._neurons: list[Tensor] = []
        self._counts = torch.zeros(())
        self._chances = 0
        self._step = 0

    def see(self, layer: SpikingLayer, args: Any, window: Any) -> None:
        """A forward hook."""
        spikes = window.spikes.detach()[:, :BATCH_SAMPLES]
        self._counts = self._counts + neuron_counts(spikes).cpu()
        self._chances += spikes.shape[0] * spikes.shape[1]
        time, sample, neuron = _places((self.num_steps, spikes.shape[1], self.size), MEMBRANES)
        step, self._step = self._step, self._step + len(spikes)
        part = slice(*np.searchsorted(time, [step, self._step]))
        places = (time[part] - step, sample[part], neuron[part])
        # Without a copy of all samples, of which these few may be a small part.
        membranes = window.membranes.detach().flatten(2)
        chosen = membranes[tuple(torch.from_numpy(place).to(spikes.device) for place in places)]
        self._membranes.append(chosen.float().cpu())
        self._neurons.append(torch.from_numpy(neuron[part]))

    def figures(self) -> _Figures:
        neuron, values = self.layer.neuron, torch.cat(self._membranes)
        theta = [neuron.theta_0, neuron.threshold, neuron.theta_inf] if neuron.fires else []
        histogram, edges = membrane_histogram(values, [each.mean().item() for each in theta])
        rates = self._counts.flatten()[spread(self.size, RATE_NEURONS)] / self._chances
        centre = neuron.centre.float().cpu().flatten()
        if len(centre) > 1:
            centre = centre[torch.cat(self._neurons)]
        mass = dead = np.float32(np.nan)
        if neuron.fires:
            mass = np.float32(surrogate_mass(values.unsqueeze(0), centre, neuron.surrogate).item())
            dead = np.float32((self._counts == 0).float().mean().item())
        return _Figures(
            histogram,
            edges,
            rates.numpy().astype(np.float16),
            dead,
            mass,
        )


@lru_cache(maxsize=32)
def _places(shape: tuple[int, ...], count: int) -> tuple[np.ndarray, ...]:
    """Indices, one array for each axis, of up to ``count`` places, evenly spread."""
    return np.unravel_index(spread(int(np.prod(shape)), count), shape)


def membrane_histogram(values: Tensor, inside: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Counts in equal bins from the 0.5% to the 99.5% quantile, and what must be inside.

    Args:
        values: any shape; NaNs are left out.
        inside: further values that the bins cover.

    Returns:
        Counts ``[BINS]``, int64, and edges ``[BINS + 1]``, float32. The first and
        the last bin also count what lies beyond.

    Example:
        >>> counts, edges = membrane_histogram(torch.tensor([0.0, 1.0, 1.0]), inside=[4.0])
        >>> counts[[1, 25]].tolist(), counts.sum().item(), bool(edges[-1] > 4.0)
        ([1, 2], 3, True)
    """
    values = values.flatten()
    if not torch.isfinite(values).all():
        values = values[torch.isfinite(values)]
    some = values[:: max(1, len(values) // _FOR_RANGE)].numpy() if len(values) else inside
    bulk = np.quantile(some, (0.005, 0.995)).tolist() if len(some) else [0.0]
    low, high = min(*bulk, *inside), max(*bulk, *inside)
    margin = 0.02 * (high - low) or 0.5
    # As float32: no value may be clamped to just outside the first or last bin.
    low, high = (float(np.float32(edge)) for edge in (low - margin, high + margin))
    counts = torch.histc(values.clamp(low, high), BINS, low, high)
    return counts.numpy().astype(np.int64), np.linspace(low, high, BINS + 1, dtype=np.float32)
