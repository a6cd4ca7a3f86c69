"""Workers as real processes with instant objectives: shared by the tests of studies.

A process is a fork of the test's: it has everything imported already, so it
starts at once, and it is killed and interrupted like any other.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback

import optuna

from studies.storage import open_storage
from studies.worker import Worker

PATIENCE = 300  # seconds until something counts as hung; on a quiet machine it takes a few
NAME = "study"


class Process:
    """``action(*arguments)`` in a process of its own."""

    def __init__(self, action, *arguments):
        self.code = None
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                action(*arguments)
                code = 0
            except KeyboardInterrupt:
                code = 130
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)

    def kill(self, number=signal.SIGKILL):
        os.kill(self.pid, number)

    def wait(self, patience=PATIENCE):
        """The exit status; negative for a signal."""
        try:
            until(self.ended, patience)
        except AssertionError:
            self.kill()
            raise
        return self.code

    def ended(self):
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None


def until(condition, patience=PATIENCE):
    """Wait for a condition."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def opened(where):
    """The study, loaded or created, with a random sampler."""
    options = {"storage": open_storage(where, NAME, create=True), "study_name": NAME}
    options["sampler"] = optuna.samplers.RandomSampler()
    try:
        return optuna.load_study(**options)
    except KeyError:
        # Another process may have created it meanwhile.
        return optuna.create_study(**options, load_if_exists=True)


def square(trial):
    return trial.suggest_float("x", -1, 1) ** 2


def work(where, trials, objective=square):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    Worker(opened(where), objective, trials).work()


def numbers(study, state):
    return [trial.number for trial in study.get_trials(states=(state,))]
