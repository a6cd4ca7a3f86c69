"""Settings by kind of layer: one value, a list, or a table, in Python and in files."""

from __future__ import annotations

import re
import tomllib
from importlib import resources

import pytest
import torch

from bsnn_tha import SpikingNetwork
from bsnn_tha.config import RunConfig
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.notation import parse_network
from bsnn_tha.nn.per_layer import kinds_of, per_layer
from bsnn_tha.presets import load_preset, preset_names

NOTATION, INPUT = "4C3-AP2-6C3-8-5", (1, 12, 12)
"""Two convolutions, a fully connected layer, the output."""
TABLE = {"default": 0, "dense": 3, "output": 1}


def described(network):
    """Everything that settings of layers decide."""
    return [
        (
            layer.neuron.beta.item(),
            str(layer.neuron.surrogate),
            layer.neuron.theta_0.item(),
            layer.neuron.emits,
            getattr(layer.neuron, "lateral_weight", torch.empty(0)).numel(),
            getattr(layer.dropout, "p", 0.0),
            layer.neuron._reset_mechanism,
            layer.neuron.surrogate_centre,
        )
        for layer in network.layers
    ]


@pytest.mark.parametrize(
    ("name", "table", "values"),
    [
        ("beta", {"default": 0.5, "output": 0.9}, [0.5, 0.5, 0.5, 0.9]),
        ("slope", {"conv": 1.0, "dense": 2.0}, [1.0, 1.0, 2.0, 2.0]),
        ("theta_0", {"conv": 1.5, "default": 2.0, "output": 3.0}, [1.5, 1.5, 2.0, 3.0]),
        ("lateral_width", TABLE, [0, 0, 3, 1]),
        ("emits", {"conv": "spikes", "dense": "membrane"}, ["spikes"] * 2 + ["membrane"] * 2),
        ("reset_mechanism", {"default": "zero", "output": "none"}, ["zero"] * 3 + ["none"]),
        ("dropout", {"dense": 0.5, "output": 0.0}, [0.5, 0.0]),
        ("dropout", {"default": 0.25}, [0.25, 0.25]),
    ],
)
def test_a_table_is_the_list_it_stands_for(name, table, values):
    settings = {"beta": 0.7}
    by_table = SpikingNetwork(NOTATION, INPUT, **{**settings, name: table})
    by_list = SpikingNetwork(NOTATION, INPUT, **{**settings, name: values})
    assert described(by_table) == described(by_list)
    plain = SpikingNetwork(NOTATION, INPUT, **settings)
    assert described(by_table) != described(plain)


def test_weights_may_start_otherwise_in_layers_of_another_kind():
    torch.manual_seed(0)
    network = SpikingNetwork(
        "32C3-10",
        (16, 12, 12),
        beta=0.9,
        weights="float",
        init={"conv": "kaiming", "dense": "pytorch"},
    )
    conv, dense = (layer.synapse for layer in network.layers)
    assert conv.weight.std().item() == pytest.approx((2 / (16 * 9)) ** 0.5, rel=0.05)
    assert dense.weight.abs().max().item() <= 1 / dense.in_features**0.5
    assert dense.bias.abs().max() > 0


CONFIG = """
variant = "mine"
data = {name = "digits", num_steps = 4, batch_size = 32}
network = {notation = "4C3-12-10", dropout = {dense = 0.5, output = 0.0}}
neuron = {beta = {conv = 0.5, default = 0.75}, slope = 5.0}
threshold = {theta_0 = {default = 2.0, output = 1.0}, theta_inf = {default = 4.0}, alpha = 0.5}
optimizer = {lr = 1e-3}
training = {epochs = 1}
"""


def test_tables_in_a_file_reach_the_layers_and_are_kept():
    config = RunConfig.from_toml(CONFIG)
    assert RunConfig.from_toml(config.to_toml()) == config
    layers = config.build_network((1, 8, 8)).layers
    assert [layer.neuron.beta.item() for layer in layers] == [0.5, 0.75, 0.75]
    assert [layer.neuron.theta_0.item() for layer in layers] == [2.0, 2.0, 1.0]
    assert [layer.neuron.theta_inf.item() for layer in layers] == [4.0] * 3
    assert [getattr(layer.dropout, "p", 0.0) for layer in layers] == [0.0, 0.5, 0.0]
    changed = config.with_changes({"neuron.beta.output": 0.25})
    assert changed.neuron.beta == {"conv": 0.5, "default": 0.75, "output": 0.25}


def test_files_with_a_value_for_each_of_many_layers_still_load():
    """As presets of 123 layers were written before there were tables."""
    config = load_preset("nmnist", "lt")
    shape = (2, 34, 34)
    kinds = kinds_of(parse_network(config.network.notation, shape))
    lists = {
        f"neuron.{name}": per_layer(name, getattr(config.neuron, name), kinds)
        for name in ("lateral_width", "emits")
    }
    assert {len(values) for values in lists.values()} == {123}
    old = RunConfig.from_toml(config.with_changes(lists).to_toml())
    assert described(old.build_network(shape)) == described(config.build_network(shape))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"beta": {"convs": 0.5, "default": 0.9}},
            "beta has no kind of layer 'convs'; did you mean 'conv'?",
        ),
        (
            {"beta": 0.9, "dropout": {"conv": 0.5}},
            "dropout has no kind of layer 'conv'; known are default, dense, output",
        ),
        (
            {"beta": {"dense": 0.5}},
            "beta has no value for spiking layer 1, a conv layer; "
            "add conv or default to {'dense': 0.5}",
        ),
        (
            {"beta": [0.5] * 123},
            "beta needs one value, or one for each spiking layer (4), "
            "but got 123: [0.5, 0.5, 0.5, 0.5, … 123 values]",
        ),
        (
            {"beta": torch.linspace(0, 2, 3000)},
            "beta must be in [0, 1], but got beta=a tensor of shape [3000]",
        ),
    ],
    ids=["unknown", "not_for_conv", "missing", "length", "tensor"],
)
def test_errors_name_the_kind_and_quote_little(settings, message):
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$"):
        SpikingNetwork(NOTATION, INPUT, **settings)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("neuron.beta", ["0.5"] * 123),
        ("neuron.lateral_width", [0.5] * 123),
        ("neuron.emits", ["spike"] * 123),
        ("threshold.theta_0", {"default": "1"}),
        ("optimizer.lr", [0.1] * 123),
        ("network.notation", ["10"] * 123),
    ],
)
def test_a_file_with_a_wrong_list_is_quoted_in_one_short_line(key, value):
    with pytest.raises(InvalidValueError) as refusal:
        RunConfig.from_toml(CONFIG).with_changes({key: value})
    message = str(refusal.value)
    assert message.startswith(f"{key} must be ")
    assert "\n" not in message and len(message) < 200


def lists_in(value):
    if isinstance(value, dict):
        for each in value.values():
            yield from lists_in(each)
    elif isinstance(value, list):
        yield value


def test_no_preset_has_a_list_longer_than_the_papers_tables():
    """Which have three layers; what is more is a table by kind of layer."""
    folder = resources.files("bsnn_tha.presets")
    for dataset, variants in preset_names().items():
        for variant in variants:
            text = (folder / dataset / f"{variant}.toml").read_text(encoding="utf-8")
            longest = max(map(len, lists_in(tomllib.loads(text))), default=0)
            assert longest <= 3, f"{dataset}/{variant}"
            assert max(map(len, text.splitlines())) <= 130, f"{dataset}/{variant}"
