"""Where studies are kept: journals, PostgreSQL, the proxy; and what is said when they fail."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import optuna
import pytest
from filelock import FileLock, Timeout
from local_server import reserved_port
from optuna.trial import TrialState
from study_workers import NAME, PATIENCE, Process, opened, square, until, work
from typer.testing import CliRunner

from bsnn_tha.cli import app
from studies import heartbeat, runner, worker
from studies import storage as module
from studies.errors import StudyError
from studies.options import Options
from studies.preparation import prepare
from studies.storage import open_storage, shown, study_names
from studies.worker import Worker

pytest_plugins = ["study_database"]
SECRET = "s3cr-et"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(worker, "POLL", 0.05)
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def together(number):
    """What so many processes wait for, so that they go on at the same time."""
    return multiprocessing.get_context("fork").Barrier(number, timeout=PATIENCE)


def journal(folder):
    return folder / f"{NAME}.journal"


def refusal(where, create=True):
    """The one line with which a storage is refused."""
    with pytest.raises(StudyError) as caught:
        open_storage(where, NAME, create=create)
    assert caught.value.__cause__ is None  # a cause may show what the message hides
    message = str(caught.value)
    assert "\n" not in message and SECRET not in message
    return message


# The journal


def test_what_several_processes_write_at_once_is_all_in_the_journal(tmp_path):
    opened(str(tmp_path))

    def write(index):
        study = opened(str(tmp_path))
        for count in range(20):
            study.set_user_attr(f"{index}.{count}", "x" * 1000 * index)

    writers = [Process(write, index) for index in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    attributes = opened(str(tmp_path)).user_attrs
    assert {key: len(value) for key, value in attributes.items()} == {
        f"{index}.{count}": 1000 * index for index in range(4) for count in range(20)
    }
    lines = journal(tmp_path).read_bytes().split(b"\n")
    assert lines.pop() == b"" and all(json.loads(line) for line in lines)


@pytest.mark.parametrize("left", [1, 7, 40])
def test_a_line_that_a_killed_process_wrote_half_of_is_mended(tmp_path, left):
    study = opened(str(tmp_path))
    Worker(study, square, 2).work()
    before = opened(str(tmp_path)).trials
    whole = journal(tmp_path).read_bytes()
    half = json.dumps({"op_code": 8, "trial_id": 0, "user_attr": {"note": "x" * 50}}).encode()
    journal(tmp_path).write_bytes(whole + half[:left])

    reader = opened(str(tmp_path))  # reads what is whole, and mends nothing
    assert reader.trials == before == study.trials
    assert journal(tmp_path).read_bytes() == whole + half[:left]

    Worker(reader, square, 4).work()
    assert journal(tmp_path).read_bytes().startswith(whole + b"{")
    for one in (opened(str(tmp_path)), study):  # a process that had it open goes on, too
        assert [t.number for t in one.get_trials(states=(TrialState.COMPLETE,))] == [0, 1, 2, 3]


def test_a_journal_that_lost_the_end_of_its_last_line_is_mended(tmp_path):
    Worker(opened(str(tmp_path)), square, 3).work()
    whole = journal(tmp_path).read_bytes()
    journal(tmp_path).write_bytes(whole[:-9])  # in the middle of the last trial's result
    study = opened(str(tmp_path))
    assert [t.state.name for t in study.trials] == ["COMPLETE", "COMPLETE", "RUNNING"]
    # Its worker is this very process: what cannot be known is left to the heartbeat.
    study.tell(2, 1.0)
    assert [t.state.name for t in opened(str(tmp_path)).trials] == ["COMPLETE"] * 3


def test_a_process_that_is_killed_while_it_holds_the_lock_does_not_keep_it(tmp_path, monkeypatch):
    opened(str(tmp_path))

    def hold():
        lock = module._Lock(journal(tmp_path))
        lock.acquire()
        (tmp_path / "held").touch()
        time.sleep(PATIENCE)

    acquire = module._Lock.acquire

    def asks(lock):
        (tmp_path / "asked").touch()
        return acquire(lock)

    holder = Process(hold)
    until((tmp_path / "held").exists)
    with pytest.raises(Timeout):  # the lock is one, for whoever asks by another way
        FileLock(module._Lock(journal(tmp_path))._path, blocking=False).acquire()
    monkeypatch.setattr(module._Lock, "acquire", asks)
    writer = Process(work, str(tmp_path), 1)
    until((tmp_path / "asked").exists)
    assert not writer.ended()
    holder.kill(signal.SIGKILL)
    assert writer.wait() == 0
    holder.wait()
    assert len(opened(str(tmp_path)).trials) == 1


def test_a_process_that_is_forked_while_the_lock_is_held_does_not_keep_it(tmp_path):
    lock = module._Lock(tmp_path / "journal")
    lock.acquire()
    forked = Process(time.sleep, PATIENCE)
    lock.release()
    with FileLock(lock._path, blocking=False):
        pass
    forked.kill(signal.SIGKILL)
    forked.wait()


def test_opening_a_study_again_writes_nothing_but_what_is_new(tmp_path):
    opened(str(tmp_path))
    before = journal(tmp_path).read_bytes()
    study_names(str(tmp_path))
    optuna.load_study(
        storage=open_storage(str(tmp_path), NAME, create=False), study_name=NAME
    ).get_trials()
    assert journal(tmp_path).read_bytes() == before


def test_a_damaged_journal_is_refused_and_left_as_it_is(tmp_path):
    opened(str(tmp_path))
    damaged = b"what is this?\n" + journal(tmp_path).read_bytes()
    journal(tmp_path).write_bytes(damaged)
    message = refusal(str(tmp_path))
    assert "is not a readable journal" in message and "another study with --name" in message
    assert journal(tmp_path).read_bytes() == damaged


@pytest.mark.parametrize(
    "damage",
    [b"what is this?\n", b"\x00" * 40 + b"\n", b'{"op_code": 4\n', b"[]\n", b"7\n"],
    ids=["text", "zeros", "half", "list", "number"],
)
def test_what_lies_before_a_damaged_line_can_be_kept_as_the_message_says(tmp_path, damage):
    work(str(tmp_path), 4)
    path = journal(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    ends = [n for n, line in enumerate(lines, 1) if json.loads(line).get("state") == 1]
    place = ends[1] + 2  # in the third trial
    path.write_bytes(b"".join([*lines[:place], damage, *lines[place + 1 :]]))
    message = refusal(str(tmp_path))
    assert f"line {place + 1} is damaged" in message
    subprocess.run(message.partition("with: ")[2], shell=True, check=True)
    states = [trial.state for trial in opened(str(tmp_path)).trials]
    assert states.count(TrialState.COMPLETE) == 2


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path, below):
    (tmp_path / "file").write_text("a file in the folder's place")
    message = refusal(str(tmp_path / "file" / below))
    assert message.startswith("the study's file ") and "--storage" in message
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_that_may_only_be_read_is_refused_in_one_line(tmp_path, monkeypatch):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    opened(str(tmp_path))
    tmp_path.chmod(0o500)
    journal(tmp_path).chmod(0o400)
    assert "must be writable" in refusal(str(tmp_path))


def test_a_study_that_is_to_be_read_must_exist(tmp_path):
    opened(str(tmp_path))
    with pytest.raises(StudyError, match=r"no study 'other' in .*; known are study$"):
        open_storage(str(tmp_path), "other", create=False)
    with pytest.raises(StudyError, match=r"known are none$"):
        open_storage(str(tmp_path / "nowhere"), "other", create=False)
    assert not (tmp_path / "nowhere").exists()


def test_studies_are_listed_by_name(tmp_path, database):
    assert study_names(str(tmp_path)) == study_names(database) == []
    for where in (str(tmp_path), database):
        for name in ("b-tha", "a"):
            optuna.create_study(storage=open_storage(where, name, create=True), study_name=name)
        assert study_names(where) == ["a", "b-tha"]


# Databases


def test_a_study_in_postgresql_is_there_for_the_next_process(database):
    assert Process(work, database, 2).wait() == 0
    study = opened(database)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 2


def test_workers_that_start_together_on_an_empty_database_all_get_in(empty_database):
    start = together(6)

    def begin():
        start.wait()
        open_storage(empty_database, NAME, create=True)

    workers = [Process(begin) for _ in range(6)]
    assert [worker.wait() for worker in workers] == [0] * 6


@pytest.mark.parametrize("kind", ["journal", "postgresql"])
def test_workers_that_start_together_begin_with_one_published_trial(kind, tmp_path, request):
    where = str(tmp_path) if kind == "journal" else request.getfixturevalue("database")
    options = Options(
        "digits", "tha", 5, name=NAME, storage=where, changes={"data.subset": 64}, threads=1
    )
    plan_and_space = prepare(options)
    get_trials = optuna.Study.get_trials

    def slowly(*args, **kwargs):
        trials = get_trials(*args, **kwargs)
        time.sleep(0.3)  # on a busy machine, less lets them pass one after the other
        return trials

    start = together(4)

    def begin():
        # In this process only.
        runner.prepare = lambda options: plan_and_space
        optuna.Study.get_trials = slowly
        start.wait()
        runner.open_for_work(options)

    workers = [Process(begin) for _ in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4
    storage = open_storage(where, NAME, create=False)
    trials = optuna.load_study(study_name=NAME, storage=storage).trials
    assert [trial.user_attrs["published"] for trial in trials] == [True]


def test_a_worker_keeps_one_connection(database, postgresql, tmp_path, monkeypatch):
    name = database.partition("?")[0].rpartition("/")[2]
    monkeypatch.setattr(heartbeat, "HEARTBEAT", 0.001)

    def connections():
        found = postgresql.psql(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'")
        return int(found.split("\n")[2])

    def busy(trial):
        # While the heartbeat's thread talks to the server, too; then both are at rest.
        for count in range(50):
            trial.set_user_attr("count", count)
        heartbeat.HEARTBEAT = 2 * PATIENCE
        (tmp_path / f"rests-{os.getpid()}").touch()
        until((tmp_path / "counted").exists)
        return 0.0

    workers = [Process(work, database, 4, busy) for _ in range(4)]
    until(lambda: len(list(tmp_path.glob("rests-*"))) == 4)
    until(lambda: connections() == 4)  # a server takes a moment to see that one has closed
    (tmp_path / "counted").touch()
    assert [process.wait() for process in workers] == [0] * 4


def test_an_unreachable_database_is_refused_in_one_line_without_the_password():
    with reserved_port() as port:
        message = refusal(f"postgresql+psycopg://me:{SECRET}@127.0.0.1:{port}/studies")
    assert message.startswith("cannot use the database postgresql+psycopg://me:***@127.0.0.1:")
    assert "refused" in message.lower()


def test_an_unknown_host_is_refused_in_one_line_without_the_password():
    refusal(f"postgresql+psycopg://me:{SECRET}@no-such-host.invalid/studies")


@pytest.mark.parametrize("where", ["url", "query"])
def test_a_wrong_password_is_refused_in_one_line_without_it(postgresql, tmp_path, where):
    postgresql.psql(f"CREATE ROLE guarded LOGIN PASSWORD '{SECRET}x'")
    rules = postgresql.pgdata / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("local all guarded scram-sha-256\n" + before)
    postgresql.psql("SELECT pg_reload_conf()")
    folder = postgresql.get_uri().partition("host=")[2]
    urls = {
        "url": f"postgresql+psycopg://guarded:{SECRET}@/postgres?host={folder}",
        "query": f"postgresql+psycopg://guarded@/postgres?host={folder}&password={SECRET}",
    }
    try:
        until(lambda: "password authentication failed" in refusal(urls[where]))
    finally:
        rules.write_text(before)
        postgresql.psql("SELECT pg_reload_conf(); DROP ROLE guarded;")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"postgrsql://me:{SECRET}@host/studies", "postgrsql"),
        (f"postgresql+nothing://me:{SECRET}@host/studies", "postgresql"),
        (f"postgresql+pg8000://me:{SECRET}@host/studies", "psycopg[binary]"),
        (f"postgresql+psycopg://me:{SECRET}@host:port/studies", "port"),
        (f"postgresql+psycopg://me:{SECRET}@@host/studies", "%40"),
        (f"postgresql+psycopg://me:a@{SECRET}@host/studies", "%40"),
        (f"://me:{SECRET}@host", "cannot use"),
        (f"grpc://me:{SECRET}@host:1", "grpc://host:port"),
        ("grpc://host", "grpc://host:port"),
        ("grpc://:13000", "grpc://host:port"),
    ],
)
def test_a_wrong_url_is_refused_in_one_line_without_the_password(url, said):
    assert said in refusal(url)


def test_a_password_is_taken_out_of_messages_as_it_is_written_and_as_it_is_meant():
    url = f"postgresql+psycopg://me:p%40{SECRET}@host/db?passfile=x&sslpassword=y%20z"
    secrets = module._secrets(url)
    assert {f"p%40{SECRET}", f"p@{SECRET}", "y%20z", "y z", url} <= set(secrets)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("runs/studies", "runs/studies"),
        ("postgresql+psycopg://me:pw@host:5432/db", "postgresql+psycopg://me:***@host:5432/db"),
        ("postgresql+psycopg://me@host/db?password=pw", "postgresql+psycopg://me@host/db"),
        ("postgresql+psycopg://host/db", "postgresql+psycopg://host/db"),
        ("grpc://host:13000", "grpc://host:13000"),
        ("postgresql://me:p@w@host/db", "postgresql://me:***@host/db"),
    ],
)
def test_an_address_is_shown_without_its_password(url, said):
    assert shown(url) == said


# The proxy


def test_a_proxy_that_does_not_answer_is_refused_in_one_line(monkeypatch):
    proxy = optuna.storages.GrpcStorageProxy
    wait = proxy.wait_server_ready
    monkeypatch.setattr(proxy, "wait_server_ready", lambda self, timeout: wait(self, timeout=0.2))

    def refused():
        with reserved_port() as port:
            assert "bsnn-tha study serve" in refusal(f"grpc://127.0.0.1:{port}")

    # In a process of its own: gRPC's threads and forks do not go together.
    assert Process(refused).wait() == 0


@pytest.mark.parametrize("host", [None, "127.0.0.1", "localhost", "0.0.0.0"])
def test_the_proxy_is_open_to_others_only_when_asked_and_says_what_that_means(monkeypatch, host):
    served = {}
    monkeypatch.setattr(module, "open_storage", lambda *_, **__: "opened")
    monkeypatch.setattr(
        optuna.storages, "run_grpc_proxy_server", lambda storage, **options: served.update(options)
    )
    options = [] if host is None else ["--host", host]
    command = ["study", "serve", "--storage", "postgresql+psycopg://me:s3cr-et@db/x", *options]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    assert served == {"host": host or "127.0.0.1", "port": 13000}
    warnings = result.stderr.splitlines()
    assert len(warnings) == (host == "0.0.0.0")
    for word in ("reads and writes every study", "firewall", "tunnel") if warnings else ():
        assert word in warnings[0]
    assert SECRET not in result.output


def test_an_address_that_cannot_be_had_is_refused_in_one_line(monkeypatch):
    def bind(storage, host, port):
        raise RuntimeError(f"Failed to bind to address {host}:{port}")  # as gRPC says it

    monkeypatch.setattr(module, "open_storage", lambda *_, **__: "opened")
    monkeypatch.setattr(optuna.storages, "run_grpc_proxy_server", bind)
    result = CliRunner().invoke(app, ["study", "serve", "--storage", "sqlite://", "--port", "81"])
    assert isinstance(result.exception, StudyError)
    assert "cannot on 127.0.0.1:81; choose others with --host and --port" in str(result.exception)


@pytest.mark.parametrize("port", ["0", "65536", "99999"])
def test_a_port_that_there_is_not_is_refused(monkeypatch, port):
    # gRPC takes a port modulo 65536, and would listen on another one than it says.
    served = []
    monkeypatch.setattr(module, "open_storage", lambda *_, **__: "opened")
    monkeypatch.setattr(
        optuna.storages, "run_grpc_proxy_server", lambda *_, **options: served.append(options)
    )
    result = CliRunner().invoke(app, ["study", "serve", "--storage", "sqlite://", "--port", port])
    assert result.exit_code == 2 and not served


@pytest.fixture
def proxy(database, monkeypatch):
    """The address of a proxy before the database, as the command serves it."""
    ready = optuna.storages.GrpcStorageProxy.wait_server_ready
    monkeypatch.setattr(
        optuna.storages.GrpcStorageProxy,
        "wait_server_ready",
        lambda self, timeout: ready(self, timeout=PATIENCE),
    )
    with reserved_port() as port:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "bsnn_tha", "study", "serve"),
                *("--storage", database, "--host", "127.0.0.1", "--port", str(port)),
            ],
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert "serving postgresql+psycopg://" in server.stdout.readline()
            yield f"grpc://127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGINT)
            assert server.wait(PATIENCE) == 130
            server.stdout.close()


def test_workers_behind_the_proxy_and_before_it_share_a_study(proxy, database):
    workers = [Process(work, where, 6) for where in (proxy, proxy, database)]
    assert [process.wait() for process in workers] == [0, 0, 0]
    study = opened(database)
    states = [trial.state for trial in study.trials]
    assert states.count(TrialState.COMPLETE) == 6 and TrialState.RUNNING not in states


@pytest.mark.parametrize("name", [".", "..", "../elsewhere", "a/b", "/elsewhere", ""])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    with pytest.raises(StudyError, match="the name of a study in a folder is its file's"):
        module.open_storage(str(tmp_path / "studies"), name, create=True)
    assert not list(tmp_path.rglob("*"))
