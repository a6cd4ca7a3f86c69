"""Where data files and caches live: chosen by argument, environment or default."""

from __future__ import annotations

import os
from pathlib import Path


def data_root(root: str | Path | None = None) -> Path:
    """The folder that holds the data sets, each in a folder of its own.

    The first of these that is given: the argument, the environment variable
    ``BSNN_THA_DATA`` (an empty value counts as not given), the operating
    system's cache folder for ``bsnn-tha``. A leading ``~`` is expanded.
    Nothing is created or checked; only a download writes there.

    Args:
        root: the folder, or None to take it from the environment.

    Example:
        >>> data_root("datasets").name
        'datasets'
    """
    return _folder(root, "BSNN_THA_DATA", "")


def cache_root(root: str | Path | None = None) -> Path:
    """The folder for what is made from data files and can be made again.

    Chosen like :func:`data_root`, with the environment variable
    ``BSNN_THA_CACHE`` and the folder ``cache`` below the default data root.

    Example:
        >>> cache_root("elsewhere").name
        'elsewhere'
    """
    return _folder(root, "BSNN_THA_CACHE", "cache")


def _folder(root: str | Path | None, variable: str, default: str) -> Path:
    if root is None:
        root = os.environ.get(variable) or None
    if root is None:
        import pooch

        root = pooch.os_cache("bsnn-tha") / default
    # Path.expanduser raises for "~name" of an unknown user; this leaves it.
    return Path(os.path.expanduser(root))
