"""Lateral interaction (LTMD, Eq. 9 and 10) against a scalar loop."""

from __future__ import annotations

import pytest
import torch

from bsnn_tha import LateralLeaky, Leaky, reset, thresholds
from bsnn_tha.errors import InvalidValueError


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def by_loop(current, weights, kappa, theta, emits):
    """u_i[t] = κ u_i[t−1] (1 − f(u_i[t−1])) + I_i[t] + Σ_j w_j o_{i+j}[t−1]."""
    neurons, reach = len(current[0]), len(weights) // 2
    u, rows = [0.0] * neurons, []
    for step in current:
        fired = [float(value >= theta) for value in u]
        o = u if emits == "membrane" else fired
        following = []
        for i in range(neurons):
            lateral = sum(
                weights[k] * o[i + k - reach]
                for k in range(len(weights))
                if 0 <= i + k - reach < neurons
            )
            following.append(kappa * u[i] * (1 - fired[i]) + step[i] + lateral)
        u = following
        rows.append(u)
    return rows


@pytest.mark.parametrize("emits", ["spikes", "membrane"])
@pytest.mark.parametrize("width", [1, 3, 5])
def test_is_equation_9(emits, width):
    neuron = LateralLeaky(0.6, 0.9, width=width, emits=emits, reset_mechanism="zero").double()
    weights = torch.randn(width, dtype=torch.float64) * 0.4
    neuron.lateral_weight.data.copy_(weights)
    current = torch.rand(10, 2, 4, dtype=torch.float64)
    window = neuron.window(current, record=True)
    for i in range(2):
        kappa, theta = neuron.beta.item(), neuron.threshold.item()
        expected = by_loop(current[:, i].tolist(), weights.tolist(), kappa, theta, emits)
        torch.testing.assert_close(window.membranes[:, i], torch.tensor(expected).double())
    assert torch.equal(window.spikes, (window.membranes >= neuron.threshold).double())
    assert 0.05 < window.spikes.mean() < 0.95


def test_without_weights_it_is_the_leaky_neuron():
    current = torch.randn(12, 3, 7)
    lateral = LateralLeaky(0.8, 0.5, width=3).window(current, record=True)
    plain = Leaky(0.8, 0.5).window(current, record=True)
    assert torch.equal(lateral.membranes, plain.membranes)
    assert torch.equal(lateral.spikes, plain.spikes)


@pytest.mark.parametrize("emits", ["spikes", "membrane"])
def test_steps_are_the_window_and_weights_learn(emits):
    neuron = LateralLeaky(0.8, 0.5, width=3, emits=emits)
    neuron.lateral_weight.data.normal_()
    current = torch.randn(8, 3, 7)
    window = neuron.window(current, record=True)
    mem = None
    for t, step in enumerate(current):
        spk, mem = neuron(step, mem)
        assert torch.equal(mem, window.membranes[t]) and torch.equal(spk, window.spikes[t])
    first = neuron.window(current[:3])
    second = neuron.window(current[3:], first.membrane)
    assert torch.equal(torch.cat([first.spikes, second.spikes]), window.spikes)
    window.spikes.sum().backward()
    assert (neuron.lateral_weight.grad != 0).all()


@pytest.mark.parametrize("route", ["window", "steps", "kept", "kept and reset"])
def test_no_neuron_fires_before_the_first_step(route):
    # Without lateral weights a first step is the leaky neuron's, gradients of θ and w too.
    current = torch.randn(1, 3, 7)
    kept = route.startswith("kept")
    rules = [thresholds.Tanh(theta_0=0.5) for _ in range(2)]
    plain = Leaky(0.8, rules[0])
    lateral = LateralLeaky(0.8, rules[1], width=3, init_hidden=kept)
    lateral.lateral_weight.data.fill_(0.7)
    if route == "kept and reset":
        lateral(current[0])
        reset(lateral)
    plain.sequence(current)[0].square().sum().backward()
    spikes = (
        lateral(current[0])
        if kept
        else lateral(current[0])[0]
        if route == "steps"
        else lateral.sequence(current)[0]
    )
    spikes.square().sum().backward()
    assert rules[0].k.grad != 0
    torch.testing.assert_close(rules[1].k.grad, rules[0].k.grad)


def test_a_step_before_counts_wherever_the_window_is_cut():
    current, gradients = torch.randn(4, 3, 7), []
    for cut in (4, 2):
        neuron = LateralLeaky(0.8, thresholds.Tanh(theta_0=0.5), width=3)
        neuron.lateral_weight.data.copy_(torch.tensor([0.3, -0.2, 0.5]))
        first = neuron.window(current[:cut])
        spikes = first.spikes
        if cut < 4:
            spikes = torch.cat([spikes, neuron.window(current[cut:], first.membrane).spikes])
        (spikes * torch.arange(1.0, 5)[:, None, None]).sum().backward()
        gradients.append((neuron.rule.k.grad, neuron.lateral_weight.grad))
    torch.testing.assert_close(*gradients)


def test_broken_rules_are_named():
    with pytest.raises(
        InvalidValueError, match="width must be odd and at least 1, but got width=2"
    ):
        LateralLeaky(0.9, width=2)
    with pytest.raises(InvalidValueError, match="fully connected layer"):
        LateralLeaky(0.9, width=3).window(torch.ones(2, 3, 4, 5, 5))
