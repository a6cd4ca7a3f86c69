"""Draw a figure again and again, and only what changes.

The still part of a figure is drawn once and copied; on top of it go the artists
that change, and whatever the figure draws over them (a line runs below the spines
of its axes). So a frame has exactly the pixels of the figure drawn anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import Collection
from matplotlib.figure import Figure, FigureBase
from matplotlib.image import AxesImage
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from bsnn_tha.errors import InvalidValueError

MARGIN = 2.0
"""Pixels around an artist's box: antialiasing, and snapping to whole pixels."""


class Blitter:
    """Draws frames of one figure while it is entered; then the figure is as before.

    Args:
        figure: any; its canvas is not used, so no window is needed or drawn to.
        dpi: pixels per inch while entered; the figure's own if none.
    """

    def __init__(self, figure: Figure, dpi: float | None = None) -> None:
        self.figure, self.dpi = figure, dpi
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Blitter:
        figure = self.figure
        self._undo.callback(setattr, figure, "canvas", figure.canvas)
        self._undo.callback(setattr, figure, "stale_callback", figure.stale_callback)
        # Interactive sessions redraw a figure whenever an artist of it changes.
        figure.stale_callback = None
        self._canvas = FigureCanvasAgg(figure)
        if self.dpi is not None:
            self._undo.callback(setattr, figure, "dpi", figure.dpi)
            figure.dpi = self.dpi
        self._seen: set[Artist] = set()
        self._changing: set[Artist] = set()
        self._above: set[Artist] = set()  # still, but over something that changes
        self._titled: set[Axes] = set()
        self._animated: dict[Artist, bool] = {}
        self._boxes: dict[Artist, Bbox | None] = {}  # of still artists, until a redraw
        self._background: Any = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._release()
        self._background = None
        self._undo.close()

    def draw(self, artists: Iterable[Artist]) -> np.ndarray:
        """The figure as it is now, ``[height, width, 3]`` uint8.

        Args:
            artists: those that may differ from the call before. Once named, an
                artist is drawn in every frame.

        Raises:
            InvalidValueError: an artist that is not on the figure.
        """
        new = [artist for artist in artists if artist not in self._seen]
        if new or self._background is None:
            self._add(new)
        elif any(self._covered(artist) for artist in self._roaming):
            self._draw_background()
        renderer = self._canvas.get_renderer()
        self._canvas.restore_region(self._background)
        for axes in self._titled:
            axes._update_title_position(renderer)  # type: ignore[attr-defined]
        for artist in self._foreground:
            if all(parent.get_visible() for parent in self._parents[artist]):
                artist.draw(renderer)
        pixels = np.asarray(self._canvas.buffer_rgba())
        return self._on_white(pixels) if self._transparent else pixels[..., :3].copy()

    def _add(self, artists: list[Artist]) -> None:
        """Artists seen for the first time: from now on not part of the background."""
        if self._background is None:
            # Places axes, titles and ticks; a layout is made once, lest panels move.
            self._canvas.draw()
            self.figure.set_layout_engine("none")
        self._seen.update(artists)
        # Axes that change as a whole, by being hidden for example, are drawn as a whole.
        whole = {artist for artist in self._seen if isinstance(artist, Axes)}
        self._parents = dict(_leaves(self.figure, whole))
        self._order = list(self._parents)
        self._release()
        for artist in self._seen:
            self._changing.update(self._leaves_of(artist))
        for axes in {leaf.axes for leaf in self._changing if isinstance(leaf.axes, Axes)}:
            titles = {axes.title, axes._left_title, axes._right_title}  # type: ignore[attr-defined]
            if titles & self._changing:
                self._changing |= titles  # they keep to one line
                self._titled.add(axes)
        self._draw_background()

    def _release(self) -> None:
        """All artists are part of the background again."""
        for artist, animated in self._animated.items():
            artist.set_animated(animated)
        for collection in (self._changing, self._above, self._titled, self._animated):
            collection.clear()

    def _leaves_of(self, artist: Artist) -> set[Artist]:
        """What the figure draws one by one, of which the artist is or has a part."""
        if artist in self._order:
            return {artist}
        if isinstance(artist, FigureBase) and artist.get_figure(root=True) is self.figure:
            return {leaf for leaf, parents in self._parents.items() if artist in parents}
        for leaf in self._order:
            if artist in leaf.findobj():
                return {leaf}
        raise InvalidValueError(
            f"a panel returns artists of its film's figure, this is not one: {artist}; "
            "draw on the axes that the panel was given"
        )

    def _draw_background(self) -> None:
        # What lies above a changing artist leaves the background too, else its
        # soft edges would be drawn twice; and so does what lies above that.
        self._boxes.clear()
        place = {leaf: index for index, leaf in enumerate(self._order)}
        for leaf in sorted(self._changing | self._above, key=place.__getitem__):
            self._covered(leaf)
        waiting = sorted(self._above, key=place.__getitem__)
        while waiting:
            waiting.extend(self._covered(waiting.pop()))
        front = self._changing | self._above
        self._foreground = [leaf for leaf in self._order if leaf in front]
        for leaf in self._foreground:
            self._animated.setdefault(leaf, leaf.get_animated())
            leaf.set_animated(True)
        self._roaming = [leaf for leaf in self._order if leaf in self._changing and _roams(leaf)]
        self._canvas.draw()
        self._background = self._canvas.copy_from_bbox(self.figure.bbox)
        self._transparent = np.asarray(self._canvas.buffer_rgba())[..., 3].min() < 255

    def _covered(self, artist: Artist) -> list[Artist]:
        """Still artists above this one that overlap it, and were not known to."""
        box = self._box(artist)
        if box is None:
            return []
        found = []
        for leaf in self._order[self._order.index(artist) + 1 :]:
            if leaf in self._changing or leaf in self._above:
                continue
            if leaf not in self._boxes:
                self._boxes[leaf] = self._box(leaf)
            other = self._boxes[leaf]
            if other is not None and box.overlaps(other):
                found.append(leaf)
        self._above.update(found)
        return found

    def _box(self, artist: Artist) -> Bbox | None:
        """Pixels that the artist may touch; None if it is not drawn."""
        if not _roams(artist):  # the same box whenever it is drawn
            assert artist.clipbox is not None
            return Bbox(artist.clipbox.get_points()).padded(MARGIN)
        if not artist.get_visible():
            return None
        renderer = self._canvas.get_renderer()
        box = self.figure.bbox.get_points()
        if isinstance(artist, Axis):
            # Ticks and grid lines; ticks may point outwards.
            boxes = [artist.axes.bbox.padded(renderer.points_to_pixels(10))]
            if labels := artist.get_tightbbox(renderer):
                boxes.append(labels)
            box = Bbox.union(boxes).get_points()
        elif isinstance(artist, Text | Line2D | Patch | Legend) and not _adorned(artist):
            box = artist.get_window_extent(renderer).get_points()
        if not np.isfinite(box).all():
            box = self.figure.bbox.get_points()
        width = artist.get_linewidth() if isinstance(artist, Line2D | Patch) else 0.0
        return Bbox(box).padded(MARGIN + renderer.points_to_pixels(width))

    @staticmethod
    def _on_white(pixels: np.ndarray) -> np.ndarray:
        alpha = pixels[..., 3:].astype(np.uint32)
        white = 255 * (255 - alpha)
        return ((pixels[..., :3] * alpha + white + 127) // 255).astype(np.uint8)


def _roams(artist: Artist) -> bool:
    """Whether the artist may be drawn anywhere, not only within its axes."""
    # Others have a clip box that their parts, such as the labels of an axis, ignore.
    clipped = isinstance(artist, Line2D | Patch | Collection | Text | AxesImage)
    return (
        not clipped
        or isinstance(artist, Annotation)
        or not artist.get_clip_on()
        or artist.clipbox is None
    )


def _adorned(artist: Artist) -> bool:
    """Whether there is more to the artist than its box tells."""
    return bool(
        artist.get_path_effects()
        or artist.get_agg_filter()
        or (isinstance(artist, Text) and artist.get_bbox_patch())
        or (isinstance(artist, Legend) and artist.shadow)
    )


def _leaves(
    parent: Any, whole: set[Axes], above: tuple[Artist, ...] = ()
) -> Iterator[tuple[Artist, tuple[Artist, ...]]]:
    """What is drawn below a figure or axes, in that order, as Matplotlib does.

    Each with the figures and axes that it is drawn by. Some axes are drawn as a whole.
    """
    parents = (*above, parent)
    children = parent.get_children()
    children.remove(parent.patch)
    framed = True
    if isinstance(parent, Axes):
        framed = bool(parent.axison and parent.get_frame_on())
        hidden: set[Artist] = set()
        if not framed:
            hidden |= set(parent.spines.values())
        if not parent.axison:
            hidden |= {parent.xaxis, parent.yaxis}
        children = [child for child in children if child not in hidden]
    if framed:
        yield parent.patch, parents
    for child in sorted(children, key=lambda child: child.get_zorder()):
        # So are axes with their own way of drawing, polar or in 3D.
        if isinstance(child, FigureBase) or (
            isinstance(child, Axes) and child not in whole and type(child).draw is Axes.draw
        ):
            yield from _leaves(child, whole, parents)
        else:
            yield child, parents
