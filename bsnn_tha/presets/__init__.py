"""The papers' settings as configuration files, one per data set and variant.

A preset is data: ``<data set>/<variant>.toml`` in this folder, in the format
of any run's ``config.toml``, its ``source`` naming the table it comes from.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from bsnn_tha.config import RunConfig
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.suggest import did_you_mean

DEFAULT_DATASET = "digits"
DEFAULT_VARIANT = "tha"


@cache
def preset_names() -> dict[str, list[str]]:
    """Variants by data set, both sorted. Reads no file.

    Example:
        >>> preset_names()["fashion-mnist"]
        ['best', 'bsnn', 'bsnn-unit', 'flt32', 'large', 'per-neuron', 'tha']
    """
    names = {
        folder.name: sorted(
            file.name.removesuffix(".toml")
            for file in folder.iterdir()
            if file.name.endswith(".toml")
        )
        for folder in resources.files(__package__).iterdir()
        if folder.is_dir()
    }
    return {dataset: names[dataset] for dataset in sorted(names) if names[dataset]}


def load_preset(dataset: str = DEFAULT_DATASET, variant: str = DEFAULT_VARIANT) -> RunConfig:
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
            f"{dataset} has no variant {variant!r}{did_you_mean(variant, names[dataset])}"
        )
    file = resources.files(__package__) / dataset / f"{variant}.toml"
    return RunConfig.from_toml(file.read_text(encoding="utf-8"), f"preset {dataset}/{variant}.toml")
