"""Warm starts: settings of other studies, row by row, and what does not fit is named."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState
from training_runs import tiny

from studies import objective
from studies.errors import StudyError
from studies.options import Options
from studies.race import INSTANCES
from studies.runner import run_study
from studies.space import Choice, Depth, Number, Rise, Space
from studies.storage import open_storage
from studies.study import Method, Plan, open_study
from studies.warm_start import BEST, from_studies

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning")
DEPTH = Depth(layers=2, dense=1)
SPACE = Space(
    Number("neuron.beta", 0.5, 0.99),
    Number("threshold.theta_0", 0.1, 5.0, log=True, per="layer"),
    Rise("threshold.theta_inf", 0.1, 10.0, log=True, per="layer"),
    Choice("training.weight_clip", None, 1.0),
)


def keep(folder, name, configs, objectives=("accuracy",), **plan):
    """A study in a folder with complete trials of these configurations, from worst to best."""
    base = tiny()
    described = Plan(base.to_toml(), tuple(SPACE.table()), objectives, **plan)
    storage = open_storage(str(folder), name, create=True)
    study = open_study(storage, str(folder), name, described, Method("random")).study
    for place, config in enumerate(configs):
        study.add_trial(
            optuna.trial.create_trial(
                values=[0.5 + place / 100] * len(objectives),
                user_attrs={"config": config.to_toml()},
            )
        )
    return described


def start(folder, *names, plan=None, space=SPACE, depth=DEPTH):
    plan = plan or Plan(tiny().to_toml(), tuple(space.table()))
    return from_studies(names, str(folder), plan, space.bound(tiny()), depth)


def test_the_best_settings_come_first_and_only_once(tmp_path):
    configs = [tiny(neuron__beta=0.5 + 0.05 * place) for place in range(6)]
    keep(tmp_path, "old", [*configs, configs[-1]])
    given = start(tmp_path, "old")
    assert [first["neuron.beta"] for first, _ in given.first] == pytest.approx([0.75, 0.70])
    assert [origin for _, origin in given.first] == ["old, trial 6", "old, trial 4"]
    assert given.first[0][0] == {
        "neuron.beta": 0.75,
        "threshold.theta_0.1": 0.5,
        "threshold.theta_0.2": 1.0,
        "threshold.theta_inf.1": 1.0,  # the rise
        "threshold.theta_inf.2": 1.5,
        "training.weight_clip": tiny().training.weight_clip,
    }
    assert not given.unfit and BEST == 3
    # All of them tell CMA-ES its distribution, as trials of this study's own space.
    assert sorted(t.params["neuron.beta"] for t in given.source) == pytest.approx(
        [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.75]
    )


def test_rows_that_do_not_fit_are_named_and_left_to_the_sampler(tmp_path):
    keep(tmp_path, "old", [tiny(neuron__beta=0.3), tiny(neuron__beta=0.2)])
    given = start(tmp_path, "old", depth=Depth(layers=3, dense=1))
    (parameters, _), *_ = given.first
    assert parameters == {"training.weight_clip": tiny().training.weight_clip}
    assert given.unfit == [
        "warm start: not taken over from old: neuron.beta (0.3 there, 0.5 to 0.99 here); "
        "threshold.theta_0 (2 layers there, 3 here); threshold.theta_inf (2 layers there, 3 here)"
    ]
    assert not given.source


def test_a_choice_that_is_not_among_those_here_is_named_by_its_word(tmp_path):
    keep(tmp_path, "old", [tiny(network__norm="tdbn")])
    space = Space(Number("neuron.beta", 0.5, 0.99), Choice("network.norm", "per-step", "none"))
    given = start(tmp_path, "old", space=space)
    assert given.unfit == [
        "warm start: not taken over from old: network.norm (tdbn there, per-step or none here)"
    ]
    assert [list(parameters) for parameters, _ in given.first] == [["neuron.beta"]]


def test_another_objective_gives_settings_but_no_distribution(tmp_path):
    keep(tmp_path, "sparse", [tiny()], objectives=("spikes",))
    given = start(tmp_path, "sparse")
    assert len(given.first) == 1 and not given.source


def test_a_study_elsewhere_is_named_by_its_journal(tmp_path):
    keep(tmp_path / "there", "old", [tiny()])
    assert start(tmp_path, str(tmp_path / "there" / "old.journal")).first
    with pytest.raises(StudyError, match="there is no study 'old'"):
        start(tmp_path, "old")


def test_a_study_without_complete_trials_is_named(tmp_path):
    keep(tmp_path, "empty", [])
    assert start(tmp_path, "empty").unfit == ["warm start: empty has no complete trial"]


def test_a_new_study_begins_with_them_and_going_on_adds_none(tmp_path, monkeypatch):
    monkeypatch.setattr(
        objective.TrainingObjective, "__call__", lambda self, t: (t.suggest_float("x", 0, 1),)
    )
    file = tmp_path / "space.py"
    file.write_text(
        "from studies.space import Number, Space\nSPACE = Space(Number('neuron.beta', 0.5, 0.99))\n"
    )
    keep(tmp_path, "old", [tiny(neuron__beta=0.6), tiny(neuron__beta=0.7)])
    options = Options(
        "digits",
        "tha",
        1,
        "new",
        str(tmp_path),
        space=f"{file}:SPACE",
        published=False,
        warm_start=("old",),
        threads=1,
    )
    study = run_study(options).study
    queued = [(t.state, t.system_attrs["fixed_params"]) for t in study.get_trials()]
    assert queued[1] == (TrialState.WAITING, {"neuron.beta": 0.6}) and len(queued) == 2
    assert study.get_trials()[0].user_attrs["warm start"] == "old, trial 1"
    again = run_study(options).study
    assert len(again.get_trials()) == 2 and INSTANCES not in again.get_trials()[0].user_attrs


def test_cma_es_begins_with_the_distribution_of_other_trials():
    space = {"x": optuna.distributions.FloatDistribution(0, 1)} | {
        "y": optuna.distributions.FloatDistribution(0, 1)
    }
    source = [
        optuna.trial.create_trial(
            params={"x": 0.8 + place / 500, "y": 0.2 - place / 500},
            distributions=space,
            value=1 - abs(place - 25) / 100,
        )
        for place in range(50)
    ]
    drawn = {}
    for name, given in (("cold", []), ("warm", source)):
        sampler = Method("cma-es", seed=0).build_sampler(0, given)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.optimize(lambda t: t.suggest_float("x", 0, 1) - t.suggest_float("y", 0, 1), 9)
        drawn[name] = [abs(t.params["x"] - 0.85) for t in study.trials[1:]]
    assert sum(drawn["warm"]) < 0.5 * sum(drawn["cold"])
