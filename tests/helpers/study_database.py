"""A real PostgreSQL server for tests, as a plugin: ``pytest_plugins = ["study_database"]``."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import warnings

import pytest
from study_workers import PATIENCE, until

from studies.heartbeat import is_zombie

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory):
    """The server; it listens on a socket in its own folder."""
    pgserver = pytest.importorskip("pgserver")
    pytest.importorskip("psycopg")
    folder = tmp_path_factory.mktemp("pg") / "data"
    with warnings.catch_warnings(), _patient_and_careless():
        warnings.simplefilter("ignore")  # platformdirs on a machine without XDG_RUNTIME_DIR
        server = pgserver.get_server(folder, cleanup_mode=None)
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
    shutil.rmtree(folder)


@contextlib.contextmanager
def _patient_and_careless():
    """A server may take its time to start, and its files need not be on the disk before."""
    from pgserver import postgres_server

    initdb, pg_ctl = postgres_server.initdb, postgres_server.pg_ctl
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGCTLTIMEOUT", str(PATIENCE))
        for name, change in {
            "initdb": lambda words, **more: initdb([*words, "--no-sync"], **more),
            "pg_ctl": lambda words, **more: pg_ctl(words, **more | {"timeout": None}),
        }.items():
            patch.setattr(postgres_server, name, change)
        yield


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
