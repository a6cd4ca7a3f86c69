"""Ctrl-C of a study: the first one finishes the running trials, the second one stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

STOPPED = "stopped; finished trials are kept"
AT_ONCE = signal.SIGUSR2
"""Tells a worker process to stop at once: two SIGINT in a row may arrive as one."""


@contextmanager
def two_interrupts(first: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C asks to finish, the second stops at once."""
    pressed = False

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt(STOPPED)

    def handle(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            stop(number, frame)
        pressed = True
        first()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, handle), signal.signal(AT_ONCE, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see studies.process
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(AT_ONCE, before[1])
