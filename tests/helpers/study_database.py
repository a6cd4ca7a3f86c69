"""A real PostgreSQL server for tests, as a plugin: ``pytest_plugins = ["study_database"]``."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import warnings

import pytest
from study_workers import until

from studies.heartbeat import is_zombie

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory):
    """The server; it listens on a socket in its own folder."""
    pgserver = pytest.importorskip("pgserver")
    pytest.importorskip("psycopg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs on a machine without XDG_RUNTIME_DIR
        server = pgserver.get_server(tmp_path_factory.mktemp("pg") / "data", cleanup_mode="delete")
    # Nothing here needs to survive a power failure.
    server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
    # So that tests need not wait for Optuna's tables to be made.
    server.psql("CREATE DATABASE prepared")
    from optuna.storages import RDBStorage

    RDBStorage(address(server, "prepared")).engine.dispose()
    yield server
    # At once: a tidy stop would write everything to the disk first.
    process = server.get_pid()
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGQUIT)
    until(lambda: _gone(process))
    server.cleanup()


def _gone(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return is_zombie(str(process))


@pytest.fixture
def empty_database(postgresql):
    """The URL of a new database without Optuna's tables."""
    postgresql.psql("CREATE DATABASE empty")
    return address(postgresql, "empty")


@pytest.fixture
def database(postgresql):
    """The URL of a new database."""
    name = f"test{next(_numbers)}"
    postgresql.psql(f"CREATE DATABASE {name} TEMPLATE prepared")
    return address(postgresql, name)


def address(server, name):
    return server.get_uri(name).replace("postgresql://", "postgresql+psycopg://")
