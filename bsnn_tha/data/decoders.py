"""Files of events, one recording each: from their bytes to :class:`RawEvents`.

=============  =========================================================  ==============
format         one event                                                  function
=============  =========================================================  ==============
``.bin``       5 bytes, big-endian: x, y, polarity and µs                 :func:`read_bin`
``.dat`` 2     8 bytes, little-endian: µs; x, y, polarity                 :func:`read_dat`
``.npy``       a row x, y, polarity, time; or a record of named fields    :func:`read_npy`
AEDAT 2.0      8 bytes, big-endian: address, µs                           :func:`read_aedat`
AEDAT 3.1      packets of 8 bytes, little-endian: address, µs             :func:`read_aedat3`
AEDAT 4        compressed packets, by the package aedat                   :func:`read_aedat`
=============  =========================================================  ==============

Every function takes a path and raises DataError, in one line, for a file that cannot
be read, is cut off or is of another format.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bsnn_tha.data.recordings import RawEvents, named_fields
from bsnn_tha.errors import DataError


def read_bin(path: Path) -> RawEvents:
    """N-MNIST's and N-Caltech101's format.

    Not read through tonic, which takes time quadratic in the overflow events
    and fails on a file that is cut off; on whole files both agree.
    """
    data = _bytes(path)
    if len(data) % 5:
        raise DataError(
            f"{path} must hold five bytes for each event, but has {len(data):,} bytes: "
            "it is cut off; replace it"
        )
    x, y, high, middle, low = data.reshape(-1, 5).T.astype(np.int64)
    # Not an event of a pixel: from here on the clock is 2^13 µs further.
    overflow = y == 240
    times = (high & 127) << 16 | middle << 8 | low
    times += np.cumsum(overflow) << 13
    return RawEvents(times[~overflow], tuple(c[~overflow] for c in (high >> 7, y, x)))


def read_dat(path: Path) -> RawEvents:
    """Prophesee's event files of version 2.

    After lines of text that start with ``%``, two bytes (an event's type and size),
    then eight bytes an event, little-endian: 32 bits time in µs, 14 bits x, 14 bits
    y, 4 bits polarity.
    """
    version, size, events = _dat_parts(_bytes(path).tobytes())
    if version != "2" or size != 8 or len(events) % 8:
        raise DataError(
            f"{path} must be an event file of version 2 with eight bytes for each event, but "
            f"has version {version}, {size} bytes for each event and {len(events):,} bytes of "
            "events; replace it"
        )
    times, places = np.frombuffer(events, "<u4").reshape(-1, 2).T.astype(np.int64)
    x, y, polarity = places & 0x3FFF, places >> 14 & 0x3FFF, places >> 28
    return RawEvents(times, (polarity, y, x))


def _dat_parts(data: bytes) -> tuple[str, int, bytes]:
    """Version, bytes of an event, and the bytes of all events."""
    start, version = 0, ""
    while data[start : start + 1] == b"%":
        end = data.find(b"\n", start) + 1 or len(data)
        words = data[start + 1 : end].decode("ascii", "replace").split()
        if len(words) == 2 and words[0].lower() == "version":
            version = words[1]
        start = end
    size = data[start + 1] if len(data) > start + 1 else 0
    return version, size, data[start + 2 :]


def read_npy(path: Path) -> RawEvents:
    """An array ``[events, 4]`` of x, y, polarity and time, or records with such fields."""
    try:
        events = np.load(path, allow_pickle=False)
    except Exception as error:  # also of zipfile, or out of memory for a made-up shape
        raise DataError(
            f"{path} is not a readable array file ({' '.join(str(error).split())}); replace it"
        ) from error
    if isinstance(events, np.ndarray) and events.dtype.names:
        return named_events(events, str(path))
    if not isinstance(events, np.ndarray) or events.ndim != 2 or events.shape[1] != 4:
        raise DataError(
            f"{path} must hold an array of x, y, polarity and time, [events, 4], but got "
            f"{getattr(events, 'shape', 'no array')}"
        )
    x, y, polarity, times = events.T
    return RawEvents(times, (polarity, y, x))


def read_aedat(path: Path) -> RawEvents:
    """DVS-CIFAR10: AEDAT 2.0 as its authors published it, AEDAT 4 as tonic unpacks it."""
    data = _bytes(path)
    match = re.match(rb"#!AER-DAT(\d)", data[:16].tobytes())
    if match and match[1] == b"2":
        return _aedat2(path, data.tobytes())
    if match and match[1] != b"4":
        raise DataError(
            f"{path} must be of AEDAT version 2 or 4, but has version {match[1].decode()}; "
            "convert it with jAER or dv-processing"
        )
    return _aedat4(path)


def _aedat2(path: Path, data: bytes) -> RawEvents:
    """Lines that start with ``#``, then address and µs of each event, 32 bits each.

    The address of a DVS128: bit 0 the polarity (1 is OFF), bits 1 to 7 and 8 to 14 its
    place, as the camera saw the screen; turned here so that the pictures stand upright,
    as others who read these files do.
    """
    start = 0
    while data[start : start + 1] == b"#":
        start = data.find(b"\n", start) + 1 or len(data)
    body = data[start:]
    if len(body) % 8:
        raise DataError(
            f"{path} must hold eight bytes for each event, but has {len(body):,} bytes of events: "
            "it is cut off; replace it"
        )
    address, times = np.frombuffer(body, ">u4").reshape(-1, 2).T.astype(np.int64)
    x, y = 127 - (address >> 8 & 127), 127 - (address >> 1 & 127)
    return RawEvents(times, (1 - (address & 1), y, x))


def _aedat4(path: Path) -> RawEvents:
    from tonic.io import read_aedat4

    try:
        events = read_aedat4(str(path))
    except ImportError as error:
        raise DataError(
            f"reading {path} needs the package aedat, which is not installed; pip install aedat"
        ) from error
    except Exception as error:  # of the decoder, for a damaged file
        raise DataError(
            f"{path} is not a readable AEDAT 4 file ({' '.join(str(error).split())}); replace it"
        ) from error
    return named_events(events, str(path))


_PACKET = struct.Struct("<HHiiiiii")
"""Kind, source, bytes an event, offset and overflow of the time, capacity, events, valid ones."""
_POLARITY_EVENTS = 1


def read_aedat3(path: Path) -> RawEvents:
    """AEDAT 3.1, as DVS128 Gesture was published: packets of events of several kinds.

    Of polarity events, bit 0 of the first 32 bits says whether the event is valid, bit 1
    is its polarity, bits 2 to 16 are y and 17 to 31 x; the other 32 are the time in µs,
    whose overflows the packet counts.
    """
    data = _bytes(path).tobytes()
    end = re.search(rb"^#!END-HEADER\r?\n", data[: 1 << 16], re.MULTILINE)
    if not data.startswith(b"#!AER-DAT3") or end is None:
        raise DataError(f"{path} must be of AEDAT version 3, but has no such header; replace it")
    place, times, addresses = end.end(), [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    while place < len(data):
        header = data[place : place + _PACKET.size]
        kind, _, size, _, overflow, _, events, _ = (
            _PACKET.unpack(header) if len(header) == _PACKET.size else (0, 0, -1, 0, 0, 0, 0, 0)
        )
        place += _PACKET.size
        length = size * events
        if size < 0 or events < 0 or place + length > len(data):
            raise DataError(
                f"{path} must hold whole packets of events, but ends within one: it is cut off; "
                "replace it"
            )
        if kind == _POLARITY_EVENTS and size == 8:
            address, time = np.frombuffer(data, "<u4", 2 * events, place).reshape(-1, 2).T
            valid = address & 1 == 1
            addresses.append(address[valid].astype(np.int64))
            times.append(time[valid].astype(np.int64) + (overflow << 31))
        place += length
    address = np.concatenate(addresses)
    return RawEvents(
        np.concatenate(times), (address >> 1 & 1, address >> 2 & 0x7FFF, address >> 17 & 0x7FFF)
    )


def named_events(events: np.ndarray | Mapping[str, Any], where: str) -> RawEvents:
    """A camera's events from an array of records or a mapping of columns."""
    times, polarity, y, x = named_fields(events, ("t", "p", "y", "x"), where)
    return RawEvents(times, (polarity, y, x))


def _bytes(path: Path) -> np.ndarray:
    try:
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
