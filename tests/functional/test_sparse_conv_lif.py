"""A convolutional layer in one pass over sparse spikes: the parts one by one, whatever settings."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from compiled_choices import GEOMETRIES, geometries, input_side, one_of
from hypothesis import given
from hypothesis import strategies as st
from one_pass import assert_same, events, run
from torch.nn import functional as F

from bsnn_tha import SpikingNetwork
from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.lif import RESETS, lif_sequence_reference
from bsnn_tha.equations.surrogate import SURROGATES, FastSigmoid
from bsnn_tha.equations.threshold_gradient import SHARED, WINDOWS, ThresholdGradient
from bsnn_tha.functional.lif import lif_window
from bsnn_tha.functional.sparse_conv_lif import sparse_conv_lif
from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu import sparse_conv_lif as loops

ONE = torch.tensor(1.0)
LARGEST = 2**15 - 2**4
"""Sums that may be larger are left to the parts."""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small layers take the way of large ones."""
    for name, value in (("SMALL", 0), ("SPARSE_CONV_SHARE", 4.0), ("WINOGRAD", 0)):
        monkeypatch.setattr(tuning, name, value)


def parts(
    input, weight, dynamics, membrane=None, pool=1, padding=0,
):  # fmt: skip
    """What the layer is defined as: PyTorch's own convolution and pooling, and the reference."""
    maps = F.conv2d(input.flatten(0, 1).to(weight.dtype), weight, padding=padding)
    current = F.avg_pool2d(maps, pool).unflatten(0, input.shape[:2])
    return lif_window(current, dynamics, membrane, backend="reference")


def plain(input, weight, threshold, dynamics, membrane=None, pool=1, padding=0):
    """The same with a plain time loop, which autograd differentiates, θ included."""
    maps = F.conv2d(input.flatten(0, 1), weight, padding=padding)
    current = F.avg_pool2d(maps, pool).unflatten(0, input.shape[:2])
    return lif_sequence_reference(
        current, dynamics.beta, threshold, dynamics.centre, dynamics.surrogate, dynamics.reset,
        membrane, dynamics.threshold_gradient,
    )  # fmt: skip


def one_pass(input, weight, threshold, dynamics, **keywords):
    """θ as a leaf of its own."""
    dynamics = dynamics.with_tensors(dynamics.beta, threshold, dynamics.centre)
    return sparse_conv_lif(input, weight, dynamics, **keywords)


# With each geometry, what else is compiled for itself: reset and surrogate; whose θ is, and how it
# gets its gradient.
WHOSE = ["layer", "neuron", "channel", "layer"]
PATHS = [
    SHARED,
    ThresholdGradient("sigmoid", fired_only=True),
    SHARED,
    ThresholdGradient("triangle"),
]
NEURONS = list(
    zip(
        itertools.cycle(RESETS), sorted(SURROGATES), itertools.cycle(WHOSE), itertools.cycle(PATHS),
        strict=False,
    )
)  # fmt: skip
neurons = one_of(
    NEURONS, RESETS, sorted(SURROGATES), WHOSE,
    [ThresholdGradient(window, fired_only) for window in WINDOWS for fired_only in (True, False)],
)  # fmt: skip


@given(
    steps=st.integers(1, 6),
    batch=st.integers(0, 18),
    channels=st.sampled_from([1, 2, 5, 16, 17]),
    compiled=one_of(
        [*zip(GEOMETRIES, itertools.cycle(NEURONS), strict=False)], geometries, neurons
    ),
    beyond=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    padding=st.integers(0, 2),
    share=st.sampled_from([0.0, 0.05, 0.6]),
    most=st.sampled_from([1, 3]),
    layout=st.permutations([0, 1, 2, 3, 4]),
    threads=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_one_pass_is_the_plain_time_loop(
    steps, batch, channels, compiled, beyond, padding, share, most, layout, threads, seed
):
    (outputs, kernel, pool, (rows, columns)), (reset, surrogate, whose, path) = compiled
    height, width = (
        input_side(places, kernel, pool, padding, rest)
        for places, rest in zip((rows, columns), beyond, strict=True)
    )
    if min(height, width) < 1:
        return
    torch.manual_seed(seed)
    input = events((steps, batch, channels, height, width), share, torch.float64, seed, most)
    if batch and pool**2 * input.sum((2, 3, 4)).max() > LARGEST:
        return
    # The same values in another order of memory.
    inverse = sorted(range(5), key=layout.__getitem__)
    input = input.permute(layout).contiguous().permute(inverse)
    beta, centre = (low + torch.rand((), dtype=torch.float64) for low in (0.0, 0.3))
    sizes = {"layer": (), "channel": (outputs, 1, 1), "neuron": (outputs, rows, columns)}[whose]
    threshold = 0.5 + torch.rand(sizes, dtype=torch.float64)
    # The centre moves with θ where there is one for each.
    centre = threshold if sizes else centre
    leaves = (
        input,
        torch.randn(outputs, channels, kernel, kernel, dtype=torch.float64).sign(),
        threshold,
        torch.randn(batch, outputs, rows, columns, dtype=torch.float64),
    )
    shape = SURROGATES[surrogate](slope=1.3)
    arguments = (Dynamics(beta, threshold, centre, shape, reset, path),)
    keywords = {"pool": pool, "padding": padding}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "CONV_THREAD", 1)
        patch.setattr(tuning, "EVENTS_THREAD", 1)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        actual = run(one_pass, leaves, *arguments, **keywords)
    expected = run(plain, leaves, *arguments, **keywords)
    # float64: the same but for the order of sums.
    assert_same(actual, expected, rtol=1e-9, atol=1e-9)


def layer(batch=3, channels=5, side=12, outputs=20, share=0.05):
    """Input, weight and first membranes."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(outputs, channels, 5, 5, generator=generator).sign()
    return events((30, batch, channels, side, side), share), weight, torch.zeros(batch, 20, 4, 4)


@pytest.mark.parametrize("whose", [None, "layer", "neuron"])
def test_float32_to_the_last_bit_and_the_same_for_any_threads(whose, monkeypatch):
    dynamics = Dynamics(0.9 * ONE, 2.1 * ONE, ONE, FastSigmoid(0.5))
    one_way, other_way = sparse_conv_lif, parts
    input, weight, start = layer()
    leaves = [input, weight, start]
    if whose is not None:
        one_way, other_way = one_pass, plain
        theta = torch.linspace(1.5, 2.5, 320).view(20, 4, 4) if whose == "neuron" else 2.1 * ONE
        leaves = [input, weight, theta, start]
    expected = run(other_way, leaves, dynamics, pool=2)
    assert 0.05 < expected[0].mean() < 0.95
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(tuning, "CONV_THREAD", 1)
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(run(one_way, leaves, dynamics, pool=2))
    assert all(torch.equal(one, three) for one, three in zip(*found, strict=True))
    # Sums over up to 14,400 terms, in another order.
    tolerance = {"rtol": 1e-4, "atol": 1e-4 if whose is None else 1e-3}
    assert_same(found[0], expected, **tolerance)


def test_a_threshold_that_moves_before_the_backward_pass_is_the_one_that_fired():
    input, weight, _ = layer()
    theta = torch.full((20, 4, 4), 2.1)
    dynamics = Dynamics(0.9 * ONE, theta, theta, FastSigmoid(0.5))
    gradients = []
    for moved in (0.0, 0.7):
        leaf = weight.clone().requires_grad_()
        window = sparse_conv_lif(input, leaf, dynamics, pool=2)
        theta += moved
        window.spikes.sum().backward()
        gradients.append(leaf.grad)
    assert torch.equal(*gradients) and gradients[0].any()


def test_a_tie_fires_and_a_membrane_that_is_no_number_does_not():
    input, weight = torch.ones(3, 1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    dynamics = Dynamics(ONE, 4 * ONE, ONE, FastSigmoid())
    for value in (0.0, math.nan, math.inf):
        start = torch.full((1, 1, 1, 1), value)
        got, wanted = (
            function(input, weight, dynamics, membrane=start)
            for function in (sparse_conv_lif, parts)
        )
        assert torch.equal(got.spikes, wanted.spikes)
        torch.testing.assert_close(got.membrane, wanted.membrane, rtol=0, atol=0, equal_nan=True)
    assert sparse_conv_lif(input, weight, dynamics).spikes.flatten().tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "change",
    [
        {"input": 0.5 * events((4, 2, 3, 9, 9))},
        {"input": -events((4, 2, 3, 9, 9), 0.5)},
        {"input": torch.full((4, 2, 3, 9, 9), math.nan)},
        {"input": torch.full((4, 2, 3, 9, 9), math.inf)},
        {"input": 1e9 * events((4, 2, 3, 9, 9), 0.5)},
        {"input": events((4, 2, 3, 9, 9)).half()},
        {"weight": torch.randn(5, 3, 3, 3)},
        {"weight": torch.full((5, 3, 3, 3), math.nan)},
        {"weight": torch.full((5, 3, 3, 3), math.inf)},
        {"weight": torch.full((5, 3, 3, 3), 40_000.0)},
        {"beta": torch.tensor(0.5, requires_grad=True)},
        {"beta": torch.ones(5, 1, 1)},
        {"threshold": torch.ones(2, 5, 1, 1)},
        {"surrogate": lambda membrane, centre: membrane},
        {"pool": 3},
        {"pool": 8},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_it_leaves_to_the_parts(change):
    given = {
        "input": events((4, 2, 3, 9, 9)), "weight": torch.ones(5, 3, 3, 3), "beta": ONE,
        "threshold": ONE, "centre": ONE, "surrogate": FastSigmoid(),
    }  # fmt: skip

    def window(input, weight, pool=1, **dynamics):
        return sparse_conv_lif(input, weight, Dynamics(**dynamics), pool=pool)

    assert window(**given) is not None
    assert window(**(given | change)) is None


def test_sums_that_would_leave_16_bits_are_left_to_the_parts(monkeypatch):
    monkeypatch.setattr(tuning, "SPARSE_CONV_SHARE", 200.0)
    # One patch sees 80 inputs of 100 spikes each: 8,000 fit with weights of 4, not of 5.
    input = 100 * torch.ones(2, 1, 1, 8, 10)
    for size, fits in ((4.0, True), (5.0, False)):
        weight = torch.full((1, 1, 8, 8), size)
        dynamics = Dynamics(ONE, 1e4 * ONE, ONE, FastSigmoid())
        window = sparse_conv_lif(input, weight, dynamics)
        assert (window is not None) is fits
        if window is not None:
            wanted = parts(input, weight, dynamics)
            assert torch.equal(window.membrane, wanted.membrane)


def test_dense_input_is_left_to_the_parts(monkeypatch):
    monkeypatch.setattr(tuning, "SPARSE_CONV_SHARE", 0.1)
    weight, dynamics = torch.ones(5, 3, 3, 3), Dynamics(ONE, ONE, ONE, FastSigmoid())
    for share, fits in ((0.03, True), (0.5, False)):
        window = sparse_conv_lif(events((9, 2, 3, 9, 9), share), weight, dynamics)
        assert (window is not None) is fits


def test_under_autocast_spikes_and_gradients_are_bfloat16_and_nothing_else():
    input, weight, _ = layer()
    weight.requires_grad_()
    dynamics = Dynamics(0.9 * ONE, 2.1 * ONE, ONE, FastSigmoid(0.5))
    plain = sparse_conv_lif(input, weight, dynamics, pool=2)
    # As another such layer hands them on.
    halves = input.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        half = sparse_conv_lif(halves, weight, dynamics, pool=2)
    assert half.spikes.dtype == torch.bfloat16 and half.membrane.dtype == torch.float32
    assert torch.equal(half.spikes.float(), plain.spikes)
    upstream = torch.randn(plain.spikes.shape).bfloat16()
    g_input, got = torch.autograd.grad(half.spikes, (halves, weight), upstream)
    (wanted,) = torch.autograd.grad(plain.spikes, weight, upstream.float())
    assert torch.equal(got, wanted)
    assert g_input.dtype == torch.bfloat16 and g_input.any()


def test_only_what_is_asked_for_has_a_gradient():
    input, weight, start = layer()
    given = Dynamics(0.9 * ONE, 2.1 * ONE, ONE, FastSigmoid(0.5)), start.requires_grad_()
    window = sparse_conv_lif(input, weight, *given, pool=2)
    # Of the last membrane alone: there is no gradient of spikes.
    (gradient,) = torch.autograd.grad(window.membrane.sum(), start)
    torch.testing.assert_close(gradient, torch.full_like(start, 0.9**30))
    with torch.no_grad():
        assert not sparse_conv_lif(input, weight, *given, pool=2).spikes.requires_grad


def network(**settings):
    torch.manual_seed(0)
    usual = {"beta": 0.9, "theta_0": [3.0, 2.0, 1.0], "slope": 0.5, "norm": "none"}
    return SpikingNetwork("6C5-AP2-20C3-7", (2, 20, 20), **(usual | settings))


def step(net, input, **keywords):
    """Output spikes and all gradients."""
    net.zero_grad()
    spikes = net(input, **keywords).spikes
    (spikes * torch.linspace(-1, 1, spikes.numel()).view_as(spikes)).sum().backward()
    return [spikes.detach(), *(p.grad.clone() for p in net.parameters())]


def counted(monkeypatch):
    """A list that grows with every layer that takes the way."""
    calls, function = [], loops.forward
    monkeypatch.setattr(loops, "forward", lambda *a: calls.append(1) or function(*a))
    return calls


LEARNED = [
    {"rule": "learned", "per": "neuron", "surrogate_centre": "moving"},
    {"rule": "tanh", "penalty_window": "sigmoid", "fired_only": True},
]


@pytest.mark.parametrize("settings", [{}, *LEARNED], ids=str)
def test_networks_take_it_unasked_and_compute_the_same(settings, monkeypatch):
    input, calls = events((25, 4, 2, 20, 20)), counted(monkeypatch)
    fast = step(network(**settings), input)
    assert len(calls) == 2
    plain = step(network(backend="reference", **settings), input)
    assert len(calls) == 2
    assert torch.equal(fast[0], plain[0]) and fast[0].any()
    for got, wanted in zip(fast[1:], plain[1:], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    # A window in chunks is the window.
    chunked = step(network(**settings), input, chunk_steps=10)
    assert torch.equal(chunked[0], fast[0])
    for got, wanted in zip(chunked[1:], fast[1:], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [{"norm": "per-step"}, {"learn_beta": True}, {"weights": "float"}, {"weights": "sawb"}],
    ids=str,
)
def test_layers_of_other_kinds_go_the_usual_way(monkeypatch, settings):
    calls = counted(monkeypatch)
    assert network(**settings)(events((5, 4, 2, 20, 20))).spikes.shape == (5, 4, 7)
    assert not calls


def test_compilers_take_the_network_whole():
    net, input = network(), events((6, 2, 2, 20, 20))
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(input).spikes, net(input).spikes)
