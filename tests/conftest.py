"""Fixtures that several test modules use."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# One thread, here and in the processes that tests start: the networks are tiny,
# and results do not depend on how many cores there are. Before torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from hypothesis import HealthCheck, settings
from local_server import Handler, Server
from places import ROOT

if TYPE_CHECKING:
    from bsnn_tha.training.run import RunResult

pytest.register_assert_rewrite("training_runs")
collect_ignore = ["helpers"]  # imported by their own names, and not once more as doctests

# A shell's background job ignores Ctrl-C, and would hand that down to the commands that
# tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, however slow the machine is; FUZZ=1 draws new ones.
settings.register_profile(
    "same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("fuzz", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fuzz" if os.environ.get("FUZZ") else "same")


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """No doctests in tests: where a module cannot be imported they are skipped, and what their
    attempt left of it is then taken for the module, with not one test in it."""
    return [found for found in (yield) if type(found).__name__ != "DoctestModule"]


def pytest_collection_finish() -> None:
    """What is imported and collected stays to the end: no collection need look at it again.

    Every trial of a study collects, which else takes ten times as long as to train a tiny one.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _earlier_modules_are_not_collected_again() -> None:
    """What other modules imported and keep (compiled loops, fonts) is no garbage either."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _graphs_are_compiled_for_one_module() -> None:
    """A compiler that has seen another module's networks takes what differs for a variable."""
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()


def pytest_sessionfinish() -> None:
    """Compiled libraries complain about objects that outlive them."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real data files, or a skip that says how to provide one."""
    configured = os.environ.get("BSNN_THA_DATA")
    root = Path(configured).expanduser() if configured else ROOT.parent / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"no data files in {root}; set BSNN_THA_DATA to a folder that has them")
    return root


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to open a connection is an error that no loader catches."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    class Refused(socket.socket):  # a class still: modules imported from now on derive from it
        __init__ = refuse

    monkeypatch.setattr(socket, "socket", Refused)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server(("127.0.0.1", 0), Handler)
    server.contents, server.requests = {}, []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A finished run of the tiny network, for tests that only look at it."""
    from training_runs import train_tiny

    return train_tiny(tmp_path_factory.mktemp("done") / "run")
