"""snnTorch's own ways to clear, detach and truncate kept states, on the neurons here."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import snntorch as snn
import torch
from snntorch import functional as SF
from snntorch import utils
from torch import nn

from bsnn_tha import AnnealedLeaky, LateralLeaky, Leaky, Synaptic

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from snntorch import backprop


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


NEURONS = {
    "leaky": lambda **keep: Leaky(0.9, **keep),
    "annealed": lambda **keep: AnnealedLeaky(0.9, 0.7, 1.9, 0.1, **keep),
    "lateral": lambda **keep: LateralLeaky(0.9, width=3, **keep),
    "synaptic": lambda **keep: Synaptic(0.5, 0.9, **keep),
}
each = pytest.mark.parametrize("build", NEURONS.values(), ids=NEURONS)


def network(build):
    return nn.Sequential(
        nn.Linear(6, 5), build(init_hidden=True), nn.Linear(5, 4),
        build(init_hidden=True, output=True),
    )  # fmt: skip


def states(net):
    return [
        getattr(neuron, name)
        for neuron in net.modules()
        if isinstance(neuron, snn.SpikingNeuron)
        for name in ("syn", "mem")
        if hasattr(neuron, name)
    ]


@each
def test_utils_reset_clears_the_network_it_is_given(build):
    mine, other = network(build), network(build)
    for net in (mine, other):
        net(torch.rand(3, 6))
    kept = [state.clone() for state in states(other)]
    assert all(state.any() for state in states(mine) + kept)
    utils.reset(mine)
    assert not any(state.any() or state.requires_grad for state in states(mine))
    assert all(torch.equal(*pair) for pair in zip(states(other), kept, strict=True))
    assert all(state.requires_grad for state in states(other))


def test_utils_reset_goes_deeper_than_children():
    blocks = nn.Sequential(nn.Sequential(nn.Linear(6, 5), Leaky(0.9, init_hidden=True)))
    blocks(torch.rand(3, 6))
    assert blocks[0][1].mem.any()
    utils.reset(blocks)
    assert not blocks[0][1].mem.any()


def test_one_batch_leaves_nothing_for_the_next():
    net = network(NEURONS["leaky"])
    batch = torch.rand(4, 3, 6)
    results = []
    with torch.no_grad():
        for _ in range(2):
            utils.reset(net)
            results.append(torch.stack([net(step)[1] for step in batch]))
    assert torch.equal(*results) and results[0].any()


def test_snntorchs_own_neurons_are_reset_as_before():
    mine, other = snn.Leaky(0.9, init_hidden=True), snn.Leaky(0.9, init_hidden=True)
    for neuron in (mine, other):
        neuron(torch.ones(2))
    utils.reset(nn.Sequential(mine))
    assert not mine.mem.any() and not other.mem.any()  # theirs reaches every network


@each
def test_class_level_calls_reach_every_network(build):
    nets = network(build), network(build)
    cls = snn.Synaptic if isinstance(nets[0][1], snn.Synaptic) else snn.Leaky
    for net in nets:
        net(torch.rand(3, 6))
    before = [state.detach().clone() for net in nets for state in states(net)]
    cls.detach_hidden()
    after = [state for net in nets for state in states(net)]
    assert not any(state.requires_grad for state in after)
    assert all(torch.equal(*pair) for pair in zip(after, before, strict=True))
    cls.reset_hidden()
    assert not any(state.any() for net in nets for state in states(net))


@each
def test_a_window_keeps_a_state_that_can_be_detached(build):
    neuron = build(init_hidden=True)
    neuron.sequence(torch.rand(5, 2, 3, requires_grad=True))
    assert neuron.mem.requires_grad
    type(neuron).detach_hidden()
    assert not neuron.mem.requires_grad and neuron.mem.any()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_are_reached_too(duplicate):
    original = network(NEURONS["synaptic"])
    original(torch.rand(3, 6))
    twin = duplicate(original)
    utils.reset(twin)
    assert not any(state.any() for state in states(twin))
    assert all(state.any() for state in states(original))


def test_a_dropped_neuron_leaves_a_place_that_is_used_again():
    keep = Leaky(0.9, init_hidden=True)
    keep(torch.ones(2))
    length = len(snn.SpikingNeuron.instances)
    for _ in range(3):
        Leaky(0.9, init_hidden=True)(torch.ones(2))
    assert len(snn.SpikingNeuron.instances) <= length + 1
    snn.Leaky.detach_hidden()
    snn.Leaky.reset_hidden()  # past the empty places
    assert not keep.mem.any()


LOOPS = {
    # The others fail in snnTorch itself for inputs that vary over time.
    "BPTT": (backprop.BPTT, {"time_var": True}),
    "TBPTT": (backprop.TBPTT, {"time_var": False, "num_steps": 8, "K": 3}),
    "RTRL": (backprop.RTRL, {"time_var": False, "num_steps": 8}),
}


def trained(neuron, decays, loop, settings):
    """Loss and parameters after three batches of a loop of snnTorch's."""
    torch.manual_seed(0)
    keep = {"threshold": 0.3, "spike_grad": snn.surrogate.atan(), "init_hidden": True}
    net = nn.Sequential(
        nn.Linear(6, 5), neuron(*decays, **keep),
        nn.Linear(5, 4), neuron(*decays, **keep, output=True),
    )  # fmt: skip
    shape = (8, 3, 6) if settings["time_var"] else (3, 6)
    batches = [(torch.rand(shape), torch.randint(4, (3,))) for _ in range(3)]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss = loop(net, batches, optimizer, SF.ce_rate_loss(), **settings)
    return loss.detach(), *(parameter.detach() for parameter in net.parameters())


@pytest.mark.parametrize(("loop", "settings"), LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize(
    ("ours", "theirs", "decays"),
    [(Leaky, snn.Leaky, (0.9,)), (Synaptic, snn.Synaptic, (0.5, 0.9))],
    ids=["leaky", "synaptic"],  # a mixture of both snnTorch truncates for one of them only
)
def test_training_loops_come_to_what_snntorchs_neurons_do(ours, theirs, decays, loop, settings):
    mine, expected = (trained(neuron, decays, loop, settings) for neuron in (ours, theirs))
    for one, other in zip(mine, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
