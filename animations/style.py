"""Colours and sizes shared by all figures and films, safe for colour-blind readers.

Figures use `RC`. Films are made inside of ``with theme("light"):`` or ``"dark"``.

Text in films has 13 points. A film is drawn 9.6 inches wide at 100 dots per inch and
shown 480 pixels wide beside text or on a phone, at half its size: 13 points are then
9 pixels high, and lower-case letters 5, below which they blur into each other. For
the same reason lines are two points wide: one pixel, when halved.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axis import Axis
from matplotlib.ticker import MaxNLocator

from bsnn_tha.errors import InvalidValueError

# Okabe and Ito's palette.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, GREY = "#56B4E9", "#CC79A7", "#7F7F7F"

RC: Any = {
    "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY]),
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "legend.frameon": False,
    "savefig.dpi": 150,
}
"""Pass to ``matplotlib.rc_context`` around a figure."""


def count(axis: Axis) -> None:
    """Ticks of epochs, trials and the like: at whole numbers, be there one or many."""
    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


FILM_SIZE = (9.6, 5.4)
"""Inches; 960 × 540 pixels."""


def _film(text: str, background: str, quiet: str, colours: list[str]) -> dict[str, Any]:
    return RC | {
        "figure.figsize": FILM_SIZE,
        "figure.dpi": 100,
        "savefig.dpi": 100,
        "font.size": 13,
        "axes.titlesize": 13,
        "axes.labelsize": 13,
        "xtick.labelsize": 13,
        "ytick.labelsize": 13,
        "legend.fontsize": 13,
        "axes.axisbelow": True,  # what moves over labels would have them drawn again
        "lines.linewidth": 2.0,
        "lines.markersize": 7.0,
        "axes.linewidth": 1.0,
        "figure.facecolor": background,
        "savefig.facecolor": background,
        "axes.facecolor": background,
        "text.color": text,
        "axes.labelcolor": text,
        "axes.titlecolor": text,
        "xtick.labelcolor": text,
        "ytick.labelcolor": text,
        "legend.labelcolor": text,
        "axes.edgecolor": quiet,
        "xtick.color": quiet,
        "ytick.color": quiet,
        "grid.color": quiet,
        "axes.prop_cycle": cycler(color=colours),
    }


THEMES: dict[str, Any] = {
    "light": _film(
        text="#1B1B1B",
        background="#FFFFFF",
        quiet="#767676",
        colours=[BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY],
    ),
    "dark": _film(
        text="#E8E8E8",
        background="#16181D",
        quiet="#8B8F98",
        colours=[SKY, ORANGE, GREEN, VERMILION, PURPLE, BLUE],
    ),
}
"""Matplotlib settings by theme. ``colour(0)`` to ``colour(5)`` are blue, orange, green,
vermilion, purple and the other blue in both; of the blues, the theme's first is the
one that stands out from its background."""


def colour(number: int) -> str:
    """A colour of the current theme, from 0; after the last one they begin again.

    What is drawn with Matplotlib's own ``"C0"`` changes its colour with the theme that
    holds when it is written to a file.
    """
    colours: list[str] = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    return colours[number % len(colours)]


@contextlib.contextmanager
def theme(name: str = "light") -> Iterator[None]:
    """Make figures and films inside of this context in a theme's colours and sizes.

    Args:
        name: ``"light"`` or ``"dark"``.

    Raises:
        InvalidValueError: there is no such theme.

    >>> with theme("dark"):
    ...     mpl.rcParams["figure.facecolor"]
    '#16181D'
    >>> theme("sepia").__enter__()
    Traceback (most recent call last):
        ...
    bsnn_tha.errors.InvalidValueError: themes are light and dark, got 'sepia'
    """
    if name not in THEMES:
        raise InvalidValueError(f"themes are {' and '.join(THEMES)}, got {name!r}")
    with mpl.rc_context(THEMES[name]):
        yield
