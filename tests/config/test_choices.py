"""One way to open every axis: names, code of one's own, what is unused, what must be allowed."""

from __future__ import annotations

import os
import sys

import pytest
import torch
from training_runs import MACHINE, tiny

from bsnn_tha import SpikingNetwork
from bsnn_tha.choices import load
from bsnn_tha.config import AXES, RunConfig
from bsnn_tha.equations.sawb import SAWB
from bsnn_tha.equations.surrogate import Triangle
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.neurons import NeuronSettings, make_neuron
from bsnn_tha.nn.neurons.leaky import Leaky
from bsnn_tha.nn.norms.batch_norm import ThresholdDependentBatchNorm
from bsnn_tha.nn.thresholds import Learned
from bsnn_tha.presets import load_preset
from bsnn_tha.run_folder import RunFolder
from bsnn_tha.training.evaluation import evaluate
from bsnn_tha.training.run import resume, train
from bsnn_tha.training.trials import resume_trials, train_trials


def refusal(action):
    with pytest.raises(InvalidValueError) as refused:
        action()
    text = str(refused.value)
    assert "\n" not in text
    return text


# Names


@pytest.mark.parametrize("key", [key for key in AXES if key != "loss.readout"])
def test_a_wrong_name_gets_the_nearest_on_every_axis(key):
    name = next(iter(AXES[key]))
    text = refusal(lambda: load_preset("digits").with_changes({key: name + "x"}))
    assert text.startswith(f"unknown {AXES[key].what} '{name}x'; did you mean '{name}")
    assert text.endswith("? Yours is given as module:Class")


def test_a_wrong_readout_gets_the_nearest():
    changes = {"loss.name": "cross_entropy", "loss.readout": "spike_rat"}
    text = refusal(lambda: load_preset("digits").with_changes(changes))
    assert text.startswith("unknown readout 'spike_rat'; did you mean 'spike_rate'?")


def test_objects_in_python():
    network = SpikingNetwork(
        "4C3-10", (1, 8, 8), weights=SAWB(3), norm=ThresholdDependentBatchNorm, model=Leaky,
        surrogate=Triangle(2.0), rule=Learned, beta=0.9, theta_0=[1.0, 2.0],
    )  # fmt: skip
    first = network.layers[0]
    assert first.synapse.quantizer == SAWB(3) and type(first.neuron) is Leaky
    assert first.neuron.surrogate == Triangle(2.0) and type(first.neuron.rule) is Learned
    assert type(first.norm) is ThresholdDependentBatchNorm and first.norm.scale == 1.0
    assert [theta.item() for theta in network.thresholds()] == [1.0, 2.0]
    network(torch.rand(2, 3, 1, 8, 8)).spikes.sum().backward()


def test_code_is_found_in_the_working_folder_and_the_path_stays(tmp_path, monkeypatch):
    (tmp_path / "own_things.py").write_text("class Here:\n    value = 3\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    assert load("own_things:Here.value") == 3
    assert load("own_things.py:Here.value") == 3
    assert sys.path == path
    for name, reason in (("own_things:There", "There"), ("absent_things:X", "absent_things")):
        assert reason in refusal(lambda name=name: load(name))
    (tmp_path / "own_broken.py").write_text("1 / 0", encoding="utf-8")
    text = refusal(lambda: load("own_broken:X", "loss"))
    assert text == "loss 'own_broken:X' cannot be imported: ZeroDivisionError: division by zero"


def test_the_networks_settings_are_those_of_its_neurons():
    """What an IDE shows for ``SpikingNetwork`` is what ``make_neuron`` takes.

    But for the layer's shape, and whether it fires, which the network derives from ``output``.
    """
    names = make_neuron.__code__.co_varnames[: make_neuron.__code__.co_kwonlyargcount + 1]
    assert {*names} - {"shape", "fires"} == NeuronSettings.__annotations__.keys()


def test_ones_own_must_make_what_the_axis_is_of(tmp_path, monkeypatch):
    """Else it is the first batch that fails, in whatever line meets it."""
    (tmp_path / "own_wrong.py").write_text("def make():\n    return 3\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def build(key):
        changes = {"threshold.theta_inf": None, "threshold.alpha": None, key: "own_wrong:make"}
        config = load_preset("digits").with_changes(changes)
        config.build_loss(config.build_network((1, 8, 8)))

    for key, wanted in {
        "network.weights": "bsnn_tha.equations.quantizers.Quantizer",
        "network.norm": "torch.nn.modules.module.Module",
        "loss.name": "bsnn_tha.losses.loss.Loss",
    }.items():
        text = refusal(lambda key=key: build(key))
        assert text == f"{AXES[key].what} 'own_wrong:make' must make a {wanted}, but made 3"


# Settings that nothing uses

MOMENTUM = "optimizer.momentum is for optimizer.name = 'sgd', but got optimizer.momentum = 0.9 with"
UNUSED = {
    MOMENTUM: {"optimizer.momentum": 0.9},
    "optimizer.betas is for optimizer.name = 'adam'": {
        "optimizer.name": "sgd",
        "optimizer.betas": [0.8, 0.9],
    },
    "optimizer.period is for optimizer.schedule = 'cosine'": {
        "optimizer.schedule": "none",
        "optimizer.period": 3.0,
    },
    "optimizer.steps is for optimizer.schedule = 'steps'": {"optimizer.steps": {"5": 0.1}},
    "optimizer.schedule = 'steps' needs optimizer.steps": {"optimizer.schedule": "steps"},
    "snapshots.neurons is for snapshots.count": {"snapshots.count": 0, "snapshots.neurons": 3},
    "loss 'spike_count' has no setting 'beta'": {"loss.beta": 0.3},
    "loss 'mean_membrane' has no setting 'correct_rate'": {
        "loss.name": "mean_membrane",
        "loss.correct_rate": 0.7,
    },
    "weights 'binary' has no setting 'weight_bits'": {"network.weight_bits": 4},
    "weights 'float' has no setting 'share'": {
        "network.weights": "float",
        "network.weight_options": {"share": 1},
    },
    "norm 'none' has no setting 'momentum'": {
        "network.norm": "none",
        "network.norm_options": {"momentum": 0.2},
    },
    "norm='tdbn' is for convolutions": {"network.notation": "10", "network.norm": "tdbn"},
    "moderate_dropout=0.5 is for hidden fully connected": {"network.moderate_dropout": 0.5},
    "neuron model 'leaky' has no setting 'synaptic_decay'": {"neuron.synaptic_decay": 0.5},
    "surrogate 'triangle' has no setting 'width'": {
        "neuron.surrogate": "triangle",
        "neuron.surrogate_options": {"width": 2},
    },
    "penalty_window and fired_only are for learned": {"threshold.penalty_window": "sigmoid"},
    "threshold rule 'annealed' has no setting 'minimum'": {"threshold.minimum": 0.1},
}


@pytest.mark.parametrize("message", UNUSED)
def test_what_nothing_uses_is_refused(message):
    def build():
        changes = {"threshold.theta_0": 1.0, "threshold.theta_inf": 2.0, "threshold.alpha": 0.1}
        config = load_preset("digits").with_changes(changes | UNUSED[message])
        config.build_loss(config.build_network((1, 8, 8)))

    assert refusal(build).startswith(message)


def test_another_schedule_takes_its_presets_steps_with_it():
    published = load_preset("mnist", "ltmd")
    assert published.optimizer.steps
    assert published.with_changes({"optimizer.schedule": "cosine-to-zero"}).optimizer.steps is None


def test_defaults_of_earlier_files_are_no_mistake():
    """They had every loss's arguments in them, and momentum beside Adam."""
    text = load_preset("digits").to_toml()
    assert "momentum" not in text and "beta = 0.45" not in text
    old = text.replace("[loss]", '[loss]\nreduction = "mean"\nbeta = 0.45').replace(
        "[optimizer]", "[optimizer]\nmomentum = 0.0"
    )
    assert old != text
    assert RunConfig.from_toml(old) == load_preset("digits")
    with pytest.raises(InvalidValueError, match="has no setting 'beta'"):
        RunConfig.from_toml(old.replace("0.45", "0.5"))


def test_another_loss_does_not_inherit_what_was_filled_in():
    config = load_preset("digits").with_changes({"loss.name": "tet"})
    assert config.loss.options == {"beta": 0.45}
    assert config.with_changes({"loss.name": "spike_count"}) == load_preset("digits")


def test_what_a_choice_had_goes_with_it():
    config = tiny(**{"loss.correct_rate": 0.7})
    assert config.optimizer.period == 2.0
    changed = config.with_changes({"optimizer.schedule": "none", "loss.name": "mean_membrane"})
    assert changed.optimizer.period == 10.0 and changed.loss.options == {}


# Code in configurations

EVIL = """import pathlib
pathlib.Path("was_run").touch()
from bsnn_tha.nn.thresholds.rule import Fixed as Rule
from bsnn_tha.losses import SpikeCountLoss as Loss
from bsnn_tha.data.images import load_digits as load
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a module in it that leaves a mark when it is run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    (tmp_path / "evil_code.py").write_text(EVIL, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "evil_code", raising=False)
    yield tmp_path
    sys.modules.pop("evil_code", None)


def text_naming(key, name="evil_code:Rule"):
    base = tiny(**{"threshold.theta_0": 0.5, "threshold.theta_inf": None, "threshold.alpha": None})
    return base.with_changes({"training.epochs": 1, key: name}).to_toml()


@pytest.mark.parametrize("key", AXES)
def test_a_configuration_that_is_read_does_not_run_code(key, here):
    table, leaf = key.split(".")
    name = '"evil_code:Rule"'
    text = load_preset("digits").to_toml()
    lines = [line for line in text.splitlines() if line.split(" = ")[0] != leaf]
    place = lines.index(f"[{table}]") + 1
    lines.insert(place, f"{leaf} = {name}")
    (here / "theirs.toml").write_text("\n".join(lines), encoding="utf-8")
    said = refusal(lambda: RunConfig.from_file(here / "theirs.toml"))
    assert f"theirs.toml, line {place + 1}: {key} = 'evil_code:Rule' names code" in said
    assert said.endswith("allow it with --allow-code (in Python allow_code=True)")
    assert not (here / "was_run").exists()


@pytest.mark.parametrize("name", ["os:system", "bsnn_tha.training.files:os.system", "./x.py:Y"])
def test_no_way_of_writing_it_is_overlooked(name):
    for value in (name, [name, "fixed"], {"default": name}):
        tables = {"threshold": {"rule": value}}
        said = refusal(lambda tables=tables: RunConfig.from_dict(tables, "theirs"))
        assert said.startswith(f"theirs: threshold.rule = {name!r} names code")


def test_runs_of_ones_own_are_remembered_and_others_are_not(here):
    text = text_naming("threshold.rule")
    config = RunConfig.from_toml(text, allow_code=True)
    assert not (here / "was_run").exists()  # reading runs nothing, allowed or not
    train(config, output=here / "mine", machine=MACHINE, verbose=False)
    assert (here / "was_run").exists()
    assert resume(here / "mine", epochs=2, machine=MACHINE, verbose=False).summary["epochs"] == 2
    evaluate(here / "mine", machine=MACHINE)
    # The same folder from elsewhere: what travelled does not carry the permission.
    os.rename(here / "mine", here / "theirs")
    for action in (evaluate, resume):
        said = refusal(lambda action=action: action(here / "theirs", machine=MACHINE))
        assert "theirs/config.toml, line" in said and "--allow-code" in said
    assert evaluate(here / "theirs", machine=MACHINE, allow_code=True)["loss"] > 0


def test_a_run_may_name_only_what_it_named(here):
    config = RunConfig.from_toml(text_naming("threshold.rule"), allow_code=True)
    folder = RunFolder(here / "mine")
    train(config, output=folder.path, machine=MACHINE, verbose=False)
    swapped = folder.config.read_text(encoding="utf-8").replace("evil_code:Rule", "other_code:Rule")
    folder.config.write_text(swapped, encoding="utf-8")
    assert "'other_code:Rule' names code" in refusal(lambda: evaluate(folder.path, machine=MACHINE))


def test_another_working_folder_may_hold_other_code(here, monkeypatch):
    config = RunConfig.from_toml(text_naming("threshold.rule"), allow_code=True)
    train(config, output=here / "mine", machine=MACHINE, verbose=False)
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert "names code" in refusal(lambda: evaluate(here / "mine", machine=MACHINE))


def test_trials_ask_as_runs_do(here):
    config = RunConfig.from_toml(text_naming("threshold.rule"), allow_code=True)
    train_trials(config, 1, output=here / "mine", machine=MACHINE, verbose=False)
    resume_trials(here / "mine", machine=MACHINE, verbose=False)
    os.rename(here / "mine", here / "theirs")
    with pytest.raises(Exception, match="names code"):
        resume_trials(here / "theirs", machine=MACHINE, verbose=False)
