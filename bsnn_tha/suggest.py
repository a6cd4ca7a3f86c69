"""Parts of error messages: what was probably meant, which rule was broken."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


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


def broken_rule(key: str, problem: Mapping[str, Any]) -> str:
    """One line from one of the problems pydantic lists.

    Example:
        >>> problem = {"msg": "Input should be greater than 0", "input": -1}
        >>> broken_rule("optimizer.lr", problem)
        'optimizer.lr must be greater than 0, but got -1'
    """
    rule = str(problem["msg"]).removeprefix("Input should be ")
    return f"{key} must be {rule}, but got {problem['input']!r}"
