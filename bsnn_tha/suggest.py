"""Parts of error messages: what was probably meant, which rule was broken."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

_QUOTED = 8
"""Values that an error quotes in full."""
_LONGEST = 200
"""Characters of a value that an error quotes."""


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
    return f"{key} must be {rule}, but got {quoted(problem['input'])}"


def quoted(value: Any) -> str:
    """A value as an error quotes it: whole if it is short, else how it begins and its size.

    Example:
        >>> quoted([1.0, 2.0]), quoted("tdbn")
        ('[1.0, 2.0]', "'tdbn'")
        >>> quoted([0] * 123)
        '[0, 0, 0, 0, … 123 values]'
        >>> import torch
        >>> quoted(torch.zeros(3000))
        'a tensor of shape [3000]'
    """
    shape = getattr(value, "shape", None)
    if shape is not None and math.prod(shape) > _QUOTED:
        return (
            f"{'a tensor' if hasattr(value, 'requires_grad') else 'an array'} of shape {[*shape]}"
        )
    if isinstance(value, list | tuple) and len(value) > _QUOTED:
        begin = ", ".join(quoted(each) for each in value[: _QUOTED // 2])
        return f"[{begin}, … {len(value)} values]"
    if isinstance(value, dict) and len(value) > _QUOTED:
        begin = ", ".join(f"{key!r}: {quoted(value[key])}" for key in [*value][: _QUOTED // 2])
        return f"{{{begin}, … {len(value)} keys}}"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"
