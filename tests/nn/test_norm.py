"""Batch norm per time step against T calls of nn.BatchNorm2d."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from bsnn_tha.nn.norms.batch_norm import BatchNormPerStep, ThresholdDependentBatchNorm

STEPS = 6


def make_pair(momentum=0.1, eps=1e-5):
    """The layer under test and nn.BatchNorm2d, with the same uncommon state."""
    norm = BatchNormPerStep(3, eps=eps, momentum=momentum).double()
    plain = nn.BatchNorm2d(3, eps=eps, momentum=momentum).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.5, -2.0]))
        norm.bias.copy_(torch.tensor([0.1, -0.3, 0.7]))
        norm.running_mean.copy_(torch.tensor([3.0, -2.0, 0.5]))
        norm.running_var.copy_(torch.tensor([4.0, 0.25, 2.0]))
    plain.load_state_dict(norm.state_dict())
    return norm, plain


def make_window(steps=STEPS):
    """Each step with a mean and a spread of its own."""
    generator = torch.Generator().manual_seed(0)
    window = torch.randn(steps, 4, 3, 5, 2, generator=generator, dtype=torch.float64)
    scale = torch.linspace(0.5, 3.0, steps, dtype=torch.float64).view(-1, 1, 1, 1, 1)
    return window * scale + scale**2


def assert_same_state(norm, plain):
    torch.testing.assert_close(norm.running_mean, plain.running_mean, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(norm.running_var, plain.running_var, rtol=1e-12, atol=1e-14)
    assert norm.num_batches_tracked.item() == plain.num_batches_tracked.item()


@pytest.mark.parametrize("momentum", [0.1, 0.7, 1.0])
@pytest.mark.parametrize("steps", [1, STEPS])
def test_training_equals_a_call_per_step(momentum, steps):
    norm, plain = make_pair(momentum, eps=0.01)
    upstream = torch.randn(steps, 4, 3, 5, 2, dtype=torch.float64)
    results = []
    for module, run in (
        (norm, norm),
        (plain, lambda window: torch.stack([plain(step) for step in window])),
    ):
        window = make_window(steps).requires_grad_()
        output = run(window)
        leaves = window, module.weight, module.bias
        results.append((output, *torch.autograd.grad((upstream * output).sum(), leaves)))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)
    assert_same_state(norm, plain)
    assert norm.num_batches_tracked.item() == steps


def test_two_windows_leave_the_statistics_of_one():
    (norm, plain), window = make_pair(), make_window()
    norm(window[:2])
    norm(window[2:])
    for step in window:
        plain(step)
    assert_same_state(norm, plain)


@pytest.mark.parametrize("momentum", [0.1, 0.7, 1.0])
@pytest.mark.parametrize("repeats", [1, 20])
def test_a_constant_input_equals_the_same_input_at_every_step(momentum, repeats):
    norm, plain = make_pair(momentum)
    image = make_window(1)[0]
    expected = [plain(image) for _ in range(repeats)]
    torch.testing.assert_close(norm(image, repeats=repeats), expected[-1])
    assert_same_state(norm, plain)
    assert norm.num_batches_tracked.item() == repeats


def test_the_gradient_of_a_constant_input():
    norm, plain = make_pair()
    gradients = []
    for module in (norm, plain):
        image = make_window(1)[0].requires_grad_()
        loss = module(image).pow(3).sum()
        gradients.append(torch.autograd.grad(loss, (image, module.weight, module.bias)))
    torch.testing.assert_close(*gradients)


def test_evaluation_uses_and_keeps_the_running_statistics():
    norm, plain = make_pair()
    norm.eval(), plain.eval()
    window = make_window()
    expected = torch.stack([plain(step) for step in window])
    torch.testing.assert_close(norm(window), expected)
    torch.testing.assert_close(norm(window[0], repeats=9), expected[0])
    assert_same_state(norm, plain)
    assert norm.num_batches_tracked.item() == 0


@pytest.mark.parametrize("training", [True, False])
def test_memory_layout_does_not_matter(training):
    norm, _ = make_pair()
    norm.train(training)
    twin = copy.deepcopy(norm)
    window = make_window()
    laid_out = window.movedim(2, -1).contiguous().movedim(-1, 2)
    assert not laid_out.is_contiguous()
    torch.testing.assert_close(twin(laid_out), norm(window))
    assert_same_state(twin, norm)


def test_float32_statistics_after_a_long_window():
    norm, plain = BatchNormPerStep(3), nn.BatchNorm2d(3)
    window = make_window(30).float()
    norm(window)
    for step in window:
        plain(step)
    torch.testing.assert_close(norm.running_mean, plain.running_mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm.running_var, plain.running_var, rtol=1e-5, atol=1e-6)


def test_state_dict_is_that_of_batch_norm():
    assert list(BatchNormPerStep(3).state_dict()) == list(nn.BatchNorm2d(3).state_dict())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(3,), (4, 3), (4, 3, 5), (2, 2, 4, 3, 5, 2)])
def test_other_shapes_are_refused(training, shape):
    norm = BatchNormPerStep(3).train(training)
    with pytest.raises(ValueError, match="batch norm needs"):
        norm(torch.zeros(shape))


@pytest.mark.parametrize(
    "settings", [{"momentum": None}, {"affine": False}, {"track_running_stats": False}]
)
def test_settings_without_a_meaning_here_are_refused(settings):
    with pytest.raises((TypeError, ValueError)):
        BatchNormPerStep(3, **settings)


def test_a_constant_current_rounds_as_a_loop_whatever_its_layout():
    """Rounding of a constant current adds up over the window: other bits are other spikes."""
    torch.manual_seed(0)
    input = torch.randn(16, 6, 12, 12)
    norm, plain = BatchNormPerStep(6), nn.BatchNorm2d(6)
    expected = plain(input)
    for layout in (torch.contiguous_format, torch.channels_last):
        result = norm(input.contiguous(memory_format=layout), repeats=3)
        assert torch.equal(result, expected)
        assert result.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("make", [BatchNormPerStep, lambda c: ThresholdDependentBatchNorm(c, 0.5)])
@pytest.mark.parametrize(
    ("shape", "repeats"), [((3, 1, 4, 1, 1), 1), ((1, 1, 4, 1, 1), 1), ((1, 4, 1, 1), 5)]
)
def test_a_single_value_takes_the_running_statistics_and_leaves_them(make, shape, repeats):
    norm = make(4)
    with torch.no_grad():
        norm.running_mean.copy_(torch.tensor([3.0, -2.0, 0.5, 0.0]))
        norm.running_var.fill_(4.0)
    input = torch.randn(shape)
    if shape[0] == 3 and not isinstance(norm, BatchNormPerStep):
        # Statistics over time: three values.
        assert not torch.equal(norm(input), copy.deepcopy(norm).eval()(input))
        return
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    output = norm(input, repeats) if repeats > 1 else norm(input)
    torch.testing.assert_close(output, copy.deepcopy(norm).eval()(input))
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())
    output.sum().backward()
    assert norm.weight.grad.isfinite().all() and (norm.bias.grad != 0).all()
