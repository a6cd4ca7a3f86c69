"""Colours and sizes shared by all figures, safe for colour-blind readers."""

from __future__ import annotations

from typing import Any

# Okabe and Ito's palette.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, GREY = "#56B4E9", "#CC79A7", "#7F7F7F"

RC: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "legend.frameon": False,
    "savefig.dpi": 150,
}
"""Pass to ``matplotlib.rc_context`` around a figure."""
