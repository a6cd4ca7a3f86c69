"""The end of an error message about an unknown name: what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` if a known name is near, else the list of them.

    Example:
        >>> did_you_mean("mnits", ["digits", "mnist"])
        "; did you mean 'mnist'?"
        >>> did_you_mean("imagenet", ["digits", "mnist"])
        '; known are digits, mnist'
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known are {', '.join(names)}" if names else "; it takes none"
