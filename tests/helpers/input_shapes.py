"""Shapes of the samples of every data set, for tests that build networks and load no data."""

from __future__ import annotations

INPUT_SHAPES: dict[str, tuple[int, ...]] = {
    "cifar10": (3, 32, 32),
    "digits": (1, 8, 8),
    "dvs-cifar10": (2, 48, 48),
    "dvs-gesture": (2, 32, 32),
    "fashion-mnist": (1, 28, 28),
    "gen1": (2, 240, 304),
    "mnist": (1, 28, 28),
    "moving-boxes": (2, 64, 80),
    "n-caltech101": (2, 48, 48),
    "n-cars": (2, 48, 48),
    "nmnist": (2, 34, 34),
    "saccade-digits": (2, 34, 34),
    "shd": (700,),
    "spoken-digits": (700,),
    "temporal-coding": (100,),
}
"""Of a sample at one time step, with the settings of the presets."""
