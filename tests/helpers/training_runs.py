"""Tiny training runs, and looking at what they leave: shared by the tests of training."""

from __future__ import annotations

import csv
import importlib.util
import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from bsnn_tha import SpikingNetwork
from bsnn_tha.config import RunConfig
from bsnn_tha.data import load_dataset
from bsnn_tha.losses import SpikeCountLoss
from bsnn_tha.presets import load_preset
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.run import train

MACHINE = Machine(device="cpu", threads=1)
STEPS, BATCH, SUBSET, EPOCHS, SEED = 5, 32, 80, 3, 3
PER_EPOCH = 3  # batches of 32, 32 and 16
THETA_0, THETA_INF, ALPHA = [0.5, 1.0], [1.5, 2.5], [0.05, 0.1]
BETA, SLOPE, LR, PERIOD = 0.9, 1.0, 0.02, 2.0

SETTINGS = {
    "network.notation": "4C3-AP2-10",
    "data.num_steps": STEPS,
    "data.batch_size": BATCH,
    "data.subset": SUBSET,
    "neuron.beta": BETA,
    "neuron.slope": SLOPE,
    "threshold.theta_0": THETA_0,
    "threshold.theta_inf": THETA_INF,
    "threshold.alpha": ALPHA,
    "optimizer.lr": LR,
    "optimizer.period": PERIOD,
    "training.epochs": EPOCHS,
    "training.seed": SEED,
    "snapshots.count": 0,  # but where they are the subject
}
FIXED = {"threshold.theta_inf": None, "threshold.alpha": None}


def tiny(**changes):
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    # Settings first: what another choice has no use for goes with the one that had it.
    return load_preset("digits", "tha").with_changes(SETTINGS).with_changes(changes)


def tiny_network():
    """The network of ``tiny()``, built without a configuration."""
    return SpikingNetwork(
        "4C3-AP2-10",
        (1, 8, 8),
        beta=BETA,
        slope=SLOPE,
        theta_0=THETA_0,
        theta_inf=THETA_INF,
        alpha=ALPHA,
    )


def train_tiny(output, **changes):
    return train(tiny(**changes), output=output, machine=MACHINE, verbose=False)


def weights(path):
    return torch.load(path, map_location="cpu", weights_only=True)["state_dict"]


def network_weights(path):
    return {name.removeprefix("network."): value for name, value in weights(path).items()}


def table(folder):
    with folder.metrics.open(newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def digits(seed=SEED):
    return load_dataset(
        "digits", root=Path(), cache=Path(), seed=seed, validation=0.1, num_steps=STEPS
    )


def names(path):
    return sorted(entry.name for entry in path.iterdir())


def run_files(*own):
    """What a run folder must hold: these files, and TensorBoard's if it is installed."""
    return sorted([*own, "tensorboard"] if importlib.util.find_spec("tensorboard") else own)


FINISHED = run_files(
    "activity.npz", "best.ckpt", "config.toml", "last.ckpt", "metrics.csv", "summary.json"
)
WITH_SNAPSHOTS = sorted([*FINISHED, "snapshots"])


def contents(path):
    """Every file below a folder, byte by byte."""
    return {p: p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


# An independent measurement


def measure(path, split):
    """Accuracy, loss and activity per layer by a loop over single samples."""
    network = tiny_network()
    network.load_state_dict(network_weights(path))
    network.eval()
    fired = [torch.zeros(layer.output_shape, dtype=torch.float64) for layer in network.layers]
    correct = loss = 0.0
    with torch.no_grad():
        for sample in range(len(split)):
            image, label = split[[sample]]
            spikes = image.expand(STEPS, *image.shape)
            for layer, total in zip(network.layers, fired, strict=True):
                spikes = layer(spikes).spikes
                total += spikes.sum((0, 1))
            counts = spikes.sum((0, 1)).tolist()
            correct += counts.index(max(counts)) == label.item()
            for index, count in enumerate(counts):
                wanted = (0.8 if index == label.item() else 0.2) * STEPS
                loss += (count - wanted) ** 2 / (10 * STEPS)
    layers = [
        {
            "neurons": total.numel(),
            "threshold": layer.neuron.threshold.item(),
            "firing_rate": total.sum().item() / (len(split) * STEPS * total.numel()),
            "dead_share": (total == 0).double().mean().item(),
            "spikes_per_sample": total.sum().item() / len(split),
        }
        for layer, total in zip(network.layers, fired, strict=True)
    ]
    return {"accuracy": correct / len(split), "loss": loss / len(split), "layers": layers}


def assert_alike(actual, expected):
    assert actual["accuracy"] == pytest.approx(expected["accuracy"], abs=1e-7)
    assert actual["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    for row, wanted in zip(actual["layers"], expected["layers"], strict=True):
        # How the further figures come about is the subject of the tests of monitors.
        assert {key: row[key] for key in wanted} == pytest.approx(wanted, rel=1e-6)


# Training that goes wrong on purpose


class FailingLoss(SpikeCountLoss):
    """A spike count loss that goes wrong after so many training iterations."""

    def after(self, iterations, action):
        object.__setattr__(self, "left", iterations)
        object.__setattr__(self, "action", action)
        return self

    def __call__(self, window, targets):
        loss = super().__call__(window, targets)
        if not torch.is_grad_enabled():
            return loss
        object.__setattr__(self, "left", self.left - 1)
        return self.action(loss) if self.left < 0 else loss


def interrupt(loss):
    raise KeyboardInterrupt


def fail_after(monkeypatch, iterations, action):
    loss = FailingLoss().after(iterations, action)
    monkeypatch.setattr(RunConfig, "build_loss", lambda self, network: loss)


# Comparing runs


def checkpoint(path):
    """What is in a checkpoint that a run depends on: not where it was or how long it took."""
    # Lightning writes the latest score into checkpoints, but does not read it from them.
    ignored = {"seconds", "dirpath", "current_score"}

    def neutral(value):
        if isinstance(value, dict):
            return {neutral(k): neutral(v) for k, v in value.items() if k not in ignored}
        if isinstance(value, list | tuple):
            return [neutral(entry) for entry in value]
        return Path(value).name if isinstance(value, str) else value

    return neutral(torch.load(path, map_location="cpu", weights_only=True))


def difference(one, other, where="checkpoint"):
    """Where two checkpoints first differ, to the last bit; None if nowhere."""
    if type(one) is not type(other):
        return f"{where}: {type(one)} and {type(other)}"
    if isinstance(one, torch.Tensor):
        same = one.dtype == other.dtype and torch.equal(one, other)
        return None if same else f"{where}: {one} and {other}"
    if not isinstance(one, dict | list):
        return None if one == other else f"{where}: {one!r} and {other!r}"
    if isinstance(one, dict) and list(one) != list(other):
        return f"{where}: {[*one]} and {[*other]}"
    if len(one) != len(other):
        return f"{where}: {len(one)} and {len(other)} entries"
    keys = one if isinstance(one, dict) else range(len(one))
    found = (difference(one[key], other[key], f"{where}[{key!r}]") for key in keys)
    return next(filter(None, found), None)


def assert_same_run(folder, other):
    """Two finished run folders hold the same, to the last bit; only seconds may differ."""
    assert names(folder.path) == names(other.path)
    assert folder.metrics.read_text() == other.metrics.read_text()
    for name in ("best.ckpt", "last.ckpt"):
        if (folder.path / name).exists():
            one, two = (checkpoint(f.path / name) for f in (folder, other))
            assert difference(one, two) is None
    for path in (folder.recording, folder.activity):
        if path.exists():
            assert_same_arrays(path, other.path / path.name)
    if folder.snapshots.exists():
        assert names(folder.snapshots) == names(other.snapshots)
        for path in folder.snapshots.iterdir():
            assert_same_arrays(path, other.snapshots / path.name)
    assert without_seconds(folder) == without_seconds(other)
    assert folder.config.read_text() == other.config.read_text()


def assert_same_arrays(path, other):
    """Two files of arrays hold the same, to the last bit."""
    with np.load(path) as one, np.load(other) as two:
        assert set(one) == set(two)
        for key in one:
            assert one[key].dtype == two[key].dtype
            # As bytes: NaN is equal to itself.
            assert one[key].shape == two[key].shape and one[key].tobytes() == two[key].tobytes()


def without_seconds(folder):
    summary = json.loads(folder.summary.read_text())
    return {key: value for key, value in summary.items() if "seconds" not in key}


# Being killed


def killed(action, stop, patience=120):
    """Run ``action()`` in a process that ``stop`` arranges to kill itself; True if it did.

    ``stop`` is called first, in the new process, with a function that is the
    end of it: SIGKILL, so that no handler runs and no buffer is flushed.
    """
    process = os.fork()
    if process == 0:
        try:
            stop(lambda: os.kill(os.getpid(), signal.SIGKILL))
            action()
        finally:
            os._exit(0 if sys.exception() is None else 1)
    deadline = time.monotonic() + patience
    while not (ended := os.waitpid(process, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            raise AssertionError("the process hangs")
        time.sleep(0.01)
    code = os.waitstatus_to_exitcode(ended[1])
    assert code in (0, -signal.SIGKILL), "the process failed before it was killed"
    return code != 0


def at_call(owner, name, number=1, after=False):
    """A ``stop`` for :func:`killed`: in the ``number``-th call of a function, from 1."""

    def stop(end):
        original, calls = getattr(owner, name), itertools.count(1)

        def counted(*args, **kwargs):
            last = next(calls) == number
            if last and not after:
                end()
            result = original(*args, **kwargs)
            if last:
                end()
            return result

        setattr(owner, name, counted)

    return stop


def train_recurrent(folder: Path, changes: dict[str, object]) -> Path:
    """A run of two epochs of a small recurrent network on digits, in a new folder."""
    config = load_preset("digits", "best").with_changes(
        {
            "network.notation": "Rec24-10",
            "network.norm": {"dense": "tdbn", "output": "none"},
            "neuron.surrogate_scale": 0.2,
            "threshold.theta_0": 5.0,
            "training.epochs": 2,
            "augment.shift": 0,
            "data.subset": 300,
            **changes,
        }
    )
    train(config, output=folder, machine=MACHINE, verbose=False)
    return folder
