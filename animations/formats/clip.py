"""What a format gets to write: frames that are drawn when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np


@dataclass(frozen=True)
class Clip:
    """Frames of one size, each drawn when its turn comes.

    Attributes:
        frames: how many there are.
        fps: frames per second.
        size: width and height in pixels.
        title: what is shown, in words.
        images: draws the frames with the given numbers, ``[height, width, 3]`` uint8.
    """

    frames: int
    fps: float
    size: tuple[int, int]
    title: str
    images: Callable[[Iterable[int]], Iterator[np.ndarray]]

    def all_images(self) -> Iterator[np.ndarray]:
        """Every frame, in order."""
        return self.images(range(self.frames))

    def sample(self, count: int) -> Iterator[np.ndarray]:
        """At most ``count`` frames, evenly spread, the first and the last among them."""
        chosen = np.linspace(0, self.frames - 1, min(count, self.frames)).round().astype(int)
        return self.images([int(frame) for frame in chosen])


class Write(Protocol):
    """Writes a clip to a path, whatever the path's name is."""

    def __call__(self, clip: Clip, path: Path) -> None: ...


class Format(NamedTuple):
    """How films with one extension are written."""

    check: Callable[[Clip], None]
    """Raises what can be known before anything is drawn."""
    write: Write
