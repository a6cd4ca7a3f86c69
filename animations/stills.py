"""Figures as files: PNG, PDF or SVG by extension."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from animations.place import check_place
from animations.style import RC
from bsnn_tha.errors import FilmError, InvalidValueError
from bsnn_tha.run_folder import replace_atomically

EXTENSIONS = ".png", ".pdf", ".svg"


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure; one of that name is replaced once the new one is complete.

    Args:
        figure: to write.
        path: its extension says how; folders above it are made.

    Returns:
        The path.

    Raises:
        InvalidValueError: another extension.
        FilmError: the file cannot be written.
    """
    check_extension(path)
    check_place(path)
    try:
        # Ticks are made, and resolutions looked up, when a figure is drawn.
        with replace_atomically(path) as temporary, plt.rc_context(RC):
            figure.savefig(temporary, format=path.suffix[1:].lower())
    except OSError as error:
        raise FilmError(
            f"cannot write figure {path}: {error.strerror}; make room or choose another place"
        ) from None
    return path


def check_extension(path: Path) -> None:
    """Refuse what is no figure's extension.

    Raises:
        InvalidValueError: with those that are known.
    """
    if path.suffix.lower() not in EXTENSIONS:
        raise InvalidValueError(
            f"a figure's extension must be one of {', '.join(EXTENSIONS)}, but got {path.name!r}"
        )
