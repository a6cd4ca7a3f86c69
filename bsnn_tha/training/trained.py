"""A trained network with what belongs to it: :class:`Trained`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bsnn_tha.config import RunConfig
from bsnn_tha.detection.boxes import Detections
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.losses import Loss, YoloLoss
from bsnn_tha.nn.network import SpikingNetwork
from bsnn_tha.nn.window import NetworkWindow
from bsnn_tha.run_folder import RunFolder
from bsnn_tha.training.allowed import run_config
from bsnn_tha.training.checkpoint import load_weights, read_task
from bsnn_tha.training.evaluation import load_data
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.summary import read_summary
from bsnn_tha.training.task import Task


@dataclass(frozen=True)
class Trained:
    """A trained network with what belongs to it.

    Args:
        network: with its weights and thresholds, in evaluation mode, on the CPU.
        loss: it was trained with, which reads its answers.
        config: of the run that trained it.
        task: what it reads, and the names of its classes.
        summary: of that run: accuracies, activity, workload; empty while it trains.
        source: where it came from.
    """

    network: SpikingNetwork
    loss: Loss
    config: RunConfig
    task: Task
    summary: dict[str, Any]
    source: str

    def __repr__(self) -> str:
        # The network's own text, the configuration and the summary are pages.
        what = f"{self.config.data.label}, variant {self.config.variant}"
        notation, weights = self.config.network.notation, self.config.network.weights
        return f"<Trained {self.source}: {what}, {notation}, {weights} weights>"

    @property
    def accuracy(self) -> float | None:
        """Measured on the test set when training ended; None if it was not."""
        return self.summary.get("test", {}).get("accuracy")

    @property
    def map(self) -> float | None:
        """Mean average precision on the test set, of a detector whose training has ended."""
        return self.summary.get("test", {}).get("map")

    def __call__(self, inputs: Tensor) -> NetworkWindow:
        """Run the network over a window, without gradients.

        Args:
            inputs: as the data set gives them: ``[batch, *input_shape]`` for still samples
                (of images pixels from 0 to 1), ``[time, batch, *input_shape]`` for sequences.
        """
        steps = self.config.data.num_steps if self.task.static else None
        with torch.no_grad():
            return self.network(inputs, steps, record=self.loss.needs_membranes)

    def predict(self, inputs: Tensor) -> Tensor | list[Detections]:
        """What the network was trained to say, read from spikes or membranes as in training.

        Args:
            inputs: as for a call.

        Returns:
            Class indices ``[batch]``; or of a detector what :meth:`detect` returns, boxes, scores
            and classes for each sample.

        Raises:
            InvalidValueError: it was trained to follow a trace, which a call shows.
        """
        if self.task.frame is not None:
            return self.detect(inputs)
        if not self.loss.classifies:
            raise InvalidValueError(
                f"{self.source} has no answer to predict, as loss.name is "
                f"{self.config.loss.name!r}; call it, and look at the window it returns"
            )
        return self.loss.scores(self(inputs)).argmax(-1)

    def detect(self, inputs: Tensor) -> list[Detections]:
        """What is found in each sample, boxes in pixels of the sensor, the best first.

        Args:
            inputs: as for a call.

        Returns:
            For each sample ``boxes`` ``[found, 4]`` (x, y of the left upper corner, width,
            height), ``scores`` ``[found]`` in [0, 1] and ``classes`` ``[found]``, whose names
            :meth:`names` gives.

        Raises:
            InvalidValueError: the network was not trained to find boxes.
        """
        if self.task.frame is None or not isinstance(self.loss, YoloLoss):
            raise InvalidValueError(
                f"{self.source} finds no boxes, as loss.name is {self.config.loss.name!r}; "
                "use predict"
            )
        width, height = self.task.frame
        scale = torch.tensor([width, height, width, height])
        return [each._replace(boxes=each.boxes * scale) for each in self.loss.detect(self(inputs))]

    def names(self, classes: Tensor) -> list[str]:
        """Class indices as names, or as numbers where classes have none."""
        known = self.task.class_names
        return [known[index] if known else str(index) for index in classes.tolist()]


def load(
    run: str | Path,
    *,
    checkpoint: str | Path = "best",
    data_root: Path | None = None,
    allow_code: bool = False,
) -> Trained:
    """The trained network of a run folder, its configuration and what was measured.

    Needs no data, but for runs of earlier versions, whose checkpoints do not say what the
    network reads.

    Args:
        run: the run folder.
        checkpoint: ``"best"``, ``"last"`` or the path of a checkpoint.
        data_root: where data is, if it is needed.
        allow_code: whether a run that was not trained here may name code outside this
            package (:mod:`bsnn_tha.training.allowed`).

    Raises:
        RunError: no such run or checkpoint, or one of another architecture.
    """
    folder = RunFolder.open(Path(run))
    config = run_config(folder, allow_code)
    path = folder.checkpoint(checkpoint)
    task = read_task(path)
    if task is None:
        task = Task.of(load_data(config, Machine(data_root)))
    network = config.build_network(task.input_shape)
    loss = config.build_loss(network)
    parts: dict[str, Any] = {"network": network, "loss": loss}
    # One of the user's may have learned something as well.
    load_weights(
        nn.ModuleDict({k: part for k, part in parts.items() if isinstance(part, nn.Module)}), path
    )
    return Trained(network.eval(), loss, config, task, read_summary(folder), str(folder.path))
