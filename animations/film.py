"""Films of recorded arrays: panels on one figure that share a clock.

    film = Film(figure, [MembranePanel(axes[0], ...), RasterPanel(axes[1], ...)], frames=100)
    film.save("training.gif")  # or .mp4, .webm, .html

Frames are drawn one at a time and written as they come: memory does not depend on
how many there are.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import matplotlib as mpl
import numpy as np
from matplotlib.animation import FuncAnimation
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from animations.blitting import Blitter
from animations.formats import Clip, format_of, page
from animations.place import check_place
from bsnn_tha.errors import FilmError, InvalidValueError
from bsnn_tha.run_folder import replace_atomically

Watch = Callable[[Iterator[np.ndarray], int], Iterator[np.ndarray]]
"""Passes images on as they are drawn, knowing how many they are."""


class Panel(Protocol):
    """Something that drew itself once and moves with the film's clock.

    A panel's constructor takes the axes to draw on and recorded arrays, and draws
    everything. Limits of axes are set there once and for all frames.
    """

    def update(self, frame: int) -> Iterable[Artist]:
        """Move to a frame.

        Args:
            frame: from 0. Frames may come in any order, and more than once: what is
                shown must depend on this number alone.

        Returns:
            All artists that may differ between any two frames, titles and texts
            among them, and always the same ones: everything else is drawn once. To
            hide one, ``set_visible(False)``. An axis whose limits move is such an
            artist (``axes.xaxis``), together with what is drawn in its units.
        """
        ...


class Film:
    """Panels of a figure that move together.

    Args:
        figure: that the panels drew on.
        panels: with the same clock.
        frames: how many there are, 0 to ``frames`` − 1.
        fps: frames per second.
        title: what the film shows, for readers who do not see it.

    Colours and sizes that Matplotlib looks up while it draws (``rcParams``) are those
    of the moment the film was made, so a film made inside of ``with theme("dark"):``
    stays dark.

    Raises:
        InvalidValueError: no frames, or no positive number of them per second.

    >>> class Dot:
    ...     def __init__(self, axes):
    ...         axes.set(xlim=(0, 9), ylim=(-1, 1))
    ...         (self.dot,) = axes.plot([0], [0], "o")
    ...
    ...     def update(self, frame):
    ...         self.dot.set_xdata([frame])
    ...         return [self.dot]
    >>> figure = Figure(figsize=(3, 2), dpi=100)
    >>> film = Film(figure, [Dot(figure.subplots())], frames=10)
    >>> [image.shape for image in film.images()][:2]
    [(200, 300, 3), (200, 300, 3)]
    """

    def __init__(
        self,
        figure: Figure,
        panels: Sequence[Panel],
        frames: int,
        fps: float = 20,
        title: str = "film",
    ) -> None:
        if frames < 1:
            raise InvalidValueError(
                f"a film has at least one frame, got {frames}; record at least one iteration"
            )
        _check_fps(fps)
        self.figure, self.panels = figure, list(panels)
        self.frames, self.fps, self.title = int(frames), fps, title
        self._style = mpl.rcParams.copy()

    @property
    def seconds(self) -> float:
        """How long the film plays."""
        return self.frames / self.fps

    def size(self, dpi: float | None = None) -> tuple[int, int]:
        """Width and height in pixels.

        >>> Film(Figure(figsize=(9.6, 5.4), dpi=100), [], frames=1).size()
        (960, 540)
        """
        width, height = self.figure.get_size_inches() * (dpi or self.figure.dpi)
        return int(width), int(height)

    def images(
        self, frames: Iterable[int] | None = None, dpi: float | None = None
    ) -> Iterator[np.ndarray]:
        """Frames as ``[height, width, 3]`` uint8, one at a time.

        Only what changes is drawn anew, with exactly the pixels of the whole figure
        drawn anew.

        Args:
            frames: which, in which order; all if none.
            dpi: pixels per inch; the figure's own if none.
        """
        with Blitter(self.figure, dpi) as blitter:
            for frame in range(self.frames) if frames is None else frames:
                # Not around the loop: who takes the images keeps his own style.
                with self._styled():
                    image = blitter.draw(self._update(frame))
                yield image

    def save(
        self,
        path: str | os.PathLike[str],
        fps: float | None = None,
        dpi: float | None = None,
        watch: Watch | None = None,
    ) -> Path:
        """Write the film; its extension says how: .gif, .html, .mp4 or .webm.

        A film of that name is replaced once the new one is complete; if anything goes
        wrong before, it stays, and nothing else does.

        Args:
            path: folders above it are made.
            fps: frames per second; the film's own if none.
            dpi: pixels per inch; the figure's own if none.
            watch: given the images and their number, passes them on as they are drawn; for
                a bar.

        Returns:
            The path.

        Raises:
            InvalidValueError: no known extension, or a rate that the format cannot have.
            FilmError: the file cannot be written, or ffmpeg is missing or fails.
        """
        path = Path(path)
        chosen = format_of(path)
        clip = self._clip(self.fps if fps is None else fps, dpi, watch)
        chosen.check(clip)
        check_place(path)
        try:
            with replace_atomically(path) as temporary:
                chosen.write(clip, temporary)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise  # a panel's own
            raise FilmError(
                f"cannot write film {path}: {error.strerror}; make room or choose another place"
            ) from None
        return path

    def still(self, frame: int) -> Figure:
        """The figure, moved to a frame.

        Raises:
            InvalidValueError: there is no such frame.
        """
        if not -self.frames <= frame < self.frames:
            raise InvalidValueError(
                f"this film has frames 0 to {self.frames - 1}, there is no frame {frame}"
            )
        with self._styled():
            self._update(frame % self.frames)
        return self.figure

    def animation(self) -> FuncAnimation:
        """The film as Matplotlib's, for windows and other writers."""
        return FuncAnimation(
            self.figure,
            self._update,
            frames=self.frames,
            interval=1000 / self.fps,
            blit=True,
            cache_frame_data=False,
        )

    def _repr_html_(self) -> str:
        return self.embedded()

    def embedded(self, dpi: float | None = None) -> str:
        """The film with its player as part of a page, in HTML that needs no other file.

        Args:
            dpi: pixels per inch; the figure's own if none.
        """
        return page.embedded(self._clip(self.fps, dpi))

    def _clip(self, fps: float, dpi: float | None, watch: Watch | None = None) -> Clip:
        _check_fps(fps)

        def images(frames: Iterable[int]) -> Iterator[np.ndarray]:
            chosen = list(frames)
            drawn = self.images(chosen, dpi)
            return drawn if watch is None else watch(drawn, len(chosen))

        return Clip(self.frames, fps, self.size(dpi), self.title, images)

    def _update(self, frame: int) -> list[Artist]:
        return [artist for panel in self.panels for artist in panel.update(frame)]

    @contextlib.contextmanager
    def _styled(self) -> Iterator[None]:
        now = mpl.rcParams
        keep = {"backend", "interactive"}
        changed = {
            key: value
            for key, value in self._style.items()
            if key not in keep and now[key] != value
        }
        with mpl.rc_context(changed):
            yield


def _check_fps(fps: float) -> None:
    if not 0 < fps <= 1000:
        raise InvalidValueError(
            f"frames per second are above 0 and at most 1000, got {fps}; 20 is common"
        )
