"""Loops compiled by numba, shared out to threads.

They are kept on disk by :mod:`~bsnn_tha.kernels.cpu.kept`. PyTorch's profiler shows them by
their names.

Importing this module imports numba, which takes a second: only modules that
are themselves imported when first needed do so.

Threads are our own, ``torch.get_num_threads()`` of them: numba's default ones
abort the process when two Python threads meet in them.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numba.extending
import torch

from bsnn_tha import idle_threads
from bsnn_tha.kernels.cpu.kept import keep

logger = logging.getLogger(__name__)

# Typed by numba without the compiler's own first argument, which callers do not give.
intrinsic: Any = numba.extending.intrinsic

_loops: dict[Any, Any] = {}


def run(
    make: Callable[..., Callable[..., None]],
    constants: tuple[Any, ...],
    arguments: tuple[Any, ...],
    blocks: int,
    most_threads: int,
) -> None:
    """Call the loop ``make(*constants)`` with ``(*arguments, first, last)`` for all blocks.

    Args:
        make: gives the loop; what it closes over is a constant in the compiled code.
        constants: with which of ``arguments`` are None, they must determine
            the types of all ``arguments``.
        arguments: numbers, contiguous arrays and None.
        blocks: how many; independent of each other.
        most_threads: how many the work is worth.
    """
    loop = _compiled(make, constants, (*arguments, 0, 0))
    if torch.autograd._profiler_enabled():
        with torch.profiler.record_function(f"{make.__module__}.{make.__name__}"):
            _share(loop, arguments, blocks, most_threads)
    else:
        _share(loop, arguments, blocks, most_threads)


def _share(loop: Any, arguments: tuple[Any, ...], blocks: int, most_threads: int) -> None:
    threads = min(torch.get_num_threads(), blocks, most_threads)
    if threads <= 1:
        loop(*arguments, 0, blocks)
        return
    if idle_threads.SPIN:
        _say_that_threads_spin()
    # More pieces than threads: a core may be busy with something else.
    pieces = min(blocks, 4 * threads)
    bounds = [blocks * piece // pieces for piece in range(pieces + 1)]
    # Whoever is free takes the next one: this thread as well, which need not be woken.
    left = iter(list(itertools.pairwise(bounds)))

    def work() -> None:
        for piece in left:
            loop(*arguments, *piece)

    helpers = [_pool(threads - 1).submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        for helper in helpers:
            # One that has not begun has nothing left to do.
            if not helper.cancel():
                helper.result()


def _compiled(make: Callable[..., Any], constants: tuple[Any, ...], arguments: Any) -> Any:
    key = make, constants, tuple(argument is None for argument in arguments)
    if key not in _loops:
        types = tuple(numba.typeof(argument) for argument in arguments)
        loop = make(*constants)
        _check_that_it_can_be_found_again(loop)
        try:
            _loops[key] = _compile(loop, types, cache=True)
        except Exception:
            # No place to write, a full disk or a broken file are no reason to fail.
            _loops[key] = _compile(loop, types, cache=False)
    return _loops[key]


def _check_that_it_can_be_found_again(loop: Callable[..., None]) -> None:
    """numba finds a loop on disk by what it closes over, pickled.

    Functions made by functions are pickled in other bytes by every process: each would compile.
    """
    for name, cell in zip(loop.__code__.co_freevars, loop.__closure__ or (), strict=True):
        if "<locals>" in getattr(cell.cell_contents, "__qualname__", ""):
            raise TypeError(
                f"loops close over numbers and functions of modules, but {name} of "
                f"{loop.__qualname__} was made by a function; make it an overload"
            )


def _compile(loop: Callable[..., None], types: tuple[Any, ...], cache: bool) -> Any:
    # 1 / 0 is inf. An entry for callers in C, whom nobody is, takes a tenth of the compiling.
    options: Any = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
    compiled: Any = numba.njit(**options)(loop)
    if cache:
        keep(compiled, loop)
    compiled.compile(types)
    compiled.disable_compile()
    return compiled


@functools.cache
def _say_that_threads_spin() -> None:
    logger.warning(
        "torch was imported before bsnn_tha: its idle threads spin on the cores that compiled "
        "loops want; import bsnn_tha first, or set OMP_WAIT_POLICY=passive"
    )


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="compiled")


# A forked child has the pools but not their threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
