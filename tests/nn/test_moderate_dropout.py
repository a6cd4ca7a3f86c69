"""Moderate dropout (LTMD, Eq. 13): its probabilities' mean, their order, and the masks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.moderate_dropout import ModerateDropout, drop_probabilities

potentials = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=12)


@given(potentials, st.floats(0, 0.95))
def test_the_mean_is_the_rate_and_high_potentials_are_spared(values, rate):
    u = torch.tensor(values, dtype=torch.float64)
    p = drop_probabilities(u, rate)
    assert p.mean().item() == pytest.approx(rate, abs=1e-9)
    assert p.min() >= 0 and p.max() <= 1
    order = u.argsort(descending=True)
    assert (p[order].diff() >= -1e-9).all()


def test_is_equation_13_where_that_is_a_probability():
    u, rate = torch.tensor([[0.2, 0.5, 0.9, 1.0], [2.0, 2.5, 3.0, 3.5]]), 0.2
    highest, mean = u.amax(1, keepdim=True), u.mean(1, keepdim=True)
    torch.testing.assert_close(drop_probabilities(u, rate), rate * (highest - u) / (highest - mean))


def test_equal_potentials_are_dropped_alike():
    assert drop_probabilities(torch.full((5,), 0.3), 0.4).tolist() == pytest.approx([0.4] * 5)


def test_masks_keep_the_rates_and_every_neurons_mean():
    """Divided by its own probability to be kept, no neuron's expected output changes."""
    torch.manual_seed(0)
    u = torch.tensor([0.0, 0.4, 0.6, 1.0])
    chances = drop_probabilities(u, 0.3)
    assert chances.max() < 1
    outputs = ModerateDropout(0.3)(torch.ones(20_000, 4), u.expand(20_000, 4))
    torch.testing.assert_close((outputs == 0).float().mean(0), chances, atol=0.02, rtol=0)
    torch.testing.assert_close(outputs.mean(0), torch.ones(4), atol=0.03, rtol=0)
    for neuron in range(4):
        kept = outputs[:, neuron][outputs[:, neuron] != 0]
        torch.testing.assert_close(kept, (1 / (1 - chances[neuron])).expand_as(kept))


def test_what_is_never_kept_gives_zeros():
    u = torch.tensor([-5.0, 1.0, 2.0])
    assert drop_probabilities(u, 0.5)[0] == 1
    outputs = ModerateDropout(0.5)(torch.ones(100, 3), u.expand(100, 3))
    assert torch.isfinite(outputs).all() and (outputs[:, 0] == 0).all()


def test_evaluation_and_rate_zero_drop_nothing():
    outputs, u = torch.ones(3, 4), torch.randn(3, 4)
    assert torch.equal(ModerateDropout(0.5).eval()(outputs, u), outputs)
    assert torch.equal(ModerateDropout(0.0)(outputs, u), outputs)


def test_gradients_pass_kept_neurons_only():
    torch.manual_seed(1)
    outputs = torch.ones(50, 4, requires_grad=True)
    result = ModerateDropout(0.5)(outputs, torch.randn(50, 4))
    result.sum().backward()
    assert torch.equal(outputs.grad, result.detach())


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_outside_its_range(rate):
    with pytest.raises(InvalidValueError, match=r"rate must be in \[0, 1\), but got rate="):
        ModerateDropout(rate)
