"""The compiled scans: any shape, layout and thread gives the bits of the tensor operations.

What they compute is tested beside the other implementations in test_lif.py.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import subprocess
import sys
import threading

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from bsnn_tha import AnnealedLeaky, SpikingNetwork, lif_sequence
from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.surrogate import SURROGATES, FastSigmoid
from bsnn_tha.equations.threshold_gradient import SHARED, WINDOWS, ThresholdGradient
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional import lif_operator
from bsnn_tha.kernels import lif_tensors, tuning
from bsnn_tha.kernels.cpu import compiled
from bsnn_tha.kernels.cpu import lif as lif_numba
from bsnn_tha.kernels.cpu.arithmetic import exponential_of, half_turns_of
from bsnn_tha.kernels.layout import Layout

RESETS = ("subtract", "zero", "none")
SHAPES = {name: shape(1.0, 1.5) for name, shape in SURROGATES.items()}
# Computed with an exponential of our own; all others have the same bits.
ROUNDED = ("sigmoid", "exponential")
BACKENDS = ("reference", "numba")
ONE = torch.tensor(1.0)


@pytest.fixture
def fresh_choice():
    """The choice of a backend is made anew, and once more after the test."""
    lif_operator._scans.cache_clear()
    lif_operator._say_once.cache_clear()
    yield
    lif_operator._scans.cache_clear()
    lif_operator._say_once.cache_clear()


@pytest.fixture
def threads(monkeypatch):
    """Sets what torch.get_num_threads() says. Torch's own threads are not started:
    tests that fork this process later would hang."""
    return lambda count: monkeypatch.setattr(torch, "get_num_threads", lambda: count)


def run(backend, current, beta, theta, centre, surrogate, reset, start, upstream, path=SHARED):
    """All outputs and all gradients."""
    current, start = current.detach().requires_grad_(), start.detach().requires_grad_()
    beta, theta = beta.detach().requires_grad_(), theta.detach().requires_grad_()
    window = lif_sequence(
        current, beta, theta, centre, surrogate, reset, start, record=True, backend=backend,
        threshold_gradient=path,
    )  # fmt: skip
    used = [(w, g) for w, g in zip(window, upstream, strict=True) if g is not None]
    inputs = [current, start, beta, theta]
    gradients = torch.autograd.grad(
        [w for w, _ in used], inputs, [g for _, g in used], materialize_grads=True
    )
    return [*window], [*gradients]


def assert_same_bits(actual, expected):
    """Equal, and NaN where NaN is expected."""
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


# Layouts of a window [time, a, b, c] that keep its values.
LAYOUTS = {
    "contiguous": lambda x: x.contiguous(),
    "batch_first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "time_last": lambda x: x.movedim(0, -1).contiguous().movedim(-1, 0),
    "channels_last": lambda x: x.movedim(2, -1).contiguous().movedim(-1, 2),
    "channels_last_batch_first": lambda x: x.permute(1, 0, 3, 2).contiguous().permute(1, 0, 3, 2),
    "reversed": lambda x: x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    "every_other": lambda x: torch.stack([x, -x], dim=-1)[..., 0],
    "part_of_rows": lambda x: torch.cat([x, -x], dim=-1)[..., : x.shape[-1]],
    "same_each_step": lambda x: x[:1].expand_as(x),
    "same_each_sample": lambda x: x[:, :1].expand_as(x) if x.shape[1] else x,
    "same_everywhere": lambda x: x[:1, :1, :1, :1].expand_as(x) if x.numel() else x,
}
layouts = st.sampled_from(sorted(LAYOUTS))


# What is compiled for itself: reset, surrogate, which part of its gradient reaches θ, dtype,
# and which of the gradients of spikes and membranes there are. Not all of them, which
# would take minutes; every value meets many other values of its neighbours.
COMPILED = [
    ("subtract", "fast_sigmoid", ("none", False), torch.float32, (True, False)),
    ("subtract", "fast_sigmoid", ("sigmoid", True), torch.float64, (True, True)),
    ("subtract", "arctan", ("none", False), torch.float64, (False, True)),
    ("subtract", "sigmoid", ("triangle", False), torch.float32, (True, True)),
    ("subtract", "arctan", ("none", True), torch.bfloat16, (True, True)),
    ("subtract", "triangle", ("sigmoid", True), torch.float32, (True, True)),
    ("subtract", "exponential", ("arctan", False), torch.float64, (True, False)),
    ("zero", "fast_sigmoid", ("none", False), torch.float64, (False, True)),
    ("zero", "arctan", ("arctan", True), torch.float32, (True, True)),
    ("zero", "rectangle", ("none", False), torch.float64, (True, True)),
    ("zero", "fast_sigmoid", ("piecewise", False), torch.bfloat16, (True, False)),
    ("zero", "exponential", ("none", False), torch.bfloat16, (True, False)),
    ("none", "fast_sigmoid", ("none", False), torch.float32, (False, False)),
    ("none", "rectangle", ("piecewise", True), torch.float32, (True, False)),
    ("none", "triangle", ("triangle", True), torch.float64, (True, False)),
    ("none", "sigmoid", ("none", False), torch.float64, (True, False)),
]


@st.composite
def windows(draw, dtype, used):
    shape = tuple(draw(st.lists(st.integers(0, 5), min_size=3, max_size=3)))
    shape = (draw(st.integers(1, 4)), *shape)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))

    def values(shape):
        if draw(st.booleans()):  # multiples of ½: at the threshold again and again
            return torch.randint(-2, 5, shape, generator=generator).to(dtype) / 2
        return torch.randn(shape, generator=generator, dtype=dtype) + 0.3

    def broadcast():
        kept = [n if draw(st.booleans()) else 1 for n in shape[1:]]
        return tuple(kept[draw(st.integers(0, 3)) :])

    window = LAYOUTS[draw(layouts)](values(shape))
    if window.numel() and draw(st.integers(0, 4)) == 0:
        window = window.clone()  # which keeps the layout where it is dense
        at = tuple(draw(st.integers(0, n - 1)) for n in shape)
        window[at] = draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    beta = torch.rand(broadcast(), generator=generator, dtype=dtype)
    theta = 0.5 + torch.randint(0, 3, broadcast(), generator=generator).to(dtype) / 2
    centre = theta if draw(st.booleans()) else torch.tensor(0.75, dtype=dtype)
    upstream = [LAYOUTS[draw(layouts)](values(shape)) if use else None for use in used]
    upstream.append(values(shape[1:]))
    return window, beta, theta, centre, values(shape[1:]), upstream


@given(data=st.data(), setting=st.sampled_from(COMPILED), count=st.sampled_from([1, 3]))
@settings(deadline=None, max_examples=120)
def test_any_window_has_the_bits_of_the_tensor_operations(data, setting, count):
    reset, surrogate, path, dtype, used = setting
    path = ThresholdGradient(*path)
    current, beta, theta, centre, start, upstream = data.draw(windows(dtype, used))
    arguments = current, beta, theta, centre, SHAPES[surrogate], reset, start, upstream, path
    expected, expected_gradients = run("reference", *arguments)
    # Small windows take the ways of large ones: many blocks, rows and threads.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "LIF_BLOCK", 3)
        patch.setattr(tuning, "LIF_SHORT_ROW", 2)
        patch.setattr(tuning, "LIF_THREAD", 1)
        patch.setattr(torch, "get_num_threads", lambda: count)
        actual, gradients = run("numba", *arguments)
    for got, wanted in zip(actual, expected, strict=True):
        assert_same_bits(got, wanted)
    if dtype == torch.bfloat16:
        # Computed in float32 and rounded once: the float32 gradient of this very window.
        wide = [g if g is None else g.float() for g in upstream]
        tensors = [x.to(dtype).float() for x in (beta, theta, centre)]
        dynamics = Dynamics(*tensors, SHAPES[surrogate], reset, path)
        expected_gradients = lif_tensors.backward(
            wide, start.float(), dynamics, expected[1].float(), [0, 1, 2, 3], True, True
        )
        expected_gradients = [g.to(dtype) for g in expected_gradients]
    tolerance = {
        torch.float64: {},
        torch.float32: {"rtol": 1e-4, "atol": 1e-4},
        torch.bfloat16: {"rtol": 1e-2, "atol": 1e-2},
    }[dtype]
    if surrogate not in ROUNDED:
        for got, wanted in zip(gradients[:2], expected_gradients[:2], strict=True):
            assert_same_bits(got, wanted)
    # β and θ: sums over neurons in another order.
    torch.testing.assert_close(gradients, expected_gradients, equal_nan=True, **tolerance)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.bfloat16],
    ids=["float32", "float64", "bfloat16"],
)
def test_no_product_is_rounded_together_with_a_sum(dtype, reset):
    # A fused multiply-add would change about every other membrane. More neurons
    # than fit a block, and than vector registers divide.
    torch.manual_seed(0)
    current = torch.randn(20, 9001, dtype=dtype)
    arguments = torch.tensor(0.83), torch.tensor(1.1), ONE, FastSigmoid(2.5), reset
    results = [
        lif_sequence(current, *arguments, record=True, backend=backend) for backend in BACKENDS
    ]
    assert 0.05 < results[0].spikes.mean() < 0.5
    for expected, actual in zip(*results, strict=True):
        assert torch.equal(actual, expected)


# From θ = centre = 1 on: edges of shapes and windows, far away, and not a number.
VALUES = [1.0, 0.0, 2.0, 0.5, 1.5, -1.0, 1e4, -1e4, 3e38, -3e38, math.inf, -math.inf, math.nan]
floats = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def one_step(backend, values, surrogate, path=SHARED):
    """What a step of β = 0 gives: s(u), and −s(u) times the factor of θ's gradient."""
    current, theta = values[None].clone().requires_grad_(), torch.ones_like(values)
    theta.requires_grad_()
    window = lif_sequence(
        current, 0 * ONE, theta, ONE, surrogate, backend=backend, threshold_gradient=path
    )
    return torch.autograd.grad(window.spikes.sum(), (current, theta))


@pytest.mark.parametrize("name", SHAPES)
@floats
def test_surrogates_far_from_their_centre_and_not_a_number(dtype, name):
    torch.manual_seed(0)
    values = torch.cat([torch.tensor(VALUES, dtype=dtype), 4 * torch.randn(3000, dtype=dtype)])
    for slope in (0.2, 1.0, 7.0):
        shape = SURROGATES[name](slope, 1.5)
        expected, actual = (one_step(backend, values, shape)[0] for backend in BACKENDS)
        if name in ROUNDED:
            atol = torch.finfo(dtype).eps * 1.5 * slope
            torch.testing.assert_close(actual, expected, rtol=0, atol=atol, equal_nan=True)
        else:
            assert_same_bits(actual, expected)


# What is compiled for a window goes by its dtype, and the factor of what has fired by neither.
@pytest.mark.parametrize(
    ("dtype", "fired_only"),
    [(torch.float32, True), (torch.float64, False)],
    ids=["float32-fired_only", "float64-all"],
)
@pytest.mark.parametrize("window", WINDOWS)
def test_windows_near_and_far_from_the_threshold_and_not_a_number(dtype, window, fired_only):
    torch.manual_seed(0)
    values = torch.cat([torch.tensor(VALUES, dtype=dtype), 4 * torch.randn(3000, dtype=dtype)])
    # So broad a surrogate that the window is what counts; at infinity it is 0.
    path, broad = ThresholdGradient(window, fired_only), FastSigmoid(1e-6)
    expected, actual = (one_step(backend, values, broad, path)[1] for backend in BACKENDS)
    # On the scale of 1, the largest factor.
    atol = 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol, equal_nan=True)
    assert bool(actual[VALUES.index(math.inf)] == 0)
    assert actual.isnan().tolist() == values.isnan().tolist()


def compiled_map(function):
    @numba.vectorize(["float32(float32)", "float64(float64)"])
    def mapped(value):
        return function(value)

    return np.errstate(all="ignore")(mapped)


def test_the_exponential_is_within_two_units_in_the_last_place():
    # Every 997th number between results of 0 and infinity, subnormal ones as well.
    bits = [np.arange(0, 0x42D20000, 997), np.arange(0x80000000, 0xC2D20000, 997)]
    values = np.concatenate(bits).astype(np.uint32).view(np.float32)
    exact = np.exp(values.astype(np.float64))
    with np.errstate(over="ignore"):
        nearest = exact.astype(np.float32)
    actual = compiled_map(exponential_of)(values)
    assert actual.dtype == np.float32
    assert bool((nearest == np.inf).any()) and bool((nearest == 0).any())
    assert bool(((nearest > 0) & (nearest < 1e-38)).any())
    finite = np.isfinite(nearest)
    assert np.array_equal(actual[~finite], nearest[~finite])
    units = np.abs(actual[finite] - exact[finite]) / np.spacing(nearest[finite])
    assert units.max() <= 2

    special = np.array([0.0, -0.0, np.inf, -np.inf, 1e30, -1e30, np.nan], dtype=np.float32)
    expected = [1, 1, np.inf, 0, np.inf, 0, np.nan]
    assert np.array_equal(compiled_map(exponential_of)(special), expected, equal_nan=True)


def test_the_arctangent_is_within_a_rounding_of_half_a_turn():
    values = np.arange(0, 0x7F800001, 9973).astype(np.uint32).view(np.float32)
    values = np.concatenate([values, -values, np.array([np.inf, -np.inf], dtype=np.float32)])
    actual = compiled_map(half_turns_of)(values)
    exact = np.arctan(values.astype(np.float64)) / np.pi
    assert actual.dtype == np.float32 and np.abs(actual - exact).max() < 1e-7
    assert np.isnan(compiled_map(half_turns_of)(np.float32(np.nan)))


# Memory


def test_results_keep_the_layout_of_a_step_and_gradients_that_of_the_window():
    channels_last = torch.randn(5, 2, 4, 6, 3).movedim(-1, 2)
    window = lif_sequence(channels_last, ONE, ONE, ONE, FastSigmoid(), record=True)
    for tensor in window.spikes, window.membranes:
        assert tensor.stride() == channels_last.stride()
    assert window.spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)

    batch_first = torch.randn(2, 5, 3, 40).transpose(0, 1).requires_grad_()
    window = lif_sequence(batch_first, ONE, ONE, ONE, FastSigmoid(), backend="numba")
    assert window.spikes.is_contiguous()
    (gradient,) = torch.autograd.grad(window.spikes, batch_first, torch.ones(5, 2, 3, 40))
    assert gradient.stride() == batch_first.stride()


@pytest.mark.parametrize(
    "lay_out",
    [LAYOUTS[name] for name in ("contiguous", "batch_first", "channels_last", "same_each_step")],
    ids=["contiguous", "batch_first", "channels_last", "same_each_step"],
)
def test_usual_layouts_are_read_in_place(lay_out):
    window = lay_out(torch.randn(3, 4, 8, 16))
    order = lif_operator.time_first(lif_operator.memory_order(window))
    layout = Layout.of(window, order, tuning.LIF_SHORT_ROW)
    assert layout.is_view(window)
    memory, *_ = lif_numba._memory(window, layout)
    assert memory.size == (4 * 8 * 16 if window.stride(0) == 0 else window.numel())


def test_the_final_membrane_has_memory_of_its_own():
    window = lif_sequence(torch.ones(3, 4), ONE, ONE, ONE, FastSigmoid(), record=True)
    window.membrane.zero_()
    assert bool(window.membranes.all())


def test_a_checkpoint_runs_it_again():
    current = torch.randn(6, 5, requires_grad=True)

    def spikes(current):
        return lif_sequence(current, ONE, ONE, ONE, FastSigmoid(), backend="numba").spikes

    plain = torch.autograd.grad(spikes(current).sum(), current)
    again = torch.autograd.grad(checkpoint(spikes, current, use_reentrant=False).sum(), current)
    assert torch.equal(*plain, *again)


# Threads and processes


def large_window():
    torch.manual_seed(3)
    current = 0.4 + torch.randn(40, 20_011)
    start, upstream = torch.randn(20_011), [torch.randn(40, 20_011), None, torch.randn(20_011)]
    settings = torch.tensor(0.9), torch.tensor(1.2), ONE, FastSigmoid(2.5), "subtract"
    outputs, gradients = run("numba", current, *settings, start, upstream)
    return [*outputs, *gradients]


def test_the_number_of_threads_changes_no_bit(threads):
    threads(1)
    expected = large_window()
    for count in (2, 3, 1):
        threads(count)
        for got, wanted in zip(large_window(), expected, strict=True):
            assert torch.equal(got, wanted)


def test_one_thread_starts_no_other(threads):
    threads(1)
    compiled._pool.cache_clear()
    large_window()
    assert compiled._pool.cache_info().currsize == 0
    threads(2)
    large_window()
    assert compiled._pool.cache_info().currsize == 1


def test_two_python_threads_at_once(threads):
    threads(2)
    expected = large_window()
    results = {}

    def work(name):
        results[name] = [lif_sequence_bits() for _ in range(5)]

    def lif_sequence_bits():
        generator = torch.Generator().manual_seed(3)
        current = torch.randn(40, 20_011, generator=generator, requires_grad=True)
        window = lif_sequence(current, ONE, ONE, ONE, FastSigmoid(), backend="numba")
        return torch.autograd.grad(window.spikes, current, torch.ones(40, 20_011))[0].sum().item()

    workers = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    assert len({value for values in results.values() for value in values}) == 1
    assert len(results) == 4
    assert all(torch.equal(*pair) for pair in zip(large_window(), expected, strict=True))


def _in_child(connection):
    current = torch.full((40, 20_011), 0.7)
    lif_numba.forward(current, current[0], Dynamics(ONE, ONE, ONE, FastSigmoid()), [0, 1], True)
    connection.send(compiled._pool.cache_info().currsize)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_starts_threads_of_its_own(threads):
    threads(2)
    large_window()
    assert compiled._pool.cache_info().currsize >= 1
    context = multiprocessing.get_context("fork")
    mine, childs = context.Pipe()
    child = context.Process(target=_in_child, args=(childs,))
    child.start()
    child.join(300)
    if child.is_alive():
        child.kill()
        pytest.fail("the child waits for threads that it does not have")
    assert child.exitcode == 0 and mine.recv() == 1


# The choice


def test_auto_takes_numba_where_it_can():
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        assert lif_operator.choose("auto", torch.ones(2, 3, dtype=dtype)) is lif_numba
        assert lif_operator.choose("reference", torch.ones(2, 3, dtype=dtype)) is lif_tensors


class Wrapped(torch.Tensor):
    """A tensor of another class."""


UNCOVERED = {
    "half": (
        torch.ones(2, 3).half(),
        "it needs float32, float64 or bfloat16, but got float16",
    ),
    "subclass": (torch.ones(2, 3).as_subclass(Wrapped), "it needs a plain tensor, but got Wrapped"),
}


@pytest.mark.parametrize(("current", "reason"), UNCOVERED.values(), ids=UNCOVERED.keys())
def test_what_it_cannot_read(current, reason):
    assert lif_operator.choose("auto", current) is lif_tensors
    with pytest.raises(InvalidValueError) as error:
        lif_sequence(current, ONE, ONE, ONE, FastSigmoid(), backend="numba")
    assert str(error.value) == f"backend='numba' cannot be used: {reason}"


BROKEN = {
    "absent": (
        ModuleNotFoundError("No module named 'numba'"),
        "numba does not work here (ModuleNotFoundError: No module named 'numba')",
    ),
    "broken": (
        OSError("libllvmlite.so:\nnot found"),
        "numba does not work here (OSError: libllvmlite.so: not found)",
    ),
}


@pytest.mark.parametrize(("error", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_without_numba_auto_says_so_once(monkeypatch, caplog, fresh_choice, error, reason):
    def forward(*arguments):
        raise error

    monkeypatch.setattr(lif_numba, "forward", forward)
    arguments = torch.ones(4, 1), ONE, 1.5 * ONE, ONE, FastSigmoid()
    with caplog.at_level(logging.INFO, logger="bsnn_tha"):
        for _ in range(3):
            assert lif_sequence(*arguments).spikes.flatten().tolist() == [0, 1, 1, 0]
    message = f"neurons run in tensor operations, which is slower: {reason}"
    assert [record.getMessage() for record in caplog.records] == [message]
    with pytest.raises(InvalidValueError) as raised:
        lif_sequence(*arguments, backend="numba")
    assert str(raised.value) == f"backend='numba' cannot be used: {reason}"


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


WINDOW = """
import torch
from bsnn_tha import AnnealedLeaky
print(AnnealedLeaky(0.9, backend={backend!r}).sequence(torch.full((3, 1), 0.6))[0].tolist())
"""


def test_without_numba_installed():
    absent = "import sys; sys.modules['numba'] = None\n"
    result = python(absent + WINDOW.format(backend="auto") + WINDOW.format(backend="numba"))
    assert result.stdout == "[[0.0], [1.0], [0.0]]\n", result.stderr
    assert "InvalidValueError: backend='numba' cannot be used: numba does not" in result.stderr


def test_compiled_code_that_cannot_be_kept_is_used_all_the_same(tmp_path):
    # A file where numba wants a folder.
    (tmp_path / "occupied").touch()
    result = python(WINDOW.format(backend="numba"), NUMBA_CACHE_DIR=str(tmp_path / "occupied"))
    assert result.stdout == "[[0.0], [1.0], [0.0]]\n", result.stderr


BOTH_WAYS = """
import torch
from bsnn_tha import AnnealedLeaky
current = torch.full((3, 1), 0.6, requires_grad=True)
AnnealedLeaky(0.9, surrogate="exponential", backend="numba").sequence(current)[0].sum().backward()
"""


def test_compiled_code_is_kept_for_the_next_process(tmp_path):
    kept = []
    for _ in range(2):
        result = python(BOTH_WAYS, NUMBA_CACHE_DIR=str(tmp_path))
        assert result.returncode == 0, result.stderr
        kept.append({path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb*")})
    assert any("backward" in path.name for path in kept[0]) and kept[0] == kept[1]


def test_neurons_and_networks_choose():
    network = SpikingNetwork("3", (4,), beta=0.9, backend="reference")
    assert network.layers[0].neuron.backend == "reference"
    assert AnnealedLeaky(0.9).backend == "auto"
    with pytest.raises(
        InvalidValueError, match=r"^backend must be one of auto, reference, numba, triton"
    ):
        AnnealedLeaky(0.9, backend="cuda")
    current = torch.ones(2, 3).half()
    with pytest.raises(InvalidValueError, match="cannot be used"):
        AnnealedLeaky(0.9, backend="numba").sequence(current)
