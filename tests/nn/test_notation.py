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


def chain(notation, input_shape):
    """(specification, output shape) of each layer, all of which read the one before."""
    plans = parse_network(notation, input_shape)
    shape, expected = tuple(input_shape), ()
    for index, plan in enumerate(plans):
        assert plan.reads == expected and plan.input_shape == shape and plan.shortcut is None
        shape, expected = plan.output_shape, (index,)
    return [(plan.spec, plan.output_shape) for plan in plans]


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
    assert chain(long, input_shape) == expected
    assert chain(short, input_shape) == expected


@pytest.mark.parametrize(
    "notation",
    ["700Dense30Dense20Dense10", "30-20-10", "Dense30Dense20-10", "700Dense30-30Dense20Dense10"],
)
def test_chains_of_dense_layers(notation):
    expected = [(DenseSpec(size), (size,)) for size in (30, 20, 10)]
    assert chain(notation, (700,)) == expected


def test_pooling_is_optional_and_drops_an_incomplete_border():
    assert chain("3C4", (1, 9, 7)) == [(ConvSpec(3, 4, 1), (3, 6, 4))]
    assert chain("3C2-AP3", (1, 9, 7)) == [(ConvSpec(3, 2, 3), (3, 2, 2))]


def test_a_dense_layer_flattens_maps():
    assert chain("5", (2, 3, 4)) == [(DenseSpec(5), (5,))]
    assert chain("24Dense5", (2, 3, 4)) == [(DenseSpec(5), (5,))]


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
        assert chain("-".join(short), (2, height, width)) == expected
        assert chain("-".join(long), (2, height, width)) == expected


WRITE = (
    "write 16C5 (or 16Conv5), 16C3P (padded), 16C3S2 (stride), AP2, MP2, "
    "10 (or 1024Dense10, FC10), Rec512, GAP, or a block: 64DW, 128R, 12DB32, T"
)
ERRORS = [
    (
        "16C5-AP2-64X5-10",
        f"network 16C5-AP2-→64X5←-10: layer '64X5' at character 10 is not a layer; {WRITE}",
    ),
    (
        "16c5-10",
        f"network →16c5←-10: layer '16c5' at character 1 is not a layer; {WRITE}",
    ),
    (
        "16C5-",
        f"network 16C5-→←: layer '' at character 6 is not a layer; {WRITE}",
    ),
    (
        "16C5 - 10",
        f"network →16C5 ←- 10: layer '16C5 ' at character 1 is not a layer; {WRITE}",
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
    (
        "4C4P-10",
        "network →4C4P←-10: layer '4C4P' at character 1 "
        "cannot keep the size of maps (P) with filters of even size",
    ),
    ("4C3S0", "network →4C3S0←: layer '4C3S0' at character 1 needs a stride of at least 1"),
    (
        "128R-10",
        "network →128R←-10: layer '128R' at character 1 "
        "must follow a convolution, which turns the input into spikes",
    ),
    (
        "2DB4-10",
        "network →2DB4←-10: layer '2DB4' at character 1 "
        "must follow a convolution, which turns the input into spikes",
    ),
    ("4C3-0DB4", "network 4C3-→0DB4←: layer '0DB4' at character 5 needs at least one dense layer"),
    (
        "10-64DW",
        "network 10-→64DW←: layer '64DW' at character 4 "
        "is a block of convolutions, but gets features without height and width",
    ),
    (
        "4C3-4R-AP2",
        "network 4C3-4R-→AP2←: layer 'AP2' at character 8 pooling must follow a convolution",
    ),
    (
        "4C3-2DB4-AP2",
        "network 4C3-2DB4-→AP2←: layer 'AP2' at character 10 pooling must follow a convolution",
    ),
    (
        "4C3-GAP",
        "network 4C3-→GAP←: layer 'GAP' at character 5 must be followed by a fully connected layer",
    ),
    (
        "4C3-GAP-4C3-10",
        "network 4C3-→GAP←-4C3-10: layer 'GAP' at character 5 "
        "must be followed by a fully connected layer",
    ),
    (
        "10-GAP-10",
        "network 10-→GAP←-10: layer 'GAP' at character 4 "
        "takes the means of maps, but gets features without height and width",
    ),
    (
        "4C3-GAP-99Dense10",
        "network 4C3-GAP-→99Dense10←: layer '99Dense10' at character 9 "
        "states 99 inputs, but gets 4 from a shape of 4 × 26 × 26",
    ),
    (
        "34x34x2-500-10",
        "network →34x34x2←-500-10: layer '34x34x2' at character 1 "
        "states an input of 2 × 34 × 34, but it is 1 × 28 × 28",
    ),
    (
        "500-34x34x2",
        f"network 500-→34x34x2←: layer '34x34x2' at character 5 is not a layer; {WRITE}",
    ),
    ("28x28x1", "a network needs at least one layer, but got '28x28x1'"),
    ("vgg8", "no network is named 'vgg8'; did you mean 'vgg9'?"),
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


# Blocks


def layers_of(notation, input_shape=(3, 8, 8)):
    return parse_network(notation, input_shape)


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_padded_and_strided_shapes_are_those_of_torch(kernel, stride, size):
    maps, weight = torch.zeros(1, 2, size, size), torch.zeros(4, 2, kernel, kernel)
    padded = F.conv2d(maps, weight, stride=stride, padding=kernel // 2)
    plan = layers_of(f"4C{kernel}PS{stride}", (2, size, size))[0]
    assert plan.output_shape == tuple(padded.shape[1:])
    plain = F.conv2d(maps, weight, stride=stride)
    plan = layers_of(f"4C{kernel}S{stride}", (2, size, size))[0]
    assert plan.output_shape == tuple(plain.shape[1:])


def test_maximum_pooling():
    assert chain("4C3-MP2", (1, 8, 8)) == [(ConvSpec(4, 3, pool=2, pooling="max"), (4, 3, 3))]


def test_other_ways_to_write_a_fully_connected_layer():
    assert layers_of("FC20-FC10") == layers_of("20-10") == layers_of("Dense20-Dense10")


def test_the_input_may_be_stated():
    assert layers_of("34x34x2-500-500-10", (2, 34, 34)) == layers_of("500-500-10", (2, 34, 34))
    assert layers_of("20×10×2-4C3-5", (2, 10, 20)) == layers_of("4C3-5", (2, 10, 20))


def test_a_separable_block_is_two_layers():
    assert chain("64DWS2", (3, 8, 8)) == [
        (ConvSpec(3, 3, stride=2, padding=1, depthwise=True), (3, 4, 4)),
        (ConvSpec(64, 1), (64, 4, 4)),
    ]
    assert chain("64DW-AP2", (3, 8, 8))[1] == (ConvSpec(64, 1, pool=2), (64, 4, 4))


def test_a_residual_block_adds_what_it_reads():
    first, one, two = layers_of("16C3P-16R")
    assert (one.reads, two.reads, two.shortcut.reads) == ((0,), (1,), (0,))
    assert one.spec == two.spec == ConvSpec(16, 3, padding=1)
    assert one.shortcut is None and two.shortcut.spec is None
    assert two.output_shape == first.output_shape == (16, 8, 8)


@pytest.mark.parametrize("block", ["32R", "16RS2", "32RS2"])
def test_a_residual_block_of_another_shape_has_weights_in_its_shortcut(block):
    _, one, two = layers_of(f"16C3P-{block}")
    channels, stride = int(block[:2]), 2 if "S2" in block else 1
    assert one.spec == ConvSpec(channels, 3, stride=stride, padding=1)
    assert two.spec == ConvSpec(channels, 3, padding=1)
    assert two.shortcut.spec == ConvSpec(channels, 1, stride=stride)
    assert two.shortcut.input_shape == (16, 8, 8)
    assert two.output_shape == (channels, 8 // stride, 8 // stride)


def test_a_dense_block_reads_everything_before_it_in_the_block():
    plans = layers_of("16C3P-3DB4-T-FC10")
    assert [plan.reads for plan in plans] == [
        (), (0,), (1,), (0, 2), (3,), (0, 2, 4), (5,), (0, 2, 4, 6), (7,),
    ]  # fmt: skip
    assert [plan.input_shape[0] for plan in plans[:-1]] == [3, 16, 16, 20, 16, 24, 16, 28]
    assert [plan.spec for plan in plans[1:3]] == [ConvSpec(16, 1), ConvSpec(4, 3, padding=1)]
    assert plans[7].spec == ConvSpec(14, 1, pool=2) and plans[7].output_shape == (14, 4, 4)


def test_global_average_pooling_belongs_to_the_layer_that_reads_it():
    _, dense, last = layers_of("16C3P-GAP-20-10")
    assert dense.spec == DenseSpec(20, of_means=True) and dense.input_shape == (16, 8, 8)
    assert last.spec == DenseSpec(10)


def test_a_name_stands_for_its_layers_and_takes_other_outputs():
    written = "32C3P-64C3P-64C3P-AP2-128C3P-128C3P-AP2-256C3P-256C3P-AP2-512C3P-512C3P-AP2-512-10"
    named = parse_network("vgg9", (2, 48, 48))
    assert named == parse_network(written, (2, 48, 48))
    more = parse_network("vgg9/101", (2, 48, 48))
    assert more[:-1] == named[:-1] and more[-1].spec == DenseSpec(101)
