"""What a path, or a name, is as a data set, and a configuration to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from bsnn_tha.choices import names_code
from bsnn_tha.data import LOADERS, OWN
from bsnn_tha.data.own.image_folder import first_images, is_image_folder
from bsnn_tha.errors import DataError, InvalidValueError

TABLES = (".csv", ".tsv", ".txt")
USUAL_SIZE = 32
"""Rows and columns that images of different sizes are scaled to, unless said otherwise."""


class Source(NamedTuple):
    """A data set as a configuration names it."""

    name: str
    """``data.name``."""
    options: dict[str, Any]
    """``data.options``."""


def detect(text: str) -> Source:
    """What a path or name stands for.

    Args:
        text: a folder of images or of ``.npy`` files, an ``.npz`` file, a table of event
            files, ``tonic:NAME``, ``module:function``, or a known name.

    Raises:
        DataError: there is no such path.
        InvalidValueError: it is none of these.

    Example:
        >>> detect("digits"), detect("tonic:POKERDVS")
        (Source(name='digits', options={}), Source(name='tonic', options={'dataset': 'POKERDVS'}))
    """
    if text.startswith("tonic:"):
        return Source("tonic", {"dataset": text.removeprefix("tonic:")})
    if text in LOADERS and text not in OWN:
        return Source(text, {})
    path = Path(text).expanduser()
    if path.exists():
        return _of_path(path)
    if names_code(text):
        return Source(text, {})
    raise DataError(
        f"there is no {path}; give a path, one of {', '.join(n for n in LOADERS if n not in OWN)}, "
        "tonic:NAME or module:function"
    )


def _of_path(path: Path) -> Source:
    options: dict[str, Any] = {"path": str(path.resolve())}
    if path.suffix == ".npz" or (path.is_dir() and any(path.glob("*.npy"))):
        return Source("arrays", options)
    if path.suffix.lower() in TABLES:
        return Source("event-table", options)
    if path.is_dir() and is_image_folder(path):
        sizes, kinds = first_images(path)
        if len(sizes) > 1:
            options["size"] = USUAL_SIZE
        if kinds <= {"1", "L", "LA", "I;16"}:
            options["colour"] = "grey"
        return Source("image-folder", options)
    raise InvalidValueError(
        f"{path} must be a folder of images (CLASS/*.png), an .npz file or a folder of .npy files, "
        f"or a table of event files ({', '.join(TABLES)}); what is none of these is read by a "
        "function of yours, module:function"
    )
