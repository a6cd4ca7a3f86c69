"""Batch norm of every time step: the library's, step by step."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from bsnn_tha.functional import batch_norm as module
from bsnn_tha.functional.batch_norm import batch_norm_steps, takes
from bsnn_tha.kernels import tuning

EPS = 1e-3


def step_by_step(input, weight, bias):
    """The library's batch norm, once per time step, and the statistics it would keep."""
    steps, channels = input.shape[0], input.shape[2]
    mean, variance = (torch.zeros(steps, channels, dtype=input.dtype) for _ in range(2))
    outputs = [
        F.batch_norm(step, mean[t], variance[t], weight, bias, True, 1.0, EPS)
        for t, step in enumerate(input)
    ]
    return torch.stack(outputs), mean, variance


@given(
    steps=st.integers(1, 4),
    batch=st.integers(1, 5),
    channels=st.sampled_from([1, 3, 16, 64, 65, 130]),
    size=st.sampled_from([(1, 2), (3, 5), (12, 12)]),
    last=st.booleans(),
    threads=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_float64_to_rounding(steps, batch, channels, size, last, threads, seed):
    torch.manual_seed(seed)
    input = 3 + 2 * torch.randn(steps, batch, channels, *size, dtype=torch.float64)
    if last:
        input = input.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    leaves = [
        input.requires_grad_(),
        *(torch.randn(channels, dtype=torch.float64).requires_grad_() for _ in range(2)),
    ]
    upstream = torch.randn_like(input)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "NORM_THREAD", 1)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        found = batch_norm_steps(*leaves, EPS)
        gradients = torch.autograd.grad(found[0], leaves, upstream)
    expected = step_by_step(*leaves)
    wanted = torch.autograd.grad(expected[0], leaves, upstream)
    for got, reference in zip((*found, *gradients), (*expected, *wanted), strict=True):
        torch.testing.assert_close(got, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_as_exact_as_the_dtype(dtype):
    torch.manual_seed(0)
    # A mean far from zero, where sums of squares would cancel.
    input = (50 + torch.randn(3, 40, 16, 9, 9)).to(dtype).requires_grad_()
    weight, bias = torch.rand(16).requires_grad_(), torch.rand(16).requires_grad_()
    upstream = torch.randn(input.shape).to(dtype)
    output, mean, variance = batch_norm_steps(input, weight, bias, EPS)
    assert output.dtype == dtype and mean.dtype == torch.float32
    found = output, mean, variance, *torch.autograd.grad(output, (input, weight, bias), upstream)
    wide = [leaf.detach().double().requires_grad_() for leaf in (input, weight, bias)]
    expected = step_by_step(*wide)
    gradients = torch.autograd.grad(expected[0], wide, upstream.double())
    tolerance = 1e-2 if dtype == torch.bfloat16 else 2e-5
    for got, wanted in zip(found, (*expected, *gradients), strict=True):
        torch.testing.assert_close(got.double(), wanted, rtol=tolerance, atol=5 * tolerance)


def test_nan_and_infinity_stay_in_their_step_and_channel():
    input = torch.randn(3, 4, 5, 2, 2)
    input[1, 0, 2, 0, 0], input[2, 0, 3, 0, 0] = math.nan, math.inf
    output, mean, _ = batch_norm_steps(input, torch.ones(5), torch.zeros(5), EPS)
    bad = torch.zeros(3, 5, dtype=torch.bool)
    bad[1, 2] = bad[2, 3] = True
    assert torch.equal(output.isnan().any(-1).any(-1).any(1), bad)
    assert torch.equal(~mean.isfinite(), bad)


def test_what_is_left_to_the_library():
    assert takes(torch.ones(2, 3, 4, 1, 1))
    assert not takes(torch.ones(2, 1, 4, 1, 1))  # the library says what is wrong
    assert not takes(torch.ones(2, 3, 4, 1, 1).half())
    assert not takes(torch.ones(2, 3, 4, 1, 1, device="meta"))


def test_the_operators_are_registered_rightly():
    input = torch.randn(3, 7, 4, requires_grad=True)
    weight, bias = torch.rand(4, requires_grad=True), torch.rand(4, requires_grad=True)
    torch.library.opcheck(module._batch_norm, (input, weight, bias, EPS))
    statistics = torch.rand(2, 3, 4, dtype=torch.float64)
    arguments = torch.randn(3, 7, 4), input.detach(), weight.detach(), *statistics, EPS
    torch.library.opcheck(module._backward, arguments)
