"""Presets of the papers on learned thresholds, value by value."""

from __future__ import annotations

import math

import pytest
import torch

from bsnn_tha.nn.neurons.lateral import LateralLeaky
from bsnn_tha.presets import load_preset

LTMD = [
    ("cifar10", kind + network)
    for kind in ("lif", "lt", "ltmd")
    for network in ("", "-resnet19", "-vgg16")
] + [(data, kind) for data in ("mnist", "nmnist", "dvs-cifar10") for kind in ("lif", "lt", "ltmd")]
ltmd_presets = pytest.mark.parametrize(("dataset", "variant"), LTMD, ids=map("-".join, LTMD))

# The learning rate of LTMD's code: 0.04, and after so many epochs another one.
RATES = {50: 0.01, 100: 5e-3, 150: 1e-3, 200: 5e-4, 250: 1e-4, 300: 5e-5, 350: 1e-5}


@ltmd_presets
def test_ltmd_trains_as_in_its_authors_code(dataset, variant):
    config = load_preset(dataset, variant)
    assert config.data.batch_size == (20 if dataset == "dvs-cifar10" else 64)
    assert config.training.epochs == 400
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.momentum) == ("sgd", 0.04, 0.9)
    assert optimizer.weight_decay == 1e-4
    assert optimizer.schedule == "steps"
    assert {int(epochs): rate for epochs, rate in optimizer.steps.items()} == RATES
    assert optimizer.threshold_lr is None
    assert config.data.options.get("augment", False) == (dataset == "cifar10")


@ltmd_presets
def test_ltmd_has_the_papers_neurons_and_dropout(dataset, variant):
    config = load_preset(dataset, variant)
    kind = variant.partition("-")[0]
    neuron, threshold, network = config.neuron, config.threshold, config.network
    assert (neuron.beta, neuron.reset_mechanism) == (0.25, "zero")
    assert (neuron.surrogate, neuron.slope, neuron.surrogate_centre) == ("rectangle", 1, "moving")
    # Eq. 9 and 10: all fully connected layers, the output's too; width as in the code.
    assert neuron.lateral_width == {"default": 0, "dense": 5}
    assert neuron.emits == {"default": "spikes", "dense": "membrane"}
    assert threshold.theta_0 == pytest.approx(math.tanh(0.5))
    assert threshold.rule == ("fixed" if kind == "lif" else "tanh")
    assert config.loss.name == "mean_membrane"
    # Section 3.2: the moderate one takes the place of ordinary dropout.
    assert network.moderate_dropout == (0.2 if kind == "ltmd" else 0.0)
    assert config.loss.divergence == (0.5 if kind == "ltmd" else 0.0)
    assert network.dropout == (0.0 if kind == "ltmd" else {"dense": 0.2, "output": 0.0})
    assert network.init == {"conv": "kaiming", "dense": "pytorch"}


@pytest.mark.parametrize("variant", ["lif", "lt", "ltmd"])
def test_ltmds_settings_reach_the_layers(variant):
    config = load_preset("mnist", variant)
    layers = config.build_network((1, 28, 28)).layers
    assert [layer.neuron.emits for layer in layers] == ["spikes"] * 3 + ["membrane"] * 2
    for layer in layers[3:]:
        assert isinstance(layer.neuron, LateralLeaky)
        assert layer.neuron.lateral_weight.shape == (5,)
    moderate, plain = (variant == "ltmd") * 0.2, (variant != "ltmd") * 0.2
    assert getattr(layers[3].moderate_dropout, "rate", 0.0) == moderate
    assert getattr(layers[3].dropout, "p", 0.0) == plain
    assert layers[4].moderate_dropout is None and not hasattr(layers[4].dropout, "p")


@pytest.mark.parametrize("variant", ["lt", "ltmd"])
def test_every_threshold_of_ltmd_has_a_gradient(variant):
    """Section 3.1: all learn, those of layers that hand on potentials too."""
    torch.manual_seed(0)
    config = load_preset("mnist", variant).with_changes(
        {"network.notation": "4C3P-AP2-4C3P-AP2-16-10"}
    )
    network = config.build_network((1, 12, 12))
    window = network(torch.rand(8, 1, 12, 12), num_steps=4, record=True)
    config.build_loss(network)(window, torch.arange(8)).backward()
    for layer in network.layers:
        assert layer.neuron.rule.k.grad != 0


def test_ltmds_figure_6_has_eight_fully_connected_layers():
    config = load_preset("cifar10", "lt-fc8")
    small = config.with_changes({"network.notation": "6-6-6-6-6-6-6-10"})
    layers = small.build_network((3, 32, 32)).layers
    assert len(config.network.notation.split("-")) == len(layers) == 8
    assert {layer.neuron.emits for layer in layers} == {"membrane"}
    assert config.threshold.rule == "tanh"


ROUSER = [
    ("mnist", "rouser"),
    ("mnist", "rouser-fixed"),
    ("mnist", "rouser-low"),
    ("mnist", "rouser-low-fixed"),
    ("nmnist", "rouser"),
    ("nmnist", "rouser-fixed"),
    ("dvs-gesture", "rouser"),
    ("dvs-gesture", "rouser-fixed"),
    ("shd", "rouser"),
    ("shd", "rouser-fixed"),
]


@pytest.mark.parametrize(("dataset", "variant"), ROUSER, ids=map("-".join, ROUSER))
def test_rouser_is_table_2(dataset, variant):
    config = load_preset(dataset, variant)
    neuron, threshold, optimizer = config.neuron, config.threshold, config.optimizer
    low = "low" in variant  # Fig. 6b: Th, τ, s = 0.25, 3, 3
    assert threshold.theta_0 == (0.25 if low else 1.25)
    assert neuron.slope == pytest.approx(1 / (3 if low else 3.75))
    assert neuron.surrogate_scale == (3 if low else 1.5)
    assert (neuron.surrogate, neuron.surrogate_centre) == ("exponential", "moving")
    assert (neuron.model, neuron.synaptic_decay, neuron.beta) == ("synaptic", 0.75, 0.97)
    assert neuron.reset_mechanism == "zero"
    assert (optimizer.name, optimizer.lr, optimizer.schedule) == ("adam", 1e-3, "none")
    assert (config.loss.name, config.network.init) == ("spike_count", "kaiming")
    if "fixed" not in variant:
        assert (threshold.rule, threshold.per) == ("learned", "neuron")
        assert optimizer.threshold_lr == 1e-3


def test_rousers_weights_start_as_kaiming_he_says():
    torch.manual_seed(0)
    config = load_preset("nmnist", "rouser").with_changes({"network.notation": "50-10"})
    first = config.build_network((2, 34, 34)).layers[0].synapse
    assert first.weight.std().item() == pytest.approx(math.sqrt(2 / 2312), rel=0.02)  # 0.0294
    assert first.bias.abs().max() == 0
