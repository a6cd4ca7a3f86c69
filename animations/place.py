"""Where films and figures are written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from bsnn_tha.errors import FilmError


def free_place(path: Path) -> Path:
    """This path if nothing is there, else the first of ``name-2.gif``, ``name-3.gif``, … that is.

    For a name that was not asked for: what lies there may show other runs.
    """
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return free


def check_place(path: Path) -> None:
    """Make sure that a file can be written, before a minute is spent on drawing it.

    Folders above it are made.

    Raises:
        FilmError: it cannot.
    """
    probe = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            probe.touch()
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise FilmError(f"cannot write {path}: {error.strerror}; choose another place") from None
