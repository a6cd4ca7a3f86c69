"""A configuration to begin with, for data that no paper has settings for.

The settings are those of the preset ``best`` for a data set of the same kind; the network
ends in as many outputs as there are classes. They were put together for other data: a place
to start a study from, not a recommendation.
"""

from __future__ import annotations

from typing import Any

from bsnn_tha.config import RunConfig
from bsnn_tha.data.dataset import Dataset
from bsnn_tha.presets import load_preset, preset_names

BATCHES = 16
"""At least so many in an epoch, where there are as many samples."""
SMALL = 16
"""Rows, below which images meet the network for 8 × 8 digits."""


def beginning(name: str, options: dict[str, Any], dataset: Dataset) -> RunConfig:
    """For a data set that was loaded by this name and these options.

    Example:
        >>> from pathlib import Path
        >>> from bsnn_tha.data.images import load_digits
        >>> config = beginning("digits", {}, load_digits(Path(), validation=0.1, seed=0))
        >>> config.network.notation, config.data.batch_size
        ('32C3-64C3-AP2-10', 64)
    """
    shape, classes = dataset.input_shape, dataset.num_classes
    changes: dict[str, Any] = {}
    if len(shape) == 1:
        like = "spoken-digits" if not dataset.static else "digits"
        notation = f"200-{classes}" if dataset.static else f"1000-{classes}"
    elif not dataset.static:
        like, notation = "saccade-digits", f"16C5-AP2-32C5-AP2-{classes}"
    elif min(shape[1:]) < SMALL:
        like, notation = "digits", f"32C3P-64C3P-AP2-{classes}"
        if min(shape[1:]) >= 6:
            notation = f"32C3-64C3-AP2-{classes}"
    else:
        like, notation = "mnist", f"16C5-AP2-64C5-AP2-{classes}"
    preset = load_preset(like, "best")
    tables = preset.model_dump(exclude_none=True, mode="json")
    size = max(1, min(preset.data.batch_size, len(dataset.train) // BATCHES))
    tables["data"] |= {"name": name, "options": options, "validation": 0.1, "batch_size": size}
    changes["network.notation"] = notation
    changes["variant"] = dataset.name
    changes["source"] = f"bsnn-tha data make, settings of {like}, best"
    changes["training.epochs"] = 25
    return RunConfig.from_dict(tables, "data make", allow_code=True).with_changes(changes)


def window_of(name: str, options: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Time steps, and options completed, with which such data is looked at first."""
    if name in ("event-table", "tonic"):
        return 10, {"bin_ms": 30.0, "origin": "first"} | options
    if variants := preset_names().get(name):
        data = load_preset(name, "best" if "best" in variants else variants[0]).data
        return data.num_steps, dict(data.options) | options
    return 6, options
