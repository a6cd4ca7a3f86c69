"""Configurations: the papers' tables, TOML both ways, and one-line refusals."""

from __future__ import annotations

import ast
import math
from decimal import Decimal
from pathlib import Path

import pytest
from input_shapes import INPUT_SHAPES
from pydantic import ValidationError

import bsnn_tha
from bsnn_tha.config import RunConfig
from bsnn_tha.data import LOADERS, load_dataset
from bsnn_tha.equations.binarize import Binary
from bsnn_tha.equations.sawb import SAWB
from bsnn_tha.equations.surrogate import SURROGATES
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.losses import (
    CrossEntropyLoss,
    MeanMembraneLoss,
    MembraneLoss,
    SpikeCountLoss,
    TemporalEfficientLoss,
    YoloLoss,
)
from bsnn_tha.presets import load_preset, preset_names

ANNEALED = {"tha": True, "solved": True, "bsnn": False, "bsnn-unit": False, "flt32": False}
LOSSES = {
    "spike_count": SpikeCountLoss,
    "membrane": MembraneLoss,
    "mean_membrane": MeanMembraneLoss,
    "cross_entropy": CrossEntropyLoss,
    "tet": TemporalEfficientLoss,
    "yolo": YoloLoss,
}
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
    for dataset in ("mnist", "fashion-mnist", "dvs-gesture", "shd", "temporal-coding"):
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
        if layer.neuron.fires:
            assert layer.neuron.annealed == ANNEALED.get(variant, layer.neuron.annealed)
        assert hasattr(layer.synapse, "latent_weight") == (config.network.weights != "float")
    if variant in ANNEALED:
        assert config.network.weights == ("float" if variant == "flt32" else "binary")
    assert type(config.build_loss(network)) is LOSSES[config.loss.name]


def loss_of(dataset, config):
    return config.build_loss(config.build_network(INPUT_SHAPES[dataset]))


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

# The same columns but the last, then batch norm (None: no column) and the dropout of each layer
TABLE_6 = {
    ("dvs-gesture", "flt32"): ("0.72", "2.5", "5.4", "7.5e-3", False, True, True, ["0.29"]),
    ("dvs-gesture", "bsnn-unit"): ("0.1", "1.0", "0.1", "3.6e-3", False, False, False, ["0.64"]),
    ("dvs-gesture", "bsnn"): ("0.78", "8.7", "0.3", "9.6e-4", True, True, False, ["0.06"]),
    ("dvs-gesture", "tha"): ("0.93", None, "0.2", "1.8e-3", True, False, False, ["0.43"]),
    ("shd", "flt32"): ("0.98", "1.7", "2.0", "2.7e-4", False, False, None, ["0.05", "0.04"]),
    ("shd", "bsnn-unit"): ("0.61", "1.0", "0.4", "1.9e-4", True, True, None, ["0.09", "0.11"]),
    ("shd", "bsnn"): ("0.33", "3.4", "0.1", "5.0e-4", True, True, None, ["0.22", "0.07"]),
    ("shd", "tha"): ("0.95", None, "0.3", "6.5e-4", True, True, None, ["0.02", "0.19"]),
}

# (θ0, θ∞, α) by layer
TABLE_7 = {
    "dvs-gesture": [
        ("10.4", "12.2", "3.3e-3"),
        ("16.6", "19.1", "6.1e-3"),
        ("6.8", "16.5", "0.17"),
    ],
    "shd": [("13.5", "45.2", "2.8e-5"), ("11.2", "51.1", "1.36e-5")],
}

# β, k, η, dropout, (θ0, θ∞, α) by layer, as above
MORE_TEMPORAL_DIGITS = {
    "dvs-gesture": (
        (0.9297, 0.24, 1.765e-3, 0.43),
        [(10.4, 12.1565, 0.00333), (16.62, 19.077, 0.0061), (6.81, 16.465, 0.173)],
    ),
    "shd": (
        (0.950, 0.257, 6.54e-4, [0.186, 0.0176]),
        [(13.504, 45.271, 2.78e-5), (11.20, 51.12, 1.36e-5)],
    ),
}

# Network, time steps, bin width in ms, batch; and the last three for full precision
TEMPORAL_DATA = {
    "dvs-gesture": ("16Conv5-AP2-32Conv5-AP2-800Dense11", 100, 5.0, 8),
    "shd": ("700Dense3000Dense20", 333, 3.0, 32),
}
FLT32_DATA = {"dvs-gesture": (100, 5.0, 16), "shd": (500, 2.0, 32)}

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
    assert config.network.norm == "per-step"
    assert config.network.weights == ("float" if variant == "flt32" else "binary")
    assert (config.data.num_steps, config.data.batch_size) == (100, 128)
    assert loss_of(dataset, config) == SpikeCountLoss(0.8, 0.2)
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


@pytest.mark.parametrize(("dataset", "variant"), TABLE_6, ids=["-".join(key) for key in TABLE_6])
def test_temporal_presets_are_table_6(dataset, variant):
    config = load_preset(dataset, variant)
    beta, theta, k, lr, grad_clip, weight_clip, batch_norm, dropout = TABLE_6[dataset, variant]
    network, steps, bin_ms, batch = TEMPORAL_DATA[dataset]
    if variant == "flt32":
        steps, bin_ms, batch = FLT32_DATA[dataset]
    values = config.network.dropout
    values = values if isinstance(values, list) else [values]
    if (dataset, variant) == ("shd", "tha"):
        # The released configuration has the two the other way round, and the results are its own.
        values = values[::-1]
    compared = [
        (config.neuron.beta, beta),
        (config.neuron.slope, k),
        (config.optimizer.lr, lr),
        *zip(values, dropout, strict=True),
    ]
    for value, printed in compared:
        expected = rounds_to(value, printed) if variant == "tha" else value == float(printed)
        assert expected, (value, printed)
    assert config.training.grad_clip == (1.0 if grad_clip else None)
    assert config.training.weight_clip == (1.0 if weight_clip else None)
    normed = [m for m in config.build_network(INPUT_SHAPES[dataset]).modules() if is_norm(m)]
    assert bool(normed) == bool(batch_norm)  # a network without convolutions has none
    assert config.network.notation == network
    assert (config.data.num_steps, config.data.batch_size) == (steps, batch)
    options = {"bin_ms": bin_ms}
    if dataset == "dvs-gesture":
        options |= {"downsample": 4, "random_start": True, "test_steps": 360}
    assert config.data.options == options
    if theta is not None:
        assert config.threshold.theta_0 == float(theta)
        assert config.threshold.theta_inf is None


def is_norm(module):
    return "norm" in type(module).__name__.lower()


@pytest.mark.parametrize(("dataset", "variant"), TABLE_6, ids=["-".join(key) for key in TABLE_6])
def test_what_the_temporal_presets_have_in_common(dataset, variant):
    config = load_preset(dataset, variant)
    assert config.network.weights == ("float" if variant == "flt32" else "binary")
    assert loss_of(dataset, config) == SpikeCountLoss(0.8, 0.2)
    assert (config.optimizer.name, config.optimizer.betas) == ("adam", (0.9, 0.999))
    assert (config.optimizer.schedule, config.optimizer.period) == ("cosine", 10)
    assert config.neuron.surrogate_centre == "clamped"
    assert config.neuron.surrogate == "fast_sigmoid"
    assert config.neuron.reset_mechanism == "subtract"


@pytest.mark.parametrize("dataset", TABLE_7)
def test_annealed_temporal_presets_are_table_7_in_the_released_digits(dataset):
    config = load_preset(dataset, "tha")
    (beta, k, lr, dropout), layers = MORE_TEMPORAL_DIGITS[dataset]
    assert (config.neuron.beta, config.neuron.slope, config.optimizer.lr) == (beta, k, lr)
    assert config.network.dropout == dropout
    assert rows(config) == layers
    for actual, printed in zip(rows(config), TABLE_7[dataset], strict=True):
        for value, number in zip(actual, printed, strict=True):
            # The table cuts 45.271 off at 45.2.
            assert rounds_to(value, number) or str(value).startswith(number), (value, number)


@pytest.mark.parametrize("variant", ["bsnn", "bsnn-unit", "flt32", "tha"])
@pytest.mark.parametrize(
    ("own", "published"), [("spoken-digits", "shd"), ("saccade-digits", "dvs-gesture")]
)
def test_presets_for_free_data_take_the_published_values(own, published, variant):
    mine, theirs = load_preset(own, variant), load_preset(published, variant)
    assert mine.neuron == theirs.neuron
    assert mine.threshold == theirs.threshold
    assert mine.optimizer == theirs.optimizer
    assert mine.network.dropout == theirs.network.dropout
    assert mine.network.norm == theirs.network.norm
    assert (mine.training.grad_clip, mine.training.weight_clip) == (
        theirs.training.grad_clip,
        theirs.training.weight_clip,
    )


def test_a_preset_is_data():
    """No code but the data sets' own knows one by its name."""
    package = Path(bsnn_tha.__file__).parent
    known = {*LOADERS, *preset_names()}
    found = []
    for path in sorted(package.rglob("*.py")):
        # A command is called after what it draws, an experiment after its data.
        inside = path.relative_to(package)
        if inside.parts[0] in ("data", "presets", "cli") or "temporal_coding" in inside.parts:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {
            node.body[0].value
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body
            if isinstance(node.body[0], ast.Expr)
        }
        found += [
            f"{path.name}:{node.lineno}: {node.value!r}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and node not in docstrings
            if isinstance(node.value, str) and node.value.strip() in known
        ]
    assert found == []


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
    assert config.network.weights == ("float" if variant == "flt32" else "binary")
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.momentum) == ("sgd", 1e-3, 0.9)
    assert optimizer.schedule == "none"
    assert (config.data.num_steps, config.data.batch_size) == (100, 1)
    assert loss_of("temporal-coding", config) == MembraneLoss("mean")
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
    path.write_text(digits.to_toml(), encoding="utf-8-sig")  # with a byte-order mark
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
        ("loss.zzzzzz", "loss 'spike_count' has no setting 'zzzzzz'; known are correct_rate, "),
        ("loss.corect_rate", "loss 'spike_count' has no setting 'corect_rate'; did you mean 'corr"),
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


@pytest.mark.parametrize(
    ("lines", "quantizer", "words"),
    [
        ("", Binary(), "binary"),
        ('weights = "binary"', Binary(), "binary"),
        ('weights = "float"', None, "full-precision"),
        ('weights = "sawb"', SAWB(4), "4-bit"),
        ('weights = "sawb"\nweight_bits = 8', SAWB(8), "8-bit"),
    ],
)
def test_weights_are_chosen_by_name(lines, quantizer, words):
    text = load_preset("digits", "tha").with_changes({"network.notation": "4C3-10"}).to_toml()
    text = text.replace('weights = "binary"', lines)
    config = RunConfig.from_toml(text)
    assert config.network.quantizer() == quantizer
    assert config.network.weights_in_words() == words
    changes = {"threshold.theta_0": 5.0, "threshold.theta_inf": None, "threshold.alpha": None}
    network = config.with_changes(changes).build_network((1, 8, 8))
    assert [getattr(m.synapse, "quantizer", None) for m in network.layers] == [quantizer] * 2
    assert RunConfig.from_toml(config.to_toml()) == config


def test_weight_bits_need_their_quantizer():
    config = load_preset("digits", "tha").with_changes({"network.weight_bits": 4})
    with pytest.raises(InvalidValueError, match="^weights 'binary' has no setting 'weight_bits'"):
        config.build_network((1, 8, 8))


WRONG = {
    "training.epochs": ["many", 2.5, [1], 0],
    "training.patience": [0, "long"],
    "training.seed": [-1, "lucky", 2**32],
    "training.grad_clip": [0.0, "yes"],
    "training.precision": ["16-true", 16],
    "training.protocol": ["papers", True],
    "training.accumulate": [0, 1.5],
    "training.chunk_steps": [0, 2.5],
    "training.record_output": [3],
    "data": [3, "digits"],
    "data.num_steps": [0, -5, [1]],
    "data.batch_size": [0],
    "data.validation": [-0.1, 1.0, "some"],
    "data.subset": [0],
    "data.options": [3],
    "network.notation": [3],
    "network.weights": [3, True],
    "network.weight_bits": ["four", 2.5],
    "network.norm": [True],
    "network.init": ["zeros"],
    "neuron.beta": ["x", ["x"], {"conv": "x"}],
    "neuron.slope": [math.nan, math.inf, [1.0, math.inf]],
    "neuron.surrogate_centre": ["fixed"],
    "neuron.reset_mechanism": ["none at all"],
    "threshold.theta_0": ["high", math.nan],
    "threshold.theta_inf": ["x", math.inf, [1.0, math.nan, 2.0]],
    "loss.name": [3],
    "loss.correct_rate": ["x", math.nan],
    "optimizer.name": ["adamm"],
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
    assert [neuron.rule.alpha.item() for neuron in neurons] == [0.5, 0.25, 0.125]
    assert {neuron.surrogate_centre for neuron in neurons} == {"moving"}
    assert {neuron.reset_mechanism for neuron in neurons} == {"zero"}


@pytest.mark.parametrize("name", SURROGATES)
def test_every_surrogate_can_be_named(digits, name):
    network = digits.with_changes({"neuron.surrogate": name}).build_network((1, 8, 8))
    assert type(network.layers[0].neuron.surrogate) is SURROGATES[name]


def test_the_loss_takes_its_settings(digits):
    rates = {"loss.correct_rate": 0.7, "loss.incorrect_rate": 0.1}
    assert loss_of("digits", digits.with_changes(rates)) == SpikeCountLoss(0.7, 0.1)
    membrane = {"loss.name": "membrane", "loss.reduction": "sum"}
    assert loss_of("digits", digits.with_changes(membrane)) == MembraneLoss("sum")
    with pytest.raises(InvalidValueError, match="correct_rate"):
        loss_of("digits", digits.with_changes({"loss.correct_rate": 1.5}))
    with pytest.raises(InvalidValueError, match=r"^loss\.reduction must be 'mean' or 'sum', but g"):
        digits.with_changes(membrane | {"loss.reduction": "median"})


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


@pytest.mark.parametrize(
    ("function", "known"),
    [(load, LOADERS), (lambda name: load_preset(name, "tha"), preset_names())],
    ids=["data", "preset"],
)
def test_an_unknown_data_set_names_the_nearest_or_all(function, known):
    every = f"known are {', '.join(sorted(known))}"
    for name, ending in (("mnits", "did you mean 'mnist'?"), ("vowels", every)):
        with pytest.raises(InvalidValueError) as refusal:
            function(name)
        assert one_line(refusal).startswith(f"unknown data set {name!r}; {ending}")


def test_an_unknown_variant_names_the_nearest_or_all():
    known = f"known are {', '.join(preset_names()['mnist'])}"
    for name, ending in (("thaa", "did you mean 'tha'?"), ("vowels", known)):
        with pytest.raises(InvalidValueError) as refusal:
            load_preset("mnist", name)
        assert one_line(refusal) == f"mnist has no variant {name!r}; {ending}"


def test_a_key_without_its_table_names_where_it_is():
    with pytest.raises(InvalidValueError) as refusal:
        load_preset("mnist", "tha").with_changes({"epochs": 3})
    assert one_line(refusal).endswith("has no key 'epochs'; did you mean 'training.epochs'?")


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
