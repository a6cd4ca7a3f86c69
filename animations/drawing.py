"""Figures as parts of a page: lines that follow its light or dark mode, points that can be asked.

A figure becomes SVG in the page itself. Text and axes take the page's colour, text its font, and
lines their colours from :data:`bsnn_tha.html_page.STYLE`. Over a figure lie its points: whoever
comes near one, with a mouse or a finger, is told what it stands for, and sees the same thing
marked wherever else it is drawn.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from importlib import resources
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from animations.style import BLUE, RC, SKY
from bsnn_tha.html_page import data

INK = "#1B1B1B"
"""Text and axes: on a page, the colour of its text."""
_RC: Any = RC | {
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.labelcolor": INK,
    "legend.fontsize": 8,
    "svg.fonttype": "none",
    "svg.hashsalt": "bsnn-tha",
}
WIDTH = 5.0
"""Inches of a figure: with text of 9 points it can be read 370 pixels wide, on a phone."""
_NEAR = 4.0
"""Points of the circle that marks one."""
_INCH = 72
"""Points."""
_CSS = 96
"""Pixels of an inch in CSS."""
_FOLLOW = {INK: "currentColor", BLUE: "var(--blue)", SKY: "var(--sky)"}


class Point(NamedTuple):
    """A place in a figure that stands for something.

    Args:
        axes: of the figure.
        x, y: in data coordinates.
        key: of what it stands for, in the texts of :func:`tips`.
    """

    axes: Axes
    x: float
    y: float
    key: str


def on_page() -> AbstractContextManager[None]:
    """Figures that go on a page are made, and written to files, inside of this context."""
    return mpl.rc_context(_RC)


def drawing(figure: Figure, what: str, points: Iterable[Point] = (), wide: bool = False) -> str:
    """A figure as part of a page.

    Args:
        figure: made within :func:`on_page`.
        what: in words, for those who do not see it; no two of a page are the same.
        points: that can be asked.
        wide: never smaller than it is, to be put where it scrolls by itself.

    Example:
        >>> with on_page():
        ...     figure = Figure(figsize=(5, 3))
        ...     axes = figure.subplots()
        >>> print(drawing(figure, "a < b").partition(">")[0] + ">")
        <svg class="drawing" role="img" aria-label="a &lt; b" viewBox="0 0 360 216">
    """
    file = io.StringIO()
    with on_page():
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    width, height = figure.get_size_inches() * _INCH
    svg = file.getvalue()
    inside = svg[svg.index("<defs>") :].replace("</svg>", "")
    inside = _own_names(inside, re.sub(r"\W+", "-", what))
    for colour, followed in _FOLLOW.items():
        inside = inside.replace(colour.lower(), followed)
    size = f' style="min-width: {width / _INCH * _CSS:g}px; max-width: none"' if wide else ""
    marks = "".join(_mark(point, figure, height) for point in points)
    return (
        f'<svg class="drawing" role="img" aria-label="{html.escape(what)}" '
        f'viewBox="0 0 {width:g} {height:g}"{size}>\n{inside}<g class="points">{marks}</g></svg>'
    )


def tips(texts: Mapping[str, str]) -> str:
    """What points are told to stand for, by key; once in a page, after its drawings."""
    script = resources.files(__package__).joinpath("tips.js").read_text(encoding="utf-8")
    return f"{data(dict(texts), 'tips')}\n<script>{script}</script>"


def _own_names(svg: str, prefix: str) -> str:
    """With names that no other drawing of a page has, and without those that nobody uses."""
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', svg))

    def named(match: re.Match[str]) -> str:
        name = match.group(1)
        return f' id="{prefix}-{name}"' if name in used else ""

    svg = re.sub(r' id="([^"]+)"', named, svg)
    return re.sub(r'(url\(|href=")#([^")]+)', rf"\1#{prefix}-\2", svg)


def _mark(point: Point, figure: Figure, height: float) -> str:
    x, y = point.axes.transData.transform((point.x, point.y)) / figure.dpi * _INCH
    return (
        f'<circle data-key="{html.escape(point.key)}" cx="{x:.1f}" cy="{height - y:.1f}" '
        f'r="{_NEAR:g}"/>'
    )
