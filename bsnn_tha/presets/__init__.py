"""The papers' settings as configuration files, one per data set and variant.

A preset is data: ``<data set>-<variant>.toml`` in this folder, in the format
of any run's ``config.toml``, its ``source`` naming the table it comes from.
"""

from __future__ import annotations

from importlib import resources

from bsnn_tha.config import RunConfig
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.suggest import did_you_mean


def preset_names() -> dict[str, list[str]]:
    """Variants by data set, both sorted.

    Example:
        >>> preset_names()["mnist"]
        ['bsnn', 'bsnn-unit', 'flt32', 'tha']
    """
    names: dict[str, list[str]] = {}
    for config in _presets():
        names.setdefault(config.data.name, []).append(config.variant)
    return {dataset: sorted(variants) for dataset, variants in sorted(names.items())}


def load_preset(dataset: str, variant: str) -> RunConfig:
    """The preset of a data set and variant.

    Raises:
        InvalidValueError: there is none; the message names what there is.

    Example:
        >>> load_preset("mnist", "tha").neuron.beta
        0.99
    """
    names = preset_names()
    if dataset not in names:
        raise InvalidValueError(f"unknown data set {dataset!r}{did_you_mean(dataset, names)}")
    if variant not in names[dataset]:
        raise InvalidValueError(
            f"{dataset} has no variant {variant!r}; known are {', '.join(names[dataset])}"
        )
    return next(c for c in _presets() if (c.data.name, c.variant) == (dataset, variant))


def _presets() -> list[RunConfig]:
    files = (file for file in resources.files(__package__).iterdir() if file.name.endswith(".toml"))
    return [RunConfig.from_toml(file.read_text(encoding="utf-8"), file.name) for file in files]
