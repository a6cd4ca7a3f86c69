"""The papers' notation: both spellings, shapes, and errors that point into the string."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.notation import ConvSpec, DenseSpec, parse_network

PUBLISHED = {
    "mnist": (
        "16Conv5-AP2-64Conv5-AP2-1024Dense10",
        "16C5-AP2-64C5-AP2-10",
        (1, 28, 28),
        [
            (ConvSpec(16, 5, 2), (16, 12, 12)),
            (ConvSpec(64, 5, 2), (64, 4, 4)),
            (DenseSpec(10), (10,)),
        ],
    ),
    "dvs128_gesture": (
        "16Conv5-AP2-32Conv5-AP2-800Dense11",
        "16C5-AP2-32C5-AP2-11",
        (2, 32, 32),
        [
            (ConvSpec(16, 5, 2), (16, 14, 14)),
            (ConvSpec(32, 5, 2), (32, 5, 5)),
            (DenseSpec(11), (11,)),
        ],
    ),
    "shd": (
        "700Dense3000Dense20",
        "3000-20",
        (700,),
        [(DenseSpec(3000), (3000,)), (DenseSpec(20), (20,))],
    ),
    "temporal_coding": (
        "100Dense1000Dense1",
        "Dense1000-Dense1",
        (100,),
        [(DenseSpec(1000), (1000,)), (DenseSpec(1), (1,))],
    ),
}


@pytest.mark.parametrize(
    ("long", "short", "input_shape", "expected"), PUBLISHED.values(), ids=PUBLISHED.keys()
)
def test_published_networks_in_both_notations(long, short, input_shape, expected):
    assert parse_network(long, input_shape) == expected
    assert parse_network(short, input_shape) == expected


@pytest.mark.parametrize(
    "notation",
    ["700Dense30Dense20Dense10", "30-20-10", "Dense30Dense20-10", "700Dense30-30Dense20Dense10"],
)
def test_chains_of_dense_layers(notation):
    expected = [(DenseSpec(size), (size,)) for size in (30, 20, 10)]
    assert parse_network(notation, (700,)) == expected


def test_pooling_is_optional_and_drops_an_incomplete_border():
    assert parse_network("3C4", (1, 9, 7)) == [(ConvSpec(3, 4, 1), (3, 6, 4))]
    assert parse_network("3C2-AP3", (1, 9, 7)) == [(ConvSpec(3, 2, 3), (3, 2, 2))]


def test_a_dense_layer_flattens_maps():
    assert parse_network("5", (2, 3, 4)) == [(DenseSpec(5), (5,))]
    assert parse_network("24Dense5", (2, 3, 4)) == [(DenseSpec(5), (5,))]


@settings(max_examples=40, deadline=None)
@given(
    convs=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 2)), max_size=2),
    dense=st.lists(st.integers(1, 5), max_size=2),
    height=st.integers(12, 16),
    width=st.integers(12, 16),
)
def test_shapes_are_those_of_torch(convs, dense, height, width):
    maps, expected, short, long = torch.zeros(1, 2, height, width), [], [], []
    for channels, kernel, pool in convs:
        maps = F.conv2d(maps, torch.zeros(channels, maps.shape[1], kernel, kernel))
        maps = F.avg_pool2d(maps, pool)
        expected.append((ConvSpec(channels, kernel, pool), tuple(maps.shape[1:])))
        short += [f"{channels}C{kernel}", f"AP{pool}"]
        long += [f"{channels}Conv{kernel}", f"AP{pool}"]
    features = maps[0].numel()
    for outputs in dense:
        expected.append((DenseSpec(outputs), (outputs,)))
        short.append(f"{outputs}")
        long.append(f"{features}Dense{outputs}")
        features = outputs
    if expected:
        assert parse_network("-".join(short), (2, height, width)) == expected
        assert parse_network("-".join(long), (2, height, width)) == expected


ERRORS = [
    (
        "16C5-AP2-64X5-10",
        "network 16C5-AP2-→64X5←-10: layer '64X5' at character 10 "
        "is not a layer; write 16C5 (or 16Conv5), AP2, 10 (or 1024Dense10)",
    ),
    (
        "16c5-10",
        "network →16c5←-10: layer '16c5' at character 1 "
        "is not a layer; write 16C5 (or 16Conv5), AP2, 10 (or 1024Dense10)",
    ),
    (
        "16C5-",
        "network 16C5-→←: layer '' at character 6 "
        "is not a layer; write 16C5 (or 16Conv5), AP2, 10 (or 1024Dense10)",
    ),
    (
        "16C5 - 10",
        "network →16C5 ←- 10: layer '16C5 ' at character 1 "
        "is not a layer; write 16C5 (or 16Conv5), AP2, 10 (or 1024Dense10)",
    ),
    ("AP2-10", "network →AP2←-10: layer 'AP2' at character 1 pooling must follow a convolution"),
    (
        "10-AP2",
        "network 10-→AP2←: layer 'AP2' at character 4 pooling must follow a convolution",
    ),
    (
        "4C3-AP2-AP2",
        "network 4C3-AP2-→AP2←: layer 'AP2' at character 9 pooling must follow a convolution",
    ),
    (
        "16C5-AP2-64C5-AP2-1000Dense10",
        "network 16C5-AP2-64C5-AP2-→1000Dense10←: layer '1000Dense10' at character 19 "
        "states 1000 inputs, but gets 1024 from a shape of 64 × 4 × 4",
    ),
    (
        "700Dense30Dense20",
        "network →700Dense30Dense20←: layer '700Dense30Dense20' at character 1 "
        "states 700 inputs, but gets 784 from a shape of 1 × 28 × 28",
    ),
    (
        "10-16C5",
        "network 10-→16C5←: layer '16C5' at character 4 "
        "is a convolution, but gets features without height and width",
    ),
    (
        "4C30",
        "network →4C30←: layer '4C30' at character 1 does not fit on maps of 28 × 28",
    ),
    (
        "4C20-AP10",
        "network 4C20-→AP10←: layer 'AP10' at character 6 does not fit on maps of 9 × 9",
    ),
    ("4C3-AP0", "network 4C3-→AP0←: layer 'AP0' at character 5 does not fit on maps of 26 × 26"),
    (
        "0C5-10",
        "network →0C5←-10: layer '0C5' at character 1 needs at least one filter of at least 1 × 1",
    ),
    (
        "4C0-10",
        "network →4C0←-10: layer '4C0' at character 1 needs at least one filter of at least 1 × 1",
    ),
    ("10-0", "network 10-→0←: layer '0' at character 4 needs at least one output"),
    ("", "a network needs at least one layer, e.g. 16C5-AP2-10"),
    ("  ", "a network needs at least one layer, e.g. 16C5-AP2-10"),
]


@pytest.mark.parametrize(("notation", "message"), ERRORS, ids=[repr(case[0]) for case in ERRORS])
def test_errors_point_into_the_string(notation, message):
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$"):
        parse_network(notation, (1, 28, 28))


@pytest.mark.parametrize("input_shape", [(), (28, 28), (1, 2, 28, 28), (0, 28, 28), (1, -28, 28)])
def test_bad_input_shape(input_shape):
    message = f"input_shape must be (channels, height, width) or (features,), but got {input_shape}"
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$"):
        parse_network("10", input_shape)
