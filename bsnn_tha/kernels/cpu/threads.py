"""Tasks that call PyTorch, on threads of our own."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch


def share(task: Callable[[int], None], count: int, most_threads: int) -> None:
    """Call ``task(0)`` to ``task(count − 1)``, on several threads.

    For tasks that call PyTorch: its operations take one thread each there, which beats
    sharing out each of many short ones.

    Args:
        task: independent of the others; without gradients.
        count: how many tasks.
        most_threads: how many the work is worth.
    """
    threads = min(torch.get_num_threads(), count, most_threads)
    if threads <= 1:
        for index in range(count):
            task(index)
        return
    pool = _pool_of_single_threads(threads)
    for future in [pool.submit(task, index) for index in range(count)]:
        future.result()


@functools.cache
def _pool_of_single_threads(threads: int) -> ThreadPoolExecutor:
    started = threading.Barrier(threads + 1)

    def start() -> None:
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(threads, "single", initializer=start)
    usual = torch.get_num_threads()
    for _ in range(threads):
        pool.submit(int)
    started.wait()
    # What is set on a thread is its own, but also what threads to come begin with.
    torch.set_num_threads(usual)
    return pool


# A forked child has the pools but not their threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool_of_single_threads.cache_clear)
