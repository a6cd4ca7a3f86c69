"""The fully connected layer that skips zeros: the usual products, whatever the input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from bsnn_tha import SpikingNetwork
from bsnn_tha.functional import sparse_linear as module
from bsnn_tha.functional.sparse_linear import sparse_linear
from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu import sparse_linear as sparse_numba

DTYPES = [torch.float32, torch.float64]


@pytest.fixture
def small(monkeypatch):
    """Small products take the ways of large ones."""
    monkeypatch.setattr(tuning, "SMALL", 0)
    monkeypatch.setattr(tuning, "SPARSE_LINEAR_FEWEST", 1)


def events(samples, width, share=0.03, dtype=torch.float32, seed=1):
    generator = torch.Generator().manual_seed(seed)
    spikes = torch.rand(samples, width, generator=generator) < share
    return (spikes * torch.randint(1, 4, (samples, width), generator=generator)).to(dtype)


@given(
    samples=st.integers(0, 9),
    width=st.integers(1, 12),
    outputs=st.integers(1, 9),
    share=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    dtype=st.sampled_from(DTYPES),
    with_bias=st.booleans(),
    count=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_loops_are_the_products(samples, width, outputs, share, dtype, with_bias, count, seed):
    input = events(samples, width, share, dtype, seed)
    weight = torch.randn(outputs, width, dtype=dtype).sign()
    bias = torch.randint(-2, 3, (outputs,)).to(dtype) if with_bias else None
    g_output = torch.randint(-3, 4, (samples, outputs)).to(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "SPARSE_LINEAR_BLOCK", 4)
        patch.setattr(tuning, "SPARSE_LINEAR_SAMPLES", 2)
        patch.setattr(tuning, "SPARSE_LINEAR_THREAD", 1)
        patch.setattr(torch, "get_num_threads", lambda: count)
        lists = torch.empty(samples + 1, dtype=torch.int64), torch.empty(108, dtype=torch.int32)
        assert sparse_numba.listed(input, *lists)
        output = sparse_numba.forward(input, *lists, weight, bias)
        gradient = sparse_numba.gradient(input, *lists, g_output)
    few = torch.empty(max(int(lists[0][-1]) - 1, 0), dtype=torch.int32)
    assert sparse_numba.listed(input, lists[0], few) is (not input.any())
    # Whole numbers: no order of summation changes a bit.
    assert output.dtype == dtype and torch.equal(output, F.linear(input, weight, bias))
    assert torch.equal(gradient, g_output.t() @ input)


def products(function, input, weight, bias):
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    output = function(input, weight, bias)
    upstream = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return output.detach(), *torch.autograd.grad(output, (weight, bias), upstream)


@pytest.mark.parametrize("share", [0.03, 0.5], ids=["sparse", "dense"])
@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
def test_real_weights_and_gradients(small, share, dtype):
    input = events(50, 40, share, dtype)
    weight, bias = torch.randn(30, 40, dtype=dtype), torch.randn(30, dtype=dtype)
    actual = products(sparse_linear, input, weight, bias)
    expected = products(F.linear, input, weight, bias)
    for got, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(got, wanted)
        if share > 0.1:
            assert torch.equal(got, wanted)


def test_zeros_are_skipped_where_there_are_many(small, monkeypatch):
    calls = []
    for name in ("listed", "forward", "gradient"):
        function = getattr(sparse_numba, name)
        monkeypatch.setattr(
            sparse_numba, name, lambda *a, f=function, n=name: calls.append(n) or f(*a)
        )
    weight, bias = torch.randn(30, 40), torch.randn(30)
    for share, expected in (
        (0.03, ["listed", "forward", "gradient"]),  # listed once for both ways
        (0.2, ["listed"]),
    ):
        calls.clear()
        products(sparse_linear, events(50, 40, share), weight, bias)
        assert calls == expected
    monkeypatch.setattr(module, "_compiled_loops", lambda: None)
    calls.clear()
    products(sparse_linear, events(50, 40), weight, bias)
    assert calls == []


def test_what_it_leaves_to_pytorch(monkeypatch):
    weight = torch.ones(2, 3)
    monkeypatch.setattr(module, "_linear", None)
    assert sparse_linear(torch.ones(1, 3, requires_grad=True), weight).requires_grad
    assert sparse_linear(torch.ones(1, 3).bfloat16(), weight.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("share", [0.03, 0.5], ids=["sparse", "dense"])
def test_autocast_rounds_nothing(small, share):
    input, weight = events(20, 300, share), torch.randn(90, 300)
    with torch.autocast("cpu", torch.bfloat16):
        found = sparse_linear(input, weight)
    assert found.dtype == torch.float32 and torch.equal(found, sparse_linear(input, weight))


@pytest.mark.parametrize("share", [0.03, 0.5], ids=["sparse", "dense"])
def test_operators_are_registered_rightly(small, share):
    input = events(20, 30, share)
    weight, bias = torch.randn(9, 30, requires_grad=True), torch.randn(9, requires_grad=True)
    for last in (bias, None):
        torch.library.opcheck(module._linear, (input, weight, last))
    _, *lists = module._linear(input, weight, bias)
    torch.library.opcheck(module._gradient, (input, *lists, torch.randn(20, 9)))


def test_a_network_on_sparse_events_spikes_the_same(small, monkeypatch):
    torch.manual_seed(0)
    network = SpikingNetwork("40-5", (30,), beta=0.9, theta_0=1.0, slope=0.5)
    input = events(11 * 4, 30).view(11, 4, 30)
    results = []
    for loops in (sparse_numba, None):
        monkeypatch.setattr(module, "_compiled_loops", lambda loops=loops: loops)
        spikes = network(input).spikes
        spikes.sum().backward()
        results.append([spikes, *(parameter.grad for parameter in network.parameters())])
        network.zero_grad()
    assert torch.equal(results[0][0], results[1][0]) and 0 < results[0][0].mean() < 1
    torch.testing.assert_close(*results)
