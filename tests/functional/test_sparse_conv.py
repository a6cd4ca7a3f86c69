"""Convolutions that skip zeros, and their gradients: PyTorch's, whatever the shapes."""

from __future__ import annotations

import pytest
import torch
from compiled_choices import geometries, input_side
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from bsnn_tha import SpikingNetwork
from bsnn_tha.functional import sparse_conv as module
from bsnn_tha.functional.conv import conv_avg_pool2d
from bsnn_tha.functional.layer import Convolution, Layer
from bsnn_tha.functional.running import Refused
from bsnn_tha.functional.sparse_conv import sparse_conv2d
from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu import sparse_conv as loops


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small convolutions take the way of large ones."""
    for name, value in (("SMALL", 0), ("SPARSE_CONV_SHARE", 4.0), ("WINOGRAD", 0)):
        monkeypatch.setattr(tuning, name, value)


def spikes(shape, share=0.05, dtype=torch.float32, seed=0, most=1):
    generator = torch.Generator().manual_seed(seed)
    fired = torch.rand(shape, generator=generator) < share
    return (fired * torch.randint(1, most + 1, shape, generator=generator)).to(dtype)


def signs(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).sign().to(dtype)


@given(
    samples=st.integers(0, 19),
    channels=st.sampled_from([1, 3, 16, 20]),
    geometry=geometries,
    beyond=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    padding=st.integers(0, 2),
    share=st.sampled_from([0.0, 0.05, 0.6]),
    most=st.sampled_from([1, 3]),
    last=st.booleans(),
    threads=st.sampled_from([1, 3]),
    parts=st.sampled_from([1, 16]),
    together=st.sampled_from([1, 1 << 13]),
    seed=st.integers(0, 99),
)
def test_it_is_convolution_and_pooling(
    samples, channels, geometry, beyond, padding, share, most, last, threads, parts, together, seed
):
    outputs, kernel, pool, places = geometry
    size = [
        input_side(count, kernel, pool, padding, rest)
        for count, rest in zip(places, beyond, strict=True)
    ]
    if min(size) < 1:
        return
    input = spikes((samples, channels, *size), share, torch.float64, seed, most)
    # Sums that may be larger are left to the library.
    if samples and pool**2 * input.sum((1, 2, 3)).max() > 2**15 - 2**4:
        return
    if last:
        input = input.contiguous(memory_format=torch.channels_last)
    input.requires_grad_()
    weight = signs(outputs, channels, kernel, kernel, dtype=torch.float64, seed=seed)
    weight.requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "CONV_THREAD", 1)
        patch.setattr(tuning, "EVENTS_THREAD", 1)
        patch.setattr(tuning, "CONV_PARTS", parts)
        patch.setattr(tuning, "CONV_TOGETHER", together)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        found = sparse_conv2d(input, weight, pool, padding)
        upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(seed)).double()
        actual = torch.autograd.grad(found, (input, weight), upstream)
    plain = F.avg_pool2d(F.conv2d(input, weight, padding=padding), pool)
    expected = torch.autograd.grad(plain, (input, weight), upstream)
    assert torch.equal(found, plain)
    for got, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def test_gradients_are_the_same_for_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(tuning, "CONV_THREAD", 1)
    input, weight = spikes((40, 16, 12, 12)), signs(70, 16, 5, 5)
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        leaves = [its.clone().requires_grad_() for its in (input, weight)]
        maps = sparse_conv2d(*leaves, pool=2)
        upstream = torch.randn(maps.shape, generator=torch.Generator().manual_seed(1))
        found.append((maps, *torch.autograd.grad(maps, leaves, upstream)))
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("outputs", [20, 64])
def test_under_autocast_currents_are_exact_and_spikes_get_bfloat16(outputs, padding):
    input = spikes((30, 16, 12, 12), dtype=torch.bfloat16).requires_grad_()
    weight = signs(outputs, 16, 5, 5).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        maps = sparse_conv2d(input, weight, 2, padding)
        layer = Layer(lambda: weight, convolution=Convolution(pool=2, padding=padding))
        sums = module.SparseConvolution.accepts(layer, input).sums()
    exact = F.avg_pool2d(F.conv2d(input.float(), weight, padding=padding), 2)
    assert maps.dtype == torch.float32 and torch.equal(maps, exact)
    assert torch.equal(sums.values * sums.unit, exact)
    assert sums.node.dtype == torch.bfloat16 and sums.node.shape == maps.shape
    upstream = torch.randn(maps.shape).bfloat16()
    wanted = torch.autograd.grad(exact, (input, weight), upstream.float())
    for node in (maps, sums.node):
        got = torch.autograd.grad(node, (input, weight), upstream.to(node.dtype))
        assert [its.dtype for its in got] == [torch.bfloat16, torch.float32]
        torch.testing.assert_close(got[1], wanted[1])
        # Added up in float32, and then rounded.
        errors = got[0].float() - wanted[0].float()
        assert errors.abs().max() < 2**-8 * wanted[0].abs().max()


@given(
    samples=st.integers(1, 3),
    channels=st.sampled_from([1, 16, 33]),
    geometry=geometries,
    padding=st.integers(0, 2),
    share=st.sampled_from([0.02, 0.5, 1.0]),
    most=st.sampled_from([1, 3]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 99),
)
def test_sums_of_16_bits_are_exact_or_refused(
    samples, channels, geometry, padding, share, most, dtype, seed
):
    """Sparse and dense, graded and not, pooled and not: beside float64."""
    outputs, kernel, pool, places = geometry
    size = [input_side(count, kernel, pool, padding, 1) for count in places]
    if min(size) < 1:
        return
    input = spikes((samples, channels, *size), share, dtype, seed, most)
    weight = signs(outputs, channels, kernel, kernel, seed=seed)
    layer = Layer(lambda: weight, convolution=Convolution(pool=pool, padding=padding))
    route = module.SparseConvolution.accepts(layer, input)
    if isinstance(route, Refused):
        assert input.double().flatten(1).sum(1).max() * pool**2 >= 2**15
        return
    sums = route.sums()
    exact = F.conv2d(input.double(), weight.double(), padding=padding)
    assert torch.equal(sums.values.double() * sums.unit, F.avg_pool2d(exact, pool))


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("channels", [327, 328])
def test_sums_at_their_bound(channels, pool, sign, monkeypatch):
    """100 spikes of each input and all of one sign, one input fewer than too many, and too many."""
    monkeypatch.setattr(tuning, "SPARSE_CONV_SHARE", 100.0)
    input = torch.full((1, channels, pool, pool), 100 / pool**2)
    layer = Layer(lambda: torch.full((3, channels, 1, 1), sign), convolution=Convolution(pool=pool))
    route = module.SparseConvolution.accepts(layer, input)
    if channels * 100 >= 2**15:
        assert isinstance(route, Refused)
        return
    sums = route.sums()
    assert sums.values.dtype == torch.int16
    assert sums.values.flatten().tolist() == [sign * channels * 100] * 3
    assert sums.unit == 1 / pool**2


@pytest.mark.parametrize(
    ("input", "weight", "pool"),
    [
        (0.5 * spikes((4, 3, 9, 9), 0.5), signs(5, 3, 3, 3), 1),
        (spikes((4, 3, 9, 9)), torch.randn(5, 3, 3, 3), 1),
        (spikes((4, 3, 9, 9)), signs(5, 3, 3, 3), 3),
        (spikes((4, 3, 9, 9)).half(), signs(5, 3, 3, 3).half(), 1),
    ],
    ids=["no whole inputs", "no whole weights", "ninths", "half precision"],
)
def test_what_it_leaves_to_convolutions(input, weight, pool):
    assert sparse_conv2d(input, weight, pool) is None
    maps = conv_avg_pool2d(input, weight, pool)
    torch.testing.assert_close(maps, F.avg_pool2d(F.conv2d(input, weight), pool))


def test_dense_spikes_are_left_to_matrix_products(monkeypatch):
    monkeypatch.setattr(tuning, "SPARSE_CONV_SHARE", 0.1)
    for share, fits in ((0.03, True), (0.5, False)):
        found = sparse_conv2d(spikes((9, 3, 9, 9), share), signs(5, 3, 3, 3))
        assert (found is not None) is fits


def test_gradients_that_the_library_is_faster_at_are_left_to_it(monkeypatch):
    monkeypatch.setattr(tuning, "WINOGRAD", 3)
    input, weight = spikes((9, 3, 9, 9)).requires_grad_(), signs(5, 3, 3, 3).requires_grad_()
    assert sparse_conv2d(input, weight) is None
    with torch.no_grad():
        assert sparse_conv2d(input, weight) is not None
    assert sparse_conv2d(input.detach(), weight) is not None  # a first layer
    assert sparse_conv2d(input, weight, pool=2) is not None
    monkeypatch.setattr(tuning, "MOST_TAPS", 100)
    assert sparse_conv2d(input.detach(), weight) is None
    assert sparse_conv2d(input.detach(), weight.detach()) is not None


def test_networks_with_batch_norm_take_it_unasked_and_compute_the_same(monkeypatch):
    calls, function = [], loops.convolve
    monkeypatch.setattr(loops, "convolve", lambda *a: calls.append(1) or function(*a))

    def step(sparse):
        monkeypatch.setattr(tuning, "SMALL", 0 if sparse else 1 << 60)
        torch.manual_seed(0)
        network = SpikingNetwork("16C5-AP2-64C5-AP2-10", (1, 28, 28), beta=0.9, theta_0=1.0)
        output = network(torch.rand(2, 1, 28, 28), 12).spikes
        output.sum().backward()
        return [output.detach(), *(p.grad for p in network.parameters())]

    fast = step(sparse=True)
    assert len(calls) == 1  # of two layers the first reads pixels
    monkeypatch.setattr(tuning, "SPIKE_CONV_SMALL", 1 << 60)
    plain = step(sparse=False)
    assert len(calls) == 1
    assert torch.equal(fast[0], plain[0]) and fast[0].any()
    for got, wanted in zip(fast[1:], plain[1:], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-5)
