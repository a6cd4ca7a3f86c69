"""Read the IDX format of the MNIST family.

======  =====  ==============================================
offset  bytes  content
======  =====  ==============================================
0       2      zero
2       1      type of the values; 8 is unsigned byte
3       1      number of dimensions n
4       4 n    sizes, big-endian, first dimension first
4+4n    rest   values, last dimension fastest
======  =====  ==============================================

Source: http://yann.lecun.com/exdb/mnist/
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from bsnn_tha.errors import DataError

_UNSIGNED_BYTE = 8


def read_idx(path: Path) -> Tensor:
    """The array in an IDX file of unsigned bytes.

    Args:
        path: of the file; decompressed if its name ends in ``.gz``.

    Returns:
        uint8, in the shape that the header states, e.g. ``[samples, 28, 28]``.

    Raises:
        DataError: the file is missing, unreadable, truncated, too long or
            otherwise damaged, is empty, or holds another type of values.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "labels-idx1-ubyte")
        ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
        ...     read_idx(path)
        tensor([7, 2, 1], dtype=torch.uint8)
    """
    content = _read(path)
    if len(content) < 4 or content[:2] != b"\0\0":
        _fail(path, f"an IDX file must start with two zero bytes, but got {content[:4].hex(' ')}")
    kind, dimensions = content[2], content[3]
    if kind != _UNSIGNED_BYTE:
        _fail(path, f"the values must be unsigned bytes (type 8), but got type {kind}")
    if dimensions == 0:
        _fail(path, "it must have at least one dimension, but got 0")
    start = 4 + 4 * dimensions
    if len(content) < start:
        _fail(path, f"the header must have {start} bytes, but the file ends after {len(content)}")
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    if 0 in shape:
        _fail(path, f"every dimension must be at least 1, but got {shape}")
    length, expected = len(content) - start, math.prod(shape)
    if length != expected:
        _fail(path, f"{shape} values must take {expected} bytes, but got {length}")
    return torch.frombuffer(content, dtype=torch.uint8, offset=start).reshape(shape)


def _read(path: Path) -> bytearray:
    """The whole file, decompressed, in memory that a tensor may share."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            return bytearray(stream.read())
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; place the file there") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        _fail(path, f"it must be an intact gzip file, but got: {error}")
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}; check the file and its permissions"
        ) from error


def _fail(path: Path, rule: str) -> NoReturn:
    raise DataError(
        f"{path} is damaged: {rule}; delete it so that it is downloaded again, or replace it"
    )
