"""The current-based neuron against a scalar loop, snnTorch's, and the reading of its decays."""

from __future__ import annotations

import copy
import pickle

import pytest
import snntorch as snn
import torch

from bsnn_tha import SpikingNetwork, Synaptic, reset, thresholds
from bsnn_tha.errors import InvalidValueError

resets = pytest.mark.parametrize("reset_mechanism", ["subtract", "zero", "none"])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def by_loop(current, kappa, beta, theta, reset_mechanism):
    """i[t+1] = κ i[t] + I[t+1]; u[t+1] = β u[t] + i[t+1], after the reset of z[t]."""
    synaptic = membrane = 0.0
    spikes, membranes = [], []
    for step in current:
        fired = membrane >= theta and bool(membranes)
        synaptic = kappa * synaptic + step
        if reset_mechanism == "zero" and fired:
            membrane = 0.0
        membrane = beta * membrane + synaptic
        if reset_mechanism == "subtract" and fired:
            membrane -= theta
        membranes.append(membrane)
        spikes.append(float(membrane >= theta))
    return spikes, membranes


@resets
@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_a_window_is_the_papers_loop(reset_mechanism, backend):
    neuron = Synaptic(0.75, 0.9, 1.25, reset_mechanism=reset_mechanism, backend=backend).double()
    current = torch.randn(40, 2, 3, dtype=torch.float64) * 0.4
    spikes, membranes = neuron.sequence(current, record=True)
    assert 0.02 < spikes.mean() < 0.9
    for i in range(2):
        for j in range(3):
            kappa, beta = neuron.alpha.item(), neuron.beta.item()
            z, u = by_loop(current[:, i, j].tolist(), kappa, beta, 1.25, reset_mechanism)
            assert spikes[:, i, j].tolist() == z
            assert membranes[:, i, j].tolist() == pytest.approx(u, rel=1e-9, abs=1e-12)


@resets
def test_steps_are_the_window(reset_mechanism):
    neuron = Synaptic(0.7, 0.9, 1.1, reset_mechanism=reset_mechanism)
    current = torch.randn(20, 4, 5)
    window = neuron.window(current, record=True)
    syn = mem = None
    for t, step in enumerate(current):
        spk, syn, mem = neuron(step, syn, mem)
        assert torch.equal(spk, window.spikes[t]) and torch.equal(mem, window.membranes[t])
    assert torch.equal(window.membrane, torch.stack([syn, mem]))


def test_a_window_may_be_cut():
    neuron = Synaptic(0.7, 0.9, 1.1)
    current = torch.randn(20, 4, 5)
    whole = neuron.window(current, record=True)
    first = neuron.window(current[:7], record=True)
    second = neuron.window(current[7:], first.membrane, record=True)
    assert torch.equal(torch.cat([first.membranes, second.membranes]), whole.membranes)


def test_agrees_with_snntorch_but_for_ties_and_reset_to_zero():
    current = torch.randn(30, 4, 5) * 0.5
    for reset_mechanism in ("subtract", "none"):
        ours = Synaptic(0.7, 0.9, 1.1, reset_mechanism=reset_mechanism)
        theirs = snn.Synaptic(0.7, 0.9, threshold=1.1, reset_mechanism=reset_mechanism)
        syn = mem = torch.zeros(4, 5)
        for step in current:
            spk, syn, mem = ours(step, syn, mem)
            expected = theirs(step)
            for mine, its in zip((spk, syn, mem), expected, strict=True):
                torch.testing.assert_close(mine, its)


@resets
def test_gradients_are_those_of_autograd_through_the_steps(reset_mechanism):
    current = torch.randn(15, 3, 4, dtype=torch.float64)
    gz, gm = torch.randn(2, 15, 3, 4, dtype=torch.float64)
    results = []
    for by_steps in (False, True):
        neuron = Synaptic(
            0.7, 0.9, thresholds.Learned(0.8, (4,)), learn_alpha=True, learn_beta=True,
            reset_mechanism=reset_mechanism, slope=3.0, surrogate_centre="moving",
        ).double()  # fmt: skip
        leaf = current.clone().requires_grad_()
        if by_steps:
            syn = mem = None
            spikes, membranes = [], []
            for step in leaf:
                spk, syn, mem = neuron(step, syn, mem)
                spikes.append(spk)
                membranes.append(mem)
            z, u = torch.stack(spikes), torch.stack(membranes)
        else:
            z, u = neuron.sequence(leaf, record=True)
        (gz * z + gm * u).sum().backward()
        results.append([leaf.grad, neuron.alpha.grad, neuron.beta.grad, neuron.threshold.grad])
    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow)


def test_the_papers_decays_are_shares_that_remain():
    """Rouser, Table II: current decay 0.75, voltage decay 0.97, threshold 1.25.

    A lone spike through a weight of 0.5 must be felt for longer than a step: read as shares that
    are lost (Lava-DL's sense), nine tenths of it are gone after one step.
    """
    impulse = torch.zeros(20, 1, 1)
    impulse[0] = 0.5
    peaks = {}
    for reading, (kappa, beta) in {"remain": (0.75, 0.97), "lost": (0.25, 0.03)}.items():
        neuron = Synaptic(kappa, beta, 1.25, reset_mechanism="zero")
        spikes, membranes = neuron.sequence(impulse, record=True)
        peaks[reading] = membranes.max().item(), membranes[3].item(), spikes.sum().item()
    assert peaks["remain"][0] > 1.25 and peaks["remain"][2] >= 1
    assert peaks["lost"][0] == 0.5 and peaks["lost"][1] < 0.05 and peaks["lost"][2] == 0


def test_hidden_state_is_kept_and_reset():
    neuron = Synaptic(0.5, 0.9, 5.0, init_hidden=True)
    network = torch.nn.Sequential(neuron)
    assert network(torch.ones(2, 3)).shape == (2, 3)
    network(torch.ones(2, 3))
    assert neuron.syn[0, 0].item() == 1.5 and neuron.mem[0, 0].item() == pytest.approx(2.4)
    for twin in (copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron))):
        assert torch.equal(twin.mem, neuron.mem)
    reset(network)
    assert neuron.syn.abs().sum() == neuron.mem.abs().sum() == 0


def test_in_a_network_with_chunks():
    network = SpikingNetwork(
        "6-3", (5,), beta=0.9, model="synaptic", synaptic_decay=[0.5, 0.75], theta_0=1.0
    )
    frames = (torch.rand(12, 4, 5) < 0.4).float()
    whole = network(frames)
    chunked = network(frames, chunk_steps=5)
    assert torch.equal(whole.spikes, chunked.spikes)
    assert 0 < whole.spikes.mean() < 1
    gradients = [
        torch.autograd.grad(window.spikes.sum(), list(network.parameters()))
        for window in (whole, chunked)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "synaptic"}, "neuron model 'synaptic' needs synaptic_decay"),
        (
            {"synaptic_decay": 0.5},
            "neuron model 'leaky' has no setting 'synaptic_decay'",
        ),
        ({"model": "synaptic", "synaptic_decay": 1.5}, "synaptic_decay must be in [0, 1]"),
        ({"model": "cuba"}, "unknown neuron model 'cuba'; known are leaky, synaptic"),
        (
            {"model": "synaptic", "synaptic_decay": 0.5, "lateral_width": 3},
            "lateral interaction is defined for model='leaky'",
        ),
    ],
)
def test_broken_rules_are_named(settings, message):
    with pytest.raises(InvalidValueError) as refusal:
        SpikingNetwork("3", (5,), beta=0.9, **settings)
    assert str(refusal.value).startswith(message)
