"""Peaks without reset against whole traces of neurons that fire and reset."""

from __future__ import annotations

import pytest
import torch
from reference import lif_forward

from bsnn_tha import SpikingNetwork
from bsnn_tha.equations.silencing import free_peak, silenced
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.training.callbacks.silencing import SilencingCheck

STEPS, BATCH, NEURONS = 9, 3, 40


def make_currents(seed):
    generator = torch.Generator().manual_seed(seed)
    # Multiples of 1/4: membranes that meet a threshold exactly occur.
    return (torch.randn(STEPS, BATCH, NEURONS, generator=generator) * 4).round() / 4


def fires(currents, beta, theta, reset, start):
    """Which neurons fire at θ, for any sample, from complete traces."""
    return [
        any(
            sum(lif_forward(currents[:, b, n].tolist(), beta, theta, reset, start[b, n].item())[1])
            for b in range(BATCH)
        )
        for n in range(NEURONS)
    ]


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("beta", [0.5, 1.0])
@pytest.mark.parametrize("started", [False, True])
def test_a_neuron_is_silenced_if_and_only_if_it_fired_and_no_longer_fires(reset, beta, started):
    theta, raised = 3.0, 3.5
    before, after = make_currents(0), make_currents(1)
    start = torch.full((BATCH, NEURONS), 1.5 if started else 0.0)
    fired = fires(before, beta, theta, reset, start)
    fire = fires(after, beta, raised, reset, start)
    expected = [a and not b for a, b in zip(fired, fire, strict=True)]
    peaks = [
        free_peak(currents, torch.tensor(beta), start if started else None)[0]
        for currents in (before, after)
    ]
    lost = silenced(peaks[0], torch.tensor(theta), peaks[1], torch.tensor(raised))
    assert lost.tolist() == expected
    assert 0 < sum(expected) < sum(fired) < NEURONS


def test_the_threshold_itself_is_reached():
    at, below = torch.tensor([2.0]), torch.tensor([2.0 - 2**-20])
    theta = torch.tensor(2.0)
    assert not silenced(at, theta, at, theta)
    assert silenced(at, theta, below, theta)
    assert not silenced(below, theta, below, theta)  # it did not fire before


def test_a_window_can_be_cut():
    currents, beta = make_currents(2), torch.tensor(0.75)
    whole, last = free_peak(currents, beta)
    first, membrane = free_peak(currents[:4], beta)
    second, final = free_peak(currents[4:], beta, membrane)
    assert torch.equal(torch.maximum(first, second), whole)
    assert torch.equal(final, last)


def test_the_peak_of_a_neuron_below_zero_is_below_zero():
    peak, _ = free_peak(-torch.ones(3, 2, 4), torch.tensor(0.5))
    assert peak.tolist() == [-1.0] * 4


def test_decay_may_differ_between_neurons():
    peak, _ = free_peak(torch.ones(3, 1, 2), torch.tensor([0.0, 1.0]))
    assert peak.tolist() == [1.0, 3.0]


def test_neurons_with_two_states_are_refused():
    network = SpikingNetwork("4-3", (5,), model="synaptic", synaptic_decay=0.5, beta=0.9)
    with pytest.raises(InvalidValueError, match=r"^training\.check_silencing .* got Synaptic"):
        SilencingCheck().setup(None, network, "fit")
