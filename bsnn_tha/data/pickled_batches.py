"""CIFAR-10's Python version, ``cifar-10-batches-py``, read without running what is in it.

A pickle is a program: loading one from elsewhere may call any function. These files need
four names only, and none of them is looked up here: whatever a file asks for by one of the
four becomes an object that just keeps what it was given, and any other name is an error. The
pixels are then taken from those bytes.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from bsnn_tha.errors import DataError

LARGEST = 1 << 26
"""Bytes of a file; the real ones have 31 MB."""

_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class _Kept:
    """Stands for an array or its type: what it was made with, and its state."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _Kept


def read_pickled_batch(path: Path, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and images of a file of CIFAR-10's Python version.

    Args:
        path: e.g. of ``data_batch_1``.
        pixels: bytes of an image.

    Returns:
        Labels ``[images]``, int64, and bytes ``[images, pixels]``, uint8.

    Raises:
        DataError: the file cannot be read, is damaged, or asks for anything but an array.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="bytes").load()
        _, shape, dtype, fortran, data = content[b"data"].state
        labels = np.array(content[b"labels"], dtype=np.int64)
        kind = dtype.arguments[0]
        if kind not in ("u1", b"u1") or fortran or shape != (len(labels), pixels):
            raise ValueError(f"its data are {kind!r} of shape {shape} for {len(labels)} labels")
        return labels, np.frombuffer(data, np.uint8).reshape(shape)
    except Exception as error:  # a damaged pickle raises whatever its opcodes lead to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path} is not a readable batch of CIFAR-10's Python version ({reason}); replace it, "
            "or use the binary version, cifar-10-batches-bin"
        ) from error
