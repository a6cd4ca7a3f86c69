"""Configurations: the papers' tables, TOML both ways, and one-line refusals."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from bsnn_tha.config import RunConfig
from bsnn_tha.data import load_dataset
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.surrogate import SURROGATES
from bsnn_tha.losses import MembraneLoss, SpikeCountLoss
from bsnn_tha.presets import load_preset, preset_names

INPUT_SHAPES = {
    "digits": (1, 8, 8),
    "mnist": (1, 28, 28),
    "fashion-mnist": (1, 28, 28),
    "temporal-coding": (100,),
}
ANNEALED = {"tha", "solved"}
PRESETS = [(name, variant) for name, variants in preset_names().items() for variant in variants]
all_presets = pytest.mark.parametrize(
    ("dataset", "variant"), PRESETS, ids=["-".join(preset) for preset in PRESETS]
)


def one_line(refusal):
    text = str(refusal.value)
    assert "\n" not in text
    return text


# Presets


def test_every_data_set_of_the_paper_has_its_four_variants():
    names = preset_names()
    for dataset in ("mnist", "fashion-mnist", "temporal-coding"):
        assert {"bsnn", "bsnn-unit", "flt32", "tha"} <= set(names[dataset])
    assert "tha" in names["digits"]


@all_presets
def test_a_preset_round_trips_through_toml(dataset, variant):
    config = load_preset(dataset, variant)
    assert (config.data.name, config.variant) == (dataset, variant)
    assert config.source
    text = config.to_toml()
    again = RunConfig.from_toml(text)
    assert again == config
    assert again.to_toml() == text


@all_presets
def test_a_preset_builds_its_network_and_loss(dataset, variant):
    config = load_preset(dataset, variant)
    network = config.build_network(INPUT_SHAPES[dataset])
    for layer in network.layers:
        assert layer.neuron.annealed == (variant in ANNEALED)
        assert hasattr(layer.synapse, "latent_weight") == (variant != "flt32")
    loss = config.build_loss()
    assert isinstance(loss, MembraneLoss if dataset == "temporal-coding" else SpikeCountLoss)


# The papers' tables, typed from PAPERS.md section 1

NETWORK = "16Conv5-AP2-64Conv5-AP2-1024Dense10"

# β, θ (None: annealed), k, η, gradient clipping, weight clipping, dropout
TABLE_4 = {
    ("mnist", "flt32"): ("0.92", "2.0", "6.0", "1.9e-3", True, True, "0.09"),
    ("mnist", "bsnn-unit"): ("0.74", "1.0", "4.7", "6.5e-3", False, False, "0.87"),
    ("mnist", "bsnn"): ("0.84", "6.4", "2.8", "2.7e-3", False, False, "0.06"),
    ("mnist", "tha"): ("0.99", None, "10.2", "1.0e-2", False, False, "0.03"),
    ("fashion-mnist", "flt32"): ("0.39", "1.5", "7.7", "2.0e-3", True, True, "0.13"),
    ("fashion-mnist", "bsnn-unit"): ("0.82", "1.0", "4.3", "1.2e-3", True, True, "0.86"),
    ("fashion-mnist", "bsnn"): ("0.87", "9.7", "6.7", "1.6e-2", True, False, "0.01"),
    ("fashion-mnist", "tha"): ("0.87", None, "0.2", "8.4e-4", False, False, "0.65"),
}

# (θ0, θ∞, α) by layer
TABLE_5 = {
    "mnist": [("11.7", "16.0", "2.4e-2"), ("14.1", "30.4", "0.12"), ("0.7", "4.2", "1.1e-3")],
    "fashion-mnist": [
        ("6.9", "14.0", "3.7e-2"),
        ("10.3", "23.1", "0.30"),
        ("18.0", "27.9", "0.10"),
    ],
}

# The released configurations: β, k, η, dropout, momentum (None: Adam), (θ0, θ∞, α) by layer
MORE_DIGITS = {
    "mnist": (
        (0.99, 10.22, 9.97e-3, 0.02856, None),
        [(11.666, 15.983, 0.024), (14.105, 30.395, 0.119), (0.6656, 4.1616, 0.0011)],
    ),
    "fashion-mnist": (
        (0.868, 0.1557, 8.4e-4, 0.648, 0.855),
        [(6.9, 14.0456, 0.0368), (10.25, 23.076, 0.29687), (17.95, 27.8867, 0.1048)],
    ),
}

# β, θ, (θ0, θ∞, α), k
TABLE_3 = {
    "flt32": (0.6, 2.0, None, 5.0),
    "bsnn-unit": (0.15, 1.0, None, 5.0),
    "bsnn": (0.15, 50.0, None, 5.0),
    "tha": (0.15, None, (5.0, 50.0, 5e-3), 5.0),
}


def rounds_to(value, printed):
    """True if the value is within half a unit of the printed number's last digit."""
    number = Decimal(printed)
    unit = Decimal(1).scaleb(number.as_tuple().exponent)
    return abs(Decimal(str(value)) - number) <= unit / 2


def test_the_rounding_helper_tells_numbers_apart():
    assert rounds_to(14.0456, "14.0")
    assert rounds_to(10.25, "10.3")
    assert rounds_to(9.97e-3, "1.0e-2")
    assert rounds_to(0.02856, "0.03")
    assert not rounds_to(14.1, "14.0")
    assert not rounds_to(9.4e-3, "1.0e-2")
    assert not rounds_to(0.0386, "3.7e-2")


def rows(config):
    threshold = config.threshold
    return list(zip(threshold.theta_0, threshold.theta_inf, threshold.alpha, strict=True))


@pytest.mark.parametrize(("dataset", "variant"), TABLE_4, ids=["-".join(key) for key in TABLE_4])
def test_static_presets_are_table_4(dataset, variant):
    config = load_preset(dataset, variant)
    beta, theta, k, lr, grad_clip, weight_clip, dropout = TABLE_4[dataset, variant]
    compared = {
        "beta": (config.neuron.beta, beta),
        "k": (config.neuron.slope, k),
        "lr": (config.optimizer.lr, lr),
        "dropout": (config.network.dropout, dropout),
    }
    for name, (value, printed) in compared.items():
        expected = rounds_to(value, printed) if variant == "tha" else value == float(printed)
        assert expected, (name, value, printed)
    assert (config.training.grad_clip is not None) == grad_clip
    assert (config.training.weight_clip is not None) == weight_clip
    # "Weight clipping clamps every parameter to ±1"
    assert config.training.weight_clip in (None, 1.0)
    if theta is not None:
        assert config.threshold.theta_0 == float(theta)
        assert config.threshold.theta_inf is None
        assert config.threshold.alpha is None


@pytest.mark.parametrize(("dataset", "variant"), TABLE_4, ids=["-".join(key) for key in TABLE_4])
def test_what_the_static_presets_have_in_common(dataset, variant):
    config = load_preset(dataset, variant)
    assert config.network.notation == NETWORK
    assert config.network.batch_norm
    assert config.network.binary == (variant != "flt32")
    assert (config.data.num_steps, config.data.batch_size) == (100, 128)
    assert (config.loss.correct_rate, config.loss.incorrect_rate) == (0.8, 0.2)
    sgd = (dataset, variant) == ("fashion-mnist", "tha")
    assert config.optimizer.name == ("sgd" if sgd else "adam")
    assert config.optimizer.betas == (0.9, 0.999)
    unscheduled = (dataset, variant) == ("mnist", "flt32")
    assert config.optimizer.schedule == ("none" if unscheduled else "cosine")
    assert config.optimizer.period == 10
    # The paper's text is the default: clamped at θ0, fast sigmoid, subtraction.
    assert config.neuron.surrogate_centre == "clamped"
    assert config.neuron.surrogate == "fast_sigmoid"
    assert config.neuron.reset_mechanism == "subtract"


@pytest.mark.parametrize("dataset", TABLE_5)
def test_annealed_presets_round_to_table_5(dataset):
    for actual, printed in zip(rows(load_preset(dataset, "tha")), TABLE_5[dataset], strict=True):
        for value, number in zip(actual, printed, strict=True):
            assert rounds_to(value, number), (value, number)


@pytest.mark.parametrize("dataset", MORE_DIGITS)
def test_annealed_presets_have_the_digits_of_the_released_configurations(dataset):
    config = load_preset(dataset, "tha")
    (beta, k, lr, dropout, momentum), layers = MORE_DIGITS[dataset]
    assert config.neuron.beta == beta
    assert config.neuron.slope == k
    assert config.optimizer.lr == lr
    assert config.network.dropout == dropout
    if momentum is not None:
        assert config.optimizer.momentum == momentum
    assert rows(config) == layers


@pytest.mark.parametrize("variant", TABLE_3)
def test_temporal_coding_presets_are_table_3(variant):
    config = load_preset("temporal-coding", variant)
    beta, theta, annealing, k = TABLE_3[variant]
    assert (config.neuron.beta, config.neuron.slope) == (beta, k)
    threshold = config.threshold
    given = (threshold.theta_0, threshold.theta_inf, threshold.alpha)
    assert given == ((theta, None, None) if annealing is None else annealing)
    final = theta if annealing is None else annealing[1]
    assert config.data.options == {"peak": pytest.approx(1.1 * final)}
    assert config.network.notation == "100Dense1000Dense1"
    assert config.network.binary == (variant != "flt32")
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.momentum) == ("sgd", 1e-3, 0.9)
    assert optimizer.schedule == "none"
    assert (config.data.num_steps, config.data.batch_size) == (100, 1)
    assert (config.loss.name, config.loss.reduction) == ("membrane", "mean")
    assert config.training.epochs == 1
    assert config.training.record_output


def test_temporal_coding_presets_train_for_1000_iterations_with_the_target_at_75():
    config = load_preset("temporal-coding", "tha")
    dataset = load_dataset(
        "temporal-coding",
        root=Path(),
        cache=Path(),
        seed=0,
        validation=0.1,
        num_steps=config.data.num_steps,
        options=config.data.options,
    )
    assert len(dataset.train) == 1000
    _, targets = dataset.train[[0]]
    assert targets.argmax() == 75
    assert targets.max().item() == pytest.approx(55)


# Reading


@pytest.fixture
def digits():
    return load_preset("digits", "tha")


def test_a_file_is_read_as_its_text(digits, tmp_path):
    path = tmp_path / "θ.toml"
    path.write_text(digits.to_toml(), encoding="utf-8")
    assert RunConfig.from_file(path) == digits


def test_a_configuration_cannot_be_changed_in_place(digits):
    with pytest.raises(ValidationError):
        digits.training.epochs = 3


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("vriant", "the configuration has no key 'vriant'; did you mean 'variant'?"),
        ("thresold.theta_0", "the configuration has no key 'thresold'; did you mean 'threshold'?"),
        ("neuron.beat", "neuron has no key 'beat'; did you mean 'beta'?"),
        ("training.grad_clp", "training has no key 'grad_clp'; did you mean 'grad_clip'?"),
        ("loss.zzzzzz", "loss has no key 'zzzzzz'; known are correct_rate, incorrect_rate, name"),
    ],
)
def test_an_unknown_key_names_the_nearest(digits, key, message):
    with pytest.raises(InvalidValueError) as refusal:
        digits.with_changes({key: 1})
    assert one_line(refusal).startswith(message)


@pytest.mark.parametrize(
    ("right", "wrong"), [("[threshold]", "[thresold]"), ("slope =", "slop =")], ids=["table", "key"]
)
def test_a_misspelled_required_name_is_called_misspelled_rather_than_missing(digits, right, wrong):
    text = digits.to_toml()
    assert right in text
    with pytest.raises(InvalidValueError, match="did you mean"):
        RunConfig.from_toml(text.replace(right, wrong))


WRONG = {
    "training.epochs": ["many", 2.5, [1], 0],
    "training.patience": [0, "long"],
    "training.seed": [-1, "lucky", 2**32],
    "training.grad_clip": [0.0, "yes"],
    "training.precision": ["16-mixed"],
    "training.record_output": [3],
    "data": [3, "digits"],
    "data.num_steps": [0, -5, [1]],
    "data.batch_size": [0],
    "data.validation": [-0.1, 1.0, "some"],
    "data.subset": [0],
    "data.options": [3],
    "network.notation": [3],
    "network.binary": ["perhaps", 3],
    "network.init": ["zeros"],
    "neuron.beta": ["x", ["x"], {}],
    "neuron.slope": [math.nan, math.inf, [1.0, math.inf]],
    "neuron.surrogate_centre": ["fixed"],
    "neuron.reset_mechanism": ["none at all"],
    "threshold.theta_0": ["high", math.nan],
    "threshold.theta_inf": ["x", math.inf, [1.0, math.nan, 2.0]],
    "loss.name": ["hinge"],
    "loss.reduction": ["median"],
    "loss.correct_rate": ["x", math.nan],
    "optimizer.name": ["adamw"],
    "optimizer.lr": [0.0, -1e-3, math.inf, math.nan, "fast"],
    "optimizer.betas": [[0.9, "x"], 0.9, [0.9, 0.99, 0.999], [0.9, 1.5]],
    "optimizer.momentum": [-1.0, math.nan],
    "optimizer.period": [0.0, math.nan],
    "variant": [3],
}
wrong_values = pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key, values in WRONG.items() for value in values],
    ids=[f"{key}={value}" for key, values in WRONG.items() for value in values],
)


@wrong_values
def test_a_wrong_value_is_refused_with_its_key_and_value(digits, key, value):
    with pytest.raises(InvalidValueError) as refusal:
        digits.with_changes({key: value})
    text = one_line(refusal)
    assert text.startswith(f"{key} must be ")
    assert ", but got " in text


@pytest.mark.parametrize(
    ("key", "value"),
    [("training.epochs", True), ("training.epochs", "3"), ("neuron.beta", "0.5")],
    ids=str,
)
def test_values_of_another_type_are_not_converted_silently(digits, key, value):
    with pytest.raises(InvalidValueError, match=rf"^{key} must be "):
        digits.with_changes({key: value})


def test_a_value_that_is_not_finite_is_called_so(digits):
    with pytest.raises(InvalidValueError, match=r"^neuron\.beta must be .*finite.*but got nan"):
        digits.with_changes({"neuron.beta": math.nan})


def test_betas_that_are_too_few_are_not_called_missing(digits):
    with pytest.raises(InvalidValueError, match=r"^optimizer\.betas must be "):
        digits.with_changes({"optimizer.betas": [0.9]})


@pytest.mark.parametrize("key", ["variant", "data", "neuron", "threshold", "data.name", "training"])
def test_what_is_missing_is_named(digits, key):
    with pytest.raises(InvalidValueError) as refusal:
        digits.with_changes({key: None})
    assert one_line(refusal) == f"{key} is missing; add it to the configuration"


@pytest.mark.parametrize(
    "text", ["a = = 3", "[data", "a = 1\na = 2", "neuron.beta = "], ids=lambda text: repr(text)
)
def test_bad_toml_names_its_place_and_line(text):
    with pytest.raises(InvalidValueError, match=r"^mine\.toml is not valid TOML: .*\(at ") as error:
        RunConfig.from_toml(text, "mine.toml")
    one_line(error)


def test_files_that_cannot_be_read_are_refused_by_name(tmp_path):
    binary, below = tmp_path / "binary.toml", tmp_path / "file" / "config.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    below.parent.write_text("a regular file")
    for path, reason in [
        (tmp_path / "absent.toml", "No such file"),
        (tmp_path, "Is a directory"),
        (below, "Not a directory"),
        (binary, "not UTF-8"),
    ]:
        with pytest.raises(InvalidValueError) as refusal:
            RunConfig.from_file(path)
        assert one_line(refusal).startswith(f"cannot read configuration {path}: ")
        assert reason in str(refusal.value)


# Changing


def test_changes_replace_and_leave_the_original(digits):
    changed = digits.with_changes({"neuron.beta": [0.1, 0.2, 0.3], "training.seed": 7})
    assert changed.neuron.beta == [0.1, 0.2, 0.3]
    assert changed.training.seed == 7
    assert digits.neuron.beta == 0.93
    undone = changed.with_changes({"neuron.beta": 0.93, "training.seed": 0})
    assert undone == digits


def test_none_removes_an_optional_value():
    config = load_preset("mnist", "flt32")
    assert config.training.grad_clip == 1.0
    changed = config.with_changes({"training.grad_clip": None, "training.patience": None})
    assert changed.training.grad_clip is None
    assert changed.training.patience is None
    assert changed.with_changes({"training.grad_clip": None}) == changed


def test_none_brings_back_a_default(digits):
    assert digits.with_changes({"optimizer.period": None}).optimizer.period == 10.0


def test_options_of_a_data_set_can_be_added(digits):
    assert digits.with_changes({"data.options.peak": 2.0}).data.options == {"peak": 2.0}


@pytest.mark.parametrize(
    ("key", "value"), [("neuron.beta.x", "neuron.beta"), ("variant.x.y", "variant")]
)
def test_descending_into_a_value_is_refused(digits, key, value):
    with pytest.raises(InvalidValueError) as refusal:
        digits.with_changes({key: 1})
    assert one_line(refusal) == f"{value} is a value, not a table, in {key!r}"


@pytest.mark.parametrize("key", ["", "neuron.", ".neuron", "a."])
def test_an_empty_name_in_a_key_is_refused(digits, key):
    with pytest.raises(InvalidValueError, match="has no key"):
        digits.with_changes({key: 1})


# Building


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("neuron.beta", [0.5, 0.5], "beta needs one value, or one for each spiking layer (3)"),
        ("neuron.slope", [1.0, 2.0], "slope needs one value, or one for each spiking layer (3)"),
        ("threshold.theta_0", [1.0] * 4, "theta_0 needs one value, or one for each spiking"),
        ("network.dropout", [0.1] * 2, "dropout needs one value, or one for each fully"),
    ],
    ids=["beta", "slope", "theta_0", "dropout"],
)
def test_a_list_of_another_length_than_the_layers_is_refused(digits, key, value, what):
    config = digits.with_changes({key: value})
    with pytest.raises(InvalidValueError) as refusal:
        config.build_network((1, 8, 8))
    assert one_line(refusal).startswith(what)
    assert f"but got {len(value)}" in str(refusal.value)


def test_values_per_layer_reach_their_layers(digits):
    config = digits.with_changes(
        {
            "neuron.beta": [0.5, 0.25, 0.75],
            "neuron.slope": [1.0, 2.0, 3.0],
            "threshold.alpha": [0.5, 0.25, 0.125],
            "neuron.surrogate_centre": "moving",
            "neuron.reset_mechanism": "zero",
        }
    )
    neurons = [layer.neuron for layer in config.build_network((1, 8, 8)).layers]
    assert [neuron.beta.item() for neuron in neurons] == [0.5, 0.25, 0.75]
    assert [neuron.surrogate.slope for neuron in neurons] == [1.0, 2.0, 3.0]
    assert [neuron.alpha.item() for neuron in neurons] == [0.5, 0.25, 0.125]
    assert {neuron.surrogate_centre for neuron in neurons} == {"moving"}
    assert {neuron.reset_mechanism for neuron in neurons} == {"zero"}


@pytest.mark.parametrize("name", SURROGATES)
def test_every_surrogate_can_be_named(digits, name):
    network = digits.with_changes({"neuron.surrogate": name}).build_network((1, 8, 8))
    assert type(network.layers[0].neuron.surrogate) is SURROGATES[name]


def test_an_unknown_surrogate_names_the_nearest(digits):
    config = digits.with_changes({"neuron.surrogate": "fast_sigmod"})
    with pytest.raises(InvalidValueError) as refusal:
        config.build_network((1, 8, 8))
    text = "unknown surrogate 'fast_sigmod'; did you mean 'fast_sigmoid'?"
    assert one_line(refusal) == text


def test_the_loss_takes_its_settings(digits):
    rates = {"loss.correct_rate": 0.7, "loss.incorrect_rate": 0.1}
    assert digits.with_changes(rates).build_loss() == SpikeCountLoss(0.7, 0.1)
    membrane = {"loss.name": "membrane", "loss.reduction": "sum"}
    assert digits.with_changes(membrane).build_loss() == MembraneLoss("sum")
    with pytest.raises(InvalidValueError, match="correct_rate"):
        digits.with_changes({"loss.correct_rate": 1.5}).build_loss()


# Names of data sets, variants and options


def load(name, **options):
    return load_dataset(
        name,
        root=Path("absent"),
        cache=Path("absent"),
        seed=0,
        validation=0.1,
        num_steps=20,
        options=options,
    )


@pytest.mark.parametrize("function", [load, lambda name: load_preset(name, "tha")])
@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("mnits", "did you mean 'mnist'?"),
        ("imagenet", "known are digits, fashion-mnist, mnist, temporal-coding"),
    ],
)
def test_an_unknown_data_set_names_the_nearest_or_all(function, name, ending):
    with pytest.raises(InvalidValueError) as refusal:
        function(name)
    assert one_line(refusal) == f"unknown data set {name!r}; {ending}"


def test_an_unknown_variant_names_what_there_is():
    with pytest.raises(InvalidValueError) as refusal:
        load_preset("mnist", "thaa")
    text = "mnist has no variant 'thaa'; known are bsnn, bsnn-unit, flt32, tha"
    assert one_line(refusal) == text


@pytest.mark.parametrize(
    ("name", "option", "ending"),
    [
        ("temporal-coding", "peek", "did you mean 'peak'?"),
        ("digits", "peak", "it takes none"),
        ("digits", "seed", "it takes none"),
    ],
)
def test_an_unknown_option_of_a_data_set_names_the_nearest(name, option, ending):
    with pytest.raises(InvalidValueError) as refusal:
        load(name, **{option: 1.0})
    assert one_line(refusal) == f"data.options of {name} has no key {option!r}; {ending}"
