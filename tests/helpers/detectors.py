"""Tiny detectors on a handful of made-up clips: shared by the tests of what is done with them."""

from __future__ import annotations

from bsnn_tha.presets import load_preset

SMALL = {
    "data.options.clips": [4, 2, 2],
    "data.num_steps": 3,
    "data.batch_size": 4,
    "network.notation": "4C3P-MP2-8C3P-MP2-8C3P-MP2-14C1",
    "loss.anchors": 2,
    "training.epochs": 2,
    "snapshots.count": 1,
}


def detector(variant="lt-snn", **changes):
    """The configuration of one; ``__`` stands for a point in a key."""
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    return load_preset("moving-boxes", variant).with_changes(SMALL | changes)
