"""``bsnn-tha`` in processes of its own, forked from the test's.

Files, streams, signals and exit statuses are a process's; only the imports, four seconds of a
processor, are those of the test. What is about starting anew starts a new Python.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from places import ROOT
from study_workers import Process

from bsnn_tha.campaigns import pool
from bsnn_tha.cli import main
from studies import process, worker_process
from studies.interrupts import AT_ONCE


class Command(Process):
    """``bsnn-tha`` with these arguments.

    Args:
        *arguments: of the command line.
        cwd: the folder it is given in; what it says is kept beside that.
        within: entered in the process, e.g. :func:`forked_workers`.
    """

    def __init__(
        self, *arguments: object, cwd: Path, within: AbstractContextManager[None] | None = None
    ) -> None:
        within = within or nullcontext()
        self.out, self.err = (cwd.parent / f"{cwd.name}.{name}" for name in ("out", "err"))
        super().__init__(self._run, [str(argument) for argument in arguments], cwd, within)

    def _run(self, arguments: list[str], cwd: Path, within: AbstractContextManager[None]) -> None:
        os.setsid()
        for file, stream in ((self.out, 1), (self.err, 2)):
            os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), stream)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", 1, closefd=False) for n in (1, 2))
        os.environ.pop("BSNN_THA_DATA", None)
        os.environ["PYTHONPATH"] = str(ROOT)
        os.chdir(cwd)
        with within:
            command_line(arguments)

    @property
    def said(self) -> str:
        return self.out.read_text(encoding="utf-8")

    @property
    def complained(self) -> str:
        return self.err.read_text(encoding="utf-8")


def command_line(arguments: list[str]) -> NoReturn:
    """``bsnn-tha`` as this process, which is a fork, to its end."""
    sys.argv = ["bsnn-tha", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code: int | str | None = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    sys.stdout.flush()
    os._exit(code if isinstance(code, int) else 1)


@contextmanager
def forked_pool() -> Iterator[None]:
    """Processes that train runs (:mod:`bsnn_tha.campaigns.pool`) are forks of this one."""
    contexts = SimpleNamespace(**vars(multiprocessing))
    contexts.get_context = lambda method: multiprocessing.get_context("fork")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "multiprocessing", contexts)
        yield


@contextmanager
def forked_workers(anew: int = 0) -> Iterator[None]:
    """Workers of studies that this process starts are forks of it.

    Args:
        anew: how many of them are started as always, first.
    """
    started = itertools.count()

    def start(command: list[str], **options: Any) -> subprocess.Popen[str] | Worker:
        way = subprocess.Popen if next(started) < anew else Worker
        return way(command, **options)

    with pytest.MonkeyPatch.context() as patch:
        ways = SimpleNamespace(Popen=start, PIPE=subprocess.PIPE)
        patch.setattr(process, "subprocess", ways)
        yield


class Worker(Process):
    """In the place of the ``Popen`` with which :mod:`studies.process` starts a worker."""

    def __init__(self, command: list[str], *, env: dict[str, str], **options: object) -> None:
        pipe = subprocess.PIPE
        assert command == [sys.executable, "-m", "studies.worker_process"]
        assert options == {"stdin": pipe, "stdout": pipe, "text": True, "start_new_session": True}
        (options_in, options_out), (events_in, events_out) = os.pipe(), os.pipe()
        super().__init__(self._run, (options_in, events_out), (options_out, events_in), env)
        os.close(options_in)
        os.close(events_out)
        self.stdin, self.stdout = os.fdopen(options_out, "w"), os.fdopen(events_in)

    def _run(self, own: tuple[int, int], others: tuple[int, int], env: dict[str, str]) -> None:
        for end in others:
            os.close(end)
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(AT_ONCE, signal.SIG_DFL)
        for end, stream in zip(own, (0, 1), strict=True):
            os.dup2(end, stream)
        sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", 1, closefd=False)
        os.environ.clear()
        os.environ.update(env)
        code = worker_process.main(sys.stdin.read())
        sys.stdout.flush()
        os._exit(code)

    def poll(self) -> int | None:
        self.ended()
        return self.code

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            self.kill(number)
