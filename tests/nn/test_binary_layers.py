"""Linear and convolutional layers with 1-bit weights."""

from __future__ import annotations

import copy
import io
import math
import pickle
import re

import numpy as np
import pytest
import torch
from reference import binary_conv2d_avg_pool, binary_linear
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

import bsnn_tha.equations.binarize
from bsnn_tha import BinaryConv2d, BinaryLinear, SpikingNetwork
from bsnn_tha.errors import InvalidValueError

LAYERS = {
    "linear": (lambda **settings: BinaryLinear(6, 4, **settings), (3, 6)),
    "conv": (lambda **settings: BinaryConv2d(2, 3, 3, **settings), (3, 2, 5, 5)),
}
layers = pytest.mark.parametrize(("build", "shape"), LAYERS.values(), ids=LAYERS.keys())


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def save_and_load(thing):
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
    "torch_save": save_and_load,
}


# Values


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
def test_linear_equals_loops(bias):
    layer = BinaryLinear(6, 4, bias=bias, init="pytorch")
    with torch.no_grad():
        layer.latent_weight[0, :3] = torch.tensor([0.0, -0.0, 5.0])
    input = torch.randint(-3, 4, (5, 6)).float()
    offsets = layer.bias.tolist() if bias else None
    expected = [
        binary_linear(sample, layer.latent_weight.tolist(), offsets) for sample in input.tolist()
    ]
    torch.testing.assert_close(layer(input), torch.tensor(expected))


def test_conv_equals_loops():
    layer = BinaryConv2d(2, 3, 3, bias=False)
    input = torch.randint(-3, 4, (2, 2, 6, 5)).float()
    expected = [
        binary_conv2d_avg_pool(sample, layer.latent_weight.tolist()) for sample in input.tolist()
    ]
    assert torch.equal(layer(input), torch.tensor(expected))


@pytest.mark.parametrize(
    "settings",
    [
        {"stride": 2},
        {"padding": 2},
        {"padding": "same"},
        {"dilation": 2},
        {"groups": 2},
        {"padding": 1, "padding_mode": "circular"},
        {"groups": 4, "stride": (1, 2), "padding": (2, 1), "bias": False},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_conv_settings_equal_a_plain_convolution_with_signs(settings):
    layer = BinaryConv2d(4, 8, 3, **settings)
    plain = nn.Conv2d(4, 8, 3, **settings)
    with torch.no_grad():
        if plain.bias is not None:
            plain.bias.copy_(layer.bias.normal_())
        plain.weight.copy_(torch.where(layer.latent_weight < 0, -1.0, 1.0))
    input = torch.randn(2, 4, 9, 9)
    assert torch.equal(layer(input), plain(input))
    assert set(layer.weight.unique().tolist()) == {-1.0, 1.0}


def test_linear_takes_a_window():
    layer = BinaryLinear(6, 4, init="pytorch")
    window = torch.rand(7, 3, 6).round()
    steps = torch.stack([layer(step) for step in window])
    assert torch.equal(layer(window), steps)


@layers
def test_gradient_reaches_the_latent_weights_unclipped(build, shape):
    layer = build()
    with torch.no_grad():
        layer.latent_weight.mul_(100)  # far outside [-1, 1]
    assert bool((layer.latent_weight.abs() > 1).any())
    plain = layer.to_float()
    input = torch.randn(shape)
    upstream = torch.randn_like(layer(input))
    layer(input).backward(upstream)
    plain(input).backward(upstream)
    assert torch.equal(layer.latent_weight.grad, plain.weight.grad)
    assert torch.equal(layer.bias.grad, plain.bias.grad)


# What the layers are, and what they store


def test_are_instances_of_the_torch_layers():
    assert isinstance(BinaryLinear(2, 2), nn.Linear)
    assert isinstance(BinaryConv2d(1, 1, 1), nn.Conv2d)


@layers
def test_state_dict_and_parameters_hold_the_latent_weights(build, shape):
    layer = build()
    assert list(layer.state_dict()) == ["latent_weight", "bias"]
    assert dict(layer.named_parameters()).keys() == {"latent_weight", "bias"}
    assert list(build(bias=False).state_dict()) == ["latent_weight"]
    assert build(bias=False).bias is None
    assert not set(layer.latent_weight.unique().tolist()) <= {-1.0, 1.0}


@layers
def test_dtype_and_device_reach_the_parameters(build, shape):
    layer = build(dtype=torch.float64)
    assert layer.latent_weight.dtype == layer.bias.dtype == layer.weight.dtype == torch.float64
    assert build(device="meta").weight.device.type == "meta"


@layers
@pytest.mark.parametrize(
    "value",
    [lambda w: torch.ones_like(w), lambda w: nn.Parameter(torch.ones_like(w))],
    ids=["tensor", "parameter"],
)
def test_assigning_weight_is_refused(build, shape, value):
    layer = build()
    before = layer.latent_weight.detach().clone()
    with pytest.raises(AttributeError, match="assign latent_weight instead"):
        layer.weight = value(before)
    assert torch.equal(layer.latent_weight, before)


@layers
def test_assigning_latent_weight_works(build, shape):
    layer = build()
    layer.latent_weight = nn.Parameter(-torch.ones_like(layer.latent_weight))
    assert layer.weight.unique().tolist() == [-1.0]
    assert [name for name, _ in layer.named_parameters()].count("latent_weight") == 1


WRITES = {
    "nn.init": lambda layer: nn.init.zeros_(layer.weight),
    "kaiming": lambda layer: nn.init.kaiming_uniform_(layer.weight),
    "data": lambda layer: layer.weight.data.fill_(0.5),
    "detached": lambda layer: layer.weight.detach().mul_(2),
    "copy": lambda layer: layer.weight.copy_(torch.ones_like(layer.latent_weight)),
    "part": lambda layer: layer.weight[0].zero_(),
    "view": lambda layer: layer.weight.view(-1).neg_(),
    "item": lambda layer: layer.weight.data.__setitem__(0, 1.0),
    "operator": lambda layer: layer.weight.__iadd__(1),
    "out": lambda layer: torch.neg(layer.latent_weight, out=layer.weight),
    "new data": lambda layer: setattr(layer.weight, "data", torch.zeros(2)),
    "frozen": lambda layer: layer.weight.requires_grad_(False),
}


@pytest.mark.parametrize("write", WRITES)
@layers
def test_writing_to_the_computed_weight_is_refused(build, shape, write):
    layer = build()
    before = layer.latent_weight.detach().clone()
    with torch.no_grad(), pytest.raises(InvalidValueError, match="assign latent_weight instead"):
        WRITES[write](layer)
    assert torch.equal(layer.latent_weight, before) and layer.latent_weight.requires_grad


@layers
def test_reading_the_computed_weight_is_reading_a_tensor(build, shape):
    layer = build()
    weight = layer.weight
    assert {type(weight * 2), type(weight.clone()), type(weight.sum())} == {torch.Tensor}
    (weight * torch.arange(float(weight.numel())).view_as(weight)).sum().backward()
    assert layer.latent_weight.grad.flatten().tolist() == list(range(weight.numel()))
    assert set(np.unique(weight.detach().numpy())) == {-1.0, 1.0}
    assert torch.equal(nn.Linear(2, 2).weight.data.new_zeros(weight.shape).copy_(weight), weight)
    file = io.BytesIO()
    torch.save(weight.detach(), file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=True), weight)
    nn.init.constant_(layer.latent_weight, -0.5)
    assert layer.weight.unique().tolist() == [-1.0]


@layers
def test_pruned_weights_are_zero_and_stay_so(build, shape):
    layer = build()
    prune.l1_unstructured(layer, "latent_weight", amount=0.25)
    prune.random_unstructured(layer, "latent_weight", amount=0.5)
    mask = layer.latent_weight_mask
    assert torch.equal(layer.weight, torch.where(layer.latent_weight_orig < 0, -1.0, 1.0) * mask)
    assert 0.5 < (mask == 0).float().mean() < 0.75
    x = torch.randn(shape)
    plain = layer.to_float()
    torch.testing.assert_close(layer(x), plain(x))
    layer(x).sum().backward()
    assert (layer.latent_weight_orig.grad[mask == 0] == 0).all()
    with pytest.raises(InvalidValueError, match="must keep its mask"):
        prune.remove(layer, "latent_weight")
    torch.testing.assert_close(layer(x), plain(x))


@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm"])
@layers
def test_normalised_latent_weights_are_binarized(build, shape, name):
    layer = build()
    signs = layer.weight.detach().clone()
    getattr(nn.utils.parametrizations, name)(layer, "latent_weight")
    x = torch.randn(shape)
    assert torch.equal(layer.weight, signs)
    layer(x).sum().backward()
    assert any(parameter.grad is not None for parameter in layer.parametrizations.parameters())


# Initialisation

INIT_CASES = {
    # layer, fan_in, fan_out with fan = channels × kernel area
    "linear": (lambda init: BinaryLinear(300, 100, init=init), 300, 100),
    "conv": (lambda init: BinaryConv2d(16, 64, 5, init=init), 400, 1600),
    "grouped_conv": (lambda init: BinaryConv2d(16, 64, 5, groups=4, init=init), 100, 1600),
}


@pytest.mark.parametrize(("build", "fan_in", "fan_out"), INIT_CASES.values(), ids=INIT_CASES)
def test_glorot_bounds(build, fan_in, fan_out):
    layer = build("glorot")
    bound = math.sqrt(1.5 / (fan_in + fan_out))
    assert_uniform(layer.latent_weight, bound)
    assert not layer.bias.any()


@pytest.mark.parametrize(("build", "fan_in", "fan_out"), INIT_CASES.values(), ids=INIT_CASES)
def test_pytorch_bounds(build, fan_in, fan_out):
    layer = build("pytorch")
    bound = 1 / math.sqrt(fan_in)
    assert_uniform(layer.latent_weight, bound)
    assert 0.8 * bound < layer.bias.abs().max() <= bound


def assert_uniform(values, bound):
    """Thousands of draws fill [−bound, bound] evenly."""
    values = values.detach()
    assert 0.99 * bound < values.max() <= bound
    assert -bound <= values.min() < -0.99 * bound
    assert abs(values.mean()) < 0.05 * bound
    assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.03)


def test_pytorch_init_draws_what_torch_draws():
    torch.manual_seed(3)
    binary = BinaryConv2d(2, 4, 3, init="pytorch")
    torch.manual_seed(3)
    plain = nn.Conv2d(2, 4, 3)
    torch.testing.assert_close(binary.latent_weight, plain.weight)
    torch.testing.assert_close(binary.bias, plain.bias)


@layers
def test_reset_parameters_draws_anew_by_the_same_rule(build, shape):
    layer = build(init="pytorch")
    before = layer.latent_weight.detach().clone()
    layer.reset_parameters()
    assert not torch.equal(layer.latent_weight, before)
    assert bool(layer.bias.any())


@layers
def test_unknown_init(build, shape):
    message = "unknown init 'zeros'; known are glorot, kaiming, pytorch"
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$"):
        build(init="zeros")


# Conversion

FLOAT_LAYERS = {
    "linear": (nn.Linear(6, 4), (3, 6)),
    "linear_no_bias": (nn.Linear(6, 4, bias=False), (3, 6)),
    "conv": (nn.Conv2d(2, 3, 3), (3, 2, 5, 5)),
    "conv_settings": (
        nn.Conv2d(
            4, 8, (3, 2), stride=2, padding=1, dilation=(1, 2), groups=2, bias=False,
            padding_mode="reflect", dtype=torch.float64,
        ),
        (2, 4, 7, 8),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("plain", "shape"), FLOAT_LAYERS.values(), ids=FLOAT_LAYERS.keys())
def test_from_float_and_back(plain, shape):
    kind = BinaryLinear if isinstance(plain, nn.Linear) else BinaryConv2d
    binary = kind.from_float(plain)
    assert torch.equal(binary.latent_weight, plain.weight)
    assert binary.latent_weight.dtype == plain.weight.dtype
    assert (binary.bias is None) == (plain.bias is None)

    signs = copy.deepcopy(plain)
    with torch.no_grad():
        signs.weight.copy_(torch.where(plain.weight < 0, -1.0, 1.0))
    input = torch.randn(shape, dtype=plain.weight.dtype)
    assert torch.equal(binary(input), signs(input))

    back = binary.to_float()
    assert type(back) is type(plain)
    assert set(back.weight.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(back(input), binary(input))
    assert torch.equal(kind.from_float(back)(input), binary(input))


@pytest.mark.parametrize(("plain", "shape"), FLOAT_LAYERS.values(), ids=FLOAT_LAYERS.keys())
def test_conversion_copies(plain, shape):
    kind = BinaryLinear if isinstance(plain, nn.Linear) else BinaryConv2d
    before = plain.weight.detach().clone()
    binary = kind.from_float(plain)
    back = binary.to_float()
    with torch.no_grad():
        binary.latent_weight.fill_(-3.0)
    assert torch.equal(plain.weight, before)
    assert set(back.weight.unique().tolist()) == {-1.0, 1.0}
    assert binary.latent_weight.requires_grad and back.weight.requires_grad


# Copies and checkpoints


@layers
@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES.keys())
def test_copies_compute_the_same_and_are_independent(build, shape, duplicate):
    layer = build(init="pytorch")
    twin = duplicate(layer)
    input = torch.randn(shape)
    assert type(twin) is type(layer) and twin.init == "pytorch"
    assert torch.equal(twin(input), layer(input))
    with torch.no_grad():
        layer.latent_weight.neg_()
    assert not torch.equal(twin(input), layer(input))


@layers
def test_state_dict_round_trip(build, shape):
    layer, other = build(init="pytorch"), build()
    other.load_state_dict(save_and_load(layer.state_dict()))
    input = torch.randn(shape)
    assert torch.equal(other(input), layer(input))
    assert torch.equal(other.latent_weight, layer.latent_weight)


def test_a_plain_layers_state_dict_is_refused():
    with pytest.raises(RuntimeError, match="latent_weight") as raised:
        BinaryLinear(6, 4).load_state_dict(nn.Linear(6, 4).state_dict())
    assert 'Missing key(s) in state_dict: "latent_weight"' in str(raised.value)
    assert 'Unexpected key(s) in state_dict: "weight"' in str(raised.value)


def test_a_plain_layer_refuses_the_latent_weights():
    with pytest.raises(RuntimeError, match="latent_weight"):
        nn.Conv2d(2, 3, 3).load_state_dict(BinaryConv2d(2, 3, 3).state_dict())


# What others read


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_nir_export_gets_the_binary_weights():
    pytest.importorskip("nir")
    pytest.importorskip("nirtorch")
    from snntorch.export_nir import export_to_nir

    network = nn.Sequential(
        BinaryConv2d(2, 3, 3),
        nn.Flatten(),
        BinaryLinear(27, 4, init="pytorch"),
        BinaryLinear(4, 2, bias=False),
    )
    graph = export_to_nir(network, torch.rand(1, 2, 5, 5), ignore_dims=[0])
    for name in ("0", "2", "3"):
        layer, exported = network[int(name)], torch.as_tensor(graph.nodes[name].weight)
        assert torch.equal(exported, layer.weight.detach())
        assert set(exported.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(torch.as_tensor(graph.nodes["2"].bias), network[2].bias.detach())


@pytest.mark.parametrize("num_steps", [None, 6], ids=["frames", "constant_input"])
def test_weights_are_binarized_once_per_window(monkeypatch, num_steps):
    calls = []

    def counted(latent):
        calls.append(tuple(latent.shape))
        return torch.where(latent >= 0, 1.0, -1.0)

    monkeypatch.setattr(bsnn_tha.equations.binarize, "binarize", counted)
    network = SpikingNetwork("4C3-AP2-10-3", (1, 8, 8), beta=0.9)
    network(torch.rand(2, 1, 8, 8) if num_steps else torch.rand(6, 2, 1, 8, 8), num_steps)
    assert calls == [(4, 1, 3, 3), (10, 36), (3, 10)]


def test_functional_and_layer_agree():
    layer = BinaryLinear(6, 4)
    input = torch.randn(3, 6)
    assert torch.equal(layer(input), F.linear(input, layer.weight, layer.bias))
