"""File formats of films, by extension; one module per format."""

from __future__ import annotations

from pathlib import Path

from animations.formats import gif, page, video
from animations.formats.clip import Clip, Format
from bsnn_tha.errors import InvalidValueError

FORMATS = {
    ".gif": Format(gif.check, gif.write),
    ".html": Format(page.check, page.write),
    ".mp4": Format(video.check, video.write_mp4),
    ".webm": Format(video.check, video.write_webm),
}
"""By extension."""

__all__ = ["FORMATS", "Clip", "Format", "format_of"]


def format_of(path: Path) -> Format:
    """The format that a path's extension names.

    Raises:
        InvalidValueError: there is none.

    >>> format_of(Path("film.avi"))
    Traceback (most recent call last):
        ...
    bsnn_tha.errors.InvalidValueError: films are written as .gif, .html, .mp4 or .webm,
    got 'film.avi'; choose one of these extensions
    """
    extension = path.suffix.lower()
    if extension not in FORMATS:
        *most, last = FORMATS
        raise InvalidValueError(
            f"films are written as {', '.join(most)} or {last}, got {path.name!r}; "
            "choose one of these extensions"
        )
    return FORMATS[extension]
