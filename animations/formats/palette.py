"""Colours of paletted frames: at most 255 of them, looked up in a table.

Films are drawings: a few flat colours, and between each two of them the shades of
soft edges. The most frequent colours are kept as they are, the others are
clustered; no dithering, which would flicker and grow the file.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from PIL import Image

COLOURS = 255
"""One of 256 is left free, for a transparent pixel."""
EXACT = 64
"""The most frequent colours that keep their exact value."""
TOLERANCE = 24
"""A frame with a colour farther from its substitute (in any of red, green and
blue) gets a palette of its own."""
BITS = 6
"""Of each of red, green and blue in the table: 2¹⁸ cells."""
ROUNDS = 4
"""Of clustering: enough for shades that differ by less than the eye sees."""


class Palette:
    """A fixed list of colours and, for any colour, the nearest of them.

    Args:
        colours: ``[n, 3]`` uint8, n at most 255, the most important first.

    >>> palette = Palette(np.array([[255, 255, 255], [0, 114, 178]], dtype=np.uint8))
    >>> palette.indices(np.array([[250, 251, 252], [10, 100, 180]], dtype=np.uint8))
    array([0, 1], dtype=uint8)
    """

    def __init__(self, colours: np.ndarray) -> None:
        self.colours = colours
        side = 1 << BITS
        centres = (np.arange(side) * (256 // side) + 128 // side).astype(np.uint8)
        cells = np.stack(np.meshgrid(centres, centres, centres, indexing="ij"), -1)
        self._table = _nearest(cells.reshape(-1, 3), colours)
        # A listed colour finds itself, wherever in its cell it lies; of two in one
        # cell, the more important.
        own = _cell(colours)[::-1]
        self._table[own] = np.arange(len(colours), dtype=np.uint8)[::-1]

    def indices(self, image: np.ndarray) -> np.ndarray:
        """The nearest listed colours, uint8 of shape ``[...]``.

        Args:
            image: ``[..., 3]`` uint8.
        """
        return self._table[_cell(image)]


def palette_of(images: Iterable[np.ndarray]) -> Palette:
    """A palette for images like these.

    Args:
        images: each ``[height, width, 3]`` uint8; one at a time is kept.

    >>> image = np.zeros((2, 3, 3), dtype=np.uint8)
    >>> image[0] = 200, 100, 50
    >>> image[0, 0] = 200, 100, 51
    >>> palette_of([image]).colours.tolist()
    [[0, 0, 0], [200, 100, 50], [200, 100, 51]]
    """
    packed, counts = np.empty(0, np.uint32), np.empty(0, np.int64)
    for image in images:
        found, times = np.unique(_pack(image), return_counts=True)
        packed, inverse = np.unique(np.concatenate([packed, found]), return_inverse=True)
        counts = np.bincount(inverse, np.concatenate([counts, times])).astype(np.int64)
    return Palette(_choose(_unpack(packed), counts))


def paletted(image: np.ndarray, palette: Palette) -> tuple[np.ndarray, np.ndarray]:
    """An image in colours of the palette, or in its own if one of those is too far off.

    Args:
        image: ``[height, width, 3]`` uint8.
        palette: to choose from.

    Returns:
        Indices ``[height, width]`` and colours ``[n, 3]``, which are the palette's
        own array unless the image needed others.
    """
    indices = palette.indices(image)
    shown = palette.colours[indices]
    # Unsigned: the smaller from the larger.
    if (np.maximum(image, shown) - np.minimum(image, shown)).max() <= TOLERANCE:
        return indices, palette.colours
    packed, inverse, counts = np.unique(_pack(image), return_inverse=True, return_counts=True)
    found = _unpack(packed)
    colours = _choose(found, counts)
    return _nearest(found, colours)[inverse].reshape(image.shape[:2]), colours


def table(colours: np.ndarray) -> bytes:
    """Red, green and blue of 256 colours, as GIF has them."""
    return colours.tobytes().ljust(768, b"\0")


def _choose(colours: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """At most 255 of many colours, the most frequent first."""
    order = np.argsort(-counts, kind="stable")
    colours, counts = colours[order], counts[order]
    if len(colours) <= COLOURS:
        return colours
    kept = colours[:EXACT]
    return np.concatenate([kept, _clusters(colours[EXACT:], counts[EXACT:], kept)])


def _clusters(colours: np.ndarray, counts: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Centres among colours, besides those that are kept anyway."""
    wanted = COLOURS - len(kept)
    row = Image.fromarray(colours[None])
    start = row.quantize(wanted, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    centres = np.array(start.getpalette(), dtype=np.uint8).reshape(-1, 3)[:wanted]
    # Shades of rare, thin lines count: they are what the film is about.
    weights = np.sqrt(counts)
    for _ in range(ROUNDS):
        nearest = _nearest(colours, np.concatenate([kept, centres]))
        moved = centres.astype(np.float64)
        total = np.bincount(nearest, weights, minlength=COLOURS + 1)[len(kept) :][: len(centres)]
        for channel in range(3):
            sums = np.bincount(nearest, weights * colours[:, channel], minlength=COLOURS + 1)
            sums = sums[len(kept) :][: len(centres)]
            np.divide(sums, total, out=moved[:, channel], where=total > 0)
        centres = moved.round().astype(np.uint8)
    return np.unique(centres, axis=0)


def _nearest(points: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Index of the colour with the smallest Euclidean distance, uint8."""
    listed = colours.astype(np.float32)
    squares = (listed**2).sum(1)
    nearest = np.empty(len(points), dtype=np.uint8)
    for start in range(0, len(points), 1 << 14):  # 16 MB at a time
        part = points[start : start + (1 << 14)].astype(np.float32)
        nearest[start : start + (1 << 14)] = (squares - 2 * part @ listed.T).argmin(1)
    return nearest


def _cell(image: np.ndarray) -> np.ndarray:
    drop = 8 - BITS
    high = (image >> drop).astype(np.uint32)
    return high[..., 0] << 2 * BITS | high[..., 1] << BITS | high[..., 2]


def _pack(image: np.ndarray) -> np.ndarray:
    wide = image.reshape(-1, 3).astype(np.uint32)
    return wide[:, 0] << 16 | wide[:, 1] << 8 | wide[:, 2]


def _unpack(packed: np.ndarray) -> np.ndarray:
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1).astype(np.uint8)
