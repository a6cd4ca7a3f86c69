"""Convolutions of spikes in bytes, and their gradients: the library's, whatever the shapes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from bsnn_tha import SpikingNetwork
from bsnn_tha.functional import spike_conv as module
from bsnn_tha.functional.conv import conv_avg_pool2d
from bsnn_tha.functional.layer import Convolution, Layer
from bsnn_tha.functional.routes import current
from bsnn_tha.functional.spike_conv import spike_conv2d
from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu import spike_conv as loops

CHANNELS_LAST = torch.channels_last


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small convolutions take the way of large ones."""
    monkeypatch.setattr(tuning, "SPIKE_CONV_SMALL", 0)
    monkeypatch.setattr(tuning, "PADDED_CONV_SMALL", 0)


@pytest.fixture
def taken(monkeypatch):
    """Counts the calls that took the operator."""
    calls, function = [], module.SpikeConv.apply
    monkeypatch.setattr(module.SpikeConv, "apply", lambda *a: calls.append(1) or function(*a))
    return calls


def spikes(shape, seed=0, most=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    fired = torch.rand(shape, generator=generator) < 0.3
    return (fired * torch.randint(1, most + 1, shape, generator=generator)).to(dtype)


def signs(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).sign()


@given(
    samples=st.integers(1, 9),
    channels=st.sampled_from([1, 2, 3, 16]),
    outputs=st.sampled_from([1, 5, 32]),
    kernel=st.integers(1, 5),
    pool=st.sampled_from([1, 2, 3]),
    padding=st.integers(0, 2),
    extra=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    most=st.sampled_from([1, 127]),
    last=st.booleans(),
    bytes_multiplied=st.booleans(),
    together=st.sampled_from([1, 1 << 20]),
    short=st.sampled_from([0, 48]),
    threads=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_the_same_bits_forward_and_the_gradients(
    samples, channels, outputs, kernel, pool, padding, extra, most, last, bytes_multiplied,
    together, short, threads, seed,
):  # fmt: skip
    size = [kernel + pool - 1 + more for more in extra]
    input = spikes((samples, channels, *size), seed, most)
    input = (input.contiguous(memory_format=CHANNELS_LAST) if last else input).requires_grad_()
    weight = signs(outputs, channels, kernel, kernel, seed=seed).requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "SPIKE_CONV_SMALL", 0)
        patch.setattr(tuning, "PADDED_CONV_SMALL", 0)
        patch.setattr(tuning, "SPIKE_CONV_TOGETHER", together)
        patch.setattr(tuning, "SHORT_LINE", short)
        if not bytes_multiplied:
            patch.setattr(module, "_matrix_units", lambda: False)
        patch.setattr(tuning, "SPIKE_CONV_THREAD", 1)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        output = conv_avg_pool2d(input, weight, pool, padding)
        upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(seed))
        actual = torch.autograd.grad(output, (input, weight), upstream)
    plain = F.avg_pool2d(F.conv2d(input, weight, padding=padding), pool)
    if pool == 3:  # ninths are rounded, of numbers that may cancel
        torch.testing.assert_close(output, plain, rtol=1.3e-6, atol=1e-4)
    else:
        assert torch.equal(output, plain)
    # In float64, by the library.
    wide = [leaf.detach().double().requires_grad_() for leaf in (input, weight)]
    reference = F.avg_pool2d(F.conv2d(*wide, padding=padding), pool)
    expected = torch.autograd.grad(reference, wide, upstream.double())
    for got, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=1e-3 * most)


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("channels", [3, 16])
def test_strided_convolutions(stride, padding, channels, taken):
    input = spikes((4, channels, 9, 12)).requires_grad_()
    weight = signs(32, channels, 3, 3).requires_grad_()
    convolution = Convolution(stride=stride, padding=padding)
    output = current(Layer(lambda: weight, convolution=convolution), input)
    expected = F.conv2d(input, weight, stride=stride, padding=padding)
    assert taken and torch.equal(output, expected)
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
    for got, wanted in zip(
        torch.autograd.grad(output, (input, weight), upstream),
        torch.autograd.grad(expected, (input, weight), upstream),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("with_input", [True, False])
@pytest.mark.parametrize("with_weight", [True, False])
@pytest.mark.parametrize(("outputs", "padding"), [(4, 0), (4, 1), (16, 1)])
def test_gradients_that_nobody_wants_are_not_computed(
    with_input, with_weight, outputs, padding, taken
):
    input = spikes((3, 16, 6, 6)).requires_grad_(with_input)
    weight = signs(outputs, 16, 3, 3).requires_grad_(with_weight)
    output = spike_conv2d(input, weight, padding=padding)
    assert taken and output.requires_grad is (with_input or with_weight)
    if output.requires_grad:
        output.sum().backward()
    assert (input.grad is not None) is with_input and (weight.grad is not None) is with_weight


@pytest.mark.parametrize(
    "change",
    [
        {"input": 0.5 * spikes((2, 3, 8, 8))},
        {"input": -spikes((2, 3, 8, 8))},
        {"input": 128 * spikes((2, 3, 8, 8))},
        {"input": torch.full((2, 3, 8, 8), math.nan)},
        {"input": torch.full((2, 3, 8, 8), math.inf)},
        {"input": spikes((0, 3, 8, 8))},
        {"weight": torch.randn(4, 3, 3, 3)},
        {"weight": torch.full((4, 3, 3, 3), math.nan)},
        {"weight": 0.25 * signs(4, 3, 3, 3)},
        {"scale": 3},
        {"weight": signs(4, 3, 1, 1), "stride": 2},
        {"input": spikes((2, 3, 8, 8)).double(), "weight": signs(4, 3, 3, 3).double()},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_it_leaves_to_the_library(change, taken):
    given = {"input": spikes((2, 3, 8, 8)), "weight": signs(4, 3, 3, 3), "scale": 1}
    spike_conv2d(**given)
    assert taken
    taken.clear()
    given |= change
    output = spike_conv2d(**given)
    assert not taken
    expected = F.conv2d(given["input"], given["weight"], stride=given.get("stride", 1))
    torch.testing.assert_close(output, expected, rtol=0, atol=0, equal_nan=True)


def test_one_value_among_many_is_seen():
    maps = spikes((40, 16, 12, 12))
    assert loops.bytes_of(maps) is not None
    maps[39, 15, 11, 11] = 0.5
    assert loops.bytes_of(maps) is None


def test_spikes_are_kept_as_bytes():
    kept = []
    input, weight = spikes((6, 16, 8, 8)).requires_grad_(), signs(4, 16, 3, 3).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor
    ):
        spike_conv2d(input, weight)
    large = [tensor.dtype for tensor in kept if tensor.numel() >= input.numel()]
    assert large == [torch.uint8]


def test_gradients_do_not_depend_on_threads(monkeypatch):
    input, weight = spikes((50, 16, 8, 8)), signs(4, 16, 3, 3).requires_grad_()
    upstream, found = torch.randn(50, 4, 6, 6), []
    monkeypatch.setattr(tuning, "SPIKE_CONV_THREAD", 1)
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found += torch.autograd.grad(spike_conv2d(input, weight), weight, upstream)
    assert torch.equal(*found)


@pytest.mark.parametrize("instructions", [True, False], ids=["instructions", "none"])
def test_under_autocast_currents_are_exact(instructions, taken, monkeypatch):
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda: instructions)
    input = spikes((20, 16, 9, 9))
    weight = signs(8, 16, 4, 4).requires_grad_()
    for fired in (input.requires_grad_(), input.detach().bfloat16().requires_grad_()):
        with torch.autocast("cpu", torch.bfloat16):
            output = spike_conv2d(fired, weight, 2)
        expected = F.conv2d(fired.float(), weight, stride=2)
        assert output.dtype == torch.float32 and torch.equal(output, expected)
        upstream = torch.randn(output.shape)
        for got, wanted in zip(
            torch.autograd.grad(output, (fired, weight), upstream, retain_graph=True),
            torch.autograd.grad(expected, (fired, weight), upstream, retain_graph=True),
            strict=True,
        ):
            assert got.dtype == wanted.dtype
            torch.testing.assert_close(got, wanted, rtol=0.05, atol=0.3)
    assert len(taken) == 2


def test_compilers_take_the_network_whole(taken):
    torch.manual_seed(0)
    network = SpikingNetwork("4C3-AP2-8C3-10", (2, 12, 12), beta=0.9, theta_0=0.5)
    input = spikes((4, 3, 2, 12, 12))
    expected = network(input).spikes
    assert taken
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(input).spikes, expected)
