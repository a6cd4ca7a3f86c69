"""What is watched during training: activity per layer, and a row per epoch."""

from __future__ import annotations

import csv
import inspect
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from bsnn_tha.nn.layer import SpikingLayer
from bsnn_tha.nn.recompute import recomputing
from bsnn_tha.nn.weights.derived import weight_of
from bsnn_tha.nn.weights.quantized import QuantizedConv2d, QuantizedLinear
from bsnn_tha.observe.energy import FLOAT_BITS, Costs
from bsnn_tha.observe.metrics import Activity, ActivityMeter, SurrogateMeter
from bsnn_tha.observe.workload import InputMeter, Synapse, dense_operations, effective_operations
from bsnn_tha.run_folder import replace_atomically

_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(SpikingLayer.forward).parameters.items()
    if name != "self"
}


def layer_arguments(args: Any, kwargs: Any) -> dict[str, Any]:
    """Arguments of a layer's call by name, of what a forward hook gets."""
    # Not by Signature.bind, which takes longer than the counting of a small layer.
    return _DEFAULTS | dict(zip(_DEFAULTS, args, strict=False)) | kwargs


def is_last_batch(trainer: Trainer, batch_idx: int) -> bool:
    """Whether this training batch is the last one of its epoch."""
    return trainer.is_last_batch or batch_idx + 1 == trainer.num_training_batches


class ActivityMonitor(Callback):
    """Activity, gradients and cost of every layer, over one epoch.

    Measures the :class:`SpikingLayer` modules, in their order, through forward
    hooks, over the current epoch (or the current validation or test run):

    - firing rate, dead and saturated neurons: :class:`bsnn_tha.observe.metrics.Activity`;
    - operations: :mod:`bsnn_tha.observe.workload`, those of a shortcut's weights and of
      recurrent ones included, and the energy they are estimated to take
      (:mod:`bsnn_tha.observe.energy`); in that an image that stays the same meets the first
      layer's weights once;

    and, of training epochs only,

    - the surrogate mass, on the epoch's last batch:
      :func:`bsnn_tha.observe.metrics.surrogate_mass`;
    - the share of binary weights whose sign is another at the epoch's end than
      at its start, those of a shortcut and recurrent ones included;
    - the norm of the gradient of all parameters, before clipping: the mean over
      the epoch's optimizer steps. Gradients accumulated over several batches
      make one step and count once.

    After a resumption within an epoch these are of the part after it.

    Under distributed training :meth:`layers`, :meth:`workload` and
    :meth:`columns` give joint figures and must be called in all processes.
    """

    def __init__(self) -> None:
        self.meters: list[ActivityMeter] = []
        self._layers: list[SpikingLayer] = []
        self._inputs: list[InputMeter] = []
        self._masses: list[SurrogateMeter] = []
        self._signs: dict[int, Tensor] = {}
        self._parameters: list[Tensor] = []
        self._gradient: Tensor | None = None
        self._steps = 0
        self._weighing = False
        self._hooks: list[Any] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._layers = [m for m in pl_module.modules() if isinstance(m, SpikingLayer)]
        self.meters = [ActivityMeter(layer.output_shape) for layer in self._layers]
        self._masses = [SurrogateMeter() for _ in self._layers]
        self._inputs = [InputMeter(layer.input_shape) for layer in self._layers[:1]]
        self._listen()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._show_membranes(False)
        self._ignore()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._show_membranes(False)
        self._ignore()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Training that goes on within an epoch does not start it again.
        self._start_training(pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start_training(pl_module)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Validation comes inside a training epoch: its spikes are not counted.
        self._ignore()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if is_last_batch(trainer, batch_idx):
            self._show_membranes(True)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._show_membranes(False)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        # Lightning calls this once per step, with all gradients there, and clips afterwards.
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        self._gradient = norm if self._gradient is None else self._gradient + norm
        self._steps += 1

    def dead_share(self) -> float:
        """Share of the neurons with a threshold that have not fired since the epoch began.

        In this process.
        """
        meters = [
            meter
            for layer, meter in zip(self._layers, self.meters, strict=True)
            if layer.neuron.fires
        ]
        silent = sum(int((meter.counts == 0).sum()) for meter in meters)
        return silent / max(1, sum(meter.counts.numel() for meter in meters))

    def layers(self) -> list[dict[str, Any]]:
        """One row per layer.

        Keys: ``neurons``, ``threshold``, ``firing_rate``, ``dead_share``,
        ``saturated_share``, ``spikes_per_sample``, ``effective_macs``,
        ``effective_acs``, ``dense_operations`` and ``energy_nj`` per sample; after training
        also ``surrogate_mass`` and, with binary weights, ``flipped_share``. Of a layer that
        does not fire, threshold, rate and shares are None.
        """
        rows = []
        operations = self._operations()
        for index, (layer, meter) in enumerate(zip(self._layers, self.meters, strict=True)):
            activity = meter.compute()
            fires = layer.neuron.fires
            row: dict[str, Any] = {
                "neurons": activity.counts.numel(),
                "threshold": layer.neuron.threshold.mean().item() if fires else None,
                "firing_rate": activity.rate if fires else None,
                "dead_share": activity.dead if fires else None,
                "saturated_share": activity.saturated if fires else None,
                "spikes_per_sample": activity.spikes_per_sample,
                **operations[index],
            }
            if self._masses[index].update_called:
                row["surrogate_mass"] = self._masses[index].compute()
            if index in self._signs:
                flipped = _signs(layer) != self._signs[index]
                row["flipped_share"] = flipped.double().mean().item()
            rows.append(row)
        return rows

    def workload(self) -> dict[str, float]:
        """Figures of the whole network, with NeuroBench's names and definitions.

        ``activation_sparsity``, and per sample ``effective_macs``,
        ``effective_acs``, ``dense_operations`` and ``energy_nj``.
        """
        return _workload(self.layers())

    def columns(self) -> dict[str, float]:
        """The epoch's figures for a table: of the network, then layer by layer."""
        rows = self.layers()
        values = {"dead": _mean_over_neurons(rows, "dead_share"), **_workload(rows)}
        if self._gradient is not None:
            values["grad_norm"] = self._gradient.item() / self._steps
        for index, row in enumerate(rows, start=1):
            for column, key in _LAYER_COLUMNS.items():
                if row.get(key) is not None:
                    values[f"{column}_{index}"] = row[key]
        return values

    def _operations(self) -> list[dict[str, float]]:
        """Per layer and sample: the operations its inputs cause, and their energy."""
        if not self._layers:
            return []
        inputs = self._inputs[0].compute()
        activities: list[Activity] = [meter.compute() for meter in self.meters]
        rows, costs = [], Costs()
        for layer, activity in zip(self._layers, activities, strict=True):
            steps = activity.presentations / max(1, activity.samples)
            updates, states = steps * activity.counts.numel(), len(layer.neuron.decays())
            real = _bits(layer.synapse) >= FLOAT_BITS
            energy = costs.of_neurons(updates, states, real=real)
            macs, acs, dense = 0, 0, 0
            for connection, reads in layer.connections():
                counts = [activities[source].counts for source in reads] or [inputs.counts]
                # Maps, or features, of the layers that are read lie one after the other.
                seen = torch.cat(counts).reshape(connection.input_shape)
                own = effective_operations(connection.synapse, seen)
                graded = inputs.graded and not reads
                macs, acs = macs + own * graded, acs + own * (not graded)
                once = steps if inputs.still and not reads else 1.0
                met = own / max(1, activity.samples) / max(1.0, once)
                energy += costs.of_inputs(met, _bits(connection.synapse), graded)
                dense += dense_operations(connection.synapse, connection.input_shape)
            rows.append(
                {
                    "effective_macs": macs / max(1, activity.samples),
                    "effective_acs": acs / max(1, activity.samples),
                    "dense_operations": steps * dense,
                    "energy_nj": energy / 1000,
                }
            )
        return rows

    def _start_training(self, pl_module: LightningModule) -> None:
        self._start(pl_module)
        self._parameters = list(pl_module.parameters())
        self._signs = {
            index: signs for index, layer in enumerate(self._layers) if len(signs := _signs(layer))
        }
        self._gradient, self._steps = None, 0

    def _start(self, pl_module: LightningModule) -> None:
        for meter in (*self.meters, *self._inputs, *self._masses):
            meter.to(pl_module.device)
            meter.reset()

    def _listen(self) -> None:
        if self._hooks:
            return
        for index, layer in enumerate(self._layers):
            hook = layer.register_forward_hook(
                lambda layer, args, kwargs, window, index=index: self._see(
                    index, layer_arguments(args, kwargs), window
                ),
                with_kwargs=True,
            )
            self._hooks.append(hook)

    def _ignore(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _see(self, index: int, arguments: dict[str, Any], window: Any) -> None:
        if recomputing():
            return
        # A layer that starts from given membranes goes on with the same samples.
        self.meters[index].update(window.spikes, continued=arguments["membrane"] is not None)
        if index == 0:
            self._inputs[0].update(arguments["input"], arguments["num_steps"])
        layer = self._layers[index]
        if self._weighing and layer.neuron.fires:  # others may ask for membranes as well
            neuron = layer.neuron
            self._masses[index].update(window.membranes, neuron.centre, neuron.surrogate)

    def _show_membranes(self, show: bool) -> None:
        self._weighing = show
        for layer in self._layers:
            layer.show_membranes = show


_LAYER_COLUMNS = {
    "threshold": "threshold",
    "rate": "firing_rate",
    "dead": "dead_share",
    "saturated": "saturated_share",
    "surrogate_mass": "surrogate_mass",
    "flipped": "flipped_share",
}
"""Columns of the table, and the keys of :meth:`ActivityMonitor.layers` they show."""


def _bits(synapse: Synapse) -> int:
    """Of a weight."""
    if isinstance(synapse, QuantizedLinear | QuantizedConv2d):
        return synapse.quantizer.bits
    return FLOAT_BITS


def _signs(layer: SpikingLayer) -> Tensor:
    """Which of a layer's binary weights are +1, one after the other; none without such."""
    synapses = [connection.synapse for connection, _ in layer.connections()]
    binary = [synapse for synapse in synapses if _bits(synapse) == 1]
    signs = [(weight_of(synapse).detach() > 0).flatten() for synapse in binary]
    return torch.cat(signs) if signs else torch.empty(0)


def _workload(rows: list[dict[str, Any]]) -> dict[str, float]:
    operations = ("effective_macs", "effective_acs", "dense_operations", "energy_nj")
    return {
        "activation_sparsity": 1 - _mean_over_neurons(rows, "firing_rate"),
        **{name: sum(row[name] for row in rows) for name in operations},
    }


def _mean_over_neurons(rows: list[dict[str, Any]], key: str) -> float:
    rows = [row for row in rows if row[key] is not None]  # of layers that fire
    total = sum(row[key] * row["neurons"] for row in rows)
    return total / max(1, sum(row["neurons"] for row in rows))


class Columns(Protocol):
    """Who has columns for the table."""

    def columns(self) -> dict[str, float]:
        """Names and values of the epoch that ends; called in all processes."""


class EpochTable(Callback):
    """``metrics.csv``: one row per finished epoch, rewritten atomically.

    The first process writes. Rows are part of checkpoints: a resumed run's
    table holds the rows up to the checkpoint, then its own. The same figures go
    to the trainer's loggers, except those that Lightning logs itself.

    Args:
        path: of the file.
        *sources: where the columns come from besides the logged metrics, e.g.
            an :class:`ActivityMonitor`. They come before this callback in the
            trainer's list.
    """

    def __init__(self, path: Path, *sources: Columns) -> None:
        self.path = path
        self.sources = sources
        self.rows: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The file of a run that is resumed may be ahead of the checkpoint.
        if self.rows and trainer.is_global_zero:
            self._write()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        figures = {"lr": trainer.optimizers[0].param_groups[0]["lr"]}
        for source in self.sources:
            figures |= source.columns()
        place = {"epoch": trainer.current_epoch, "iteration": trainer.global_step}
        logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
        self.rows.append(place | logged | figures)
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            # The step at which Lightning logs the epoch's loss.
            logger.log_metrics(figures, step=trainer.global_step - 1)
        self._write()

    def _write(self) -> None:
        # A resumed run may watch more than the run before it did.
        names = dict.fromkeys(name for row in self.rows for name in row)
        with (
            replace_atomically(self.path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, fieldnames=list(names))
            writer.writeheader()
            for values in self.rows:
                writer.writerow(
                    {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in values.items()}
                )
