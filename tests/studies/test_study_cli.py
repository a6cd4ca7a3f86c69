"""``bsnn-tha study`` as its users meet it: exit statuses, files, one line for what is wrong."""

from __future__ import annotations

import json
import os
import shlex
import signal
from pathlib import Path

import optuna
import pytest
from commands import Command, forked_workers
from optuna.trial import TrialState
from study_workers import numbers, until

from bsnn_tha.cli.study import _usual_objective
from bsnn_tha.config import RunConfig
from studies import worker, worker_process
from studies.storage import open_storage

STORE = Path("runs") / "studies"
NETWORK = [
    "--set=network.notation=4C3-AP2-10",
    "--set=threshold.theta_0=[0.5,1.0]",
    "--set=threshold.theta_inf=[1.5,2.5]",
]
MACHINE = ["--device", "cpu", "--threads", "1"]
BUDGET = ["--epochs", "1", "--subset", "64", "--steps", "3"]
TINY = ["study", "digits", *NETWORK, *MACHINE, *BUDGET]
COMPLETE, FAIL, RUNNING = TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.fixture
def alive(tmp_path):
    """Options for a space in which no trial is a dead network."""
    path = tmp_path / "alive.py"
    path.write_text(
        "from studies.space import Number, Space\nSPACE = Space(Number('neuron.beta', 0.8, 0.95))\n"
    )
    return ["--space", f"{path}:SPACE"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a study of six trials and its report. Only to look at."""
    folder = tmp_path_factory.mktemp("finished") / "here"
    folder.mkdir()
    succeed(*TINY, "--trials", 6, "--pruner", "none", "--sampler-seed", 0, cwd=folder)
    succeed("study", "report", "digits-tha", cwd=folder)
    return folder


def run(*arguments, cwd):
    command = Command(*arguments, cwd=cwd)
    command.wait()
    return command


def succeed(*arguments, cwd):
    command = run(*arguments, cwd=cwd)
    assert command.code == 0, command.complained
    return command


def refuse(*arguments, cwd):
    """The one line of a command that must fail and change nothing."""
    before = contents(cwd)
    command = run(*arguments, cwd=cwd)
    assert command.code == 2, command.complained
    (line,) = command.complained.splitlines()
    assert line.startswith("error: ") and not command.said
    assert contents(cwd) == before
    return line


def contents(folder):
    # Locks are files of their own, whatever becomes of the store; a module that is imported may
    # leave its bytecode.
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.suffix != ".lock" and "__pycache__" not in path.parts
    }


def loaded(folder, name="digits-tha"):
    storage = open_storage(str(folder / STORE), name, create=False)
    return optuna.load_study(storage=storage, study_name=name)


# From the first trial to the report


def test_the_first_trial_has_the_published_settings(finished):
    study = loaded(finished)
    assert numbers(study, COMPLETE) == list(range(6))
    first = study.trials[0]
    assert first.user_attrs["published"] is True
    assert first.params["neuron.beta"] == 0.93 and first.params["optimizer.lr"] == 4e-3
    assert not any("theta" in name for name in first.params)  # fixed on the command line
    assert not any("published" in trial.user_attrs for trial in study.trials[1:])


def test_the_same_command_adds_nothing_and_a_larger_n_goes_on(folder):
    first = succeed(*TINY, "--trials", 2, cwd=folder)
    assert "2/2  trial 1" in first.said and "settings to begin with: trial 0" in first.said
    before = contents(folder)
    again = succeed(*TINY, "--trials", 2, cwd=folder)
    assert "2 of 2 trials are finished" in again.said
    assert contents(folder) == before
    succeed(*TINY, "--trials", 3, cwd=folder)
    assert numbers(loaded(folder), COMPLETE) == [0, 1, 2]


def test_published_settings_can_be_left_out_and_options_may_come_first(folder):
    succeed("study", "--no-published", "--trials", 1, *TINY[1:], "--name", "mine", cwd=folder)
    assert "published" not in loaded(folder, "mine").trials[0].user_attrs


def test_two_objectives_have_a_front_in_the_report(folder):
    both = ["--objective", "accuracy", "--objective", "spikes", "--sampler", "nsga2"]
    succeed(*TINY, *both, "--trials", 3, cwd=folder)
    said = succeed("study", "report", "digits-tha", "--output", "front", cwd=folder).said
    assert "accuracy, spikes" in said
    assert (folder / "front" / "pareto_front.png").stat().st_size


@pytest.mark.parametrize("sampler", ["tpe", "multivariate-tpe", "gp", "cma-es", "random"])
def test_every_sampler_and_pruner_says_nothing_but_results(folder, sampler):
    pruner = {"gp": "hyperband", "cma-es": "median", "random": "patient"}.get(sampler, "halving")
    options = ["--sampler", sampler, "--pruner", pruner, "--sampler-seed", 0, "--trials", 3]
    command = succeed(*TINY, *options, cwd=folder)
    assert len(loaded(folder).trials) == 3
    assert command.complained == ""


def test_a_users_own_space_is_searched(folder):
    (folder / "mine.py").write_text(
        "from studies.space import Number, Space\nSPACE = Space(Number('neuron.beta', 0.5, 0.99))\n"
    )
    succeed(*TINY, "--space", "mine.py", "--trials", 2, cwd=folder)
    assert [list(t.params) for t in loaded(folder).trials] == [["neuron.beta"]] * 2
    assert "another search space" in refuse(*TINY, "--trials", 3, cwd=folder)


def test_studies_are_listed(finished, folder):
    assert succeed("study", "list", "--storage", finished / STORE, cwd=folder).said == (
        "digits-tha\n"
    )
    assert succeed("study", "list", cwd=folder).said == "no studies\n"


def test_the_best_configuration_goes_into_train(finished, folder):
    best = finished / STORE / "digits-tha" / "best.toml"
    trial = loaded(finished).best_trial
    own = RunConfig.from_toml(trial.user_attrs["config"])
    assert RunConfig.from_file(best) == own.with_changes(
        {"source": f"study digits-tha, trial {trial.number}"}
    )
    succeed("train", "--config", best, "--output", "run", *MACHINE, cwd=folder)
    assert RunConfig.from_file(folder / "run" / "config.toml") == RunConfig.from_file(best)


def test_the_best_configuration_is_trained_from_other_seeds_on_request(finished, folder):
    options = ["--storage", finished / STORE, "--output", "report", "--retrain", 2]
    said = succeed("study", "report", "digits-tha", *options, *MACHINE, cwd=folder).said
    assert "written to report" in said
    trained = sorted((folder / "report" / "retrained").glob("*/config.toml"))
    assert [RunConfig.from_file(path).training.seed for path in trained] == [1, 2]


def test_the_best_trial_is_filmed_on_request_with_the_result_it_had(finished, folder):
    options = ["--storage", finished / STORE, "--output", "report", "--film", *MACHINE]
    first = succeed("study", "report", "digits-tha", *options, cwd=folder)
    best = loaded(finished).best_trial
    run = folder / "report" / f"trial-{best.number}"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["validation"]["best_accuracy"] == best.value
    page = (folder / "report" / "report.html").read_text()
    assert "<iframe" in page and f"Trial {best.number}, trained again" in page
    assert "epoch 1/1" in first.said
    again = succeed("study", "report", "digits-tha", *options, cwd=folder)
    assert "epoch 1/1" not in again.said  # it is trained, and was


# What is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--epochs", 2], "training.epochs = 1 (asked for 2)"),
        (["--subset", 65], "data.subset = 64 (asked for 65)"),
        (["--steps", 4], "data.num_steps = 3 (asked for 4)"),
        (["--set", "training.seed=1"], "training.seed = 0 (asked for 1)"),
        (["--set", "neuron.beta=0.93"], "another search space"),
        (["--objective", "spikes"], "objectives accuracy (asked for spikes)"),
    ],
)
def test_another_plan_is_refused_in_one_line(finished, options, said):
    line = refuse(*TINY, "--trials", 7, *options, cwd=finished)
    assert said in line and "--name" in line
    assert ("--force" in line) == ("objectives" not in line)


@pytest.mark.parametrize(("dataset", "variant"), [("temporal-coding", "tha"), ("digits", "bsnn")])
def test_a_name_that_belongs_to_another_study_is_refused(finished, dataset, variant):
    options = ["--variant", variant, "--name", "digits-tha", "--trials", 7]
    assert "'digits-tha'" in refuse("study", dataset, *options, *MACHINE, cwd=finished)


def test_another_budget_is_taken_by_force_and_kept(folder):
    succeed(*TINY, "--trials", 1, cwd=folder)
    more = [*TINY, "--trials", 2, "--steps", 4]
    refuse(*more, cwd=folder)
    succeed(*more, "--force", cwd=folder)
    assert len(loaded(folder).trials) == 2
    succeed(*more, cwd=folder)
    assert "data.num_steps = 4 (asked for 3)" in refuse(*TINY, "--trials", 3, cwd=folder)


def test_another_direction_is_refused_even_by_force(finished):
    options = ["--objective", "spikes", "--trials", 7, "--force"]
    assert "objectives accuracy" in refuse(*TINY, *options, cwd=finished)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trials", 0], "trials must be at least 1, but got 0"),
        (["--trials=-3"], "trials must be at least 1, but got -3"),
        (["--workers", 0], "workers must be at least 1"),
        (["--timeout", 0], "timeout must be above 0"),
        (["--sampler", "tpr"], "unknown sampler 'tpr'; did you mean 'tpe'?"),
        (["--sampler-seed=-1"], "seed"),
        (["--pruner", "medium"], "did you mean 'median'?"),
        (["--objective", "acuracy"], "acuracy"),
        (["--objective", "timing"], "timing needs a target trace"),
        (["--objective", "accuracy", "--objective", "accuracy"], "twice"),
        (["--objective", "accuracy", "--objective", "dead", "--sampler", "cma-es"], "cma-es"),
        (["--set", "data.validation=0.0"], "validation split"),
        (["--set", "training.protocol=paper"], "never sees the test set"),
        (["--name", "a/b"], "without /"),
        (["--variant", "thaa"], "no variant 'thaa'"),
        (["--epochs", 0], "training.epochs"),
        (["--subset", 10**6], "subset"),
        (["--space", "nowhere.py"], "nowhere.py"),
        (["--set", "neuron.beta=0.01"], None),  # fixed, so its range does not matter
        (["--set", "neuron.bta=0.5"], "did you mean 'beta'"),
        (["--storage", "file"], "must be writable"),
        (["--storage", "postgresql+psycopg://me:s3cret@127.0.0.1:1/db"], "me:***@127.0.0.1"),
        (["--storage", "nosuch://me:s3cret@host/db"], "nosuch://me:***@host"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_leaves_nothing(folder, options, said):
    (folder / "file").write_text("in the folder's place")
    if said is None:
        succeed(*TINY, "--trials", 1, *options, cwd=folder)
        return
    line = refuse(*TINY, *options, cwd=folder)
    assert said in line and "s3cret" not in line


def test_an_option_that_the_data_set_lacks_is_refused_before_the_study(folder):
    (folder / "mine.py").write_text(
        "from studies.space import Number, Space\nSPACE = Space(Number('data.options.sise', 1, 9))"
    )
    line = refuse(*TINY, "--space", "mine.py", cwd=folder)
    assert "data.options of digits has no key 'sise'" in line


def test_the_objective_goes_with_the_loss_that_is_set():
    assert _usual_objective("digits", "best", {}) == ["accuracy"]
    assert _usual_objective("digits", "best", {"loss.name": "yolo"}) == ["map"]


def test_an_unknown_data_set_is_refused(folder):
    assert "did you mean 'digits'" in refuse("study", "digit", cwd=folder)


def test_a_fixed_end_below_a_searched_beginning_is_refused(folder):
    options = ["--set=threshold.theta_inf=[5.0,9.0,5.0]", *MACHINE]
    assert "theta_0" in refuse("study", "digits", *options, cwd=folder)


def test_published_settings_outside_of_a_users_space_are_refused(folder):
    (folder / "mine.py").write_text(
        "from studies.space import Number, Space\nSPACE = Space(Number('neuron.beta', 0.1, 0.5))\n"
    )
    line = refuse(*TINY, "--space", "mine.py", cwd=folder)
    assert "neuron.beta must be 0.1 to 0.5" in line and "--no-published" in line


def test_the_first_trial_has_the_values_to_begin_with(folder, alive):
    succeed(*TINY, *alive, "--begin", "neuron.beta=0.9", "--trials", 1, cwd=folder)
    (trial,) = loaded(folder).trials
    assert trial.params == {"neuron.beta": 0.9}


def test_values_to_begin_with_are_of_what_is_searched(folder, alive):
    line = refuse(*TINY, *alive, "--begin", "neuron.slope=2.0", cwd=folder)
    assert "neuron.slope is not searched" in line and "--set" in line


def test_values_to_begin_with_need_a_first_trial(folder, alive):
    line = refuse(*TINY, *alive, "--begin", "neuron.beta=0.9", "--no-published", cwd=folder)
    assert "neuron.beta" in line and "either --begin or --no-published" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "digits-th"], "known are digits-tha"),
        (["report", "digits-tha", "--output", "runs/studies/digits-tha.journal"], "cannot write"),
        (["report", "digits-tha", "--retrain", "0"], "--retrain must be at least 1, but got 0"),
        (["list", "--storage", "grpc://host"], "grpc://host:port"),
    ],
)
def test_a_report_that_cannot_be_given_is_refused(finished, arguments, said):
    assert said in refuse("study", *arguments, cwd=finished)


def test_the_last_line_of_a_study_gives_its_report(folder):
    succeed(*TINY, "--trials", 1, "--storage", "else where", cwd=folder)
    again = succeed(*TINY, "--trials", 1, "--storage", "else where", cwd=folder)
    line = again.said.splitlines()[-1].removeprefix("report: bsnn-tha ")
    assert "written to" in succeed(*shlex.split(line), cwd=folder).said
    assert (folder / "else where" / "digits-tha" / "report.html").is_file()


# Several processes, and Ctrl-C
# Where the start matters, one of two workers is a new Python; the others are forks.


def test_workers_share_the_trials(folder):
    command = Command(
        *TINY, "--trials", 4, "--workers", 2, cwd=folder, within=forked_workers(anew=1)
    )
    assert command.wait() == 0, command.complained
    study = loaded(folder)
    assert len(worker.finished(study)) == 4 and not numbers(study, RUNNING)
    assert "4/4" in command.said and "best" in command.said
    pids = {trial.user_attrs["worker"] for trial in study.get_trials(states=(COMPLETE,))}
    assert len(pids) <= 2 and not any(name.endswith(f":{command.pid}") for name in pids)


def begun(folder):
    """Trials that run, as far as the store exists."""
    try:
        trials = loaded(folder).get_trials(states=(RUNNING,))
    except Exception:  # not there yet
        return 0
    return sum("config" in trial.user_attrs for trial in trials)


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_finishes_the_running_trials(folder, alive, workers):
    budget = ["--epochs", 12, "--subset", 256, "--steps", 3, "--pruner", "none"]
    options = ["--trials", 500, "--workers", workers, *budget, *alive]
    command = Command(
        "study", "digits", *NETWORK, *MACHINE, *options, cwd=folder, within=forked_workers()
    )
    until(lambda: begun(folder) == workers)
    command.kill(signal.SIGINT)
    assert command.wait() == 0, command.complained
    assert command.complained.count("press Ctrl-C again") == 1
    study = loaded(folder)
    assert not numbers(study, RUNNING) and not numbers(study, FAIL)
    assert len(worker.finished(study)) == len(study.trials) >= workers


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_ctrl_c_stops_at_once_and_the_trials_are_tried_again(folder, alive, workers):
    budget = ["--epochs", 5000, "--subset", 256, "--steps", 3, "--pruner", "none"]
    options = ["--trials", 500, "--workers", workers, *budget, *alive]
    command = Command(
        "study", "digits", *NETWORK, *MACHINE, *options, cwd=folder, within=forked_workers()
    )
    until(lambda: begun(folder) == workers)
    command.kill(signal.SIGINT)
    until(lambda: "press Ctrl-C again" in command.complained)
    command.kill(signal.SIGINT)
    assert command.wait() == 130
    assert "finished trials are kept" in command.complained.splitlines()[-1]
    assert "Traceback" not in command.complained
    study = loaded(folder)
    assert not numbers(study, RUNNING)
    stopped = study.get_trials(states=(FAIL,))
    assert [t.user_attrs["reason"] for t in stopped] == ["the worker was stopped"] * workers
    waiting = study.get_trials(states=(TrialState.WAITING,))
    assert sorted(t.user_attrs["retry_of"] for t in waiting) == [t.number for t in stopped]


def test_ctrl_c_before_the_workers_are_ready_ends_the_study(folder):
    command = Command(
        *TINY, "--trials", 500, "--workers", 2, cwd=folder, within=forked_workers(anew=1)
    )
    until(lambda: (folder / STORE / "digits-tha.journal").exists())
    until(lambda: len(children(command.pid)) == 2)
    command.kill(signal.SIGINT)
    assert command.wait() == 0, command.complained
    assert "Traceback" not in command.complained
    assert len(loaded(folder).trials) < 500  # one who had not heard it would do them all


def test_a_killed_worker_process_is_started_again(folder, alive, monkeypatch):
    write, killed = worker_process._write, folder.parent / f"{folder.name}.killed"

    def held(event):  # until one of the two is killed, however fast trials are
        write(event)
        if event.kind == "epoch":
            until(killed.exists)

    monkeypatch.setattr(worker_process, "_write", held)
    budget = ["--epochs", 12, "--subset", 256, "--steps", 3, "--pruner", "none"]
    options = ["--trials", 4, "--workers", 2, *budget, *alive]
    command = Command(
        "study", "digits", *NETWORK, *MACHINE, *options, cwd=folder, within=forked_workers()
    )
    until(lambda: begun(folder) == 2)
    os.kill(children(command.pid)[0], signal.SIGKILL)
    killed.touch()
    assert command.wait() == 0, command.complained
    assert "died and is started again" in command.said
    study = loaded(folder)
    assert len(worker.finished(study)) == 4 and not numbers(study, RUNNING)
    reasons = [t.user_attrs["reason"] for t in study.get_trials(states=(FAIL,))]
    assert reasons.count("its worker died") == 1


def children(pid):
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]
