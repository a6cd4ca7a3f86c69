"""What films and figures draw: arrays read from run folders.

The only place here that knows files. Whatever draws takes arrays, so it works on
recordings of any origin.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bsnn_tha.config import RunConfig
from bsnn_tha.errors import InvalidValueError, RunError
from bsnn_tha.nn.per_layer import of_output
from bsnn_tha.observe.recording import read_output_recording
from bsnn_tha.run_folder import RunFolder
from bsnn_tha.training.epoch_columns import read_columns


@dataclass(frozen=True)
class OutputRecording:
    """One output neuron in every iteration of a training.

    Raises:
        InvalidValueError: the arrays' lengths do not fit each other.
    """

    membranes: np.ndarray
    """Membrane potential u, ``[iterations, time]``."""
    spikes: np.ndarray
    """0 or 1, likewise."""
    threshold: np.ndarray
    """Of this neuron, ``[iterations]``."""
    target: np.ndarray
    """What the membrane is to be, ``[time]``."""

    def __post_init__(self) -> None:
        iterations, time = self.membranes.shape
        shapes = self.spikes.shape, self.threshold.shape, self.target.shape
        if shapes != ((iterations, time), (iterations,), (time,)) or not iterations:
            raise InvalidValueError(
                f"membranes of shape {self.membranes.shape} need spikes, threshold and target of "
                f"shapes {((iterations, time), (iterations,), (time,))}, but got {shapes}"
            )

    def __len__(self) -> int:
        """How many iterations."""
        return len(self.membranes)

    @classmethod
    def of_run(cls, run: Path, output: int = 0) -> OutputRecording:
        """Of the first sample of each iteration's batch.

        Args:
            run: a folder whose run recorded its output.
            output: which output neuron, from 0.

        Raises:
            RunError: no such run, or it recorded no output membrane.
            InvalidValueError: it has no such output.
        """
        arrays = read_output_recording(run)
        films = f"films of it are made by bsnn-tha animate run {run}"
        if "membranes" not in arrays or "target" not in arrays:
            raise RunError(f"{run} recorded spikes only: its loss needs no membranes; {films}")
        if arrays["target"].ndim != 3:
            raise RunError(f"{run} learned classes, which give a membrane no target trace; {films}")
        outputs = arrays["membranes"].shape[-1]
        check_index("output neuron", output, outputs)
        return cls(
            arrays["membranes"][:, :, 0, output],
            arrays["spikes"][:, :, 0, output],
            arrays["thresholds"][:, -1],
            arrays["target"][:, 0, output],
        )


def check_index(what: str, index: int, size: int, first: int = 0) -> None:
    """Refuse an index that is out of range.

    Raises:
        InvalidValueError: in one line, with the range.
    """
    if not first <= index < first + size:
        raise InvalidValueError(
            f"{what} must be from {first} to {first + size - 1}, but got {index}"
        )


def label_of(run: Path) -> str:
    """A run in a few words: its weights, and the threshold of the last layer that has one.

    Raises:
        RunError: no such run.
    """
    # Nothing is built from it here, so nothing that it names is run.
    config = RunConfig.from_file(RunFolder.open(run).config, allow_code=True)
    weights = config.network.weights_in_words()
    if config.threshold.theta_inf is None:
        return f"{weights}, θ = {of_output(config.threshold.theta_0):g}"
    moving = " (surrogate moving)" if config.neuron.surrogate_centre == "moving" else ""
    return f"{weights}, annealed{moving}"


def read_epochs(run: Path) -> dict[str, np.ndarray]:
    """The columns of a run's ``metrics.csv``, ``[epochs]`` each, also while it is running.

    Raises:
        RunError: no such run, or no epoch of it has ended.
    """
    path = RunFolder.open(run).metrics
    if not path.is_file():
        raise RunError(f"{run} has no metrics.csv yet: no epoch has ended; wait for the first")
    columns = read_columns(path)
    if not columns:
        raise RunError(f"{path} is empty; train anew")
    return {name: np.array(values, dtype=float) for name, values in columns.items()}


def layer_columns(epochs: dict[str, np.ndarray], name: str) -> np.ndarray:
    """A per-layer column of ``metrics.csv``, ``[layers, epochs]``.

    Raises:
        RunError: the table has no such column.
    """
    columns: list[np.ndarray] = []
    while (column := f"{name}_{len(columns) + 1}") in epochs:
        columns.append(epochs[column])
    if not columns:
        raise RunError(f"metrics.csv has no column {name}_1; was it written by another version?")
    return np.array(columns)
