"""Leaky integrate-and-fire windows: every implementation against scalar loops.

Settings are chosen so that each term matters: β ≠ 1, θ ≠ centre, membranes
exactly at θ, initial membranes above θ, and losses on spikes and membranes.
"""

from __future__ import annotations

import functools
import math
import re
from typing import NamedTuple

import pytest
import torch
from reference import LIFGradients, lif_backward, lif_forward, lif_smooth_gradients

from bsnn_tha import AnnealedLeaky
from bsnn_tha.equations.lif import lif_sequence_reference
from bsnn_tha.equations.surrogate import SURROGATES, FastSigmoid
from bsnn_tha.equations.threshold_gradient import WINDOWS, ThresholdGradient
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.lif import lif_sequence


def with_record(backend: str):
    return functools.partial(lif_sequence, record=True, backend=backend)


IMPLEMENTATIONS = {
    "numba": with_record("numba"),
    "tensor_operations": with_record("reference"),
    "step_by_step": lif_sequence_reference,
}
RESETS = ("subtract", "zero", "none")
SLOPE = 2.5
CENTRE = 0.9

implementations = pytest.mark.parametrize(
    "implementation", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS.keys()
)
backends = pytest.mark.parametrize("backend", ["auto", "reference"])
resets = pytest.mark.parametrize("reset", RESETS)


class Case(NamedTuple):
    """A window of five neurons in double precision, and a loss on it."""

    current: torch.Tensor
    beta: torch.Tensor
    theta: torch.Tensor
    start: torch.Tensor
    gz: torch.Tensor
    gm: torch.Tensor


def float64(value):
    return torch.tensor(value, dtype=torch.float64)


def make_case(name: str) -> Case:
    generator = torch.Generator().manual_seed(7)
    shape = (14, 5)
    normal = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
    gz, gm = normal(shape), normal(shape)
    if name == "random":
        current = 0.4 + normal(shape)
        return Case(current, float64(0.8), float64(1.3), 1 + normal(5), gz, gm)
    if name == "per_neuron":
        current = 0.4 + normal(shape)
        beta = torch.linspace(0.1, 0.95, 5, dtype=torch.float64)
        theta = torch.linspace(0.7, 1.6, 5, dtype=torch.float64)
        return Case(current, beta, theta, 1 + normal(5), gz, gm)
    # Multiples of ½ meet θ = 1.5 exactly, again and again.
    beta = {"ties": 1.0, "ties_with_decay": 0.5}[name]
    current = torch.randint(-2, 5, shape, generator=generator) / 2
    start = float64([0.0, 1.5, 3.0, 1.0, -0.5])
    return Case(current.double(), float64(beta), float64(1.5), start, gz, gm)


CASES = ("random", "per_neuron", "ties", "ties_with_decay")
cases = pytest.mark.parametrize("name", CASES)


def neurons(case: Case):
    """The arguments of each neuron for the scalar loops."""
    for n in range(5):
        yield {
            "currents": case.current[:, n].tolist(),
            "beta": case.beta.expand(5)[n].item(),
            "theta": case.theta.expand(5)[n].item(),
            "u0": case.start[n].item(),
        }


def gradients(implementation, case: Case, reset: str):
    """Gradients of Σ gz z + gm u with respect to current, β, θ and start."""
    inputs = [
        tensor.clone().requires_grad_()
        for tensor in (case.current, case.beta, case.theta, case.start)
    ]
    current, beta, theta, start = inputs
    window = implementation(current, beta, theta, float64(CENTRE), FastSigmoid(SLOPE), reset, start)
    loss = (case.gz * window.spikes).sum() + (case.gm * window.membranes).sum()
    return torch.autograd.grad(loss, inputs)


def scalar_gradients(differentiate, case: Case, reset: str):
    """The same from a scalar function of one neuron."""
    each: list[LIFGradients] = [
        differentiate(
            **neuron,
            centre=CENTRE,
            k=SLOPE,
            gz=case.gz[:, n].tolist(),
            gm=case.gm[:, n].tolist(),
            reset=reset,
        )
        for n, neuron in enumerate(neurons(case))
    ]
    return stacked(each, case)


def stacked(each: list[LIFGradients], case: Case):
    """Gradients of single neurons, in the shapes of the case."""
    return (
        float64([g.currents for g in each]).T,
        float64([g.beta for g in each]).sum_to_size(case.beta.shape),
        float64([g.theta for g in each]).sum_to_size(case.theta.shape),
        float64([g.u0 for g in each]),
    )


# Against scalar loops


@cases
@resets
def test_cases_make_every_term_matter(name, reset):
    case = make_case(name)
    window = lif_sequence_reference(
        case.current, case.beta, case.theta, float64(CENTRE), FastSigmoid(), reset, case.start
    )
    assert 0.1 < window.spikes.mean() < 0.9
    assert bool((case.start >= case.theta).any()) and bool((case.start < case.theta).any())
    if name.startswith("ties"):
        # At the start and later, where it makes a spike and where it makes a reset.
        assert bool((case.start == case.theta).any())
        assert bool((window.membranes[:-1] == case.theta).any())


@implementations
@cases
@resets
def test_forward_equals_scalar_loops(implementation, name, reset):
    case = make_case(name)
    window = implementation(
        case.current, case.beta, case.theta, float64(CENTRE), FastSigmoid(), reset, case.start
    )
    for n, neuron in enumerate(neurons(case)):
        membranes, spikes = lif_forward(**neuron, reset=reset)
        assert window.spikes[:, n].tolist() == spikes
        assert window.membranes[:, n].tolist() == pytest.approx(membranes, rel=1e-12, abs=1e-14)
    assert torch.equal(window.membrane, window.membranes[-1])


@implementations
@cases
@resets
def test_gradients_equal_the_chain_rule_forward_in_time(implementation, name, reset):
    case = make_case(name)
    actual = gradients(implementation, case, reset)
    for got, expected in zip(actual, scalar_gradients(lif_backward, case, reset), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


@implementations
@cases
@resets
def test_gradients_equal_finite_differences_of_the_surrogates_integral(implementation, name, reset):
    case = make_case(name)
    actual = gradients(implementation, case, reset)
    expected = scalar_gradients(lif_smooth_gradients, case, reset)
    for got, differences in zip(actual, expected, strict=True):
        torch.testing.assert_close(got, differences, rtol=1e-5, atol=1e-6)


# Surrogate, reset, and which part of θ's gradient: all values, not all of their combinations.
AXES = {
    "Rouser": ("exponential", "none", ("none", False)),
    "LTMD": ("rectangle", "zero", ("none", False)),
    "LT-SNN": ("triangle", "zero", ("sigmoid", True)),
    "LT-SNN, subtracting": ("triangle", "subtract", ("sigmoid", True)),
    "arctan": ("sigmoid", "subtract", ("arctan", False)),
    "triangle": ("arctan", "zero", ("triangle", False)),
    "piecewise": ("fast_sigmoid", "none", ("piecewise", True)),
    "fired": ("exponential", "subtract", ("none", True)),
}
axes = pytest.mark.parametrize(("surrogate", "reset", "path"), AXES.values(), ids=AXES.keys())


def test_axes_hold_every_surrogate_window_and_reset():
    surrogates, used_resets, paths = zip(*AXES.values(), strict=True)
    assert set(surrogates) == set(SURROGATES) and set(used_resets) == set(RESETS)
    assert {window for window, _ in paths} == set(WINDOWS)


@implementations
@cases
@axes
@pytest.mark.parametrize("centre", ["clamped", "moving"])
def test_gradients_of_every_surrogate_and_path_equal_the_chain_rule(
    implementation, name, surrogate, reset, path, centre
):
    case, slope = make_case(name), 0.6
    # A moving centre is θ itself. It has no gradient of its own either way.
    peak = float64(CENTRE) if centre == "clamped" else case.theta
    leaves = [
        tensor.clone().requires_grad_()
        for tensor in (case.current, case.beta, case.theta, case.start)
    ]
    current, beta, theta, start = leaves
    window = implementation(
        current, beta, theta, peak, SURROGATES[surrogate](slope, 1.0), reset, start,
        threshold_gradient=ThresholdGradient(*path),
    )  # fmt: skip
    loss = (case.gz * window.spikes).sum() + (case.gm * window.membranes).sum()
    actual = torch.autograd.grad(loss, leaves)
    each = [
        lif_backward(
            **neuron, centre=peak.expand(5)[n].item(), k=slope, gz=case.gz[:, n].tolist(),
            gm=case.gm[:, n].tolist(), reset=reset, surrogate=surrogate, window=path[0],
            fired_only=path[1],
        )
        for n, neuron in enumerate(neurons(case))
    ]  # fmt: skip
    for got, expected in zip(actual, stacked(each, case), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


@implementations
def test_a_neuron_at_its_threshold_has_fired_one_below_has_not(implementation):
    # With β = 0 the membrane is the current: one bit below θ, at θ, one bit above.
    theta = float64(1.5).expand(3).clone().requires_grad_()
    current = float64([[math.nextafter(1.5, 0), 1.5, math.nextafter(1.5, 2)]])
    window = implementation(
        current, float64(0.0), theta, float64(1.5), FastSigmoid(), "subtract",
        threshold_gradient=ThresholdGradient("sigmoid", fired_only=True),
    )  # fmt: skip
    (gradient,) = torch.autograd.grad(window.spikes.sum(), theta)
    assert gradient.tolist() == pytest.approx([0, -0.5, -0.5])


@implementations
@resets
def test_starts_from_zero_by_default(implementation, reset):
    case = make_case("random")
    arguments = case.current, case.beta, case.theta, float64(CENTRE), FastSigmoid(), reset
    default = implementation(*arguments)
    zero = implementation(*arguments, torch.zeros(5, dtype=torch.float64))
    assert torch.equal(default.spikes, zero.spikes)
    assert torch.equal(default.membranes, zero.membranes)


@implementations
def test_hand_computed_window(implementation):
    # u: 1 · ½ + 1 = 1.5 fires at θ = 1.5; ½ · 1.5 + 1 − 1.5 = 0.25; 1.125; 1.5625.
    half, theta = torch.tensor(0.5), torch.tensor(1.5)
    window = implementation(
        torch.ones(5, 1), half, theta, theta, FastSigmoid(), "subtract", torch.tensor([1.0])
    )
    assert window.membranes.flatten().tolist() == [1.5, 0.25, 1.125, 1.5625, 0.28125]
    assert window.spikes.flatten().tolist() == [1, 0, 0, 1, 0]


@implementations
def test_one_positive_input_fires_a_threshold_of_1(implementation):
    # Fig. 1(a)(iii): with binary weights u = θ is common, and it is a spike.
    one = torch.tensor(1.0)
    window = implementation(torch.ones(1, 1), one, one, one, FastSigmoid())
    assert window.spikes.item() == 1


# Implementations against each other

SHAPES = {
    "time_batch": (9, 4),
    "time_batch_features": (9, 3, 5),
    "time_batch_maps": (6, 2, 3, 4, 5),
    "one_step": (1, 3, 5),
    "time_only": (9,),
    "empty_batch": (4, 0, 5),
}
DTYPES = (torch.float32, torch.float64, torch.bfloat16)
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])


def assert_same_window(actual, expected):
    for got, wanted in zip(actual, expected, strict=True):
        assert got.dtype == wanted.dtype and got.shape == wanted.shape
        assert torch.equal(got, wanted)


@backends
@shapes
@dtypes
@resets
def test_bit_equal_to_the_reference_and_to_single_steps(backend, shape, dtype, reset):
    torch.manual_seed(1)
    lif = AnnealedLeaky(0.83, 0.7, 1.9, 0.1, slope=SLOPE, reset_mechanism=reset).to(dtype)
    lif.anneal(5)
    current = (0.5 + torch.randn(shape)).to(dtype)
    start = (1 + torch.randn(shape[1:])).to(dtype)
    settings = lif.beta, lif.threshold, lif.theta_0, lif.surrogate, reset, start

    fused = lif_sequence(current, *settings, record=True, backend=backend)
    assert_same_window(fused, lif_sequence_reference(current, *settings))
    assert fused.spikes.dtype == fused.membrane.dtype == dtype
    assert fused.spikes.shape == shape and fused.membrane.shape == shape[1:]

    mem, spikes, membranes = start, [], []
    for step in current:
        spk, mem = lif(step, mem)
        spikes.append(spk)
        membranes.append(mem)
    assert_same_window(fused, (torch.stack(spikes), torch.stack(membranes), mem))
    if current.numel() > 20:
        assert 0 < fused.spikes.mean() < 1


@backends
@shapes
@resets
def test_gradients_equal_autograds(backend, shape, reset):
    torch.manual_seed(2)
    inputs = [
        0.5 + torch.randn(shape, dtype=torch.float64),
        float64(0.83),
        float64(1.1),
        1 + torch.randn(shape[1:], dtype=torch.float64),
    ]
    gz, gm, g_last = (torch.randn(shape[i > 1 :], dtype=torch.float64) for i in range(3))
    results = []
    for implementation in (with_record(backend), lif_sequence_reference):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        current, beta, theta, start = leaves
        window = implementation(
            current, beta, theta, float64(CENTRE), FastSigmoid(SLOPE), reset, start
        )
        outputs, upstream = [window.spikes, window.membranes, window.membrane], [gz, gm, g_last]
        results.append(torch.autograd.grad(outputs, leaves, upstream))
    for fused, autograd in zip(*results, strict=True):
        torch.testing.assert_close(fused, autograd, rtol=1e-10, atol=1e-12)


BROADCASTS = {
    "per_channel": ((3, 1, 1), (3, 1, 1)),
    "per_neuron_beta": ((3, 4, 5), ()),
    "per_sample_theta": ((), (2, 1, 1, 1)),
    "one_element": ((1,), (1,)),
}


@pytest.mark.parametrize(("beta_shape", "theta_shape"), BROADCASTS.values(), ids=BROADCASTS.keys())
@backends
@resets
def test_beta_and_theta_broadcast_and_get_gradients_of_their_shape(
    beta_shape, theta_shape, backend, reset
):
    torch.manual_seed(3)
    current = 0.5 + torch.randn(5, 2, 3, 4, 5, dtype=torch.float64)
    upstream = torch.randn_like(current)
    beta_values = 0.5 + 0.4 * torch.rand(beta_shape, dtype=torch.float64)
    theta_values = 0.8 + torch.rand(theta_shape, dtype=torch.float64)
    results = []
    for implementation in (with_record(backend), lif_sequence_reference):
        beta, theta = beta_values.clone().requires_grad_(), theta_values.clone().requires_grad_()
        window = implementation(current, beta, theta, float64(CENTRE), FastSigmoid(SLOPE), reset)
        loss = (upstream * (window.spikes + window.membranes)).sum()
        results.append((window.spikes, window.membranes, *torch.autograd.grad(loss, (beta, theta))))
    for fused, autograd in zip(*results, strict=True):
        assert fused.shape == autograd.shape
        torch.testing.assert_close(fused, autograd, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("full_precision", ["beta", "threshold", "start"])
@backends
@resets
def test_half_precision_current_meets_full_precision_tensors(full_precision, backend, reset):
    # Under autocast currents are bfloat16 while β per neuron, θ per neuron or
    # a membrane carried over are float32. Spikes and resets must stay consistent.
    torch.manual_seed(4)
    current = (0.5 + torch.randn(20, 64)).bfloat16()
    beta, theta, start = torch.tensor(0.83), torch.tensor(1.1), None
    if full_precision == "beta":
        beta = torch.full((64,), 0.83)
    elif full_precision == "threshold":
        theta = torch.full((64,), 1.1)
    else:
        start = torch.rand(64)
    settings = beta, theta, torch.tensor(CENTRE), FastSigmoid(), reset, start
    fused = lif_sequence(current, *settings, record=True, backend=backend)
    looped = lif_sequence_reference(current, *settings)
    assert torch.equal(fused.spikes.float(), looped.spikes.float())
    assert torch.equal(fused.membranes.float(), looped.membranes.float())
    assert torch.equal(fused.membrane, looped.membrane)


# Outputs and what they need


@backends
@resets
def test_record_is_an_option_and_changes_nothing_else(backend, reset):
    case = make_case("random")
    theta = case.theta.clone().requires_grad_()
    arguments = case.beta, theta, float64(CENTRE), FastSigmoid(SLOPE), reset, case.start
    results = []
    for record in (False, True):
        current = case.current.clone().requires_grad_()
        window = lif_sequence(current, *arguments, record=record, backend=backend)
        assert (window.membranes is not None) == record
        results.append((window.spikes, window.membrane))
        results[-1] += torch.autograd.grad((case.gz * window.spikes).sum(), (current, theta))
    for without, recorded in zip(*results, strict=True):
        assert torch.equal(without, recorded)


@pytest.mark.parametrize("output", ["spikes", "membranes", "membrane"])
@backends
@resets
def test_a_loss_may_use_one_output_only(output, backend, reset):
    case = make_case("ties_with_decay")
    results = []
    for implementation in (with_record(backend), lif_sequence_reference):
        current = case.current.clone().requires_grad_()
        beta, theta = case.beta.clone().requires_grad_(), case.theta.clone().requires_grad_()
        window = implementation(
            current, beta, theta, float64(CENTRE), FastSigmoid(SLOPE), reset, case.start
        )
        loss = (getattr(window, output) * case.gz).sum()
        results.append(torch.autograd.grad(loss, (current, beta, theta), materialize_grads=True))
    for fused, autograd in zip(*results, strict=True):
        torch.testing.assert_close(fused, autograd, rtol=1e-10, atol=1e-12)


@implementations
@resets
def test_a_window_in_chunks_equals_the_whole(implementation, reset):
    case = make_case("random")
    settings = case.beta, case.theta, float64(CENTRE), FastSigmoid(SLOPE), reset
    results = []
    for cuts in ((14,), (1, 6, 7)):
        current = case.current.clone().requires_grad_()
        start = case.start.clone().requires_grad_()
        mem, spikes, membranes = start, [], []
        for chunk in current.split(cuts):
            window = implementation(chunk, *settings, mem)
            mem = window.membrane
            spikes.append(window.spikes)
            membranes.append(window.membranes)
        spikes, membranes = torch.cat(spikes), torch.cat(membranes)
        loss = (case.gz * spikes + case.gm * membranes).sum()
        results.append((spikes, membranes, *torch.autograd.grad(loss, (current, start))))
    whole, chunks = results
    assert torch.equal(chunks[0], whole[0]) and torch.equal(chunks[1], whole[1])
    torch.testing.assert_close(chunks[2:], whole[2:], rtol=1e-12, atol=1e-14)


@implementations
def test_a_constant_current_may_be_expanded(implementation):
    case = make_case("random")
    settings = case.beta, case.theta, float64(CENTRE), FastSigmoid(SLOPE), "subtract", case.start
    results = []
    for expand in (
        lambda image: image.expand(14, 5),
        lambda image: torch.stack([image] * 14),
    ):
        image = case.current[0].abs().requires_grad_()
        window = implementation(expand(image), *settings)
        loss = (case.gz * window.spikes + case.gm * window.membranes).sum()
        results.append((window.spikes, window.membranes, *torch.autograd.grad(loss, image)))
    for expanded, repeated in zip(*results, strict=True):
        torch.testing.assert_close(expanded, repeated, rtol=1e-12, atol=1e-14)


NON_CONTIGUOUS = {
    "batch_first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "every_other": lambda x: torch.stack([x, -x], dim=-1)[..., 0],
    "channels_last": lambda x: x.movedim(2, -1).contiguous().movedim(-1, 2),
}


@implementations
@pytest.mark.parametrize("lay_out", NON_CONTIGUOUS.values(), ids=NON_CONTIGUOUS.keys())
def test_memory_layout_does_not_matter(implementation, lay_out):
    torch.manual_seed(5)
    contiguous = 0.5 + torch.randn(6, 2, 3, 4)
    upstream = torch.randn_like(contiguous)
    settings = torch.tensor(0.8), torch.tensor(1.3), torch.tensor(CENTRE), FastSigmoid(SLOPE)
    results = []
    for current in (contiguous.clone(), lay_out(contiguous)):
        current.requires_grad_()
        window = implementation(current, *settings)
        results.append((window.spikes, window.membranes))
        results[-1] += torch.autograd.grad((upstream * window.spikes).sum(), current)
    assert not lay_out(contiguous).is_contiguous()
    for plain, laid_out in zip(*results, strict=True):
        assert torch.equal(plain, laid_out)


@implementations
@resets
def test_arguments_are_only_read_and_backward_repeats(implementation, reset):
    case = make_case("random")
    copies = [tensor.clone() for tensor in case]
    leaves = [
        tensor.requires_grad_() for tensor in (case.current, case.beta, case.theta, case.start)
    ]
    window = implementation(
        leaves[0], leaves[1], leaves[2], float64(CENTRE), FastSigmoid(SLOPE), reset, leaves[3]
    )
    outputs = [window.spikes, window.membranes, window.membrane]
    upstream = [case.gz, case.gm, case.gm[-1]]
    first = torch.autograd.grad(outputs, leaves, upstream, retain_graph=True)
    second = torch.autograd.grad(outputs, leaves, upstream)
    for once, twice in zip(first, second, strict=True):
        assert torch.equal(once, twice)
    for now, before in zip(case, copies, strict=True):
        assert torch.equal(now, before)


CUSTOM_SURROGATES = {
    "kept_tensor": lambda kept: lambda membrane, centre: kept,
    "expanded": lambda kept: lambda membrane, centre: kept[0].expand_as(membrane),
    "membrane_itself": lambda kept: lambda membrane, centre: membrane,
}


@implementations
@pytest.mark.parametrize("custom", CUSTOM_SURROGATES.values(), ids=CUSTOM_SURROGATES.keys())
def test_what_a_surrogate_returns_is_only_read(implementation, custom):
    case = make_case("random")
    kept = torch.full((5,), 0.5, dtype=torch.float64)
    current = case.current.clone().requires_grad_()
    window = implementation(current, float64(0.0), case.theta, float64(CENTRE), custom(kept))
    membranes = window.membranes.detach().clone()
    (gradient,) = torch.autograd.grad((case.gz * window.spikes).sum(), current)
    # With β = 0 a current meets one spike only.
    slopes = membranes if custom is CUSTOM_SURROGATES["membrane_itself"] else 0.5
    torch.testing.assert_close(gradient, case.gz * slopes)
    assert kept.tolist() == [0.5] * 5
    assert torch.equal(window.membranes, membranes)


@implementations
def test_nothing_is_tracked_without_grad(implementation):
    case = make_case("random")
    with torch.no_grad():
        window = implementation(
            case.current.clone().requires_grad_(),
            case.beta, case.theta, float64(CENTRE), FastSigmoid(),
        )  # fmt: skip
    assert not any(tensor.requires_grad for tensor in window)


# Not a number


@implementations
@resets
def test_nan_stays_visible_and_in_its_neuron(implementation, reset):
    current = torch.full((5, 2), 0.75)
    current[2, 0] = math.nan
    current.requires_grad_()
    one = torch.tensor(1.0)
    window = implementation(current, one, one, torch.tensor(0.5), FastSigmoid(), reset)
    assert window.membranes[:, 0].isnan().tolist() == [False, False, True, True, True]
    assert bool(window.membrane.isnan()[0])
    assert bool(window.membranes[:, 1].isfinite().all())
    assert window.spikes[2:, 0].tolist() == [0, 0, 0]
    (gradient,) = torch.autograd.grad(window.spikes.sum(), current)
    assert bool(gradient[:, 0].isnan().any())
    assert bool(gradient[:, 1].isfinite().all()) and bool((gradient[:, 1] > 0).all())


@implementations
@axes
def test_nan_does_not_vanish_from_the_gradient_of_theta(implementation, surrogate, reset, path):
    current = torch.full((3, 2), 0.75)
    current[1, 0] = math.nan
    theta = torch.ones(2, requires_grad=True)
    window = implementation(
        current, torch.tensor(1.0), theta, torch.tensor(0.5), SURROGATES[surrogate](0.6), reset,
        threshold_gradient=ThresholdGradient(*path),
    )  # fmt: skip
    (gradient,) = torch.autograd.grad(window.spikes.sum(), theta)
    assert gradient.isnan().tolist() == [True, False]


@backends
@resets
def test_nan_gives_the_same_gradients_as_autograd(backend, reset):
    values = torch.full((5, 2), 0.75)
    values[2, 0] = math.nan
    one, results = torch.tensor(1.0), []
    for implementation in (with_record(backend), lif_sequence_reference):
        current = values.clone().requires_grad_()
        window = implementation(current, one, one, torch.tensor(0.5), FastSigmoid(), reset)
        results += torch.autograd.grad(window.membranes.sum(), current)
    torch.testing.assert_close(*results, equal_nan=True)


# Broken rules

ONE = torch.tensor(1.0)


@pytest.mark.parametrize(("shape", "shown"), [((), "[]"), ((0, 4, 3), "[0, 4, 3]"), ((0,), "[0]")])
def test_no_time_step(shape, shown):
    message = (
        f"current must be [time, batch, ...] with at least one time step, but got shape {shown}"
    )
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$"):
        lif_sequence(torch.empty(shape), ONE, ONE, ONE, FastSigmoid())


def test_unknown_reset():
    message = "reset must be one of subtract, zero, none, but got 'hard'"
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$"):
        lif_sequence(torch.ones(3, 2), ONE, ONE, ONE, FastSigmoid(), reset="hard")


def test_unknown_backend():
    message = "backend must be one of auto, reference, numba, triton, but got 'cuda'"
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$"):
        lif_sequence(torch.ones(3, 2), ONE, ONE, ONE, FastSigmoid(), backend="cuda")


@pytest.mark.parametrize("shape", [(2,), (3, 2), (4, 2)])
def test_a_membrane_of_another_shape(shape):
    message = (
        "membrane must have the shape of one time step, [4, 3], or broadcast against it, "
        f"but got {list(shape)}"
    )
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$"):
        lif_sequence(torch.ones(5, 4, 3), ONE, ONE, ONE, FastSigmoid(), membrane=torch.zeros(shape))
