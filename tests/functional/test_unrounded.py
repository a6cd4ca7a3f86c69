"""Products and convolutions under autocast: float32's numbers, and gradients within bfloat16's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from bsnn_tha.functional import unrounded as module
from bsnn_tha.functional.running import running
from bsnn_tha.functional.unrounded import conv2d, linear, product_of_gradients
from bsnn_tha.kernels import tuning


@pytest.fixture(params=[True, False], ids=["instructions", "none"])
def instructions(request, monkeypatch):
    """Whether the processor multiplies bfloat16."""
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda: request.param)
    return request.param


def spikes(shape, most=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, most + 1, shape, generator=generator).float()


def close(got, wanted):
    """Within what rounding all terms to bfloat16 may do."""
    assert got.dtype == wanted.dtype
    torch.testing.assert_close(got, wanted, rtol=0.02, atol=0.02 * wanted.abs().max().item())


def check(function, plain, input, *weights, exact):
    """Both ways; ``exact``: whether gradients are rounded by what is asked for alone."""
    leaves = [its.requires_grad_() for its in (input, *weights)]
    with torch.autocast("cpu", torch.bfloat16):
        output = function(*leaves)
    wide = [leaves[0].float(), *leaves[1:]]
    expected = plain(*wide)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-4)
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad(output, leaves, upstream)
    for got, wanted in zip(found, torch.autograd.grad(expected, leaves, upstream), strict=True):
        close(got, wanted)
        if exact and got.dtype == torch.float32:
            torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("half", [True, False], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("together", [1, 1 << 20])
def test_products(half, together, instructions, monkeypatch):
    monkeypatch.setattr(tuning, "WIDENED_TOGETHER", together)
    input = spikes((70, 301))
    weight, bias = torch.randn(9, 301), torch.randn(9)
    given = input.bfloat16() if half else input
    check(linear, F.linear, given, weight, bias, exact=not instructions)


def test_sums_of_signs_are_exact():
    input, weight = spikes((40, 2000), 1), torch.randn(7, 2000).sign()
    with torch.autocast("cpu", torch.bfloat16):
        found = linear(input.bfloat16(), weight, None)
    assert torch.equal(found, F.linear(input, weight)) and found.abs().max() > 80


@pytest.mark.parametrize(
    "geometry", [(1, 0, 1), (2, 1, 1), (1, 1, 4)], ids=["plain", "stride, padding", "groups"]
)
@pytest.mark.parametrize("half", [True, False], ids=["bfloat16", "float32"])
def test_convolutions(half, geometry, instructions):
    stride, padding, groups = geometry
    input, weight = spikes((6, 4, 9, 8)), torch.randn(8, 4 // groups, 3, 3)
    check(
        lambda *leaves: conv2d(*leaves, *geometry),
        lambda *leaves: F.conv2d(*leaves, None, stride, padding, 1, groups),
        input.bfloat16() if half else input,
        weight,
        exact=not instructions,
    )


def test_gradients_of_spikes(instructions, monkeypatch):
    monkeypatch.setattr(tuning, "WIDENED_TOGETHER", 1000)
    grads, weight = torch.randn(50, 20), torch.randn(20, 33).sign()
    found = product_of_gradients(grads.bfloat16(), weight)
    close(found, (grads @ weight).bfloat16())
    assert torch.equal(product_of_gradients(grads, weight), grads @ weight)


@pytest.mark.parametrize("route", ["auto", "reference"])
def test_without_autocast_they_are_the_library_s(route):
    input, weight = torch.randn(5, 4, 6, 6), torch.randn(3, 4, 3, 3)
    with running(route):
        assert torch.equal(conv2d(input, weight, 1), F.conv2d(input, weight))
        flat, lines = input.flatten(1), torch.randn(3, 144)
        assert torch.equal(linear(flat, lines, None), F.linear(flat, lines))
        with torch.autocast("cpu", torch.bfloat16):
            found = linear(flat.bfloat16(), lines, None)
        torch.testing.assert_close(found, F.linear(flat.bfloat16().float(), lines))


@pytest.mark.parametrize("channels", [3, 4, 8])
def test_a_strided_convolution_of_single_places(channels):
    """Again and again: strided, the library's ends the process on some processors."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(100):
        input = torch.randn(15, channels, 6, 6, generator=generator)
        input = input.contiguous(memory_format=torch.channels_last).requires_grad_()
        weight = torch.randn(channels, channels, 1, 1, generator=generator, requires_grad=True)
        output = conv2d(input, weight, stride=2)
        output.square().sum().backward()
        kernel = weight.detach()[:, :, 0, 0]
        seen = input.detach()[:, :, ::2, ::2]
        expected = torch.einsum("oi,bihw->bohw", kernel, seen)
        torch.testing.assert_close(output.detach(), expected, rtol=1e-4, atol=1e-4)
        g_seen = torch.einsum("oi,bohw->bihw", kernel, 2 * expected)
        torch.testing.assert_close(input.grad[:, :, ::2, ::2], g_seen, rtol=1e-4, atol=1e-4)
        assert not input.grad[:, :, 1::2].any() and not input.grad[..., 1::2].any()
        g_kernel = torch.einsum("bohw,bihw->oi", 2 * expected, seen)
        torch.testing.assert_close(weight.grad[:, :, 0, 0], g_kernel, rtol=1e-4, atol=1e-4)
