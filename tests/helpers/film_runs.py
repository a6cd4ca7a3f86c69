"""Small runs that films and figures are made of, trained once for all tests."""

from __future__ import annotations

import csv
import os
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from training_runs import MACHINE, train_tiny

from bsnn_tha.cli import main
from bsnn_tha.presets import load_preset
from bsnn_tha.training.run import train

ONE_LAYER = {
    "network.notation": "10",
    "threshold.theta_0": 1.0,
    "threshold.theta_inf": None,
    "threshold.alpha": None,
}
DEEP = {
    "network.notation": "4C3-AP2-6C2-24Dense20Dense15Dense10",
    "threshold.theta_0": 0.5,
    "threshold.theta_inf": 2.0,
    "threshold.alpha": 0.05,
    "neuron.surrogate_centre": "moving",
}
SHORT = {
    "network.notation": "100Dense12Dense1",
    "data.options.iterations": 20,
    "snapshots.count": 3,
}
"""Changes to presets of temporal coding."""


def temporal(variant, **changes):
    return load_preset("temporal-coding", variant).with_changes(SHORT | changes)


def trained(factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders by name: annealed ones, fixed ones, of one layer and of five, and alike."""
    return _trained(factory.getbasetemp() / "film-runs")


@cache
def _trained(folder: Path) -> dict[str, Path]:
    digits = {
        "annealed": {"training.epochs": 2, "snapshots.count": 4},
        "alike": {"training.epochs": 2, "snapshots.count": 2, "training.seed": 4},
        "fixed": {"training.epochs": 3, "snapshots.count": 3, "data.validation": 0.0} | ONE_LAYER,
        "deep": {"training.epochs": 1, "snapshots.count": 2} | DEEP,
    }
    for name, changes in digits.items():
        train_tiny(folder / name, **changes)
    for name, variant, seed in (("tha", "tha", 0), ("tha-2", "tha", 1), ("bsnn", "bsnn", 0)):
        changes = {"training.seed": seed}
        if variant == "tha":
            changes["threshold.theta_0"] = [4.0, 5.0]  # layers are told apart
        config = temporal(variant, **changes)
        train(config, output=folder / name, machine=MACHINE, verbose=False)
    return {path.name: path for path in folder.iterdir()}


def command(arguments, folder, monkeypatch, capfd) -> tuple[int, str, str]:
    """(exit status, standard output, standard error) of ``bsnn-tha`` in a folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["bsnn-tha", *map(str, arguments)])
    status = 0
    try:
        main()
    except SystemExit as end:
        status = end.code or 0
    return status, *capfd.readouterr()


def assert_refused(result, because, folder, before):
    """One clear line, status 2, and nothing left behind."""
    status, output, errors = result
    assert (status, output) == (2, ""), errors
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1, errors
    assert because in errors
    assert everything_in(folder) == before


def everything_in(folder):
    """What lies in a folder, whatever it is, and when it was last written."""
    return {path: os.stat(path).st_mtime_ns for path in folder.rglob("*") if not path.is_dir()}


def epochs_of(run):
    """Columns of ``metrics.csv``."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def arrays_of(path):
    with np.load(path) as arrays:
        return dict(arrays)
