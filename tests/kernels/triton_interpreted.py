"""The GPU kernels in Triton's interpreter, on the CPU: cases for test_lif_triton.py.

A module of its own because the interpreter must be chosen before Triton is
imported; test_lif_triton.py runs it in a process with ``TRITON_INTERPRET=1``.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bsnn_tha import AnnealedLeaky, lif_sequence
from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.surrogate import SURROGATES, FastSigmoid
from bsnn_tha.equations.threshold_gradient import SHARED, WINDOWS, ThresholdGradient
from bsnn_tha.functional import lif_operator
from bsnn_tha.kernels import lif_tensors
from bsnn_tha.kernels.layout import empty

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
RESETS = ["subtract", "zero", "none"]
SHAPES = [shape(0.8, 1.3) for shape in SURROGATES.values()]
THRESHOLD_GRADIENTS = [
    ThresholdGradient(window, fired_only) for window in WINDOWS for fired_only in (False, True)
]
LAYOUTS = {
    "contiguous": lambda x: x.contiguous(),
    "batch_first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "channels_last": lambda x: x.movedim(2, -1).contiguous().movedim(-1, 2),
    "time_last": lambda x: x.movedim(0, -1).contiguous().movedim(-1, 0),
    "every_other": lambda x: torch.stack([x, -x], dim=-1)[..., 0],
    "same_each_step": lambda x: x[:1].expand_as(x),
}


def same_bits(actual, expected):
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


def compare(current, beta, theta, centre, start, surrogate, path, reset, upstream, order):
    """Both scans against tensor operations; gradients against float32 at least."""
    triton = lif_operator.choose("triton", current)
    dtype = current.dtype
    dynamics = Dynamics(beta, theta, centre, surrogate, reset, path)
    arguments = current, start, dynamics
    first = lif_operator.time_first(order)
    expected = lif_tensors.forward(*arguments, first, True)
    for keep in (True, False):
        actual = triton.forward(*arguments, first, keep)
        same_bits(actual[0], expected[0])
        same_bits(actual[2], expected[2])
        assert actual[0].stride() == expected[0].stride()
        if keep:
            same_bits(actual[1], expected[1])
        else:
            assert actual[1] is None

    wide = torch.promote_types(dtype, torch.float32)
    membranes = expected[1]
    actual = triton.backward(upstream, start, dynamics, membranes, order, True, True)
    expected = lif_tensors.backward(
        [g if g is None else g.to(wide) for g in upstream],
        start.to(wide),
        dynamics.mapped(lambda its: its.to(wide)),
        membranes.to(wide),
        order,
        True,
        True,
    )
    tolerance = {
        torch.float32: {"rtol": 1e-4, "atol": 1e-5},
        torch.float64: {"rtol": 1e-10, "atol": 1e-10},
        torch.bfloat16: {"rtol": 1e-2, "atol": 1e-2},
        torch.float16: {"rtol": 2e-3, "atol": 2e-3},
    }[dtype]
    for got, wanted in zip(actual, expected, strict=True):
        assert got.dtype == dtype and got.shape == wanted.shape
        torch.testing.assert_close(got.to(wide), wanted, equal_nan=True, **tolerance)
    assert actual[0].stride() == empty(current, order).stride()
    without = triton.backward(upstream, start, dynamics, membranes, order, False, False)
    assert without[2] is without[3] is None
    same_bits(without[0], actual[0])


@st.composite
def windows(draw):
    shape = (draw(st.integers(1, 4)), *draw(st.lists(st.integers(0, 5), min_size=3, max_size=3)))
    dtype = draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))

    def values(shape):
        if draw(st.booleans()):  # multiples of ½: at the threshold again and again
            return torch.randint(-2, 5, shape, generator=generator).to(dtype) / 2
        return (torch.randn(shape, generator=generator) + 0.3).to(dtype)

    def broadcast():
        kept = [n if draw(st.booleans()) else 1 for n in shape[1:]]
        return tuple(kept[draw(st.integers(0, 3)) :])

    current = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](values(shape))
    if current.numel() and draw(st.integers(0, 4)) == 0:
        current = current.clone()
        at = tuple(draw(st.integers(0, n - 1)) for n in shape)
        current[at] = draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    beta = torch.rand(broadcast(), generator=generator).to(dtype)
    theta = 0.5 + torch.randint(0, 3, broadcast(), generator=generator).to(dtype) / 2
    centre = theta if draw(st.booleans()) else torch.tensor(0.75, dtype=dtype)
    upstream = [values(shape) if draw(st.booleans()) else None for _ in range(2)]
    upstream.append(draw(st.sampled_from([None, values(shape[1:])])))
    order = draw(st.permutations(range(4)))
    return current, beta, theta, centre, values(shape[1:]), upstream, order


@given(
    window=windows(),
    reset=st.sampled_from(RESETS),
    surrogate=st.sampled_from(SHAPES),
    path=st.sampled_from(THRESHOLD_GRADIENTS),
)
@settings(max_examples=60)
def test_any_window_is_that_of_the_tensor_operations(window, reset, surrogate, path):
    *tensors, upstream, order = window
    compare(*tensors, surrogate, path, reset, upstream, order)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("path", THRESHOLD_GRADIENTS, ids=str)
def test_every_window_near_and_far_from_the_threshold(path, dtype):
    values = [0.0, 0.5, -0.5, 1e-3, 3.0, -40.0, 1e4, -1e4, math.inf, -math.inf, math.nan]
    current = torch.tensor([[1 + value for value in values]], dtype=dtype)
    scalars = (torch.tensor(value, dtype=dtype) for value in (0.0, 1.0, 0.9))
    upstream = [torch.ones_like(current), None, None]
    # A broad surrogate, so that the window is what counts.
    compare(current, *scalars, current[0], FastSigmoid(1e-6), path, "none", upstream, [0, 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("surrogate", SHAPES, ids=str)
def test_surrogates_far_from_their_centre_and_not_a_number(surrogate, dtype):
    values = [0.0, 1.0, 1.625, 0.375, 1e4, -1e4, 3e38, math.inf, -math.inf, math.nan]
    current = torch.tensor([values], dtype=dtype)
    scalars = (torch.tensor(value, dtype=dtype) for value in (0.0, 1.0, 1.0))
    upstream = [torch.ones_like(current), None, None]
    compare(current, *scalars, current[0], surrogate, SHARED, "none", upstream, [0, 1])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("reset", RESETS)
def test_more_neurons_than_a_block(dtype, reset):
    torch.manual_seed(0)
    current = (0.3 + torch.randn(5, 3, 101)).to(dtype)
    scalars = (torch.tensor(value, dtype=dtype) for value in (0.83, 1.1, 0.9))
    upstream = [torch.randn(5, 3, 101).to(dtype) for _ in range(2)]
    upstream.append(upstream[0][0])
    start = torch.randn(3, 101).to(dtype)
    compare(current, *scalars, start, FastSigmoid(2.5), SHARED, reset, upstream, [1, 0, 2])


def test_a_layer_trains_and_a_user_s_surrogate_works():
    results = []
    for backend in ("reference", "triton"):
        for surrogate in (FastSigmoid(2.0), lambda u, centre: FastSigmoid(2.0)(u, centre)):
            torch.manual_seed(0)
            lif = AnnealedLeaky(
                0.9, learn_threshold=True, learn_beta=True, surrogate=surrogate, backend=backend
            )
            current = (0.4 + torch.randn(6, 2, 3)).requires_grad_()
            spikes, membranes = lif.sequence(current, record=True)
            (spikes + membranes).square().sum().backward()
            results.append([spikes, membranes, current.grad, lif.beta.grad, lif.threshold.grad])
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


def test_auto_takes_numba_on_the_cpu():
    spikes = lif_sequence(torch.ones(4, 1), *[torch.tensor(1.5)] * 3, FastSigmoid()).spikes
    assert spikes.flatten().tolist() == [0, 1, 1, 1]
    assert lif_operator.choose("auto", spikes).__name__.endswith("cpu.lif")
    assert lif_operator.choose("auto", spikes.half()) is lif_tensors
