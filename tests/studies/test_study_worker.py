"""Workers: exactly N trials, whoever dies, comes late or is interrupted."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import TrialState
from study_workers import NAME, PATIENCE, Process, numbers, opened, square, until, work

from studies import heartbeat
from studies import worker as module
from studies.errors import StudyError, TrialFailedError
from studies.optuna_internals import storage_of
from studies.worker import RETRIES, Worker, finished

pytest_plugins = ["study_database"]
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
COMPLETE, PRUNED, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL
RUNNING, WAITING = TrialState.RUNNING, TrialState.WAITING


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(module, "POLL", 0.05)
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture
def study():
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))


@pytest.fixture(params=["journal", "postgresql"])
def where(request, tmp_path):
    if request.param == "journal":
        return str(tmp_path)
    return request.getfixturevalue("database")


def write(path, text):
    """A file that is there as a whole or not at all."""
    path.with_suffix(".half").write_text(text)
    path.with_suffix(".half").rename(path)


def add_running(study, worker, **params):
    """A trial that some worker has begun."""
    study.enqueue_trial(params)
    trial = study.ask()
    for name in params:
        trial.suggest_float(name, 0, 1)
    if worker:
        trial.set_user_attr("worker", worker)
    return trial


# Several processes


def test_four_processes_one_killed_and_one_late_complete_exactly_n_trials(where, tmp_path):
    trials, log, stuck = 12, tmp_path / "log", tmp_path / "stuck"
    opened(where)

    def logged(trial):
        value = square(trial)
        with log.open("a") as file:
            file.write(f"{trial.number} {value!r}\n")
        return value

    def waits(trial):  # or nothing would be left for the one that is killed
        until((tmp_path / "killed").exists)
        return logged(trial)

    def hangs(trial):
        if not log.exists():
            return logged(trial)
        square(trial)
        write(stuck, str(trial.number))
        time.sleep(PATIENCE)

    victim = Process(work, where, trials, hangs)
    others = [Process(work, where, trials, waits) for _ in range(2)]
    until(stuck.exists)
    victim.kill()
    assert victim.wait() == -signal.SIGKILL
    others.append(Process(work, where, trials, waits))
    (tmp_path / "killed").touch()
    assert [process.wait() for process in others] == [0, 0, 0]

    study = opened(where)
    everything = study.get_trials()
    assert [trial.number for trial in everything] == list(range(len(everything)))
    assert len(numbers(study, COMPLETE)) == trials
    assert not numbers(study, RUNNING) and not numbers(study, WAITING)
    killed = everything[int(stuck.read_text())]
    assert killed.state == FAIL and killed.user_attrs["reason"] == "its worker died"
    (again,) = [t for t in everything if t.user_attrs.get("retry_of") == killed.number]
    assert again.state == COMPLETE and again.params == killed.params
    # Each result that a worker had is kept, once.
    written = [line.split() for line in log.read_text().splitlines()]
    kept = [[str(t.number), repr(t.value)] for t in everything if t.state == COMPLETE]
    assert sorted(written) == sorted(kept)


def test_workers_that_race_for_the_last_trials_complete_no_more_than_n(where):
    opened(where)
    for trials in (3, 6, 9):
        processes = [Process(work, where, trials) for _ in range(4)]
        assert [process.wait() for process in processes] == [0] * 4
        study = opened(where)
        assert len(numbers(study, COMPLETE)) == trials
        assert not numbers(study, RUNNING) and not numbers(study, WAITING)
    for trial in study.get_trials(states=(FAIL,)):
        assert trial.user_attrs["reason"] == "not needed: others were faster"


def test_a_worker_whose_trial_was_given_up_while_it_slept_goes_on(where, monkeypatch, tmp_path):
    monkeypatch.setattr(heartbeat, "GRACE", 0.1)
    # No beat: who is stopped within one holds the journal's lock, or a row of the database.
    monkeypatch.setattr(heartbeat, "HEARTBEAT", 2 * PATIENCE)
    begun, awake = tmp_path / "begun", tmp_path / "awake"
    opened(where)

    def reports(trial):
        value = square(trial)
        if not begun.exists():
            write(begun, str(trial.number))
            until(awake.exists)
            trial.report(value, 0)
        return value

    sleeper = Process(work, where, 4, reports)
    until(begun.exists)
    sleeper.kill(signal.SIGSTOP)
    other = Process(work, where, 3, square)
    assert other.wait() == 0
    awake.touch()
    sleeper.kill(signal.SIGCONT)
    assert sleeper.wait() == 0
    study = opened(where)
    assert len(numbers(study, COMPLETE)) == 4
    given_up = study.get_trials()[int(begun.read_text())]
    assert given_up.state == FAIL and given_up.user_attrs["reason"] == "its worker died"


# N


def test_a_study_goes_on_to_n_trials_and_not_to_n_more(study):
    Worker(study, square, 3).work()
    Worker(study, square, 3).work()
    assert len(study.trials) == 3
    Worker(study, square, 2).work()
    assert len(study.trials) == 3
    Worker(study, square, 5).work()
    assert numbers(study, COMPLETE) == [0, 1, 2, 3, 4]


def test_pruned_trials_count_and_failed_ones_do_not(study):
    def objective(trial):
        if trial.number == 1:
            raise optuna.TrialPruned("too bad")
        if trial.number == 2:
            raise TrialFailedError("out of memory")
        return 0.0

    Worker(study, objective, 4).work()
    assert numbers(study, COMPLETE) == [0, 3, 4]
    assert numbers(study, PRUNED) == [1] and numbers(study, FAIL) == [2]
    assert [t.user_attrs.get("reason") for t in study.trials[1:3]] == ["too bad", "out of memory"]
    assert len(finished(study)) == 4


def test_a_trial_that_came_too_late_is_not_run(study, monkeypatch):
    others, begin = [], module.begin

    def late(study):
        others.append(begin(study))  # another worker's, a moment earlier
        return begin(study)

    monkeypatch.setattr(module, "begin", late)
    run = []
    thread = threading.Thread(target=Worker(study, run.append, 1).work)
    thread.start()
    until(lambda: numbers(study, FAIL))
    study.tell(others[0], 1.0)
    thread.join(PATIENCE)
    assert not thread.is_alive() and not run
    assert [t.state for t in study.trials] == [COMPLETE, FAIL]
    assert study.trials[1].user_attrs["reason"] == "not needed: others were faster"


def test_who_loses_the_last_of_the_queue_begins_none_in_its_place(study, monkeypatch):
    study.enqueue_trial({"x": 0.5})
    claim = module.claim

    def faster(study, waiting):
        won = claim(study, waiting)  # another worker's
        square(won)
        study.tell(won, 1.0)
        return claim(study, waiting)

    monkeypatch.setattr(module, "claim", faster)
    Worker(study, square, 1).work()
    assert [(t.state, t.value) for t in study.trials] == [(COMPLETE, 1.0)]


def test_a_trial_that_was_queued_while_another_began_comes_first(study, monkeypatch):
    Worker(study, square, 3).work()
    begin = module.begin

    def queued_meanwhile(study):
        monkeypatch.setattr(module, "begin", begin)
        study.enqueue_trial({"x": 0.5})
        return begin(study)

    monkeypatch.setattr(module, "begin", queued_meanwhile)
    Worker(study, square, 4).work()
    assert numbers(study, COMPLETE) == [0, 1, 2, 3] and numbers(study, FAIL) == [4]
    assert study.trials[3].params == {"x": 0.5}


def test_no_trial_is_begun_after_the_deadline(study, monkeypatch):
    now = 100.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    Worker(study, square, 3, deadline=100.0).work()
    assert not study.trials

    def slow(trial):
        nonlocal now
        now += 0.6
        return 0.0

    Worker(study, slow, 3, deadline=101.0).work()
    assert numbers(study, COMPLETE) == [0, 1]


def test_stopping_ends_a_worker_after_its_trial(study):
    worker = Worker(study, lambda trial: worker.stopping.set() or 1.0, 3)
    worker.work()
    assert numbers(study, COMPLETE) == [0]


def test_each_result_is_told_in_its_final_state(study):
    told = []
    Worker(study, square, 2, told=told.append).work()
    assert [(t.number, t.state) for t in told] == [(0, COMPLETE), (1, COMPLETE)]


# Failures


def test_many_failures_in_a_row_end_a_worker_with_the_last_reason(study):
    def objective(trial):
        raise TrialFailedError(f"reason {trial.number}")

    with pytest.raises(StudyError, match=r"^10 trials failed in a row, the last with: reason 9; "):
        Worker(study, objective, 3).work()
    assert numbers(study, FAIL) == list(range(10)) and len(study.trials) == 10


def test_failures_between_which_a_trial_succeeds_do_not_end_a_worker(study):
    def objective(trial):
        if trial.number % 9:
            raise TrialFailedError("now and then")
        return 0.0

    Worker(study, objective, 3).work()
    assert numbers(study, COMPLETE) == [0, 9, 18]


@pytest.mark.parametrize("score", [float("nan"), None, (float("nan"),)])
def test_a_score_that_is_not_a_number_is_a_failure_with_a_reason(study, score):
    Worker(study, lambda trial: 1.0 if trial.number else score, 1).work()
    assert numbers(study, FAIL) == [0] and numbers(study, COMPLETE) == [1]
    assert study.trials[0].user_attrs["reason"] == "a score is not a number"


def test_a_bug_ends_the_worker_and_the_trial_is_tried_again(study):
    def objective(trial):
        trial.suggest_float("x", -1, 1)
        raise ZeroDivisionError("by zero")

    with pytest.raises(ZeroDivisionError):
        Worker(study, objective, 1).work()
    assert study.trials[0].state == FAIL
    assert study.trials[0].user_attrs["reason"] == "ZeroDivisionError: by zero"
    Worker(study, square, 1).work()
    assert study.trials[1].state == COMPLETE
    assert study.trials[1].params == study.trials[0].params


def test_a_trial_that_others_gave_up_does_not_end_its_worker(study):
    def objective(trial):
        value = square(trial)
        if trial.number == 0:
            study._storage.set_trial_state_values(trial._trial_id, FAIL)
            trial.report(value, 0)
        return value

    Worker(study, objective, 2).work()
    assert numbers(study, FAIL) == [0] and numbers(study, COMPLETE) == [1, 2]


# Workers that died


def test_a_trial_of_a_process_that_is_gone_is_tried_again_at_once(study):
    process = Process(lambda: None)
    process.wait()
    trial = add_running(study, f"{socket.gethostname()}:{process.pid}", x=0.25)
    Worker(study, square, 2).work()
    assert study.trials[trial.number].state == FAIL
    assert [t.params["x"] for t in study.trials[:2]] == [0.25, 0.25]
    assert study.trials[1].user_attrs["retry_of"] == 0
    assert len(finished(study)) == 2


def test_a_killed_process_whose_parent_has_not_noticed_counts_as_gone():
    process = Process(time.sleep, PATIENCE)
    name = f"{socket.gethostname()}:{process.pid}"
    assert not heartbeat.process_is_gone(name)
    process.kill()
    until(lambda: heartbeat.is_zombie(str(process.pid)))
    assert heartbeat.process_is_gone(name)
    process.wait()


class Looks(threading.Event):
    """A worker's ``stopping``: between its looks at others' trials, time passes at once.

    Args:
        monkeypatch: puts a clock into the place of the heartbeat's.
        seconds: between two looks.
        then: is told how often the worker has looked.
    """

    def __init__(self, monkeypatch, seconds, then):
        super().__init__()
        self.count, self._then = 0, then
        clock = SimpleNamespace(monotonic=lambda: self.count * seconds)
        monkeypatch.setattr(heartbeat, "time", clock)

    def wait(self, timeout=None):
        self.count += 1
        self._then(self.count)
        return self.is_set()


def test_a_trial_of_another_computer_is_given_up_when_its_heartbeat_stops(study, monkeypatch):
    trial = add_running(study, f"elsewhere:{os.getpid()}", x=0.75)

    def beat(look):
        if look <= 8:
            trial.set_user_attr("heartbeat", look)

    looks = Looks(monkeypatch, 0.6 * heartbeat.GRACE, beat)
    Worker(study, square, 1, stopping=looks).work()
    assert looks.count == 8 + 2  # not while it was alive, and not after less than the grace
    assert [t.state for t in study.trials] == [FAIL, COMPLETE]
    assert study.trials[1].params == {"x": 0.75}


def test_a_trial_of_another_computer_that_is_alive_is_waited_for(study, monkeypatch):
    trial = add_running(study, "elsewhere:1", x=0.75)

    def beat(look):
        trial.set_user_attr("heartbeat", look)
        if look == 10:
            study.tell(trial, 3.0)

    Worker(study, square, 1, stopping=Looks(monkeypatch, 0.9 * heartbeat.GRACE, beat)).work()
    assert [t.value for t in study.trials] == [3.0]


def test_a_running_trial_shows_signs_of_life(study, monkeypatch):
    monkeypatch.setattr(heartbeat, "HEARTBEAT", 0.02)

    def beats():
        return study.trials[0].user_attrs.get("heartbeat", 0)

    def objective(trial):
        for _ in range(2):
            before = beats()
            until(lambda before=before: beats() > before)
        return 0.0

    Worker(study, objective, 1).work()
    assert study.trials[0].user_attrs["worker"].endswith(f":{os.getpid()}")
    assert not any("beat" in thread.name for thread in threading.enumerate())


def test_a_trial_is_tried_again_so_many_times_and_no_more(study):
    worker = Worker(study, square, 1)
    study.enqueue_trial({"x": 0.5})
    for _ in range(RETRIES + 1):
        trial = study.ask()
        trial.suggest_float("x", -1, 1)
        worker._fail_and_retry(trial._trial_id)
    assert not numbers(study, WAITING)
    assert [t.params["x"] for t in study.trials] == [0.5] * (RETRIES + 1)
    assert [t.user_attrs.get("retry_of") for t in study.trials] == [None, 0, 1, 2]


def test_two_watchers_queue_a_dead_trial_once(where):
    study = opened(where)
    trial = add_running(study, None, x=0.5)

    met = multiprocessing.get_context("fork").Barrier(3, timeout=PATIENCE)

    def bury():
        watcher = Worker(opened(where), square, 1)
        storage = storage_of(watcher.study)
        get_trial = storage.get_trial

        def seen_by_all(number):
            found = get_trial(number)
            storage.get_trial = get_trial
            met.wait()
            return found

        storage.get_trial = seen_by_all
        watcher._fail_and_retry(trial._trial_id)

    watchers = [Process(bury) for _ in range(3)]
    assert [watcher.wait() for watcher in watchers] == [0, 0, 0]
    assert numbers(opened(where), WAITING) == [1]


def test_what_died_before_its_parameters_were_drawn_keeps_those_it_was_queued_with(study):
    study.enqueue_trial({"x": 0.5, "y": 0.25}, user_attrs={"published": True})
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    worker = Worker(study, lambda t: t.suggest_float("x", 0, 1) + t.suggest_float("y", 0, 1), 1)
    worker._fail_and_retry(trial._trial_id)
    worker.work()
    assert study.trials[1].params == {"x": 0.5, "y": 0.25}
    assert study.trials[1].user_attrs["published"] is True


def test_the_name_of_the_study_is_the_same_for_all(where):
    assert opened(where).study_name == NAME
