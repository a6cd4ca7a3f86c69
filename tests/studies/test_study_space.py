"""Search spaces: tables that take settings apart and put them together again."""

from __future__ import annotations

from types import SimpleNamespace

import optuna
import pytest
from input_shapes import INPUT_SHAPES

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.presets import load_preset, preset_names
from studies.errors import StudyError
from studies.preparation import _fitting
from studies.space import Choice, Depth, Number, Rise, Space, config_value
from studies.spaces import load_space, space_for

STATIC = ("digits", "mnist", "fashion-mnist")
PER_LAYER = {"threshold.theta_0": 2, "neuron.slope": 2, "neuron.beta": 3}
"""Values of settings of digits/best, whose third layer does not fire."""
PRESETS = [(dataset, variant) for dataset, known in preset_names().items() for variant in known]


def preset(dataset, variant="tha"):
    """A preset, its space and its depth; no data set is loaded."""
    config = load_preset(dataset, variant)
    facts = SimpleNamespace(
        static=dataset in STATIC, num_classes=None if dataset == "temporal-coding" else 10
    )
    space = _fitting(space_for(config, facts), config).bound(config)
    return config, space, Depth.of(config.build_network(INPUT_SHAPES[dataset]))


def ask(parameters=None, seed=0):
    """A trial, with parameters or with random ones."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    if parameters is not None:
        study.enqueue_trial(parameters)
    return study.ask()


def per_layer(value, like):
    return value if isinstance(value, list) else [value] * len(like)


# Presets


def test_every_data_set_has_a_shape_here():
    assert set(INPUT_SHAPES) == set(preset_names())


@pytest.mark.parametrize(("dataset", "variant"), PRESETS)
@pytest.mark.filterwarnings("error")  # Optuna's, if a value were outside of its range
def test_a_presets_own_settings_come_back_from_its_space(dataset, variant):
    config, space, depth = preset(dataset, variant)
    settings = space.suggest(ask(space.parameters(config, depth)), depth)
    for key, value in settings.items():
        own = config_value(config, key)
        if isinstance(value, list):
            assert value == pytest.approx(per_layer(own, value), rel=1e-9), key
        else:
            assert value == (pytest.approx(own, rel=1e-9) if isinstance(own, float) else own), key
    config.with_changes(settings).build_network(INPUT_SHAPES[dataset])


@pytest.mark.parametrize("dataset", sorted(INPUT_SHAPES))
def test_every_random_suggestion_is_a_network_that_anneals_upwards(dataset):
    for variant in preset_names()[dataset]:
        if load_preset(dataset, variant).threshold.rule is not None:
            continue  # nothing of these depends on anything else
        config, space, depth = preset(dataset, variant)
        # Building a large network takes longer than asking whether it may be built.
        small = {"mnist": "4C5-AP2-4C5-AP2-10", "fashion-mnist": "4C5-AP2-4C5-AP2-10"}
        small |= {"shd": "30-20", "spoken-digits": "30-10", "temporal-coding": "20-1"}
        small |= {"dvs-gesture": "4C5-AP2-4C5-AP2-11", "saccade-digits": "4C5-AP2-4C5-AP2-10"}
        if dataset in small:
            config = config.with_changes({"network.notation": small[dataset]})
            assert Depth.of(config.build_network(INPUT_SHAPES[dataset])) == depth
        sampler = optuna.samplers.RandomSampler(seed=1)
        study = optuna.create_study(sampler=sampler)
        for _ in range(25):
            changed = config.with_changes(space.suggest(study.ask(), depth))
            network = changed.build_network(INPUT_SHAPES[dataset])
            if changed.threshold.theta_inf is not None:
                firing = [layer for layer in network.layers if layer.neuron.fires]
                assert len(changed.threshold.theta_inf) == len(firing)
                pairs = zip(changed.threshold.theta_0, changed.threshold.theta_inf, strict=True)
                assert all(low < high for low, high in pairs)


ANNEALED = {
    "threshold.rule": "annealed",
    "threshold.theta_0": 0.5,
    "threshold.theta_inf": 1.0,
    "threshold.alpha": 0.04,
}


@pytest.mark.parametrize("dataset", ["digits", "saccade-digits", "spoken-digits"])
def test_an_annealed_network_whose_output_does_not_fire_is_searched_by_its_thresholds(dataset):
    config = load_preset(dataset, "best").with_changes(ANNEALED)
    facts = SimpleNamespace(static=dataset in STATIC, num_classes=10)
    space = _fitting(space_for(config, facts), config).bound(config)
    depth = Depth.of(config.build_network(INPUT_SHAPES[dataset]))
    firing = depth.layers - 1
    for key in ("theta_0", "theta_inf", "alpha"):
        names = [n for n in space.parameters(config, depth) if n.startswith(f"threshold.{key}.")]
        assert len(names) == firing
    drawn = config.with_changes(space.suggest(ask(), depth)).threshold
    assert all(low < high for low, high in zip(drawn.theta_0, drawn.theta_inf, strict=True))


def test_a_rate_of_learned_thresholds_is_searched_where_they_have_one():
    facts = SimpleNamespace(static=True, num_classes=10)
    learned = load_preset("digits", "best").with_changes({"threshold.rule": "learned"})
    assert "optimizer.threshold_lr" not in [r.key for r in space_for(learned, facts).rows]
    own = learned.with_changes({"optimizer.threshold_lr": 0.01})
    assert [row.key for row in space_for(own, facts).rows] == [
        "threshold.theta_0",
        "neuron.beta",
        "neuron.slope",
        "optimizer.lr",
        "optimizer.threshold_lr",
    ]


def test_a_target_follows_the_threshold_of_the_output():
    config, space, depth = preset("temporal-coding", "solved")
    settings = space.suggest(ask(), depth)
    ratio = config.data.options["peak"] / config.threshold.theta_inf[-1]
    expected = ratio * settings["threshold.theta_inf"][-1]
    assert settings["data.options.peak"] == pytest.approx(expected)


# Rows


@pytest.mark.parametrize(
    ("notation", "layers", "dense"),
    [("10", 1, 1), ("4C3-AP2-10", 2, 1), ("4C3-8C3-AP2-20-30-10", 5, 3)],
)
def test_parameters_per_layer_follow_the_depth_of_the_network(notation, layers, dense):
    config = load_preset("digits").with_changes(
        {
            "network.notation": notation,
            "threshold.theta_0": 1.0,
            "threshold.theta_inf": 2.5,
        }
    )
    depth = Depth.of(config.build_network((1, 8, 8)))
    assert depth == Depth(layers, dense)
    space = space_for(config, SimpleNamespace(static=True, num_classes=10))
    parameters = space.parameters(config, depth)
    assert [name for name in parameters if "theta_0" in name] == [
        f"threshold.theta_0.{index}" for index in range(1, layers + 1)
    ]
    assert [name for name in parameters if "dropout" in name] == [
        f"network.dropout.{index}" for index in range(1, dense + 1)
    ]
    assert parameters["threshold.theta_inf.1"] == 1.5  # the increment
    config.with_changes(space.suggest(ask(), depth)).build_network((1, 8, 8))


def test_a_rise_is_added_to_the_other_row_or_to_what_is_configured():
    config = load_preset("digits")
    rise = Rise("threshold.theta_inf", 0.1, 30.0, per="layer")
    depth = Depth(3, 1)
    parameters = {f"threshold.theta_inf.{index}": 0.5 * index for index in (1, 2, 3)}
    settings = Space(rise).bound(config).suggest(ask(parameters), depth)
    assert settings["threshold.theta_inf"] == pytest.approx([2.9, 6.5, 3.7])
    both = Space(Number("threshold.theta_0", 0.5, 9, per="layer"), rise).bound(config)
    parameters |= {f"threshold.theta_0.{index}": 1.0 for index in (1, 2, 3)}
    settings = both.suggest(ask(parameters), depth)
    assert settings["threshold.theta_inf"] == pytest.approx([1.5, 2.0, 2.5])


def test_arguments_of_a_loss_and_of_a_rule_are_searched_as_other_settings():
    config = load_preset("moving-boxes", "lt-snn").with_changes({"threshold.minimum": 0.1})
    space = Space(
        Number("loss.gain", 0.1, 30.0, log=True),
        Number("loss.ignore", 0.1, 0.9),
        Number("threshold.minimum", 0.01, 0.5),
    ).bound(config)
    parameters = space.parameters(config, Depth(5, 0, 1))
    assert parameters == {"loss.gain": 2.0, "loss.ignore": 0.6, "threshold.minimum": 0.1}
    settings = space.suggest(ask({**parameters, "loss.gain": 3.0}), Depth(5, 0, 1))
    changed = config.with_changes(settings)
    network = changed.build_network(INPUT_SHAPES["moving-boxes"])
    assert changed.build_loss(network).gain == 3.0


def test_thresholds_per_layer_are_those_of_the_layers_that_fire():
    config = load_preset("digits", "best")
    depth = Depth.of(config.build_network(INPUT_SHAPES["digits"]))
    space = Space(*(Number(key, 0.05, 1.0, per="layer") for key in PER_LAYER)).bound(config)
    parameters = space.parameters(config, depth)
    assert {key: sum(n.startswith(key) for n in parameters) for key in PER_LAYER} == PER_LAYER
    config.with_changes(space.suggest(ask(), depth)).build_network(INPUT_SHAPES["digits"])


def test_a_choice_of_none_leaves_the_setting_out():
    config = load_preset("digits").with_changes({"training.grad_clip": 1.0})
    space = Space(Choice("training.grad_clip", None, 1.0))
    assert space.parameters(config, Depth(3, 1)) == {"training.grad_clip": 1.0}
    settings = space.suggest(ask({"training.grad_clip": None}), Depth(3, 1))
    assert config.with_changes(settings).training.grad_clip is None


def test_a_space_is_readable_as_a_table():
    space = Space(
        Number("neuron.beta", 0.1, 0.99),
        Number("threshold.theta_0", 0.5, 20, log=True, per="layer"),
        Rise("threshold.theta_inf", 0.1, 30, log=True, per="layer"),
        Choice("training.grad_clip", None, 1.0),
    )
    assert space.table() == [
        ("neuron.beta", "0.1 to 0.99", "network"),
        ("threshold.theta_0", "0.5 to 20, log", "layer"),
        ("threshold.theta_inf", "threshold.theta_0 + 0.1 to 30, log", "layer"),
        ("training.grad_clip", "off or 1.0", "network"),
    ]


# Refusals


@pytest.mark.parametrize(
    ("row", "changes", "said"),
    [
        (Number("neuron.beta", 0.1, 0.5), {}, "neuron.beta must be 0.1 to 0.5 .* is 0.93"),
        (Number("neuron.beta", 0.1, 1), {"neuron.beta": [0.5, 0.6, 0.7]}, "per network.* 3 values"),
        (Choice("training.grad_clip", None, 1.0), {"training.grad_clip": 5.0}, "off or 1.0 .* 5.0"),
        (Number("training.grad_clip", 0.1, 9), {}, "training.grad_clip must be .* is None"),
        (Rise("threshold.theta_inf", 0.1, 9, per="layer"), {}, "theta_inf.1 must be .* None"),
    ],
)
def test_settings_outside_of_the_space_are_refused_with_the_row(row, changes, said):
    config = load_preset("digits").with_changes(
        {"threshold.theta_inf": None, "threshold.alpha": None} | changes
    )
    with pytest.raises(InvalidValueError, match=said):
        Space(row).parameters(config, Depth(3, 1))


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("neuron.bta", "did you mean 'beta'"),
        ("neurn.beta", "did you mean 'neuron'"),
        ("neuron.beta.first", "takes none"),
        ("loss.correct_rat", "did you mean 'correct_rate'"),
    ],
)
def test_a_key_that_the_configuration_does_not_have_is_refused(key, said):
    with pytest.raises(InvalidValueError, match=said):
        Space(Number(key, 0.1, 1)).bound(load_preset("digits"))


@pytest.mark.parametrize(
    "rows",
    [
        lambda: [Number("neuron.beta", 1, 0)],
        lambda: [Number("neuron.slope", 0, 1, log=True)],
        lambda: [Number("neuron.slope", float("nan"), 1)],
        lambda: [Number("neuron.beta", 0, 1), Choice("neuron.beta", 0.5, 0.6)],
        lambda: [Rise("threshold.theta_inf", 0.1, 1), Number("threshold.theta_0", 0.5, 1)],
    ],
)
def test_a_table_that_makes_no_sense_is_refused(rows):
    with pytest.raises(InvalidValueError):
        Space(*rows())


# A user's own


SOURCE = """
from studies.space import Number, Space
SPACE = Space(Number("neuron.beta", 0.1, 0.9))
MINE = SPACE + Space(Number("neuron.slope", 1.0, 9.0))
EMPTY = Space()
NUMBER = 3
"""


def test_a_users_own_space_comes_from_a_file_or_a_module(tmp_path, monkeypatch):
    file = tmp_path / "my_space.py"
    file.write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    assert [row.key for row in load_space(str(file)).rows] == ["neuron.beta"]
    for where in (f"{file}:MINE", "my_space:MINE"):
        assert [row.key for row in load_space(where).rows] == ["neuron.beta", "neuron.slope"]
    assert load_space("studies.spaces.images:UNIT").rows


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("{file}:OTHER", "OTHER"),
        ("{file}:NUMBER", "must be a studies.space.Space, but is int"),
        ("{file}:EMPTY", "at least one row"),
        ("{folder}/missing.py", "missing.py"),
        ("no_such_module:SPACE", "no_such_module"),
        ("", "module:NAME"),
        ("{broken}", "SyntaxError"),
        ("{backwards}", "range from low to high"),
    ],
)
def test_a_space_that_cannot_be_loaded_is_refused_in_one_line(tmp_path, where, said):
    files = {name: tmp_path / f"{name}.py" for name in ("file", "broken", "backwards")}
    files["file"].write_text(SOURCE)
    files["broken"].write_text("SPACE = (")
    files["backwards"].write_text(SOURCE.replace("0.1, 0.9", "0.9, 0.1"))
    with pytest.raises(StudyError, match=said) as caught:
        load_space(where.format(folder=tmp_path, **files))
    assert "\n" not in str(caught.value)


def test_a_table_by_kind_of_layer_is_asked_for_as_a_list():
    config = load_preset("digits").with_changes({"threshold.theta_0": {"default": 5.0}})
    row = Number("threshold.theta_0", 1.0, 9.0, per="layer")
    with pytest.raises(InvalidValueError, match=r"the table \{'default': 5.0\}; write it out as a"):
        row.from_config(config, 3)
