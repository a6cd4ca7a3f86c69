"""Gradients of 3 × 3 convolutions by Winograd's algorithm: those of autograd in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from bsnn_tha.functional import winograd
from bsnn_tha.functional.sparse_conv import sparse_conv2d
from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu import input_gradient as direct
from bsnn_tha.nn.notation import ConvSpec, parse_network


def wanted(g_output, weight, input, padding, pool):
    """Gradients of input and weight, ``[samples, in, height, width]`` and ``[out, in, 3, 3]``."""
    leaves = [its.double().requires_grad_() for its in (input, weight)]
    output = F.conv2d(*leaves, padding=padding)
    output = output if pool == 1 else F.avg_pool2d(output, pool)
    return torch.autograd.grad(output, leaves, g_output.double())


def drawn(samples, channels, outputs, size, padding, pool, seed=0):
    generator = torch.Generator().manual_seed(seed)
    input = torch.randint(0, 2, (samples, channels, *size), generator=generator).byte()
    weight = torch.randn(outputs, channels, 3, 3, generator=generator).sign()
    places = [(its + 2 * padding - 2) // pool for its in size]
    return torch.randn(samples, outputs, *places, generator=generator), weight, input


def close(got, expected, share=2e-5):
    assert got.dtype == torch.float32
    assert (got - expected).abs().max() <= share * expected.abs().max()


@given(
    samples=st.integers(1, 5),
    channels=st.sampled_from([16, 48]),
    outputs=st.sampled_from([16, 32]),
    size=st.tuples(st.integers(3, 11), st.integers(3, 11)),
    padding=st.integers(0, 2),
    pool=st.sampled_from([1, 2]),
    tiles=st.sampled_from([1, 5, 64]),
    threads=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_both_gradients(samples, channels, outputs, size, padding, pool, tiles, threads, seed):
    size = tuple(max(its, 2 + pool - 2 * padding) for its in size)
    g_output, weight, input = drawn(samples, channels, outputs, size, padding, pool, seed)
    g_maps, maps = (its.permute(0, 2, 3, 1) for its in (g_output, input))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "WINOGRAD_TILES", tiles)
        patch.setattr(tuning, "CONV_THREAD", 1)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        g_input = winograd.input_gradient(g_maps, weight, maps.shape, padding, pool)
        g_weight = winograd.weight_gradient(g_maps, maps.contiguous(), padding, pool)
    expected = wanted(g_output, weight, input, padding, pool)
    close(g_input.permute(0, 3, 1, 2), expected[0])
    close(g_weight, expected[1])


@given(
    samples=st.integers(1, 5),
    channels=st.sampled_from([1, 16, 20, 40]),
    kernel_and_stride=st.sampled_from([(3, 1), (5, 2), (6, 2), (7, 3), (9, 3)]),
    places=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    beyond=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    padding=st.integers(0, 2),
    tiles=st.sampled_from([1, 40, 128]),
    kept=st.sampled_from([0, 1 << 9]),
    threads=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_the_inputs_gradient_of_kernels_with_a_stride(
    samples, channels, kernel_and_stride, places, beyond, padding, tiles, kept, threads, seed
):
    (kernel, stride), outputs = kernel_and_stride, 32
    size = [
        (count - 1) * stride + kernel + min(rest, stride - 1) - 2 * padding
        for count, rest in zip(places, beyond, strict=True)
    ]
    if min(size) < 1:
        return
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, channels, kernel, kernel, generator=generator)
    input = torch.zeros(samples, channels, *size, dtype=torch.float64, requires_grad=True)
    g_output = torch.randn(samples, outputs, *places, generator=generator)
    output = F.conv2d(input, weight.double(), stride=stride, padding=padding)
    (expected,) = torch.autograd.grad(output, input, g_output.double())
    lanes, side = tuning.CONV_VECTOR, 3 * stride
    blocks = -(-channels // lanes)
    taps = torch.zeros(side, side, outputs, blocks * lanes)
    taps[:kernel, :kernel, :, :channels] = weight.permute(2, 3, 0, 1)
    taps = taps.view(side**2, outputs, blocks, lanes).transpose(1, 2).contiguous()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "WINOGRAD_TILES", tiles)
        patch.setattr(tuning, "WINOGRAD_KEPT", kept)
        patch.setattr(tuning, "CONV_THREAD", 1)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        g_input = winograd.input_gradient_of_taps(
            g_output.permute(0, 2, 3, 1), taps, (samples, *size, channels), stride, padding
        )
    close(g_input.permute(0, 3, 1, 2), expected)


def test_a_sparse_convolutions_input_gradient_takes_it(monkeypatch):
    """MNIST's second layer, whose kernels of 5 × 5 with pooling are 6 × 6 ones with a stride."""
    monkeypatch.setattr(tuning, "SMALL", 0)
    generator = torch.Generator().manual_seed(0)
    spikes = (torch.rand(6, 16, 12, 12, generator=generator) < 0.1).float().requires_grad_()
    weight = torch.randn(64, 16, 5, 5, generator=generator).sign()
    g_output = torch.randn(6, 64, 4, 4, generator=generator)
    maps = sparse_conv2d(spikes, weight, 2)
    monkeypatch.setattr(direct, "input_gradient", None)
    (found,) = torch.autograd.grad(maps, spikes, g_output)
    close(found, wanted(g_output, weight, spikes.detach(), 0, 2)[0])


@pytest.mark.parametrize(
    ("places", "outputs", "kernel", "stride", "taken"),
    [((4, 4), 64, 6, 2, True), ((4, 4), 64, 5, 2, True), ((4, 4), 64, 3, 1, True),
     ((4, 4), 60, 6, 2, False), ((5, 5), 32, 6, 2, False), ((4, 4), 64, 5, 1, False),
     ((8, 8), 64, 4, 2, False)],
)  # fmt: skip
def test_of_which_kernels_the_inputs_gradient_is_taken(places, outputs, kernel, stride, taken):
    assert winograd.takes_input(*places, outputs, kernel, stride) == taken


@pytest.mark.parametrize("name", ["vgg9", "resnet19", "32C5-AP2-64C3P-128C3P-AP2-256C3P-AP2-10"])
def test_at_the_sizes_of_networks(name):
    """The peers' benchmark compares deep networks in float64, where this way is not taken."""
    plans = parse_network(name, (3, 32, 32))
    sizes = {(*its.input_shape, its.spec) for its in plans if isinstance(its.spec, ConvSpec)}
    seen = 0
    for channels, *size, spec in sizes:
        weight = torch.empty(spec.channels, channels, spec.kernel, spec.kernel)
        if not winograd.takes(weight, spec.stride, spec.padding):
            continue
        g_output, weight, input = drawn(
            2, channels, spec.channels, size, spec.padding, spec.pool, seen
        )
        g_maps, maps = (its.permute(0, 2, 3, 1).contiguous() for its in (g_output, input))
        expected = wanted(g_output, weight, input, spec.padding, spec.pool)
        g_input = winograd.input_gradient(g_maps, weight, maps.shape, spec.padding, spec.pool)
        close(g_input.permute(0, 3, 1, 2), expected[0])
        close(winograd.weight_gradient(g_maps, maps, spec.padding, spec.pool), expected[1])
        seen += 1
    assert seen >= 3


def test_any_number_of_threads_gives_the_same_bits(monkeypatch):
    g_output, weight, input = drawn(9, 32, 48, (10, 7), 1, 1)
    g_maps, maps = (its.permute(0, 2, 3, 1).contiguous() for its in (g_output, input))
    monkeypatch.setattr(tuning, "CONV_THREAD", 1)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        g_input = winograd.input_gradient(g_maps, weight, maps.shape, 1)
        found.append((g_input, winograd.weight_gradient(g_maps, maps, 1)))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_gradients_in_bfloat16_are_read_and_written():
    g_output, weight, input = drawn(3, 16, 32, (8, 8), 1, 1)
    g_maps, maps = (its.permute(0, 2, 3, 1).contiguous() for its in (g_output, input))
    half = g_maps.bfloat16()
    wide = winograd.input_gradient(half.float(), weight, maps.shape, 1)
    got = winograd.input_gradient(half, weight, maps.shape, 1, dtype=torch.bfloat16)
    assert torch.equal(got, wide.bfloat16())
    g_weight = winograd.weight_gradient(half, maps, 1)
    assert torch.equal(g_weight, winograd.weight_gradient(half.float(), maps, 1))


@pytest.mark.parametrize(
    ("shape", "stride", "padding"),
    [((16, 16, 5, 5), 1, 1), ((16, 16, 3, 3), 2, 1), ((16, 16, 3, 3), 1, 3), ((16, 3, 3, 3), 1, 1),
     ((10, 16, 3, 3), 1, 1)],
)  # fmt: skip
def test_what_it_does_not_take(shape, stride, padding):
    assert winograd.takes(torch.zeros(16, 32, 3, 3), 1, 2)
    assert not winograd.takes(torch.zeros(shape), stride, padding)
