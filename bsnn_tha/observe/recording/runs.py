"""Reading what runs have recorded, also while they are running."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar, overload

import numpy as np

from bsnn_tha.errors import DataError, RunError
from bsnn_tha.observe.recording.contents import (
    FoundBoxes,
    LayerActivity,
    Probe,
    ProbeLayer,
    Snapshot,
    SnapshotLayer,
)
from bsnn_tha.observe.recording.traces import LayerTrace
from bsnn_tha.run_folder import RunFolder

Parsed = TypeVar("Parsed")

_SNAPSHOT = re.compile(r"iteration-(\d+)\.npz")


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
    found = None
    if "found" in arrays:
        samples = (arrays["found"][arrays["found"][:, 0] == i] for i in range(len(probe.samples)))
        found = tuple(FoundBoxes(s[:, 1:5], s[:, 5], s[:, 6].astype(np.int64)) for s in samples)
    return Snapshot(
        int(arrays["iteration"]), int(arrays["epoch"]), float(arrays["loss"]), layers, found
    )
