"""Where compiled loops are kept on disk, and until when: without torch.

numba looks for changes only in the file that a loop stands in, and would keep one whose
helpers have changed elsewhere. What is kept here goes by :func:`sources`: everything that
a loop can be made of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.core.caching import CompileResultCacheImpl, FunctionCache

_PACKAGE = Path(__file__).parents[2]


def sources() -> str:
    """A hash of every file that a loop can be made of: the equations and the kernels."""
    files = [*_PACKAGE.glob("equations/**/*.py"), *_PACKAGE.glob("kernels/**/*.py")]
    digest = hashlib.sha256()
    for file in sorted(files):
        text = file.read_bytes()
        digest.update(f"{file.relative_to(_PACKAGE)} {len(text)}\n".encode() + text)
    return digest.hexdigest()


_SOURCES = sources()
"""Of the code in this process."""


def keep(compiled: Any, loop: Callable[..., Any]) -> None:
    """Let numba keep what it compiles of ``loop``.

    Files that have changed since they were imported say nothing about what is compiled: then
    nothing is kept.
    """
    if sources() == _SOURCES:
        compiled._cache = _Kept(loop)


def kept_in() -> Path | None:
    """The folder of the loops that are kept; None where none can be.

    Beside their modules in a checkout, in the user's cache folder for an installed package, or
    where ``NUMBA_CACHE_DIR`` says.
    """
    try:
        # All loops stand in this folder of modules, as this function does.
        return Path(_KeptResult(kept_in).locator.get_cache_path())
    except (RuntimeError, OSError):
        return None


def _by_sources(place: Any) -> Any:
    """One of numba's places for compiled code, out of date as soon as any source has changed."""
    return type(place.__name__, (place,), {"get_source_stamp": lambda self: _SOURCES})


def _places(package: Path) -> list[Any]:
    """Where loops may be kept, the first that can be written: numba's places, in our order.

    The folder of an installed package is the installer's, which would leave it behind for
    what it did not put there: then the user's cache folder comes before it.
    """
    places = [*CompileResultCacheImpl._locator_classes]
    if package.parent.name in ("site-packages", "dist-packages"):
        places.sort(key=lambda place: place.__name__ == "InTreeCacheLocator")
    return [*map(_by_sources, places)]


class _KeptResult(CompileResultCacheImpl):
    _locator_classes = _places(_PACKAGE)


class _Kept(FunctionCache):
    """numba's cache of a function, with the stamp of all sources."""

    _impl_class = _KeptResult
