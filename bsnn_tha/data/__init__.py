"""Data sets by name, or of one's own: ``module:function``.

A loader is a function whose keywords are what a configuration may set for its
data set (``data.options``); :func:`load_dataset` fills in the ones every run has
(``root``, ``cache``, ``seed``, ``validation``, ``num_steps``) where the loader asks
for them. It returns a :class:`~bsnn_tha.data.dataset.Dataset`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError, validate_call

from bsnn_tha.choices import Axis, parameters
from bsnn_tha.data.class_names import CLASS_NAMES
from bsnn_tha.data.dataset import Dataset
from bsnn_tha.data.missing_options import MissingOptionsError
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.suggest import broken_rule, did_you_mean

LOADERS: Axis[Dataset] = Axis(
    "data set",
    {
        "digits": "bsnn_tha.data.images:load_digits",
        "mnist": "bsnn_tha.data.images:load_mnist",
        "fashion-mnist": "bsnn_tha.data.images:load_fashion_mnist",
        "cifar10": "bsnn_tha.data.cifar:load_cifar10",
        "temporal-coding": "bsnn_tha.data.temporal_coding:load_temporal_coding",
        "dvs-gesture": "bsnn_tha.data.events:DVS_GESTURE.load",
        "shd": "bsnn_tha.data.events:SHD.load",
        "nmnist": "bsnn_tha.data.events:NMNIST.load",
        "dvs-cifar10": "bsnn_tha.data.events:DVS_CIFAR10.load",
        "n-caltech101": "bsnn_tha.data.events:N_CALTECH101.load",
        "n-cars": "bsnn_tha.data.events:N_CARS.load",
        "spoken-digits": "bsnn_tha.data.events:SPOKEN_DIGITS.load",
        "saccade-digits": "bsnn_tha.data.events:SACCADE_DIGITS.load",
        "gen1": "bsnn_tha.data.gen1:load_gen1",
        "moving-boxes": "bsnn_tha.data.moving_boxes:load_moving_boxes",
        "image-folder": "bsnn_tha.data.own.image_folder:load_image_folder",
        "arrays": "bsnn_tha.data.own.arrays:load_arrays",
        "event-table": "bsnn_tha.data.own.event_table:load_event_table",
        "tonic": "bsnn_tha.data.own.tonic_sets:load_tonic",
    },
)
"""``module:function`` per data set; imported when used."""

OWN = ("image-folder", "arrays", "event-table", "tonic")
"""Which of them stand for data of one's own, that ``data.options`` leads to."""

_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)


_COMMON = ("root", "cache", "seed", "validation", "num_steps")
"""What every loader is given if it takes it; the others of its parameters are its options."""


def check_options(name: str, keys: Iterable[str]) -> None:
    """Raise unless a data set's loader takes options of these names; nothing is loaded.

    Raises:
        InvalidValueError: unknown name or option; the message names the nearest.
    """
    own = [key for key in parameters(LOADERS.find(name)) if key not in _COMMON]
    for key in keys:
        if key not in own:
            raise InvalidValueError(
                f"data.options of {name} has no key {key!r}{did_you_mean(key, own)}"
            )


def load_dataset(
    name: str,
    *,
    root: Path,
    cache: Path,
    seed: int,
    validation: float,
    num_steps: int,
    options: dict[str, Any] | None = None,
) -> Dataset:
    """Load a data set by its name on the command line.

    Args:
        name: of :data:`LOADERS`, or ``module:function``.
        root: folder that holds the data files, for sets that have any.
        cache: folder for what is made from them, for sets that need it.
        seed: of the validation split, or of generated data.
        validation: share of the training samples held out, in [0, 1).
        num_steps: T.
        options: further keywords of the loader.

    Raises:
        InvalidValueError: unknown name or option; the message names the nearest.
        DataError: a file is missing, damaged or cannot be downloaded.
    """
    check_options(name, options or {})
    loader = LOADERS.find(name)
    common = {
        "root": root,
        "cache": cache,
        "seed": seed,
        "validation": validation,
        "num_steps": num_steps,
    }
    accepted = parameters(loader)
    arguments = {key: value for key, value in common.items() if key in accepted}
    try:
        # The loader's annotations are the rules for its options.
        loaded = validate_call(config=_STRICT)(loader)(**arguments, **(options or {}))
    except ValidationError as error:
        problem, *others = error.errors()
        missing = [e["loc"][0] for e in (problem, *others) if e["type"].startswith("missing")]
        if missing:
            raise MissingOptionsError(name, loader, [str(key) for key in missing]) from None
        raise InvalidValueError(broken_rule(f"data.options.{problem['loc'][0]}", problem)) from None
    if not isinstance(loaded, Dataset):
        raise InvalidValueError(
            f"data set {name!r} must give a bsnn_tha.data.dataset.Dataset, but got "
            f"{type(loaded).__name__}"
        )
    if not loaded.class_names and name in CLASS_NAMES:
        return loaded.with_class_names(CLASS_NAMES[name])
    return loaded
