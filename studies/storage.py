"""Where studies are kept: a journal file by default, a database or a proxy by URL.

==============================  ==============================================
``runs/studies`` (default)      a folder; one journal file per study, safe with
                                several processes on one computer
``postgresql+psycopg://...``    a database, for many computers
``grpc://host:port``            Optuna's proxy before a database, for many workers
==============================  ==============================================

The journal is Optuna's, with four changes. Its lock belongs to the operating
system, so a killed process never leaves it behind. A line that a killed process
wrote only half of is cut off before the next one is written (without that,
Optuna could not read the file any more). The disk is waited for once per
trial, when it ends, not with every parameter. And a trial that waits is taken by
one process only, also if two had it before (without that, Optuna tells both that
it is theirs).
"""

from __future__ import annotations

import ipaddress
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import optuna
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from bsnn_tha.run_folder import folder_name
from studies.errors import StudyError
from studies.optuna_internals import JournalLock, JournalOperation

DEFAULT = "runs/studies"
SUFFIX = ".journal"


def open_storage(where: str, study: str, *, create: bool) -> BaseStorage:
    """Open the storage that holds, or is to hold, a study.

    Args:
        where: a folder or a URL.
        study: name of the study, which names its file in a folder.
        create: make the file if there is none.

    Raises:
        StudyError: the place cannot be reached, read or written. The message
            never shows a password.
    """
    if "://" not in where:
        return _journal(Path(where), study, create)
    if where.startswith("grpc://"):
        return _proxy(where)
    return _database(where)


@contextmanager
def alone(where: str, study: str) -> Iterator[None]:
    """Keep other processes that do the same out, as far as the storage can.

    For what must happen once and takes several steps. Behind a proxy nothing is
    locked.

    Args:
        where, study: as in :func:`open_storage`, which was called before.
    """
    if "://" not in where:
        from filelock import FileLock

        with FileLock(Path(where) / f".{study}.begin.lock"):  # not the one that writing takes
            yield
    elif where.startswith("grpc://"):
        yield
    else:
        with _alone_in_database(where):
            yield


def shown(where: str) -> str:
    """A storage's address without its password."""
    scheme, separator, rest = where.partition("://")
    if not separator:
        return where
    # Not by a parser of URLs: a wrong URL must not show its password either.
    user, at, place = rest.rpartition("@")
    name, colon, _ = user.partition(":")
    return f"{scheme}://{name}{':***' if colon else ''}{at}{place.partition('?')[0]}"


def is_loopback(host: str) -> bool:
    """True for an address that only this computer reaches.

    Example:
        >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "db")]
        [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:  # a name: of an address that others may reach
        return False


def study_names(where: str) -> list[str]:
    """All studies of a storage, sorted."""
    if "://" in where:
        return sorted(optuna.get_all_study_names(open_storage(where, "", create=False)))
    return sorted(path.name.removesuffix(SUFFIX) for path in Path(where).glob(f"*{SUFFIX}"))


def _journal(folder: Path, study: str, create: bool) -> BaseStorage:
    if study != Path(study).name or not study.strip("."):
        raise StudyError(
            f"the name of a study in a folder is its file's, but got {study!r}; give --name one "
            "without / and not of dots alone, or another folder with --storage"
        )
    path = folder / f"{study}{SUFFIX}"
    if not create and not path.is_file():
        known = ", ".join(study_names(str(folder))) or "none"
        raise StudyError(f"there is no study {study!r} in {folder}; known are {known}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
    except OSError as error:
        raise StudyError(
            f"the study's file {path} must be writable, but got {error.strerror}; "
            "choose another folder with --storage"
        ) from None
    try:
        return _Trials(_Journal(str(path), _Lock(path)), path)
    except Exception as error:  # whatever Optuna makes of a record it does not understand
        raise StudyError(_damage(path, error)) from None


def _damage(path: Path, error: Exception) -> str:
    """Which line of a journal is damaged, and what can be kept of it."""
    said = f"{path} is not a readable journal of a study"
    whole = 0
    with path.open("rb") as file:
        for line in file:
            if not _is_record(line):
                break
            whole += 1
        else:
            return f"{said}: {error}; begin another study with --name"
    if not whole:
        return f"{said}: its first line is damaged; begin another study with --name"
    return (
        f"{said}: line {whole + 1} is damaged; keep the {whole} lines before it, and the trials "
        f"that ended in them, with: head -n {whole} {path} > kept && mv kept {path}"
    )


def _is_record(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and {"op_code", "worker_id"} <= record.keys()


def report_folder(where: str, study: str) -> Path:
    """Where the report of a study goes by default: beside its journal.

    Studies of a database or behind a proxy have it in the default folder. The study's name
    may be anybody's there: it is spelt so that it leads nowhere else.

    Example:
        >>> print(report_folder("runs/mine", "digits-tha"))
        runs/mine/digits-tha
        >>> print(report_folder("grpc://proxy:13000", "../../digits"))
        runs/studies/-..-digits
    """
    return Path(DEFAULT if "://" in where else where) / folder_name(study)


def artifact_folder(where: str) -> Path:
    """Where artifacts for optuna-dashboard go by default: of all studies of a storage in one.

    Example:
        >>> print(artifact_folder("runs/mine"), artifact_folder("grpc://proxy:13000"))
        runs/mine/.artifacts runs/studies/.artifacts
    """
    return Path(DEFAULT if "://" in where else where) / ".artifacts"  # no study has that name


def dashboard_command(where: str, study: str, artifacts: Path) -> str:
    """The command that shows a study in a browser.

    Example:
        >>> print(dashboard_command("runs/studies", "digits-tha", Path("runs/studies/.artifacts")))
        optuna-dashboard runs/studies/digits-tha.journal --artifact-dir runs/studies/.artifacts
    """
    place = shown(where) if "://" in where else str(Path(where) / f"{study}{SUFFIX}")
    if where.startswith("grpc://"):
        place = "URL-OF-THE-DATABASE"
    return f"optuna-dashboard {shlex.quote(place)} --artifact-dir {shlex.quote(str(artifacts))}"


def _database(url: str) -> BaseStorage:
    from sqlalchemy.exc import SQLAlchemyError

    options = {"pool_pre_ping": True, **_connection(url)}
    if url.startswith("postgresql"):
        # A worker and its heartbeat rarely ask at once, and a server has few connections
        # to give (100 by default): a worker keeps one, and opens others for a moment.
        options |= {"pool_size": 1, "max_overflow": 2}
    if "@" in url.rpartition("@")[0]:
        raise StudyError(f"cannot use the database {shown(url)}: write @ in a password as %40")
    try:
        # Optuna makes its tables at the first use; a database refuses two who do so at once.
        with _alone_in_database(url):
            return RDBStorage(url, engine_kwargs=options)
    except (SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        for secret in _secrets(url):
            reason = reason.replace(secret, "...")
        if isinstance(error, ImportError):
            reason = (
                "its driver is not installed; for PostgreSQL install psycopg[binary] and write "
                "postgresql+psycopg://"
            )
        raise StudyError(f"cannot use the database {shown(url)}: {reason[:300]}") from None


def _connection(url: str) -> dict[str, Any]:
    patient = url.startswith("postgresql+psycopg")
    return {"connect_args": {"connect_timeout": 10}} if patient else {}


@contextmanager
def _alone_in_database(url: str) -> Iterator[None]:
    """Hold a PostgreSQL database's advisory lock; other databases have none."""
    if not url.startswith("postgresql"):
        yield
        return
    from sqlalchemy import create_engine, text
    from sqlalchemy.pool import NullPool

    # Without a pool the connection ends with the block, and the lock with it.
    engine = create_engine(url, poolclass=NullPool, **_connection(url))
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(hashtext('bsnn-tha'))"))
        yield


def _secrets(url: str) -> list[str]:
    from urllib.parse import unquote

    user, _, place = url.partition("://")[2].rpartition("@")
    password = user.partition(":")[2]
    query = place.partition("?")[2]
    pairs = [pair.partition("=") for pair in query.split("&")]
    written = [password, *(value for key, _, value in pairs if "pass" in key)]
    return [url, *(secret for text in written for secret in (text, unquote(text)) if secret)]


def _proxy(url: str) -> BaseStorage:
    host, _, port = url.removeprefix("grpc://").partition(":")
    if not host or not port.isdigit():
        raise StudyError(f"a proxy's address must be grpc://host:port, but got {shown(url)}")
    try:
        proxy = GrpcStorageProxy(host=host, port=int(port))
    except ImportError:
        raise StudyError("a proxy needs grpcio and protobuf, which are not installed") from None
    try:
        proxy.wait_server_ready(timeout=10)
    except Exception:  # whatever grpc makes of a silent host
        raise StudyError(
            f"no proxy answers at {url}; start one with bsnn-tha study serve"
        ) from None
    return proxy


class _Lock(JournalLock):
    """A lock of the operating system, released when its holder dies."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f".{path.name}.lock")
        self._release: Callable[[], object] = lambda: None

    def acquire(self) -> bool:
        self._release = _locked(self._path)
        return True

    def release(self) -> None:
        self._release()


def _locked(path: Path) -> Callable[[], object]:
    """Wait for a file's lock, and return what gives it back.

    A trial takes the lock fifteen times: the system's call takes 3 µs, filelock's 140 µs.
    """
    if sys.platform == "win32":
        from filelock import FileLock

        lock = FileLock(path)
        lock.acquire()
        return lock.release
    import fcntl

    # Opened each time, and unlocked before it is closed: what is open in forked processes is held
    # by all of them.
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(file, fcntl.LOCK_EX)

    def release() -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
        os.close(file)

    return release


class _Trials(JournalStorage):
    """Optuna's storage on a journal; a trial that waits becomes one process's only."""

    def __init__(self, journal: _Journal, path: Path) -> None:
        from filelock import FileLock

        super().__init__(journal)
        self._taking = FileLock(path.with_name(f".{path.name}.take.lock"))

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        if state != TrialState.RUNNING:
            return super().set_trial_state_values(trial_id, state, values)
        with self._taking:
            return super().set_trial_state_values(trial_id, state, values)


class _Journal(JournalFileBackend):
    """Optuna's journal file, written as described above."""

    def __init__(self, path: str, lock: _Lock) -> None:
        super().__init__(path, lock)
        self._path = path
        self._writing = lock

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self._writing.acquire()
        try:
            with open(self._path, "rb+") as file:
                file.truncate(_end_of_last_line(file))
                file.seek(0, os.SEEK_END)
                file.write(text.encode())
                file.flush()
                if any(log["op_code"] in _SYNCED for log in logs):
                    os.fsync(file.fileno())
        finally:
            self._writing.release()


# A trial's parameters and reports reach the disk with its end at the latest.
_SYNCED = (
    JournalOperation.CREATE_STUDY,
    JournalOperation.DELETE_STUDY,
    JournalOperation.SET_STUDY_USER_ATTR,
    JournalOperation.SET_TRIAL_STATE_VALUES,
)


def _end_of_last_line(file: BinaryIO) -> int:
    size = file.seek(0, os.SEEK_END)
    if not size:
        return 0
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return size
    file.seek(0)
    return file.read().rfind(b"\n") + 1
