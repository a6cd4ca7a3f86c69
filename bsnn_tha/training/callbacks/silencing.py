"""A check on annealing: how many neurons the threshold's next step silences."""

from __future__ import annotations

import copy
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from bsnn_tha.equations.bounds import held_decay
from bsnn_tha.equations.silencing import free_peak, silenced
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.layer import SpikingLayer
from bsnn_tha.nn.neurons.leaky import AnnealedLeaky, Leaky
from bsnn_tha.nn.recompute import recomputing
from bsnn_tha.training.callbacks.monitor import is_last_batch, layer_arguments


class SilencingCheck(Callback):
    """Neurons that annealing silences, on the last batch of each epoch (Eq. 6 and 7).

    For each annealed layer, of the neurons that fire on that batch (for any
    sample, at any time step):

    - ``silenced_next_1``, ...: how many do not reach θ[γ+1] with the weights
      after the optimizer's step (Eq. 6);
    - ``silenced_final_1``, ...: how many do not reach θ∞ with those weights
      (Eq. 7, as if they were final).

    The exact definition is in :mod:`bsnn_tha.equations.silencing`. As there, a
    layer's inputs are those of the forward pass for both sides of the
    comparison, so that each layer answers for its own step only. Batch norm
    uses the batch's statistics, dropout is left out on both sides: a step that
    changes nothing silences nobody. Nothing of the network changes: running
    statistics, random numbers and kept membranes stay as they are.

    It costs two more forward passes in one batch per epoch, and keeps that
    batch's spikes until the step. Under distributed training a neuron fires if
    it does in any process.

    Place it after :class:`~bsnn_tha.training.callbacks.ThresholdAnnealing`,
    whose step it judges, and before the table that shows its columns.
    """

    def __init__(self) -> None:
        self._layers: dict[int, SpikingLayer] = {}
        self._calls: dict[int, list[dict[str, Any]]] = {}
        self._before: dict[int, tuple[Tensor, Tensor]] = {}
        self._columns: dict[str, float] = {}
        self._hooks: list[Any] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._layers = annealed_layers(pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._forget()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._forget()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._columns = {}
        if not is_last_batch(trainer, batch_idx):
            return
        for index, layer in self._layers.items():
            self._calls[index] = []
            hook = layer.register_forward_hook(
                lambda layer, args, kwargs, window, calls=self._calls[index]: _keep(
                    calls, layer_arguments(args, kwargs)
                ),
                with_kwargs=True,
            )
            self._hooks.append(hook)

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        # Here the weights and θ are still those of the forward pass.
        for index, layer in self._layers.items():
            if index in self._calls:
                self._before[index] = (
                    self._peak(trainer, index),
                    layer.neuron.threshold.detach().clone(),
                )

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        for index, (before, threshold) in self._before.items():
            neuron = self._layers[index].neuron
            after = self._peak(trainer, index)
            for name, raised in (("next", neuron.threshold), ("final", neuron.theta_inf)):
                lost = silenced(before, threshold, after, raised)
                self._columns[f"silenced_{name}_{index}"] = int(lost.sum())
        self._forget()

    def columns(self) -> dict[str, float]:
        """The latest epoch's numbers of neurons; empty if it did not get to its last batch."""
        return self._columns

    @torch.no_grad()
    def _peak(self, trainer: Trainer, index: int) -> Tensor:
        """The highest membrane of each neuron, with the weights as they are now."""
        layer = self._layers[index]
        peaks, membrane = [], None
        # Copies drive, whose running statistics are not the network's.
        connections = [connection for connection, _ in layer.connections()]
        originals = [connection.norm for connection in connections]
        for connection in connections:
            connection.norm = copy.deepcopy(connection.norm)
        try:
            with trainer.precision_plugin.train_step_context():
                for call in self._calls[index]:
                    current = layer.drive(call["input"], call["num_steps"], call["skipped"])
                    # A chunk goes on where the one before ended without reset.
                    start = call["membrane"]
                    if start is not None and membrane is not None:
                        start = membrane
                    peak, membrane = free_peak(current, held_decay(layer.neuron.beta), start)
                    peaks.append(peak)
        finally:
            for connection, original in zip(connections, originals, strict=True):
                connection.norm = original
        return trainer.strategy.reduce(torch.stack(peaks).amax(0), reduce_op="max")

    def _forget(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._calls.clear()
        self._before.clear()


def annealed_layers(module: nn.Module) -> dict[int, SpikingLayer]:
    """The layers that the check is of, by their number from 1.

    Raises:
        InvalidValueError: it is not defined for the neurons or layers of the network.
    """
    layers = [m for m in module.modules() if isinstance(m, SpikingLayer)]
    # Eq. 6 and 7 follow one membrane without reset; others have more that drives it.
    if other := [m.neuron for m in layers if type(m.neuron) not in (Leaky, AnnealedLeaky)]:
        raise InvalidValueError(
            "training.check_silencing is defined for leaky neurons without lateral "
            f"interaction, but got {type(other[0]).__name__}; leave it out"
        )
    if any(layer.recurrence is not None for layer in layers):
        raise InvalidValueError(
            "training.check_silencing is defined for layers whose spikes do not come back to "
            "them, but the network has recurrent ones; leave it out"
        )
    return {index: layer for index, layer in enumerate(layers, start=1) if layer.neuron.annealed}


def _keep(calls: list[dict[str, Any]], arguments: dict[str, Any]) -> None:
    if not recomputing():
        calls.append(
            {name: arguments[name] for name in ("input", "num_steps", "membrane", "skipped")}
        )
