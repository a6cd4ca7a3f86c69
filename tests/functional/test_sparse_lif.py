"""A layer in one pass over sparse spikes: the parts one by one, whatever the settings."""

from __future__ import annotations

import math

import pytest
import torch
from compiled_choices import one_of
from hypothesis import given
from hypothesis import strategies as st
from one_pass import assert_same, events, run
from torch.nn import functional as F

from bsnn_tha import SpikingNetwork
from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.lif import RESETS, lif_sequence_reference
from bsnn_tha.equations.surrogate import SURROGATES, FastSigmoid
from bsnn_tha.equations.threshold_gradient import SHARED, WINDOWS, ThresholdGradient
from bsnn_tha.functional.dropout import dropout
from bsnn_tha.functional.lif import lif_window
from bsnn_tha.functional.sparse_lif import sparse_lif
from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu import sparse_lif as loops

ONE = torch.tensor(1.0)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small layers take the way of large ones."""
    for name, value in (("SMALL", 0), ("SPARSE_LIF_FEWEST", 1), ("SPARSE_LIF_SHARE", 4.0)):
        monkeypatch.setattr(tuning, name, value)


def parts(
    input, weight, bias, dynamics, membrane=None, probability=0.0, seed=None,
):  # fmt: skip
    """What the layer is defined as."""
    current = F.linear(input.to(weight.dtype), weight) + (0 if bias is None else bias)
    if probability:
        current = dropout(current, probability, seed)
    return lif_window(current, dynamics, membrane, backend="reference")


def plain(
    input, weight, bias, threshold, dynamics, membrane=None, probability=0.0, seed=None,
):  # fmt: skip
    """The same with a plain time loop, which autograd differentiates, θ included."""
    current = F.linear(input, weight) + bias
    if probability:
        current = dropout(current, probability, seed)
    return lif_sequence_reference(
        current, dynamics.beta, threshold, dynamics.centre, dynamics.surrogate, dynamics.reset,
        membrane, dynamics.threshold_gradient,
    )  # fmt: skip


def one_pass(input, weight, bias, threshold, dynamics, **keywords):
    """θ as a leaf of its own."""
    dynamics = dynamics.with_tensors(dynamics.beta, threshold, dynamics.centre)
    return sparse_lif(input, weight, bias, dynamics, **keywords)


# What is compiled for itself: reset, surrogate, whether there is dropout; how θ gets its gradient.
SHAPES = [shape(0.7, 1.3) for shape in SURROGATES.values()]
COMPILED = [
    ("subtract", SHAPES[0], 0.3, SHARED),  # fast_sigmoid
    ("subtract", SHAPES[2], 0.0, ThresholdGradient("piecewise")),  # arctan
    ("zero", SHAPES[0], 0.0, ThresholdGradient("sigmoid", fired_only=True)),
    ("zero", SHAPES[5], 0.3, SHARED),  # triangle
    ("none", SHAPES[3], 0.0, SHARED),  # exponential
]
PATHS = [
    ThresholdGradient(window, fired_only) for window in WINDOWS for fired_only in (True, False)
]


@given(
    steps=st.integers(1, 7),
    batch=st.integers(0, 4),
    width=st.integers(1, 90),
    outputs=st.sampled_from([1, 3, 255, 257, 1100]),
    share=st.sampled_from([0.0, 0.05, 0.6]),
    most=st.sampled_from([1, 3]),
    compiled=one_of(COMPILED, RESETS, SHAPES, [0.0, 0.3], PATHS),
    per_neuron=st.booleans(),
    threads=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_one_pass_is_the_plain_time_loop(
    steps, batch, width, outputs, share, most, compiled, per_neuron, threads, seed
):
    reset, surrogate, probability, path = compiled
    torch.manual_seed(seed)
    input = events((steps, batch, width), share, torch.float64, seed, most)
    shape = (outputs,) if per_neuron else ()
    beta, threshold, centre = (
        low + torch.rand(shape, dtype=torch.float64) for low in (0.1, 0.5, 0.3)
    )
    leaves = (
        input,
        torch.randn(outputs, width, dtype=torch.float64).sign(),
        torch.randn(outputs, dtype=torch.float64),
        threshold,
        torch.randn(batch, outputs, dtype=torch.float64),
    )
    arguments = (Dynamics(beta.clamp(0, 1), threshold, centre, surrogate, reset, path),)
    keywords = {"probability": probability, "seed": torch.tensor(seed)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "SPARSE_LIF_THREAD", 1)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        actual = run(one_pass, leaves, *arguments, **keywords)
    expected = run(plain, leaves, *arguments, **keywords)
    # float64: the same but for the order of sums.
    assert_same(actual, expected, rtol=1e-9, atol=1e-9)


def layer(outputs=300, width=80, batch=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(outputs, width, generator=generator).sign().to(dtype)
    bias = torch.randint(-3, 4, (outputs,), generator=generator).to(dtype)
    return weight, bias, torch.zeros(batch, outputs, dtype=dtype)


@pytest.mark.parametrize("learned", [False, True])
def test_float32_to_the_last_bit_and_the_same_for_any_threads(learned, monkeypatch):
    weight, bias, start = layer()
    leaves = events((40, 3, 80)), weight, bias, start
    one_way, other_way = sparse_lif, parts
    if learned:
        leaves = *leaves[:-1], 2.1 * torch.ones(300), start
        one_way, other_way = one_pass, plain
    arguments = (Dynamics(0.9 * ONE, 2.1 * ONE, ONE, FastSigmoid(0.5)),)
    keywords = {"probability": 0.2, "seed": torch.tensor(11)}
    expected = run(other_way, leaves, *arguments, **keywords)
    assert 0.05 < expected[0].mean() < 0.95
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(tuning, "SPARSE_LIF_THREAD", 1)
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(run(one_way, leaves, *arguments, **keywords))
    assert all(torch.equal(one, three) for one, three in zip(*found, strict=True))
    # Sums of 120 steps and samples.
    assert_same(found[0], expected, rtol=1e-5, atol=1e-4)


def test_a_tie_fires_and_nan_does_not():
    weight, input = torch.ones(3, 1), torch.ones(2, 1, 1)
    bias = torch.tensor([0.0, math.nan, math.inf])
    dynamics = Dynamics(ONE, ONE, ONE, FastSigmoid())
    for extra in ({}, {"probability": 0.5, "seed": torch.tensor(1)}):
        got, wanted = (
            function(input, weight, bias, dynamics, **extra) for function in (sparse_lif, parts)
        )
        torch.testing.assert_close(got.spikes, wanted.spikes, rtol=0, atol=0)
        torch.testing.assert_close(got.membrane, wanted.membrane, rtol=0, atol=0, equal_nan=True)
    tie = sparse_lif(input, weight, None, dynamics)
    assert tie.spikes.flatten().tolist() == [1.0] * 6


@pytest.mark.parametrize(
    "change",
    [
        {"input": 0.5 * events((4, 2, 9))},
        {"input": -events((4, 2, 9), 0.5)},
        {"input": torch.full((4, 2, 9), math.nan)},
        {"input": torch.full((4, 2, 9), math.inf)},
        {"input": 1e9 * events((4, 2, 9), 0.5)},
        {"input": events((4, 2, 9)).half()},
        {"weight": torch.randn(5, 9)},
        {"weight": torch.full((5, 9), math.nan)},
        {"weight": 2 * torch.ones(5, 9)},
        {"beta": torch.tensor(0.5, requires_grad=True)},
        {"threshold": torch.ones(2, 1)},
        {"surrogate": lambda membrane, centre: membrane},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_it_leaves_to_the_parts(change):
    given = {
        "input": events((4, 2, 9)), "weight": torch.ones(5, 9), "bias": None, "beta": ONE,
        "threshold": ONE, "centre": ONE, "surrogate": FastSigmoid(),
    }  # fmt: skip

    def window(input, weight, bias, **dynamics):
        return sparse_lif(input, weight, bias, Dynamics(**dynamics))

    assert window(**given) is not None
    assert window(**(given | change)) is None


def test_dense_input_is_left_to_matrix_products(monkeypatch):
    monkeypatch.setattr(tuning, "SPARSE_LIF_SHARE", 0.1)
    weight, dynamics = torch.ones(5, 40), Dynamics(ONE, ONE, ONE, FastSigmoid())
    for share, fits in ((0.03, True), (0.5, False)):
        window = sparse_lif(events((30, 2, 40), share), weight, None, dynamics)
        assert (window is not None) is fits


def test_under_autocast_spikes_and_gradients_are_bfloat16_and_nothing_else():
    input, (weight, bias, _) = events((20, 3, 80)), layer()
    weight.requires_grad_()
    arguments = weight, bias, Dynamics(0.9 * ONE, 2.1 * ONE, ONE, FastSigmoid(0.5))
    plain = sparse_lif(input, *arguments)
    # As another layer hands them on.
    halves = input.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        half = sparse_lif(halves, *arguments)
    assert half.spikes.dtype == torch.bfloat16 and half.membrane.dtype == torch.float32
    assert torch.equal(half.spikes.float(), plain.spikes)
    upstream = torch.randn(plain.spikes.shape).bfloat16()
    got, g_input = torch.autograd.grad(half.spikes, (weight, halves), upstream)
    (wanted,) = torch.autograd.grad(plain.spikes, weight, upstream.float())
    assert torch.equal(got, wanted)
    assert g_input.dtype == torch.bfloat16 and g_input.any()


def network(**settings):
    torch.manual_seed(0)
    return SpikingNetwork(
        "80Dense300Dense120Dense5",
        (80,),
        beta=0.9,
        theta_0=[2.0, 3.0, 3.0],
        slope=0.5,
        dropout=0.2,
        **settings,
    )


def step(net, input, **keywords):
    """Output spikes and all gradients, from one state of the generator."""
    torch.manual_seed(9)
    net.zero_grad()
    spikes = net(input, **keywords).spikes
    (spikes * torch.linspace(-1, 1, spikes.numel()).view_as(spikes)).sum().backward()
    return [spikes.detach(), *(p.grad.clone() for p in net.parameters())]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rule": "learned", "per": "neuron", "surrogate_centre": "moving"},
        {"rule": "tanh", "penalty_window": "sigmoid", "fired_only": True},
    ],
    ids=str,
)
def test_networks_take_it_unasked_and_compute_the_same(settings, monkeypatch):
    input, calls, function = events((25, 4, 80)), [], loops.forward
    monkeypatch.setattr(loops, "forward", lambda *a: calls.append(1) or function(*a))
    fast = step(network(**settings), input)
    assert len(calls) == 3
    calls.clear()
    plain = step(network(backend="reference", **settings), input)
    assert not calls
    assert torch.equal(fast[0], plain[0]) and fast[0].any()
    for got, wanted in zip(fast[1:], plain[1:], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_chunks_draw_the_same_masks_when_run_again():
    # The gradient of a chunk is that of the masks its forward pass drew: finite
    # spikes come out alike, and a second run from the same state gives the same.
    net, input = network(), events((25, 4, 80))
    first, second = (step(net, input, chunk_steps=10) for _ in range(2))
    for got, wanted in zip(first, second, strict=True):
        assert torch.equal(got, wanted)
    plain = step(network(backend="reference"), input, chunk_steps=10)
    assert torch.equal(first[0], plain[0])
    for got, wanted in zip(first[1:], plain[1:], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_compilers_take_the_network_whole():
    net, input = network(), events((6, 2, 80))
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.manual_seed(1)
    expected = net(input).spikes
    torch.manual_seed(1)
    assert torch.equal(compiled(input).spikes, expected)
