"""A profiler for Lightning that takes no time.

Lightning asks its profiler about every hook of every callback, some hundred times an
iteration. The one it has for nobody to profile builds a context manager for each, which is a
third of a millisecond on a slow processor.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from lightning.pytorch.profilers import PassThroughProfiler

_NOTHING: AbstractContextManager[None] = nullcontext()


class Unprofiled(PassThroughProfiler):
    """One context, which does nothing, for all that could be profiled."""

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        return _NOTHING
