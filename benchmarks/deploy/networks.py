"""The networks that exports and inference are measured on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import bsnn_tha
from bsnn_tha import zoo
from bsnn_tha.data.dataset import Dataset
from bsnn_tha.deploy.deployment import Deployment, Samples
from bsnn_tha.deploy.encode import samples_of
from bsnn_tha.deploy.export import Exported, deploy, readout_of
from bsnn_tha.deploy.integer import Precision
from bsnn_tha.deploy.packed import Packed, read
from bsnn_tha.deploy.restore import configuration, spiking_network
from bsnn_tha.nn.network import SpikingNetwork
from bsnn_tha.training.evaluation import load_data
from bsnn_tha.training.machine import Machine

COMPARED = 1000
"""Samples on which every spike of packed and C programs is compared."""


def exported(name: str, samples: int | None, precision: Precision | None = None) -> Exported:
    """A network of the zoo, deployed and measured on so many test samples, or on all.

    Its deployment's samples are :data:`COMPARED` where the data set has so many: of the test
    set, then of the training set.
    """
    trained = zoo.load(name)
    dataset = load_data(trained.config, Machine())
    made = deploy(trained, dataset, name=name, samples=samples, precision=precision)
    return replace(made, deployment=_filled_up(made.deployment, dataset))


def _filled_up(deployment: Deployment, dataset: Dataset) -> Deployment:
    """With training samples behind those of a test set that is small."""
    samples = deployment.samples
    missing = min(COMPARED - len(samples.targets), len(dataset.train))
    if missing <= 0:
        return deployment
    batch, targets = dataset.train[list(range(missing))]
    inputs = deployment.whole.input.encode(samples_of(batch))
    axis = 0 if samples.num_steps is not None else 1
    filled = Samples(
        np.concatenate([samples.inputs, inputs], axis),
        np.concatenate([samples.targets, targets.numpy()]),
        samples.num_steps,
    )
    return replace(deployment, samples=filled)


@dataclass(frozen=True)
class Work:
    """A network and samples for it.

    Attributes:
        trained: in evaluation mode.
        inputs: 128 samples as the data set gives them, ``[batch, ...]`` or ``[time, batch, ...]``.
        still: whether they are images.
        num_steps: T.
        counts: whether answers are counts of spikes.
    """

    trained: SpikingNetwork
    inputs: np.ndarray[Any, Any]
    still: bool
    num_steps: int
    counts: bool


BATCH = 128


def _mnist() -> Work:
    """The zoo's."""
    return _work(zoo.packed("mnist"))


def _shd() -> Work:
    """A trained network of SHD's size without recurrence, for which peers have no such layers."""
    return _work(read(Path(__file__).with_name("size-of-shd.safetensors")))


def _work(packed: Packed) -> Work:
    """A packed network as it was trained, and samples of its test set."""
    bsnn_tha.keep_freed_memory()
    network, config = spiking_network(packed), configuration(packed)
    dataset = load_data(config, Machine())
    assert dataset.test is not None
    batch, _ = dataset.test[list(range(BATCH))]
    counts = readout_of(config.build_loss(network)) == "spike_count"
    return Work(network, samples_of(batch), dataset.static, config.data.num_steps, counts)


def _dvs() -> Work:
    """THA's network for DVS128 Gesture, untrained: 100 steps of 2 × 32 × 32, 2% of pixels on."""
    import torch

    from bsnn_tha.presets import load_preset

    bsnn_tha.keep_freed_memory()
    torch.manual_seed(0)
    config = load_preset("dvs-gesture", "bsnn-unit")
    network = config.build_network((2, 32, 32)).eval()
    generator = np.random.default_rng(0)
    inputs = generator.random((100, BATCH, 2, 32, 32)) < 0.02
    return Work(network, inputs.astype(np.float64), False, 100, True)


NETWORKS: dict[str, Callable[[], Work]] = {
    "mnist": _mnist,
    "spoken-digits": _shd,
    "dvs": _dvs,
}
TITLES = {
    "mnist": "MNIST, 16C5-AP2-64C5-AP2-10, 6 steps",
    "spoken-digits": "size of SHD, 700-1000-20, 84 steps (spoken digits)",
    "dvs": "size of DVS128 Gesture, 16C5-AP2-32C5-AP2-11, 100 steps (untrained: answers near ties)",
}
