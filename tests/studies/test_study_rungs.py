"""Rungs: who goes on, from its checkpoint, with no epoch more than that takes."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import threading
import time

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from study_workers import PATIENCE, Process
from training_runs import MACHINE, tiny

from bsnn_tha.config import RunConfig
from bsnn_tha.training.session import Session
from studies import checkpoints
from studies import worker as module
from studies.checkpoints import Checkpoints
from studies.errors import StudyError
from studies.objective import LOST, TrainingObjective
from studies.rungs import EPOCHS, ROOT, UNTIL, Rungs, is_paused, root_of, trained
from studies.sampling import SeesPaused
from studies.space import Number, Space
from studies.storage import open_storage
from studies.study import Method, Plan, open_study
from studies.worker import Worker

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:DeprecationWarning")
COMPLETE, PRUNED, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL
RUNNING, WAITING = TrialState.RUNNING, TrialState.WAITING
X = {"x": FloatDistribution(0, 1)}


# Where the rungs are


@pytest.mark.parametrize(
    ("epochs", "levels"),
    [
        (1, (1,)),
        (2, (1, 2)),
        (3, (1, 3)),
        (5, (1, 2, 5)),
        (9, (1, 3, 9)),
        (100, (1, 4, 11, 33, 100)),
    ],
)
def test_rungs_are_thirds_of_the_training_down_to_one_epoch(epochs, levels):
    (bracket,) = Rungs.halving(epochs).brackets
    assert bracket.levels == levels and bracket.size == 3 ** (len(levels) - 1)


def test_settings_take_their_places_in_brackets_by_number():
    rungs = Rungs.hyperband(9)
    places = [rungs.place(number)[0] for number in range(19)]
    assert places == [0] * 9 + [9] * 5 + [14] * 3 + [17] * 2
    assert [rungs.first(number) for number in (0, 9, 14, 17)] == [1, 3, 9, 1]


@pytest.mark.parametrize("reduction", [1, 0])
def test_of_how_many_one_goes_on_is_checked(reduction):
    with pytest.raises(StudyError, match="at least 2"):
        Rungs.halving(9, reduction)
    with pytest.raises(StudyError, match="at least 2"):
        Method(reduction=reduction)


# Who goes on, against brackets that are run one rung after the other


class Simulated:
    """Trials of a study as they would stand in a storage, and what workers would do to them."""

    def __init__(self, rungs, scores, epochs):
        self.rungs, self.scores, self.epochs = rungs, scores, epochs
        self.trials = []

    def begin(self):
        number = len(self.trials)
        trial = optuna.trial.create_trial(
            state=RUNNING, user_attrs={UNTIL: self.rungs.first(number)}
        )
        trial.number = number
        self.trials.append(trial)

    def advance(self, trial):
        """A running trial comes to where it pauses, or to its end."""
        end = trial.user_attrs[UNTIL]
        trial.intermediate_values = {e: self.scores[trial.number][e] for e in range(end)}
        if end == self.epochs:
            trial.state, trial.values = COMPLETE, [max(trial.intermediate_values.values())]
        else:
            trial.state = WAITING
            trial.user_attrs[EPOCHS] = end

    def decide(self, settings):
        decision = self.rungs.decide(self.trials, settings - len(self.trials))
        for trial in decision.beaten:
            trial.state, trial.values = PRUNED, [0.0]
        for trial, end in decision.go_on:
            trial.state, trial.user_attrs[UNTIL] = RUNNING, end
        return decision.go_on

    def run(self, settings, generator):
        """Several workers, in random order, until all is done."""
        while True:
            self.decide(settings)
            running = [t for t in self.trials if t.state == RUNNING]
            if len(self.trials) < settings and (len(running) < 3 or generator.random() < 0.3):
                self.begin()
            elif running:
                self.advance(generator.choice(running))
            else:
                return


def one_rung_after_the_other(rungs, scores, settings):
    """Epochs of each setting, by the rule as it is published."""
    reached = {}
    number = 0
    while number < settings:
        first, bracket = rungs.place(number)
        there = list(range(first, min(first + bracket.size, settings)))
        for level in bracket.levels:
            for setting in there:
                reached[setting] = level
            there.sort(key=lambda s: (-max(scores[s][:level]), s))
            there = there[: max(1, len(there) // rungs.reduction)]
        number = first + bracket.size
    return reached


@pytest.mark.parametrize("make", [Rungs.halving, Rungs.hyperband])
@pytest.mark.parametrize("settings", [1, 4, 16, 23])
def test_workers_in_any_order_do_what_one_rung_after_the_other_would(make, settings):
    for seed in range(20):
        generator = random.Random(f"{seed} {settings}")
        rungs = make(9, generator.choice([2, 3]))
        # Ties too: accuracies of a few hundred samples often are equal.
        scores = [[generator.randrange(8) / 8 for _ in range(9)] for _ in range(settings)]
        study = Simulated(rungs, scores, 9)
        study.run(settings, generator)
        assert {t.number: trained(t) for t in study.trials} == one_rung_after_the_other(
            rungs, scores, settings
        )
        assert {t.state for t in study.trials} <= {COMPLETE, PRUNED}
        assert sum(trained(t) for t in study.trials) == rungs.epochs(settings)


def test_what_is_tried_again_keeps_its_place_and_a_dead_network_its_rung():
    rungs = Rungs.halving(3)
    study = Simulated(rungs, [[0.1] * 3, [0.5] * 3, [0.9] * 3, [0.7] * 3], 3)
    for _ in range(3):
        study.begin()
    for trial in study.trials[:2]:
        study.advance(trial)
    killed = study.trials[2]
    study.begin()  # of the next bracket
    killed.state = FAIL
    again = optuna.trial.create_trial(state=RUNNING, user_attrs={ROOT: 2, UNTIL: 1})
    again.number = 4
    study.trials.append(again)
    assert not study.decide(4)  # the third of the bracket is not known yet
    study.scores.append(study.scores[2])
    study.advance(again)
    assert [trial for trial, _ in study.decide(4)] == [again]
    assert [t.state for t in study.trials[:2]] == [PRUNED, PRUNED]
    dead = study.trials[3]
    dead.state = PRUNED
    assert not study.decide(4) and root_of(again) == 2


# A sampler's view


class Watching(optuna.samplers.RandomSampler):
    """Draws at random, and keeps what it was shown."""

    def sample_independent(self, study, trial, *arguments):
        self.shown = study.get_trials(deepcopy=False, states=(COMPLETE, PRUNED))
        return super().sample_independent(study, trial, *arguments)


def test_a_sampler_sees_a_trial_that_pauses_as_one_that_was_pruned():
    watching = Watching(seed=0)
    study = optuna.create_study(sampler=SeesPaused(watching), direction="maximize")

    def pauses(trial):
        value = trial.suggest_float("x", 0, 1)
        trial.report(value, 0)
        raise module.TrialPausedError(1)

    worker = Worker(study, pauses, 2, rungs=Rungs.halving(3))
    worker._run(worker._next())
    worker._run(worker._next())
    assert [(t.state, t.intermediate_values) for t in watching.shown] == [
        (PRUNED, {0: study.trials[0].params["x"]})
    ]
    assert study.trials[0].state == WAITING  # for everybody else


# Real trainings


SETTINGS, REDUCTION, TRAINING = 16, 4, 16  # rungs after 1, 4 and 16 epochs
BETA = Space(Number("neuron.beta", 0.5, 0.99))
CONFIG = tiny(data__subset=32, data__num_steps=3, training__epochs=TRAINING)
METHOD = Method("random", "halving", REDUCTION, seed=0)


def plan(epochs=TRAINING):
    config = CONFIG.with_changes({"training.epochs": epochs})
    return Plan(config.to_toml(), tuple(BETA.table()))


def digest(network):
    text = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        text.update(name.encode() + tensor.numpy().tobytes())
    return text.hexdigest()


class Halving:
    """A study in a folder, and a log of every epoch and of final weights."""

    def __init__(self, folder, settings=SETTINGS, epochs=TRAINING):
        self.folder, self.settings, self.plan = folder, settings, plan(epochs)
        self.epochs, self.weights = folder / "epochs", folder / "weights"
        self.checkpoints = Checkpoints(folder / "checkpoints")
        study = self.open(create=True)
        for index in range(settings):
            study.enqueue_trial({"neuron.beta": 0.6 + 0.02 * index})

    def open(self, create=False):
        storage = open_storage(str(self.folder), "study", create=create)
        return open_study(storage, str(self.folder), "study", self.plan, METHOD).study

    def work(self, told=lambda *event: None):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        fit = Session.fit

        def logged(session, *arguments, **options):
            fitted = fit(session, *arguments, **options)
            if fitted.trainer.current_epoch == session.config.training.epochs:
                with self.weights.open("a") as file:
                    file.write(f"{session.config.neuron.beta} {digest(session.module.network)}\n")
            return fitted

        def seen(number, epoch, value):
            with self.epochs.open("a") as file:
                file.write(f"{number} {epoch}\n")
            told(number, epoch)

        Session.fit = logged
        try:
            objective = TrainingObjective(
                self.plan, BETA, MACHINE, seen, checkpoints=self.checkpoints
            )
            rungs, kept = METHOD.rungs(self.plan), self.checkpoints
            Worker(self.open(), objective, self.settings, rungs=rungs, checkpoints=kept).work()
        finally:
            Session.fit = fit

    def trained(self):
        return len(self.epochs.read_text().splitlines()) if self.epochs.exists() else 0

    def final(self):
        """What stands at the end, by setting."""
        latest = {root_of(trial): trial for trial in self.open().get_trials()}
        return {
            trial.params["neuron.beta"]: (trial.state, trial.intermediate_values)
            for trial in latest.values()
        }

    def final_weights(self):
        return dict(line.split() for line in self.weights.read_text().splitlines())


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    study = Halving(tmp_path_factory.mktemp("halved"))
    assert Process(study.work).wait() == 0
    return study


def test_sixteen_settings_train_the_epochs_of_their_rungs_and_none_again(halved):
    assert METHOD.rungs(plan()).epochs(SETTINGS) == 16 * 1 + 4 * 3 + 1 * 12
    assert halved.trained() == 40
    lines = halved.epochs.read_text().splitlines()
    assert len(set(lines)) == len(lines)
    counts = sorted(len(values) for _, values in halved.final().values())
    assert counts == [1] * 12 + [4] * 3 + [16]
    assert not halved.checkpoints.folder.exists()  # nothing is left of trials that have ended


def test_promoted_trials_end_with_the_weights_of_uninterrupted_trainings(halved):
    ((beta, weights),) = halved.final_weights().items()
    config = CONFIG.with_changes({"neuron.beta": float(beta)})
    session = Session.prepare(config, MACHINE)
    session.fit()
    assert digest(session.module.network) == weights
    (best,) = halved.open().get_trials(states=(COMPLETE,))
    assert RunConfig.from_toml(best.user_attrs["config"]) == config


def work_until_killed(study, epochs, moment):
    """Work, and be killed so many seconds after so many more epochs, or before the next ends."""
    reached, killed = study.trained() + epochs, False

    def die():
        time.sleep(moment)
        os.kill(os.getpid(), signal.SIGKILL)

    def seen(*event):
        nonlocal killed
        if killed:
            time.sleep(PATIENCE)
        if study.trained() >= reached:
            killed = True
            threading.Thread(target=die).start()

    study.work(seen)
    if killed:
        time.sleep(PATIENCE)


def kill_at_random(study, kills, generator):
    """Work until all is done; before, kill so many workers at random moments."""
    codes = []
    for _ in range(kills):
        epochs, moment = generator.randrange(1, 80 // kills), generator.random() * 0.05
        codes.append(Process(work_until_killed, study, epochs, moment).wait())
    assert Process(study.work).wait() == 0
    assert set(codes) <= {0, -signal.SIGKILL}  # 0: too few epochs were left
    return sum(code != 0 for code in codes)


def assert_survives(halved, folder, kills, seed):
    folder.mkdir()
    study = Halving(folder)
    assert kill_at_random(study, kills, random.Random(seed)) >= 2
    assert study.final() == halved.final()
    assert study.final_weights() == halved.final_weights()
    assert not list(folder.glob("checkpoints/trial-*"))
    assert not study.open().get_trials(states=(RUNNING, WAITING))


@pytest.fixture
def every_epoch(monkeypatch):
    """Checkpoints after each epoch, as where epochs are long; tries without end."""
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    monkeypatch.setattr(module, "RETRIES", 99)


def test_workers_killed_at_random_moments_change_nothing(halved, tmp_path, every_epoch):
    assert_survives(halved, tmp_path / "killed", 4, 0)


@pytest.mark.slow
def test_workers_killed_at_random_moments_change_nothing_in_ten_repetitions(
    halved, tmp_path, every_epoch
):
    for seed in range(1, 11):
        assert_survives(halved, tmp_path / str(seed), 8, seed)


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """Four settings, of which one goes on after the first of four epochs."""
    study = Halving(tmp_path_factory.mktemp("four"), 4, 4)
    study.work()
    assert study.trained() == 4 + 3
    return study


def test_two_workers_share_the_rungs_and_do_the_same(four, tmp_path):
    study = Halving(tmp_path, 4, 4)
    workers = [Process(study.work) for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    assert study.final() == four.final() and study.trained() == 4 + 3


def test_without_its_checkpoint_a_trial_is_trained_again_and_says_so(four, tmp_path):
    study = Halving(tmp_path, 4, 4)

    def damage(root):
        study.checkpoints.file(root).write_bytes(b"half of a checkpo")

    study.checkpoints.publish = damage
    study.work()
    trials = study.open().get_trials()
    assert [trial.user_attrs.get(LOST) for trial in trials if trial.state == COMPLETE] == [1]
    assert sum(LOST in trial.user_attrs for trial in trials) == 1
    assert study.final() == four.final() and study.trained() == 4 + 3 + 1


def test_checkpoints_travel_through_an_address(four, tmp_path):
    study = Halving(tmp_path, 4, 4)
    study.checkpoints = Checkpoints.at(f"file://{tmp_path}/store", "study")
    study.work()
    assert study.final() == four.final() and study.trained() == 4 + 3
    assert not list((tmp_path / "store").rglob("*.ckpt"))
    assert not list(study.checkpoints.folder.glob("*"))


def test_an_address_that_nobody_knows_is_refused():
    with pytest.raises(StudyError, match="checkpoints cannot be kept at nowhere://x/study"):
        Checkpoints.at("nowhere://x", "study")


def test_what_a_killed_worker_left_of_ended_trials_is_swept_away(tmp_path):
    kept = Checkpoints(tmp_path / "kept")
    kept.folder.mkdir()
    for root in (1, 2):
        kept.file(root).write_bytes(b"...")
    kept.sweep(ended={1})
    assert [path.name for path in kept.folder.iterdir()] == ["trial-2.ckpt"]
    kept.sweep(ended={1, 2})
    assert not kept.folder.exists()


def test_a_trial_that_died_where_it_paused_pauses_again_without_training(tmp_path):
    study = Halving(tmp_path, 4, 4)
    opened = study.open()
    objective = TrainingObjective(study.plan, BETA, MACHINE, checkpoints=study.checkpoints)
    worker = Worker(opened, objective, 4, rungs=METHOD.rungs(study.plan))
    trial = worker._next()
    for _ in range(2):
        with pytest.raises(module.TrialPausedError, match="1 epochs"):
            objective(trial)
    assert study.checkpoints.has(0)
    worker._fail_and_retry(trial._trial_id)
    again = opened.get_trials()[-1]
    assert trained(again) == 1 and not is_paused(again) and root_of(again) == 0
