"""NeuroBench's figures against loops over single weights."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from bsnn_tha import BinaryConv2d, BinaryLinear, SpikingNetwork
from bsnn_tha.observe.workload import (
    InputMeter,
    connection_sparsity,
    dense_operations,
    effective_operations,
    footprint,
)


def with_zeros(layer, share=0.4):
    """The layer with some of its weights set to zero."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        layer.weight[torch.rand(layer.weight.shape, generator=generator) < share] = 0
    return layer


def products(layer, frame, everything=False):
    """Products of one frame and the layer's weights, one by one."""
    weight, total = layer.weight, 0
    if weight.dim() == 2:
        # An input that is the mean of a map is a product for each place of the map.
        places = frame.numel() // weight.shape[1]
        pairs = itertools.product(range(weight.shape[0]), range(frame.numel()))
        return sum(
            everything or bool(weight[o, i // places] != 0 and frame.flatten()[i] != 0)
            for o, i in pairs
        )
    outputs, channels, height, width = weight.shape
    (stride, _), (padding, _) = layer.stride, layer.padding
    rows, columns = (
        (size + 2 * padding - kernel) // stride + 1
        for size, kernel in zip(frame.shape[1:], (height, width), strict=True)
    )
    for o, y, x, c, dy, dx in itertools.product(
        *map(range, (outputs, rows, columns, channels, height, width))
    ):
        place = (y * stride + dy - padding, x * stride + dx - padding)
        if min(place) < 0 or place[0] >= frame.shape[1] or place[1] >= frame.shape[2]:
            continue  # padding
        read = o // (outputs // layer.groups) * channels + c
        total += everything or bool(weight[o, c, dy, dx] != 0 and frame[read, *place] != 0)
    return total


LAYERS = {
    "binary_linear": (BinaryLinear(8, 3), (8,)),
    "linear_on_maps": (BinaryLinear(8, 3), (2, 2, 2)),
    "linear_with_zeros": (with_zeros(nn.Linear(8, 3)), (8,)),
    "binary_conv": (BinaryConv2d(2, 3, 2, bias=False), (2, 4, 5)),
    "conv_with_zeros": (with_zeros(nn.Conv2d(2, 3, 3, bias=False)), (2, 4, 5)),
    "linear_of_means": (with_zeros(nn.Linear(3, 4)), (3, 2, 2)),
    "padded": (with_zeros(nn.Conv2d(2, 3, 3, padding=1)), (2, 4, 5)),
    "strided": (with_zeros(nn.Conv2d(2, 3, 3, padding=1, stride=2)), (2, 5, 4)),
    "depthwise": (with_zeros(nn.Conv2d(3, 3, 3, padding=1, groups=3)), (3, 4, 4)),
    "grouped": (with_zeros(nn.Conv2d(4, 6, 2, groups=2)), (4, 3, 3)),
}


@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS.keys())
def test_operations_equal_the_loop(layer, shape):
    generator = torch.Generator().manual_seed(0)
    frames = (torch.rand(3, 2, *shape, generator=generator) < 0.4).float()
    counts = frames.sum((0, 1)).long()
    expected = sum(products(layer, frame) for frame in frames.flatten(0, 1))
    assert effective_operations(layer, counts) == expected
    assert dense_operations(layer, shape) == products(layer, frames[0, 0], everything=True)
    assert 0 < expected < 6 * dense_operations(layer, shape)


def test_large_counts_stay_exact():
    count = 2**40 + 1
    assert effective_operations(BinaryLinear(2, 3), torch.tensor([count, 0])) == 3 * count


def test_dense_operations_of_the_mnist_network():
    network = SpikingNetwork("16C5-AP2-64C5-AP2-10", (1, 28, 28), beta=0.9, theta_0=1.0, slope=5.0)
    # 24² and 8² positions before pooling.
    expected = [24**2 * 16 * 25, 8**2 * 64 * 16 * 25, 1024 * 10]
    layers = network.layers
    assert [dense_operations(m.synapse, m.input_shape) for m in layers] == expected


# Inputs


def test_a_constant_input_is_counted_at_every_step():
    meter = InputMeter((3,))
    meter.update(torch.tensor([[0.0, 1.0, 0.0], [-1.0, 1.0, 0.0]]), num_steps=7)
    meter.update(torch.tensor([[1.0, 1.0, 0.0]]), num_steps=2)
    activity = meter.compute()
    assert activity.counts.tolist() == [9, 16, 0]
    assert not activity.graded and activity.still
    meter.update(torch.ones(2, 1, 3))
    assert not meter.compute().still
    meter.reset()
    assert meter.compute().still


def test_a_sequence_is_counted_value_by_value():
    generator = torch.Generator().manual_seed(0)
    window = torch.randn(4, 3, 2, 2, generator=generator).round()
    meter = InputMeter((2, 2))
    meter.update(window)
    for y, x in itertools.product(range(2), range(2)):
        expected = sum(value != 0 for value in window[:, :, y, x].flatten().tolist())
        assert meter.compute().counts[y, x] == expected


@pytest.mark.parametrize(
    ("value", "graded"), [(1.0, False), (-1.0, False), (0.5, True), (2.0, True)]
)
def test_inputs_are_graded_unless_all_are_minus_one_zero_or_one(value, graded):
    meter = InputMeter((2,))
    meter.update(torch.zeros(3, 1, 2))  # tells nothing
    meter.update(torch.tensor([[[0.0, 1.0]], [[value, 0.0]]]))
    assert meter.compute().graded == graded
    meter.reset()
    meter.update(torch.ones(1, 1, 2))
    assert not meter.compute().graded


def test_the_input_itself_is_left_alone():
    window = torch.tensor([[[-2.0, 0.5]]])
    InputMeter((2,)).update(window)
    assert window.tolist() == [[[-2.0, 0.5]]]


# What does not depend on data


def test_footprint_counts_parameters_and_buffers_as_stored():
    network = nn.Sequential(BinaryConv2d(1, 2, 3), nn.BatchNorm2d(2), BinaryLinear(4, 3))
    # 18 + 2 and 12 + 3 parameters; scale, shift, mean and variance of two
    # channels; one counter of 8 bytes.
    assert footprint(network) == 4 * (20 + 15 + 8) + 8
    assert footprint(network.double()) == 8 * (20 + 15 + 8) + 8


def test_connection_sparsity_is_over_the_weights_between_layers():
    linear = nn.Linear(4, 5)
    with torch.no_grad():
        linear.weight.fill_(1.0)[0, :3] = 0
        linear.bias.zero_()  # no connection
    conv = nn.Conv2d(1, 2, 2)
    with torch.no_grad():
        conv.weight.fill_(1.0)[0] = 0
    norm = nn.BatchNorm2d(2)
    nn.init.zeros_(norm.weight)
    assert connection_sparsity(nn.Sequential(linear, conv, norm)) == (3 + 4) / (20 + 8)
    binary = BinaryLinear(4, 5)
    nn.init.zeros_(binary.latent_weight)  # sign(0) = 1
    assert connection_sparsity(nn.Sequential(binary)) == 0
