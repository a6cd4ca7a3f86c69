"""Thresholds as snnTorch's users give them, and snnTorch's state dicts."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest
import snntorch as snn
import torch

from bsnn_tha import AnnealedLeaky, LateralLeaky, Leaky, Synaptic, thresholds
from bsnn_tha.errors import InvalidValueError

BUILD = {
    "leaky": lambda *given, **settings: Leaky(0.9, *given, **settings),
    "synaptic": lambda *given, **settings: Synaptic(0.5, 0.9, *given, **settings),
    "lateral": lambda *given, **settings: LateralLeaky(0.9, *given, width=3, **settings),
}
each = pytest.mark.parametrize("build", BUILD.values(), ids=BUILD)
PER_NEURON = [0.5, 1.5, 2.5]


@each
@pytest.mark.parametrize(
    "given",
    [2, 2.0, np.float64(2), torch.tensor(2), torch.tensor(2.0), thresholds.Fixed(2.0)],
    ids=repr,
)
def test_a_number_by_position_or_name(build, given):
    for neuron in (build(given), build(threshold=given)):
        assert neuron.threshold.item() == 2.0 and neuron.threshold.dtype == torch.float32
        assert type(neuron.rule) is thresholds.Fixed and not neuron.threshold.requires_grad


@each
@pytest.mark.parametrize("learn", [False, True])
def test_one_per_neuron(build, learn):
    given = torch.tensor(PER_NEURON)
    neuron = build(threshold=given, learn_threshold=learn)
    given.fill_(9.0)  # the caller's own
    assert neuron.threshold.tolist() == PER_NEURON
    assert type(neuron.rule) is (thresholds.Learned if learn else thresholds.Fixed)
    assert isinstance(neuron.threshold, torch.nn.Parameter) == learn
    spikes, _ = neuron.sequence(torch.full((1, 2, 3), 1.5))
    assert spikes[0].tolist() == [[1.0, 1.0, 0.0]] * 2
    for twin in (copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron))):
        assert torch.equal(twin.threshold, neuron.threshold)
    if learn:
        spikes.sum().backward()
        assert neuron.threshold.grad.shape == (3,) and neuron.threshold.grad.all()
        neuron.threshold.data.fill_(-1.0)
        neuron.anneal()
        assert neuron.threshold.tolist() == pytest.approx([0.01] * 3)


@pytest.mark.parametrize("per_neuron", [False, True])
def test_spikes_are_snntorchs(per_neuron):
    threshold = torch.tensor(PER_NEURON) if per_neuron else 0.75
    ours, theirs = Leaky(0.9, threshold=threshold), snn.Leaky(0.9, threshold=threshold)
    current = torch.rand(20, 4, 3, generator=torch.Generator().manual_seed(0))
    mem = torch.zeros(4, 3)
    expected = []
    for step in current:
        spk, mem = theirs(step, mem)
        expected.append(spk)
    assert torch.equal(ours.sequence(current)[0], torch.stack(expected))
    assert torch.stack(expected).any()


def test_learned_with_the_gradient_of_snntorch():
    settings = {"threshold": torch.tensor(0.8), "learn_threshold": True}
    settings["spike_grad"] = snn.surrogate.atan()
    gradients = []
    for neuron in (Leaky(0.9, **settings, surrogate_centre="moving"), snn.Leaky(0.9, **settings)):
        with torch.no_grad():
            neuron.threshold.fill_(0.6)  # learned away from where it began
        mem, loss = torch.zeros(2, 3), 0.0
        for step in torch.rand(6, 2, 3, generator=torch.Generator().manual_seed(0)):
            spk, mem = neuron(step, mem)
            loss = loss + spk.sum()
        loss.backward()
        gradients.append(neuron.threshold.grad)
    assert gradients[1].item() != 0
    torch.testing.assert_close(*gradients)


REFUSED = {
    "threshold must be a finite number above 0, but got threshold=0": {"threshold": 0.0},
    "threshold must be a finite number above 0, but got threshold=-1": {
        "threshold": torch.tensor([1.0, -1.0])
    },
    "learn_threshold=True goes with a number or a tensor, but got the rule Annealed, which says "
    "itself what is learned": {
        "threshold": thresholds.Annealed(1.0, 2.0, 0.1), "learn_threshold": True,
    },
    "the threshold is given as threshold, a number, a tensor or a rule, but got theta_0=1.0; with "
    "a schedule it is AnnealedLeaky or thresholds.Annealed": {"theta_0": 1.0},
}  # fmt: skip


@each
@pytest.mark.parametrize("message", REFUSED, ids=lambda message: message[:20])
def test_broken_rules_are_named(build, message):
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$"):
        build(**REFUSED[message])


@each
@pytest.mark.parametrize(
    "given", [[0.5, 1.0], np.array([0.5, 1.0]), None, "1.0", torch.tensor([])], ids=repr
)
def test_what_is_no_threshold_is_refused_in_one_line(build, given):
    rule = "threshold must be a number, a tensor with one per neuron or a rule, but got "
    with pytest.raises(InvalidValueError, match=f"^{re.escape(rule + repr(given))}; give torch.as"):
        build(threshold=given)


def test_the_annealed_neuron_says_how_it_takes_its_threshold():
    message = (
        "AnnealedLeaky takes its threshold as theta_0, theta_inf and alpha, but got "
        "threshold=1.0; any other one is Leaky(beta, threshold)"
    )
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$"):
        AnnealedLeaky(0.9, threshold=1.0)
    for rule in (
        lambda theta_0: thresholds.Annealed(theta_0, 9.0, 0.1),
        lambda theta_0: thresholds.Tanh(theta_0),
        lambda theta_0: AnnealedLeaky(0.9, theta_0, 9.0, 0.1),
    ):
        with pytest.raises(InvalidValueError, match=r"^theta_0 must be one number, but got a ten"):
            rule(torch.tensor(PER_NEURON))
        with pytest.raises(InvalidValueError, match=r"for a layer's neurons, but got \["):
            rule([1.0, 2.0])


def test_a_threshold_does_not_fit_the_layer():
    message = "beta [] and threshold [3] must be one for the layer or one for each neuron, but got"
    for call in (Leaky(0.9, torch.ones(3)), Leaky(0.9, torch.ones(3)).sequence):
        with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}"):
            call(torch.ones(2, 4))
    with pytest.raises(InvalidValueError, match=r"^theta_0 must be one number or have the shape"):
        thresholds.Learned(torch.ones(3), shape=(4,))
    assert thresholds.Learned(torch.tensor(2.0), shape=(4,))().tolist() == [2.0] * 4


# State dicts


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("model", ["leaky", "synaptic"])
def test_snntorchs_state_dict_is_taken(model, learn):
    decays = (0.7, 0.9) if model == "synaptic" else (0.9,)
    kinds = (Synaptic, snn.Synaptic) if model == "synaptic" else (Leaky, snn.Leaky)
    ours, theirs = kinds
    learned = {"learn_threshold": learn, "learn_beta": learn}
    trained = theirs(*decays, threshold=torch.tensor(PER_NEURON), reset_mechanism="zero", **learned)
    net = torch.nn.Sequential(ours(*[0.1] * len(decays), threshold=torch.ones(3), **learned))
    net.load_state_dict(torch.nn.Sequential(trained).state_dict())
    neuron = net[0]
    assert neuron.threshold.tolist() == neuron.theta_0.tolist() == PER_NEURON
    assert neuron.reset_mechanism == "zero" and neuron.iteration == 0
    assert neuron.beta.item() == pytest.approx(0.9)
    current = torch.rand(10, 2, 3, generator=torch.Generator().manual_seed(0))
    if model == "leaky":
        mem = torch.zeros(2, 3)
        expected = [(spk := trained(step, mem), mem := spk[1])[0][0] for step in current]
        assert torch.equal(neuron.sequence(current)[0], torch.stack(expected))
    else:
        assert neuron.alpha.item() == pytest.approx(0.7)


def test_a_grade_in_a_state_dict_counts():
    neuron = Leaky(0.9)
    neuron.load_state_dict(snn.Leaky(0.9, graded_spikes_factor=2.0).state_dict())
    assert neuron(torch.tensor([1.5]))[0].tolist() == [2.0]


def test_our_own_state_dicts_go_both_ways():
    neuron = Leaky(0.9, torch.tensor(PER_NEURON), learn_threshold=True, reset_mechanism="none")
    twin = Leaky(0.1, torch.ones(3), learn_threshold=True)
    twin.load_state_dict(neuron.state_dict())
    assert torch.equal(twin.threshold, neuron.threshold) and twin.reset_mechanism == "none"
