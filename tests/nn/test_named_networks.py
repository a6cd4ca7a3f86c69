"""The papers' networks by name: their numbers of parameters, and where these differ."""

from __future__ import annotations

import pytest

from bsnn_tha import SpikingNetwork
from bsnn_tha.nn.named import NETWORKS
from bsnn_tha.nn.notation import parse_network

EVENTS, IMAGE = (2, 48, 48), (3, 32, 32)


def parameters(name, input_shape):
    """Weights, biases and batch norm's scales and shifts."""
    network = SpikingNetwork(name, input_shape, beta=0.5, weights="float", norm="tdbn")
    return sum(parameter.numel() for parameter in network.parameters())


# Counted by hand from the tables: 3 × 3 weights, 2 per map of batch norm, biases of dense layers.
def counted(convolutions, dense, inputs):
    total = 0
    for outputs in convolutions:
        total += 9 * inputs * outputs + 2 * outputs
        inputs = outputs
    for inputs, outputs in dense:
        total += inputs * outputs + outputs
    return total


def test_every_name_can_be_built():
    for name in NETWORKS:
        shape = {"ltmd-mnist": (1, 28, 28), "yolo-v2": (2, 240, 304)}.get(name, IMAGE)
        outputs = 576 if name == "yolo-v2" else 10
        assert parse_network(name, shape)[-1].output_shape == (outputs,)


@pytest.mark.parametrize(
    ("name", "convolutions", "dense", "printed"),
    [
        # LT-SNN, Table 4: 7.07 M.
        ("vgg9", [32, 64, 64, 128, 128, 256, 256, 512, 512], [(4608, 512), (512, 10)], 7.07e6),
        # TET's VGGSNN, 9.27 M in LT-SNN's Table 4; LT-SNN and DSR call 9.34 M VGG-11.
        ("vgg11", [64, 128, 256, 256, 512, 512, 512, 512], [(4608, 10)], 9.27e6),
    ],
)
def test_parameters_are_those_printed(name, convolutions, dense, printed):
    assert parameters(name, EVENTS) == counted(convolutions, dense, 2)
    assert parameters(name, EVENTS) == pytest.approx(printed, abs=0.005e6)


def test_vgg7_is_a_convolution_short_of_its_printed_count():
    layers = [32, 32, 64, 64, 128, 128, 256, 256]
    assert parameters("vgg7", EVENTS) == counted(layers, [(2304, 256), (256, 10)], 2) == 1_765_578
    # Table 3 with one more 128C3 is Table 4's 1.91 M.
    assert pytest.approx(1.91e6, abs=0.005e6) == 1_765_578 + 9 * 128 * 128 + 2 * 128


def test_yolos_parameters_are_those_counted_from_its_table():
    total, maps = 0, 2
    for filters, size in [(32, 3), (64, 3), (128, 3), (64, 1), (128, 3), (256, 3), (128, 1),
                          (256, 3), (512, 3), (256, 1), (512, 3), (256, 1), (1024, 3), (512, 1),
                          (1024, 3)]:  # fmt: skip
        total += size * size * maps * filters + 2 * filters
        maps = filters
    # 240 × 304 halved six times, rounded down: 3 × 4.
    total += 3 * 4 * 1024 * 512 + 512 + 512 * 576 + 576
    assert parameters("yolo-v2", (2, 240, 304)) == total == 17_618_624


def test_mobilenet_light_is_not_its_printed_count_at_any_usual_size():
    counts = {size: parameters("mobilenet-light", (2, size, size)) for size in (32, 40, 48, 128)}
    assert counts[48] == 2_432_106
    assert all(abs(count - 1.28e6) > 0.1e6 for count in counts.values())


def test_resnet19_is_larger_than_printed():
    # The 11.18 M that LT-SNN prints for it are those of ResNet-18 on CIFAR-10, 11.17 M.
    weights = 9 * (3 * 128 + 6 * 128 * 128 + 128 * 256 + 5 * 256 * 256 + 256 * 512 + 3 * 512 * 512)
    shortcuts = 128 * 256 + 256 * 512
    norms = 2 * (7 * 128 + 6 * 256 + 4 * 512 + 256 + 512)
    dense = 512 * 256 + 256 + 256 * 10 + 10
    assert parameters("resnet19", IMAGE) == weights + shortcuts + norms + dense
    assert parameters("resnet19", IMAGE) == pytest.approx(12.7e6, abs=0.05e6)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("vgg16", 16),
        ("resnet19", 19),
        ("ltmd-mnist", 5),
        ("densenet-static", 2 + 2 * (12 + 12 + 24) + 2 + 2),
        ("densenet-neuromorphic", 2 + 2 * (6 + 12 + 24 + 16) + 3 + 2),
        ("mobilenet-light", 1 + 2 * 5 + 2),
    ],
)
def test_numbers_of_spiking_layers(name, layers):
    shape = {"ltmd-mnist": (1, 28, 28), "yolo-v2": (2, 240, 304)}.get(name, IMAGE)
    assert len(parse_network(name, shape)) == layers


def test_dense_blocks_grow_as_in_ltmds_table():
    maps = 256
    for count, halved in ((12, True), (12, True), (24, False)):
        maps += 32 * count
        maps //= 2 if halved else 1
    plans = parse_network("densenet-static", IMAGE)
    assert plans[-2].input_shape == (maps, 4, 4)
    # Weights only: those of LTMD's code, which also joins currents, not spikes.
    total = 9 * 3 * 256 + 9 * 256 * 256
    maps = 256
    for count, halved in ((12, True), (12, True), (24, False)):
        for _ in range(count):
            total += maps * 128 + 9 * 128 * 32
            maps += 32
        if halved:
            total, maps = total + maps * (maps // 2), maps // 2
    total += maps * 256 + 256 * 10
    network = SpikingNetwork("densenet-static", IMAGE, beta=0.5, weights="float", norm="none")
    biases = 256 + 10
    assert sum(parameter.numel() for parameter in network.parameters()) == total + biases
