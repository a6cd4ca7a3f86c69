"""How windows are computed: the setting of a network, and notes of what was taken.

A layer's window can be computed in more ways than one, which give the same spikes; which
one it is, :mod:`bsnn_tha.functional.routes` chooses:

==============  ===================================================================
``auto``        the fastest way that takes the layer and this input
``one_pass``    weights, dropout and neurons in one compiled pass over sparse spikes
                (:mod:`~bsnn_tha.functional.sparse_lif`,
                :mod:`~bsnn_tha.functional.sparse_conv_lif`), however small; an error
                that says why where a layer or its input cannot be taken
``parts``       one after the other, each the fastest way
``reference``   one after the other, each as its equation stands: PyTorch's own
                operations, and neurons one step at a time
==============  ===================================================================

A network has one setting (``SpikingNetwork(route=...)``). While a layer runs, what
it calls asks :func:`plain` whether it may be fast, and says by :func:`note` which way
it went. Both are of the thread that runs the layer. In a network that a compiler takes
whole nothing is noted, and what is compiled is the parts.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import torch

from bsnn_tha.functional.transforms import transformed

Route = Literal["auto", "one_pass", "parts", "reference"]
ROUTES: tuple[Route, ...] = get_args(Route)


Ways = dict[str, list[str]]
"""What a layer has taken, in training and in evaluation, in the order of first use."""


class Refused(str):
    """Why a way is not taken, in half a sentence; where its result would be."""

    __slots__ = ()


class _Running(threading.local):
    route: Route = "auto"
    notes: tuple[str, ...] = ()


_running = _Running()


def plain() -> bool:
    """Whether PyTorch's own operations must be used: by the setting, or by what is at work.

    Example:
        >>> with running("reference"):
        ...     plain()
        True
    """
    if transformed():
        return True
    return not torch.compiler.is_compiling() and _running.route == "reference"


def note(way: str) -> None:
    """Say that the layer that runs goes this way."""
    if not torch.compiler.is_compiling() and way not in _running.notes:
        _running.notes = (*_running.notes, way)


def noted() -> str:
    """What the layer that runs has taken so far.

    Example:
        >>> with running("auto"):
        ...     note("sparse_conv")
        ...     note("numba")
        ...     noted()
        'sparse_conv + numba'
    """
    return " + ".join(_running.notes)


def joined(before: Sequence[Ways], now: Sequence[Ways]) -> list[Ways]:
    """What the layers took in one process and in a later one that went on.

    Example:
        >>> joined([{"training": ["a"]}], [{"training": ["a", "b"], "evaluation": ["c"]}])
        [{'training': ['a', 'b'], 'evaluation': ['c']}]
    """
    nothing: Ways = {}
    pairs = itertools.zip_longest(before, now, fillvalue=nothing)
    return [
        {mode: list(dict.fromkeys([*a.get(mode, []), *b.get(mode, [])])) for mode in {**a, **b}}
        for a, b in pairs
    ]


@contextlib.contextmanager
def running(route: Route) -> Iterator[None]:
    """A layer's run by this route; the one around it, if there is any, goes on afterwards."""
    before = _running.route, _running.notes
    _running.route, _running.notes = route, ()
    try:
        yield
    finally:
        _running.route, _running.notes = before
