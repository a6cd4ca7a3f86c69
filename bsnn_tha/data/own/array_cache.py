"""One array that is made from files once, and kept while they do not change."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bsnn_tha.errors import DataError
from bsnn_tha.run_folder import folder_name, replace_atomically

logger = logging.getLogger(__name__)


def cached_array(
    cache: Path, name: str, key: dict[str, Any], make: Callable[[], np.ndarray]
) -> np.ndarray:
    """The array of this name and key, from the cache folder or made now.

    Args:
        cache: folder of all caches; created if needed.
        name: for people who look into the folder.
        key: everything that shapes the array, e.g. sizes and dates of its files.
        make: makes it.

    Raises:
        DataError: the cache cannot be written, or what ``make`` raises.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = cache / f"{folder_name(name)}-{digest}.npy"
    if path.exists():
        try:
            return np.load(path, mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError) as error:
            logger.warning("cache %s is damaged (%s): making it again", path, error)
    array = make()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path) as temporary, temporary.open("wb") as file:
            np.save(file, array)
    except OSError as error:
        raise DataError(
            f"cannot write the cache {path}: {error.strerror or error}; choose another folder "
            "with --cache-root or BSNN_THA_CACHE"
        ) from error
    return array
