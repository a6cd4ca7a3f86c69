"""The sampler that remembers draws what Optuna's draws, bit for bit."""

from __future__ import annotations

import math
import random

import optuna
import pytest
from optuna.samplers import BaseSampler, TPESampler
from optuna.samplers._tpe import sampler as optunas
from optuna.trial import TrialState

from studies import samplers
from studies.optuna_internals import begin, storage_of, trial_id
from studies.optuna_internals.tpe import RememberingTPESampler
from studies.rungs import EPOCHS
from studies.sampling import SeesPaused
from studies.storage import open_storage

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
KINDS = {
    "tpe": {"constant_liar": True},  # several parameters at once, of one objective
    "groups": {"constant_liar": True, "multivariate": True, "group": True},
    "one by one": {"constant_liar": True, "multivariate": False},
    "no liar": {"constant_liar": False},
}


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def settings(trial: optuna.Trial) -> list[float]:
    """Of every kind; some are asked for under conditions, and one range grows."""
    values = [
        trial.suggest_float("float", -1, 1),
        trial.suggest_float("log", 1e-4, 10, log=True),
        trial.suggest_float("step", 0, 2, step=0.25),
        trial.suggest_int("int", 1, 9),
        trial.suggest_int("int log", 1, 300, log=True),
        trial.suggest_float("grows", 0, 1 + trial.number // 20),
    ]
    shape = trial.suggest_categorical("shape", ["a", "b", None])
    if shape == "a":
        values.append(trial.suggest_float("of a", 0, 1))
    elif shape == "b":
        values += [trial.suggest_int("of b", -5, 5), trial.suggest_float("of b too", 0, 5)]
    values.append(trial.suggest_float("last", 1, 2))
    return values


def drawn(sampler: BaseSampler, trials: int, directions: list[str]) -> list[dict]:
    """Parameters of trials of which some fail, are pruned, break a constraint or still run."""
    study = optuna.create_study(sampler=sampler, directions=directions)
    world = random.Random(1)
    running: list[optuna.Trial] = []
    for _ in range(trials):
        trial = study.ask()
        first, *others = (round(value, 1) for value in settings(trial))  # as good as others
        fate = world.random()
        if fate < 0.15 and len(directions) == 1:
            for epoch in range(world.randrange(4)):
                trial.report(world.choice([first, math.nan]), epoch)
            study.tell(trial, state=TrialState.PRUNED)
        elif fate < 0.25:
            study.tell(trial, state=TrialState.FAIL)
        elif fate < 0.35:
            running.append(trial)
        else:
            if fate < 0.45:
                trial.set_constraint("c", world.choice([1.0, 2.0, -1.0]))
            study.tell(trial, [first, sum(others)][: len(directions)])
        if len(running) > 3:  # they end in another order than they began
            study.tell(running.pop(world.randrange(3)), [0.5, 20.0][: len(directions)])
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize(
    ("kind", "trials", "directions"),
    [
        ("tpe", 150, ["maximize"]),
        ("tpe", 60, ["minimize"]),
        ("groups", 150, ["minimize"]),
        ("one by one", 40, ["maximize"]),
        ("no liar", 60, ["maximize"]),
        ("tpe", 40, ["maximize", "minimize"]),
    ],
)
def test_it_draws_the_same_bits(kind, trials, directions):
    options = {"seed": 3, **KINDS[kind]}
    expected = drawn(TPESampler(**options), trials, directions)
    assert drawn(RememberingTPESampler(**options), trials, directions) == expected


def test_studies_search_with_it():
    for make, kind in ((samplers.tpe, "tpe"), (samplers.multivariate_tpe, "groups")):
        sampler = make(3)
        assert type(sampler) is RememberingTPESampler
        expected = drawn(TPESampler(seed=3, **KINDS[kind]), 25, ["maximize"])
        assert drawn(sampler, 25, ["maximize"]) == expected


def shared(folder, sampler: BaseSampler) -> list[dict]:
    """Parameters of trials of a study that another worker shares, in turns, by its own storage."""
    folder.mkdir()
    storage = open_storage(str(folder), "shared", create=True)
    study = optuna.create_study(storage=storage, study_name="shared", sampler=SeesPaused(sampler))
    elsewhere = optuna.load_study(
        storage=open_storage(str(folder), "shared", create=False),
        study_name="shared",
        sampler=optuna.samplers.RandomSampler(seed=1),
    )
    others: list[optuna.Trial] = []
    for number in range(30):
        other = begin(elsewhere)
        score = sum(settings(other))
        if number % 3 == 0:  # pauses, and is seen again with more reports
            other.report(score, 0)
            other.set_user_attr(EPOCHS, 1)
            storage_of(elsewhere).set_trial_state_values(trial_id(other), TrialState.WAITING)
        others.append(other)
        trial = begin(study)
        study.tell(trial, sum(settings(trial)))
        if number >= 3:  # its trials of before end while this one's go on
            ending, had_paused = others[number - 3], number % 3 == 0
            if had_paused:
                storage_of(elsewhere).set_trial_state_values(trial_id(ending), TrialState.RUNNING)
                ending.report(-score, 1)
            # What had paused turns out to be the best: whoever remembers it as it was is wrong.
            elsewhere.tell(ending, score - 100 * had_paused)
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("kind", ["tpe", "groups"])
def test_trials_of_other_workers_are_seen_as_they_go_on(tmp_path, kind):
    options = {"seed": 3, "n_startup_trials": 4, **KINDS[kind]}
    expected = shared(tmp_path / "optunas", TPESampler(**options))
    assert shared(tmp_path / "ours", RememberingTPESampler(**options)) == expected


def of_eleven(trial: optuna.Trial) -> float:
    return sum(trial.suggest_float(f"x{index}", 0, 1) for index in range(11))


@pytest.mark.parametrize("make", [samplers.tpe, samplers.multivariate_tpe])
def test_what_has_ended_is_read_once(monkeypatch, make):
    reads = []
    score = optunas._get_infeasible_trial_score
    monkeypatch.setattr(
        optunas, "_get_infeasible_trial_score", lambda trial: reads.append(trial) or score(trial)
    )
    study = optuna.create_study(sampler=make(1))
    study.optimize(of_eleven, n_trials=60)
    assert len(reads) == len({trial.number for trial in reads}) >= 50


def test_rows_are_replaced_where_a_storage_gives_new_objects():
    class Copies(optuna.storages.InMemoryStorage):
        def get_all_trials(self, study_id, deepcopy=True, states=None):
            return super().get_all_trials(study_id, True, states)

    def parameters(sampler):
        study = optuna.create_study(sampler=sampler, storage=Copies())
        study.optimize(of_eleven, n_trials=40)
        return [trial.params for trial in study.trials]

    sampler = RememberingTPESampler(seed=1)
    assert parameters(sampler) == parameters(TPESampler(seed=1))
    assert len(sampler._rows.kind) <= 60


def test_one_sampler_serves_two_studies():
    def parameters(sampler):
        studies = [
            optuna.create_study(sampler=sampler, direction=direction)
            for direction in ("minimize", "maximize")
        ]
        for _ in range(20):
            for study in studies:
                study.optimize(of_eleven, n_trials=1)
        return [trial.params for study in studies for trial in study.trials]

    options = {"seed": 1, "multivariate": False}
    assert parameters(RememberingTPESampler(**options)) == parameters(TPESampler(**options))
