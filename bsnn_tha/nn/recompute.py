"""Run a part of the network again in the backward pass instead of keeping its tensors.

Memory of a training step grows with the length of the window, because the
backward pass needs every layer's membranes at every step. Parts that are run
again keep their inputs and outputs only, at the price of a second forward pass.

The second run must not be counted: whatever a forward pass changes besides its
result (running statistics, spike counters in forward hooks) asks
:func:`recomputing` first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from torch import Tensor
from torch.utils.checkpoint import checkpoint

Result = TypeVar("Result")


class _Recomputation(threading.local):
    """Counts the recomputations this thread is in; entered as a context.

    Per thread, because autograd recomputes in the thread that goes backward,
    on a GPU not the one that went forward, while others may go forward. Counted,
    and entered anew each time: a kept graph (``retain_graph=True``) is recomputed
    once per backward pass.
    """

    depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    # Also on the way out of the exception by which `checkpoint` stops a
    # recomputation as soon as it has the last tensor it needs.
    def __exit__(self, *error: object) -> None:
        self.depth -= 1


_recomputation = _Recomputation()


def recomputing() -> bool:
    """True while this thread runs a part again for the backward pass.

    Forward hooks that count something must test it, or they count twice.

    Example:
        >>> import torch
        >>> def double(x):
        ...     print("again" if recomputing() else "first")
        ...     return (2 * x).square()
        >>> x = torch.ones(3, requires_grad=True)
        >>> y = recompute_in_backward(double, x)
        first
        >>> y.sum().backward()
        again
    """
    return _recomputation.depth > 0


def uncounted() -> AbstractContextManager[None]:
    """A context for forward passes that are no part of training: :func:`recomputing` is True."""
    return _recomputation


def recompute_in_backward(function: Callable[..., Result], *args: Tensor | None) -> Result:
    """``function(*args)``, run again in the backward pass for its gradients.

    Random numbers are the same in both runs. Tensors in ``args`` that are
    changed in place between the runs make the backward pass raise RuntimeError;
    tensors that ``function`` finds by other ways are not watched.

    Args:
        function: returns tensors; may run again, in another thread.
        *args: everything that must be kept for the second run.
    """
    return checkpoint(function, *args, use_reentrant=False, context_fn=_contexts)


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of the first run and of the second."""
    return nullcontext(), _recomputation
