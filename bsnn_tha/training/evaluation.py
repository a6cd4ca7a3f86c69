"""Measure a trained network on a split: loss, accuracy, groups, activity per layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer

from bsnn_tha.config import RunConfig
from bsnn_tha.data import load_dataset
from bsnn_tha.data.dataset import Dataset, Split
from bsnn_tha.data.root import cache_root, data_root
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.observe.metrics import Activity
from bsnn_tha.run_folder import RunFolder
from bsnn_tha.training.allowed import run_config
from bsnn_tha.training.boxes import measure_boxes
from bsnn_tha.training.callbacks.monitor import ActivityMonitor
from bsnn_tha.training.checkpoint import load_weights
from bsnn_tha.training.loaders import evaluation_batches
from bsnn_tha.training.machine import THIS_MACHINE, Machine, interruptible, quiet
from bsnn_tha.training.module import SpikingModule

EVALUATION_BATCH = 4
"""Evaluation keeps no membranes, so its batches are this many times larger."""


def evaluate(
    run: Path,
    *,
    checkpoint: str | Path = "best",
    split: str = "test",
    machine: Machine = THIS_MACHINE,
    allow_code: bool = False,
) -> dict[str, Any]:
    """Measure a trained network of a run folder. Writes nothing.

    Args:
        run: the run folder.
        checkpoint: ``"best"``, ``"last"`` or the path of a checkpoint.
        split: ``"test"`` or ``"validation"``.
        machine: data root, device and threads.
        allow_code: whether a run that was not trained here may name code outside this
            package (:mod:`bsnn_tha.training.allowed`).

    Returns:
        ``{"loss", "accuracy", "groups", "layers"}`` as in the run's summary.

    Raises:
        RunError: no such run or checkpoint, or one of another architecture.
        InvalidValueError: the data set has no such split.
    """
    folder = RunFolder.open(run)
    config = run_config(folder, allow_code)
    weights = folder.checkpoint(checkpoint)
    return evaluate_split(config, split, lambda module: load_weights(module, weights), machine)


def evaluate_split(
    config: RunConfig,
    split: str,
    fill: Callable[[SpikingModule], None],
    machine: Machine = THIS_MACHINE,
) -> dict[str, Any]:
    """As :func:`evaluate`, of a network that does not come from a run folder.

    Args:
        config: which network, and which data.
        split: ``"test"`` or ``"validation"``.
        fill: gives the network its weights.
        machine: data root, device and threads.
    """
    machine.make_ready()
    options = machine.trainer_options(together=False)
    dataset = load_data(config, machine)
    part = {"test": dataset.test, "validation": dataset.validation}.get(split)
    if part is None:
        known = [name for name in ("validation", "test") if getattr(dataset, name) is not None]
        raise InvalidValueError(
            f"{config.data.name} has no {split!r} split in this run; "
            f"known are {', '.join(known) or 'none: it is a training task only'}"
        )
    module = SpikingModule(config, dataset)
    fill(module)
    with interruptible():
        measured = measure(module, dataset, part, options)
    return {**measured.values, "layers": measured.layers}


def load_data(config: RunConfig, machine: Machine) -> Dataset:
    """The data set a configuration names, from where this machine has it.

    A validation split without samples (of classes with one sample each nothing can be held
    out) is none: nothing can be selected on it.
    """
    paper = config.training.protocol == "paper"
    dataset = load_dataset(
        config.data.name,
        root=data_root(machine.data_root),
        cache=cache_root(machine.cache_root),
        seed=config.training.seed,
        validation=0.0 if paper else config.data.validation,
        num_steps=config.data.num_steps,
        options=config.data.options,
    )
    if dataset.validation is not None and not len(dataset.validation):
        return replace(dataset, validation=None)
    return dataset


def epoch_values(trainer: Trainer, split: str) -> dict[str, float]:
    """The means that the module logged over a split, by name."""
    return {
        name.removeprefix(f"{split}_"): value.item()
        for name, value in trainer.callback_metrics.items()
        if name.startswith(f"{split}_")
    }


class Measured(NamedTuple):
    """What a network did on a split."""

    values: dict[str, Any]
    """``loss``, ``accuracy``, and for the test split ``groups``."""
    layers: list[dict[str, Any]]
    """Activity of each layer."""
    workload: dict[str, float]
    """Of the whole network."""
    counts: list[Activity]
    """Spikes of every neuron, layer by layer."""


def measure(
    module: SpikingModule, dataset: Dataset, split: Split, options: dict[str, Any]
) -> Measured:
    """Loss and accuracy on a split, and the activity of every layer.

    The accuracies of the data set's test groups come with those of its test
    split, as ``"groups"``; of detections, all of
    :func:`~bsnn_tha.training.boxes.measure_boxes`.
    """
    config = module.config
    monitor = ActivityMonitor()
    with quiet():
        trainer = Trainer(
            **options, precision=config.training.precision, logger=False, callbacks=[monitor]
        )
        loader = evaluation_batches(split, EVALUATION_BATCH * config.data.batch_size)
        trainer.test(module, loader, verbose=False)
        layers, workload = monitor.layers(), monitor.workload()
        counts = [meter.compute() for meter in monitor.meters]
    values: dict[str, Any] = epoch_values(trainer, "test")
    if split is dataset.test and dataset.test_groups:
        right = torch.cat(module.predictions) == split.targets
        values["groups"] = {
            name: right[mask].float().mean().item() for name, mask in dataset.test_groups.items()
        }
    if dataset.boxes is not None:
        values |= measure_boxes(dataset, split, module.found)
    return Measured(values, layers, workload, counts)
