"""GIF, frame by frame: only what changed is stored, and nothing is kept in memory.

A file is a header, one palette for all frames, and per frame a delay, the rectangle
that changed and its pixels, transparent where nothing did. The pixels are packed
(LZW) by Pillow's encoder for single frames; its ``save_all`` would keep all frames.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import GifImagePlugin, Image

from animations.formats.clip import Clip
from animations.formats.palette import Palette, palette_of, paletted, table
from bsnn_tha.errors import InvalidValueError

MAX_FPS = 50
"""Players take delays below two hundredths of a second for a tenth."""
SAMPLES = 12
"""Frames that choose the palette."""
TRANSPARENT = 255
LONGEST = 0xFFFF
"""Hundredths of a second that one frame may stay."""


def check(clip: Clip) -> None:
    """Raises: InvalidValueError: too fast for GIF, or too large."""
    if clip.fps > MAX_FPS:
        raise InvalidValueError(
            f"GIF players show at most {MAX_FPS} frames per second, got {clip.fps:g}; "
            "lower fps or write .mp4, .webm or .html"
        )
    if max(clip.size) > 0xFFFF:
        raise InvalidValueError(f"a GIF has at most 65535 pixels a side, got {max(clip.size)}")


def write(clip: Clip, path: Path) -> None:
    """Write a clip as a GIF that loops for ever."""
    palette = palette_of(clip.sample(SAMPLES))
    with path.open("wb") as file:
        stream = GifStream(file, clip.size, palette)
        for frame, image in enumerate(clip.all_images()):
            # Rounding the end, not the duration: errors do not add up.
            stream.add(image, until=round(100 * (frame + 1) / clip.fps))
        stream.close()


class GifStream:
    """Writes frames to a file as they come.

    Args:
        file: open for writing bytes; stays open.
        size: width and height.
        palette: for all frames; a frame that it does not fit gets its own.
    """

    def __init__(self, file: BinaryIO, size: tuple[int, int], palette: Palette) -> None:
        self._file, self._palette = file, palette
        self._source: np.ndarray | None = None  # the frame before, as drawn
        self._shown: np.ndarray | None = None  # and as decoded
        self._waiting = b""  # a frame whose delay is not known yet
        self._start = self._until = 0
        file.write(b"GIF89a" + struct.pack("<HHBBB", *size, 0b1111_0111, 0, 0))
        file.write(table(palette.colours))
        file.write(b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")  # loops for ever

    def add(self, image: np.ndarray, until: int) -> None:
        """Add a frame.

        Args:
            image: ``[height, width, 3]`` uint8.
            until: when it ends, in hundredths of a second from the film's start.
        """
        packed = self._packed(image)
        if packed is not None:
            self._flush()
            self._waiting = packed
        self._until = until

    def close(self) -> None:
        """Write what is left; the file is complete."""
        self._flush()
        self._file.write(b";")

    def _packed(self, image: np.ndarray) -> bytes | None:
        """The changed rectangle; None if the frame shows as the one before it."""
        before, self._source = self._source, image
        box = (0, image.shape[0], 0, image.shape[1])
        if before is not None:
            changed = _bounds(_differ(image, before))
            if changed is None:
                return None
            box = changed
        indices, colours = paletted(image[box[0] : box[1], box[2] : box[3]], self._palette)
        own = None if colours is self._palette.colours else colours
        decoded = colours[indices]
        if self._shown is None:
            self._shown = decoded
        else:
            shown = self._shown[box[0] : box[1], box[2] : box[3]]
            differs = _differ(decoded, shown)
            changed = _bounds(differs)
            if changed is None:
                return None
            shown[...] = decoded
            indices[~differs] = TRANSPARENT
            top, bottom, left, right = changed
            indices = np.ascontiguousarray(indices[top:bottom, left:right])
            box = (box[0] + top, box[0] + bottom, box[2] + left, box[2] + right)
        return _picture(box, indices, own)

    def _flush(self) -> None:
        if not self._waiting:
            return
        delay = self._until - self._start
        while delay > LONGEST:
            self._write(self._waiting, LONGEST)
            delay -= LONGEST
            nothing = np.full((1, 1), TRANSPARENT, dtype=np.uint8)
            self._waiting = _picture((0, 1, 0, 1), nothing, None)
        self._write(self._waiting, delay)
        self._start, self._waiting = self._until, b""

    def _write(self, packed: bytes, delay: int) -> None:
        # Stays when the next one comes (disposal 1), one index is transparent.
        control = struct.pack("<BHB", 0b0000_0101, delay, TRANSPARENT)
        self._file.write(b"!\xf9\x04" + control + b"\0" + packed)


def _picture(
    box: tuple[int, int, int, int], indices: np.ndarray, colours: np.ndarray | None
) -> bytes:
    """Where a frame lies, its own palette if it has one, and its pixels, packed."""
    top, bottom, left, right = box
    place = struct.pack("<BHHHH", 0x2C, left, top, right - left, bottom - top)
    palette = b"\x00" if colours is None else b"\x87" + table(colours)
    parts = GifImagePlugin.getdata(Image.fromarray(indices))
    # Pillow's description of the frame comes first, and is replaced by this one.
    pixels = b"".join(parts[1:])
    parts.clear()  # Pillow keeps the list in a reference cycle
    return place + palette + pixels


def _differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Which pixels do, ``[height, width]``."""
    differ = one != other
    return differ[..., 0] | differ[..., 1] | differ[..., 2]


def _bounds(changed: np.ndarray) -> tuple[int, int, int, int] | None:
    """Top, bottom, left and right of what is true; None if nothing is."""
    rows = np.flatnonzero(changed.any(1))
    if not len(rows):
        return None
    columns = np.flatnonzero(changed.any(0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
