"""SpikingNetwork against a step-by-step loop of torch's own layers."""

from __future__ import annotations

import copy
import io
import pickle
import re

import pytest
import torch
from reference import binary_conv2d_avg_pool
from torch import nn
from torch.nn import functional as F

from bsnn_tha import BinaryConv2d, SpikingNetwork, thresholds
from bsnn_tha.equations.binarize import Binary
from bsnn_tha.equations.sawb import SAWB
from bsnn_tha.equations.surrogate import FastSigmoid, Sigmoid
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.conv import conv_avg_pool2d
from bsnn_tha.nn.dropout import SeededDropout
from bsnn_tha.nn.norms.batch_norm import BatchNormPerStep, ThresholdDependentBatchNorm
from bsnn_tha.nn.weights.quantized import QuantizedConv2d, QuantizedLinear

STEPS, BATCH = 6, 4


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make_network(**settings):
    """Two convolutions and two dense layers, annealed, every parameter uncommon."""
    defaults = {
        "beta": [0.9, 0.8, 0.7, 0.6],
        "theta_0": [0.5, 0.6, 2.0, 1.0],
        "theta_inf": [1.5, 1.6, 5.0, 4.0],
        "alpha": [0.05, 0.1, 0.02, 0.2],
        "slope": [0.5, 0.4, 0.3, 0.2],
    }
    network = SpikingNetwork("4C3-AP2-6C3-12-5", (2, 10, 9), **{**defaults, **settings}).double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    for layer in network.layers:
        layer.neuron.anneal(3)
    return network


def make_frames():
    return torch.rand(STEPS, BATCH, 2, 10, 9, dtype=torch.float64).round()


class StepByStep(nn.Module):
    """The same network from torch's own layers, one call per layer and time step."""

    def __init__(self, network: SpikingNetwork) -> None:
        super().__init__()
        self.synapses, self.norms, self.neurons = (nn.ModuleList() for _ in range(3))
        self.pools = [getattr(layer.spec, "pool", 1) for layer in network.layers]
        for layer in network.layers:
            synapse = layer.synapse
            plain = synapse.to_float() if hasattr(synapse, "to_float") else copy.deepcopy(synapse)
            self.synapses.append(plain)
            norm: nn.Module = nn.Identity()
            if layer.norm is not None:
                kind = nn.BatchNorm1d if isinstance(plain, nn.Linear) else nn.BatchNorm2d
                norm = kind(layer.norm.num_features).to(plain.weight.dtype)
                norm.load_state_dict(layer.norm.state_dict())
            self.norms.append(norm)
            self.neurons.append(copy.deepcopy(layer.neuron))
        self.train(network.training)

    def forward(self, frames):
        state = [None] * len(self.neurons)
        spikes, membranes = [], []
        for spk in frames:
            for i, (synapse, pool, norm, neuron) in enumerate(
                zip(self.synapses, self.pools, self.norms, self.neurons, strict=True)
            ):
                if isinstance(synapse, nn.Linear):
                    spk = spk.flatten(1)
                current = synapse(spk)
                if pool > 1:
                    current = F.avg_pool2d(current, pool)
                spk, state[i] = neuron(norm(current), state[i])
            spikes.append(spk)
            membranes.append(state[-1])
        return torch.stack(spikes), torch.stack(membranes), state


CONFIGURATIONS = {
    "binary": {},
    "float_weights": {"weights": "float", "theta_0": [0.1, 0.15, 0.2, 0.1], "theta_inf": 0.5},
    "without_batch_norm": {"norm": "none"},
    "batch_norm_everywhere": {"norm": {"default": "per-step"}, "theta_0": 0.5, "theta_inf": 1.5},
    "moving_centre": {"surrogate_centre": "moving"},
    "reset_to_zero": {"reset_mechanism": "zero"},
    "fixed_threshold": {"theta_0": 1.2, "theta_inf": None, "alpha": None},
}
configurations = pytest.mark.parametrize(
    "settings", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys()
)


# Against the loop


@configurations
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_equals_the_step_by_step_loop(settings, training):
    network = make_network(**settings).train(training)
    loop = StepByStep(network)
    frames = make_frames()
    upstream = torch.randn(2, STEPS, BATCH, 5, dtype=torch.float64)

    window = network(frames, record=True)
    spikes, membranes, state = loop(frames)
    assert 0 < spikes.mean() < 1
    assert torch.equal(window.spikes, spikes)
    torch.testing.assert_close(window.membranes, membranes, rtol=1e-10, atol=1e-10)
    assert len(window.state) == 4
    for actual, expected in zip(window.state, state, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)

    (upstream[0] * window.spikes + upstream[1] * window.membranes).sum().backward()
    (upstream[0] * spikes + upstream[1] * membranes).sum().backward()
    for i, layer in enumerate(network.layers):
        pairs = [(weight_of(layer.synapse).grad, loop.synapses[i].weight.grad)]
        if layer.synapse.bias is not None:
            pairs.append((layer.synapse.bias.grad, loop.synapses[i].bias.grad))
        if layer.norm is not None:
            pairs.append((layer.norm.weight.grad, loop.norms[i].weight.grad))
            pairs.append((layer.norm.bias.grad, loop.norms[i].bias.grad))
        for actual, expected in pairs:
            assert bool(expected.any())
            torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-9)

    for layer, norm in zip(network.layers, loop.norms, strict=True):
        if layer.norm is not None:
            torch.testing.assert_close(layer.norm.running_mean, norm.running_mean)
            torch.testing.assert_close(layer.norm.running_var, norm.running_var)
            assert layer.norm.num_batches_tracked.item() == (STEPS if training else 0)


def weight_of(synapse):
    return synapse.latent_weight if hasattr(synapse, "latent_weight") else synapse.weight


@configurations
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_a_constant_input_equals_the_same_input_at_every_step(settings, training):
    network = make_network(**settings).train(training)
    twin = copy.deepcopy(network)
    image = torch.randn(BATCH, 2, 10, 9, dtype=torch.float64)
    constant = network(image, num_steps=STEPS, record=True)
    repeated = twin(image.expand(STEPS, *image.shape), record=True)
    assert 0 < constant.spikes.mean() < 1
    assert torch.equal(constant.spikes, repeated.spikes)
    torch.testing.assert_close(constant.membranes, repeated.membranes, rtol=1e-10, atol=1e-10)
    for window in (constant, repeated):
        (window.spikes.sum() + window.membranes.square().sum()).backward()
    for actual, expected in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, expected.grad, rtol=1e-8, atol=1e-9)
    for actual, expected in zip(network.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_state_splits_a_window(training):
    network = make_network().train(training)
    twin = copy.deepcopy(network)
    frames = make_frames()
    whole = network(frames, record=True)
    first = twin(frames[:2], record=True)
    second = twin(frames[2:], state=first.state, record=True)
    assert torch.equal(torch.cat([first.spikes, second.spikes]), whole.spikes)
    membranes = torch.cat([first.membranes, second.membranes])
    torch.testing.assert_close(membranes, whole.membranes, rtol=1e-10, atol=1e-10)
    for actual, expected in zip(second.state, whole.state, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
    fresh = copy.deepcopy(network)(frames[2:])
    assert not torch.equal(fresh.spikes, second.spikes)  # the state matters

    upstream = torch.randn_like(whole.spikes)
    (upstream * whole.spikes).sum().backward()
    (upstream * torch.cat([first.spikes, second.spikes])).sum().backward()
    for actual, expected in zip(twin.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, expected.grad, rtol=1e-8, atol=1e-9)


def test_the_wrong_number_of_states():
    network = make_network()
    with pytest.raises(ValueError):
        network(make_frames(), state=network(make_frames()).state[:-1])


def test_membranes_are_recorded_on_request():
    network, frames = make_network(), make_frames()
    assert network(frames).membranes is None
    assert network(frames, record=True).membranes.shape == (STEPS, BATCH, 5)


def test_gradient_reaches_every_parameter():
    network = make_network()
    network(make_frames()).spikes.sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()), name
    latent = [name for name, _ in network.named_parameters() if name.endswith("latent_weight")]
    assert len(latent) == 4


def test_annealing_changes_what_the_network_does():
    network, frames = make_network().eval(), make_frames()
    before = network(frames).spikes.sum()
    for layer in network.layers:
        layer.neuron.anneal(200)
    assert network(frames).spikes.sum() < before


@pytest.mark.parametrize(
    ("notation", "input_shape"),
    [("7-5", (2, 3, 4)), ("7", (6,)), ("3C3", (1, 5, 5))],
    ids=["dense_on_maps", "one_dense", "ends_in_a_convolution"],
)
def test_other_networks(notation, input_shape):
    network = SpikingNetwork(notation, input_shape, beta=0.9, theta_0=0.5).double()
    frames = torch.rand(STEPS, BATCH, *input_shape, dtype=torch.float64)
    spikes, _, _ = StepByStep(network)(frames)
    window = network(frames)
    assert torch.equal(window.spikes, spikes)
    assert window.spikes.shape == (STEPS, BATCH, *network.layers[-1].output_shape)
    assert network(frames[0], num_steps=3).spikes.shape[:2] == (3, BATCH)


def test_float32_spikes_are_those_of_the_loop_with_exact_arithmetic():
    # Spikes, ±1 weights, pooling by 4 and β = ½: every number is a binary fraction.
    network = SpikingNetwork(
        "4C3-AP2-6C3-5", (2, 10, 9), beta=0.5, theta_0=[1.0, 2.0, 1.0], norm="none"
    )
    frames = torch.rand(STEPS, BATCH, 2, 10, 9).round()
    spikes, membranes, _ = StepByStep(network)(frames)
    window = network(frames, record=True)
    assert 0 < spikes.mean() < 1
    assert torch.equal(window.spikes, spikes)
    assert torch.equal(window.membranes, membranes)


# Settings


def test_settings_by_layer():
    network = SpikingNetwork(
        "4C3-AP2-6-5",
        (1, 8, 8),
        beta=[0.9, 0.8, 0.7],
        theta_0=(1, 2, 3),
        theta_inf=[4.0, 5.0, 6.0],
        alpha=0.25,
        surrogate=[FastSigmoid(2.0), Sigmoid(3.0), FastSigmoid(4.0)],
        dropout=[0.1, 0.2],
    )
    neurons = [layer.neuron for layer in network.layers]
    assert all(type(neuron.rule) is thresholds.Annealed for neuron in neurons)
    assert [neuron.beta.item() for neuron in neurons] == pytest.approx([0.9, 0.8, 0.7])
    assert [neuron.threshold.item() for neuron in neurons] == [1, 2, 3]
    assert [neuron.theta_inf.item() for neuron in neurons] == [4, 5, 6]
    assert [neuron.rule.alpha.item() for neuron in neurons] == [0.25] * 3
    assert [n.surrogate for n in neurons] == [FastSigmoid(2.0), Sigmoid(3.0), FastSigmoid(4.0)]
    assert [getattr(layer.dropout, "p", 0.0) for layer in network.layers] == [0.0, 0.1, 0.2]


def test_one_setting_for_all_layers_is_not_shared():
    beta = torch.tensor(0.5)
    network = SpikingNetwork("4-3", (5,), beta=beta, learn_beta=True, rule="learned")
    first, second = (layer.neuron for layer in network.layers)
    with torch.no_grad():
        first.beta.fill_(0.25)
        first.threshold.fill_(9.0)
    assert second.beta.item() == 0.5 and second.threshold.item() == 1.0


@pytest.mark.parametrize(
    ("weights", "quantizer"),
    [("binary", Binary()), ("float", None), ("sawb", SAWB(4))],
    ids=["binary", "float", "sawb"],
)
def test_weights_are_an_axis(weights, quantizer):
    network = SpikingNetwork("4C3-6-5", (1, 8, 8), beta=0.9, weights=weights)
    kinds = [type(layer.synapse) for layer in network.layers]
    conv, dense = (QuantizedConv2d, QuantizedLinear) if quantizer else (nn.Conv2d, nn.Linear)
    assert kinds == [conv, dense, dense]
    assert [getattr(layer.synapse, "quantizer", None) for layer in network.layers] == [
        quantizer
    ] * 3
    assert network.layers[0].synapse.bias is None
    assert network.layers[1].synapse.bias is not None


def test_init_reaches_the_binary_layers():
    for init in ("glorot", "pytorch"):
        network = SpikingNetwork("4C3-5", (1, 8, 8), beta=0.9, init=init)
        assert [layer.synapse.init for layer in network.layers] == [init] * 2


def test_batch_norm_follows_convolutions_only():
    network = SpikingNetwork("4C3-AP2-6-5", (1, 8, 8), beta=0.9)
    assert [layer.norm is not None for layer in network.layers] == [True, False, False]
    network = SpikingNetwork("4C3-AP2-6-5", (1, 8, 8), beta=0.9, norm="none")
    assert [layer.norm for layer in network.layers] == [None] * 3


def test_batch_norm_follows_the_layers_that_a_table_or_a_list_names():
    for norm in ({"dense": "tdbn", "conv": "per-step", "output": "none"},
                 ["per-step", "tdbn", "none"]):  # fmt: skip
        network = SpikingNetwork("4C3-AP2-6-5", (1, 8, 8), beta=0.9, norm=norm, theta_0=[3, 4, 5])
        kinds = [type(layer.norm) for layer in network.layers]
        assert kinds == [BatchNormPerStep, ThresholdDependentBatchNorm, type(None)]
        assert network.layers[1].norm.scale == 4 and network.layers[1].norm.num_features == 6
        # What batch norm shifts needs no bias.
        assert [layer.synapse.bias is None for layer in network.layers] == [True, True, False]
    alone = SpikingNetwork("6-5", (8,), beta=0.9, norm={"dense": "tdbn"})
    assert all(isinstance(layer.norm, ThresholdDependentBatchNorm) for layer in alone.layers)
    with pytest.raises(InvalidValueError, match="norm='tdbn' is for convolutions") as refusal:
        SpikingNetwork("6-5", (8,), beta=0.9, norm="tdbn")
    assert "norm={'dense': 'tdbn', 'output': 'none'}" in str(refusal.value)


def test_options_of_a_norm_are_of_the_layers_that_have_one():
    options = {"norm_options": {"momentum": 0.3}}
    network = SpikingNetwork("4C3-6-5", (1, 8, 8), beta=0.9, norm="tdbn", **options)
    assert network.layers[0].norm.momentum == 0.3 and network.layers[1].norm is None
    norm = {"dense": "tdbn", "default": "none"}
    network = SpikingNetwork("4C3-6-Rec5", (1, 8, 8), beta=0.9, norm=norm, **options)
    assert [layer.norm.momentum for layer in network.layers[1:]] == [0.3, 0.3]
    with pytest.raises(InvalidValueError, match="norm 'none' has no setting 'momentum'"):
        SpikingNetwork("4C3-5", (1, 8, 8), beta=0.9, norm="none", **options)


def test_a_dense_layers_batch_norm_over_the_window_is_that_of_a_table_of_samples():
    network = SpikingNetwork("6-5", (8,), beta=0.9, theta_0=3.0, norm=["tdbn", "none"])
    layer = network.layers[0]
    frames = torch.rand(STEPS, BATCH, 8).round()
    current = layer.drive(frames)
    signs = torch.where(layer.synapse.latent_weight >= 0, 1.0, -1.0)
    rows = frames.flatten(0, 1) @ signs.t()
    mean, variance = rows.mean(0), rows.var(0, unbiased=False)
    expected = 3.0 * (rows - mean) / (variance + 1e-5).sqrt()
    torch.testing.assert_close(current.flatten(0, 1), expected)
    torch.testing.assert_close(layer.norm.running_mean, 0.1 * mean)
    image = torch.rand(BATCH, 8)
    still = network.eval()(image, 3, record=True)
    moving = network(image.expand(3, BATCH, 8), record=True)
    torch.testing.assert_close(still.membranes, moving.membranes)


# Dropout


def currents_of(network, input, num_steps):
    """Current of the output layer at each step: its membrane for β = 0 and no reset."""
    return network(input, num_steps, record=True).membranes.detach()


@pytest.mark.parametrize("constant", [True, False], ids=["constant_input", "frames"])
def test_dropout_draws_a_new_mask_at_every_step_and_only_in_training(constant):
    network = SpikingNetwork("50", (20,), beta=0.0, reset_mechanism="none", dropout=0.25)
    image = torch.rand(BATCH, 20)
    arguments = (image, 40) if constant else (image.expand(40, BATCH, 20), None)
    clean = currents_of(network.eval(), *arguments)
    assert torch.equal(clean, clean[:1].expand_as(clean)) and bool((clean != 0).all())

    dropped = currents_of(network.train(), *arguments)
    masks = dropped == 0
    assert masks.double().mean() == pytest.approx(0.25, abs=0.02)
    for axis in range(3):  # varies over time, batch and neurons
        assert bool((masks != masks.select(axis, 0).unsqueeze(axis)).any())
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == 40
    torch.testing.assert_close(dropped[~masks], (clean / 0.75)[~masks])


def test_dropout_acts_on_every_dense_layer_the_output_included():
    network = SpikingNetwork("3C3-6-5", (1, 6, 6), beta=0.9, dropout=0.5)
    kinds = [type(layer.dropout) for layer in network.layers]
    assert kinds == [nn.Identity, SeededDropout, SeededDropout]


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
def test_bad_dropout(rate):
    message = f"dropout must be in [0, 1), but got dropout={rate}"
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$"):
        SpikingNetwork("5", (4,), beta=0.9, dropout=rate)


# Broken rules


@pytest.mark.parametrize(
    ("shape", "num_steps", "message"),
    [
        (
            (3, 2, 1, 8, 7),
            None,
            "input must be [time, batch, 1, 8, 8] without num_steps, but got shape [3, 2, 1, 8, 7]",
        ),
        (
            (2, 1, 8, 8),
            None,
            "input must be [time, batch, 1, 8, 8] without num_steps, but got shape [2, 1, 8, 8]",
        ),
        (
            (3, 2, 1, 8, 8),
            5,
            "input must be [batch, 1, 8, 8] with num_steps, but got shape [3, 2, 1, 8, 8]",
        ),
        (
            (2, 1, 8, 9),
            5,
            "input must be [batch, 1, 8, 8] with num_steps, but got shape [2, 1, 8, 9]",
        ),
        ((8,), None, "input must be [time, batch, 1, 8, 8] without num_steps, but got shape [8]"),
        ((2, 1, 8, 8), 0, "num_steps must be at least 1, but got 0"),
        ((2, 1, 8, 8), -3, "num_steps must be at least 1, but got -3"),
    ],
)
@pytest.mark.parametrize("notation", ["4C3-5", "5"])
def test_bad_input(notation, shape, num_steps, message):
    network = SpikingNetwork(notation, (1, 8, 8), beta=0.9)
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$"):
        network(torch.zeros(shape), num_steps)


@pytest.mark.parametrize("notation", ["4C3-5", "5"])
def test_no_time_step(notation):
    network = SpikingNetwork(notation, (1, 8, 8), beta=0.9)
    with pytest.raises(InvalidValueError, match="at least one time step"):
        network(torch.zeros(0, 2, 1, 8, 8))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"theta_0": [1.0, 2.0]},
            "theta_0 needs one value, or one for each spiking layer (3), but got 2: [1.0, 2.0]",
        ),
        (
            {"dropout": [0.1, 0.2, 0.3]},
            "dropout needs one value, or one for each fully connected layer (2), "
            "but got 3: [0.1, 0.2, 0.3]",
        ),
        ({"beta": [0.9, 0.9, 1.9]}, "beta must be in [0, 1], but got beta=1.9"),
        ({"init": "zeros"}, "unknown init 'zeros'; known are glorot, kaiming, pytorch"),
    ],
    ids=["layers", "dense_layers", "neuron", "init"],
)
def test_bad_settings(settings, message):
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$"):
        SpikingNetwork("4C3-AP2-6-5", (1, 8, 8), **{"beta": 0.9, **settings})


def test_bad_notation():
    with pytest.raises(InvalidValueError, match="→64X5←"):
        SpikingNetwork("64X5-10", (1, 28, 28), beta=0.9)


# Copies


def save_and_load(thing):
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def by_state_dict(network):
    twin = make_network(beta=0.1)
    twin.load_state_dict(save_and_load(network.state_dict()))
    return twin


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda network: pickle.loads(pickle.dumps(network)),
    "torch_save": save_and_load,
    "state_dict": by_state_dict,
}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES.keys())
def test_copies_compute_the_same_and_are_independent(duplicate):
    network, frames = make_network(), make_frames()
    network(frames).spikes.sum().backward()  # uncommon running statistics
    network.eval()
    twin = duplicate(network).eval()
    before = network(frames, record=True)
    after = twin(frames, record=True)
    assert torch.equal(before.spikes, after.spikes)
    assert torch.equal(before.membranes, after.membranes)
    for layer in network.layers:
        layer.neuron.anneal(50)
    with torch.no_grad():
        network.layers[0].synapse.latent_weight.neg_()
    again = twin(frames, record=True)
    assert torch.equal(again.membranes, after.membranes)
    assert not torch.equal(network(frames, record=True).membranes, before.membranes)


# Convolution and average pooling as one convolution


@pytest.mark.parametrize("size", [(12, 12), (13, 11)], ids=["fits", "incomplete_border"])
@pytest.mark.parametrize("pool", [1, 2, 4])
def test_conv_avg_pool_is_bit_equal_on_spikes_and_signs(pool, size):
    spikes = torch.rand(3, 2, *size).round()
    signs = torch.randn(5, 2, 3, 3).sign()
    two_steps = F.avg_pool2d(F.conv2d(spikes, signs), pool)
    assert torch.equal(conv_avg_pool2d(spikes, signs, pool), two_steps)


@pytest.mark.parametrize("pool", [2, 3])
def test_conv_avg_pool_is_close_elsewhere(pool):
    maps, weight = torch.randn(3, 2, 13, 11), torch.randn(5, 2, 3, 3)
    two_steps = F.avg_pool2d(F.conv2d(maps, weight), pool)
    torch.testing.assert_close(conv_avg_pool2d(maps, weight, pool), two_steps)
    spikes, signs = maps.gt(0).float(), weight.sign()
    two_steps = F.avg_pool2d(F.conv2d(spikes, signs), pool)
    torch.testing.assert_close(conv_avg_pool2d(spikes, signs, pool), two_steps)


@pytest.mark.parametrize("pool", [1, 2, 3])
def test_conv_avg_pool_equals_scalar_loops(pool):
    layer = BinaryConv2d(2, 3, 3, bias=False)
    spikes = torch.rand(2, 8, 7).round()
    expected = binary_conv2d_avg_pool(spikes.tolist(), layer.latent_weight.tolist(), pool)
    actual = conv_avg_pool2d(spikes[None], layer.weight, pool)[0]
    torch.testing.assert_close(actual, torch.tensor(expected))


@pytest.mark.parametrize("pool", [2, 3])
def test_conv_avg_pool_gradients(pool):
    maps = torch.randn(2, 2, 9, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    two_steps = F.avg_pool2d(F.conv2d(maps, weight), pool)
    upstream = torch.randn_like(two_steps)
    expected = torch.autograd.grad(two_steps, (maps, weight), upstream)
    actual = torch.autograd.grad(conv_avg_pool2d(maps, weight, pool), (maps, weight), upstream)
    torch.testing.assert_close(actual, expected)
