"""What a name of snnTorch's neurons means on the neurons here, name by name."""

from __future__ import annotations

import inspect
import re

import pytest
import snntorch as snn
import torch
from snntorch import surrogate
from torch import nn

from bsnn_tha import AnnealedLeaky, Leaky, SpikingNetwork, Synaptic
from bsnn_tha.equations.surrogate import ArcTan, FastSigmoid
from bsnn_tha.errors import InvalidValueError

PAIRS = {
    "leaky": (Leaky, snn.Leaky, {"beta": 0.9}),
    "synaptic": (Synaptic, snn.Synaptic, {"alpha": 0.5, "beta": 0.9}),
}
pairs = pytest.mark.parametrize(("ours", "theirs", "decays"), PAIRS.values(), ids=PAIRS)

# Left out, so that whoever asks gets an AttributeError and no other meaning.
ABSENT = {
    "reset",  # the last step's reset signal, which a window does not keep
    "state_function",  # a step without its reset, which reads that signal
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def stepped(neuron):
    current = torch.rand(4, 3, generator=torch.Generator().manual_seed(1)) * 0.7
    for _ in range(4):
        neuron(current)
    return neuron


@pairs
def test_every_name_means_what_snntorch_means(ours, theirs, decays):
    settings = {**decays, "threshold": 0.8, "init_hidden": True}
    settings |= {"spike_grad": surrogate.atan(), "reset_mechanism": "subtract"}
    mine, its = stepped(ours(**settings)), stepped(theirs(**settings))
    names = [name for name in (*vars(its), *its._buffers) if not name.startswith("_")]
    module = vars(nn.Module())
    compared = set()
    for name in names:
        if name in ABSENT:
            assert not hasattr(mine, name)
        elif name not in module:
            compared.add(name)
            value, expected = getattr(mine, name), getattr(its, name)
            if isinstance(expected, torch.Tensor):
                torch.testing.assert_close(value, expected)
            elif name == "spike_grad":
                distance = torch.linspace(-1, 1, 8).requires_grad_()
                results = [(f(distance), *torch.autograd.grad(f(distance).sum(), distance))
                           for f in (value, expected)]  # fmt: skip
                torch.testing.assert_close(*results)
            else:
                assert value == expected, name
    states = {"syn", "mem", "alpha"} if theirs is snn.Synaptic else {"mem"}
    assert compared >= states | {"beta", "threshold", "spike_grad", "output", "init_hidden"}


@pairs
def test_every_method_of_a_user_gives_the_same(ours, theirs, decays):
    settings = {**decays, "threshold": 0.8, "init_hidden": True}
    mine, its = stepped(ours(**settings)), stepped(theirs(**settings))
    mem = torch.rand(4, 3) * 1.6
    assert torch.equal(mine.fire(mem), its.fire(mem)) and mine.fire(mem).any()
    assert torch.equal(mine.mem_reset(mem), its.mem_reset(mem))
    for start in ("reset_mem", "init_synaptic" if theirs is snn.Synaptic else "init_leaky"):
        torch.testing.assert_close(getattr(mine, start)(), getattr(its, start)())
    assert mine.reset_mechanism == its.reset_mechanism == "subtract"


@pairs
def test_every_argument_is_taken_or_refused_with_a_reason(ours, theirs, decays):
    for name, parameter in inspect.signature(theirs).parameters.items():
        if name in decays:
            continue
        default = True if name == "learn_threshold" else parameter.default
        ours(**decays, **{name: default})
    refused = {"inhibition": True, "state_quant": lambda mem: mem, "reset_delay": False}
    for name, value in refused.items():
        with pytest.raises(InvalidValueError, match=f"^{name} must be .*: .*snntorch's own$"):
            ours(**decays, **{name: value})


def test_the_decay_of_a_synapse_and_the_rate_of_annealing():
    neuron = Synaptic(0.5, 0.9)
    assert neuron.alpha.item() == 0.5
    assert not hasattr(Leaky(0.9), "alpha") and not hasattr(neuron.rule, "alpha")
    annealed = AnnealedLeaky(0.9, 1.0, 2.0, alpha=0.25)
    assert annealed.rule.alpha.item() == 0.25 and not hasattr(annealed, "alpha")
    both = SpikingNetwork(
        "4", (3,), beta=0.9, model="synaptic", synaptic_decay=0.5, theta_0=1.0, theta_inf=2.0,
        alpha=0.25,
    ).layers[0].neuron  # fmt: skip
    assert both.alpha.item() == 0.5 and both.rule.alpha.item() == 0.25


def test_a_learned_decay_of_a_synapse_goes_by_its_name():
    neuron = Synaptic(0.5, 0.9, learn_alpha=True)
    assert set(dict(neuron.named_parameters())) == {"alpha"}
    before = dict(neuron.state_dict())
    before["synaptic_decay"] = torch.tensor(0.75)  # as it was called at first
    del before["alpha"]
    neuron.load_state_dict(before)
    assert neuron.alpha.item() == 0.75 and neuron.alpha.requires_grad


def test_a_surrogate_can_be_exchanged():
    lif = Leaky(0.9, 0.5, surrogate_centre="moving")
    assert lif.surrogate == FastSigmoid(25.0)
    lif.spike_grad = surrogate.atan(3.0)
    distance = torch.linspace(-1, 1, 7)
    expected = ArcTan(3.0)(distance, torch.tensor(0.0))
    torch.testing.assert_close(lif.surrogate(distance, torch.tensor(0.0)), expected)


def test_setting_the_reset_changes_it():
    lif = Leaky(0.5, 1.0)
    lif.reset_mechanism = "none"
    _, membranes = lif.sequence(torch.ones(3, 1), record=True)
    assert membranes.flatten().tolist() == [1.0, 1.5, 1.75]
    with pytest.raises(ValueError, match="reset_mechanism must be set to"):
        lif.reset_mechanism = "soft"


# Graded spikes, and spikes without a gradient


@pairs
def test_graded_spikes(ours, theirs, decays):
    factor = torch.tensor([0.5, 2.0, 3.0])
    plain, graded = ours(**decays), ours(**decays, graded_spikes_factor=factor)
    current = torch.rand(9, 4, 3)
    spikes, membranes = plain.sequence(current, record=True)
    graded_spikes, graded_membranes = graded.sequence(current, record=True)
    assert torch.equal(graded_spikes, spikes * factor) and spikes.any()
    assert torch.equal(graded_membranes, membranes)  # the reset is by θ, whatever the grade
    state = ()
    for step, expected in zip(current, graded_spikes, strict=True):
        spk, *state = graded(step, *state)
        assert torch.equal(spk, expected)


def test_graded_spikes_are_snntorchs_and_learn():
    settings = {"graded_spikes_factor": 2.5, "learn_graded_spikes_factor": True}
    gradients = []
    for neuron in (Leaky(0.9, **settings), snn.Leaky(0.9, **settings)):
        spk, mem = neuron(torch.tensor([[0.5, 1.5, 2.5]]), torch.zeros(1, 3))
        assert spk.tolist() == [[0.0, 2.5, 2.5]] and mem.tolist() == [[0.5, 1.5, 2.5]]
        spk.sum().backward()
        gradients.append(neuron.graded_spikes_factor.grad.item())
    assert gradients == [2.0, 2.0]


def test_layers_read_graded_spikes():
    network = SpikingNetwork("6-5", (4,), beta=0.9, theta_0=0.2)
    plain = network(torch.rand(7, 3, 4))
    for factor in (1.0, 3.0):
        torch.manual_seed(1)
        layer = network.layers[0]
        layer.neuron = Leaky(0.9, 0.2, graded_spikes_factor=factor)
        frames = (torch.rand(7, 3, 4) < 0.5).float()
        hidden, _ = layer.neuron.sequence(layer.drive(frames))
        assert hidden.max() == factor
        expected, _ = network.layers[1].neuron.sequence(network.layers[1].drive(hidden))
        assert torch.equal(network(frames).spikes, expected)
    assert plain.spikes.shape == expected.shape


@pairs
def test_without_a_surrogate_spikes_have_no_gradient(ours, theirs, decays):
    settings = {**decays, "surrogate_disable": True}
    current = torch.rand(4, 3) * 2
    results = [
        neuron(current.requires_grad_()) for neuron in (ours(**settings), theirs(**settings))
    ]
    for spk, *states in results:
        assert not spk.requires_grad and all(state.requires_grad for state in states)
    torch.testing.assert_close(*results)
    spikes, membranes = ours(**settings).sequence(current[None], record=True)
    assert not spikes.requires_grad and membranes.requires_grad
    assert torch.equal(spikes[0], results[0][0])


@pytest.mark.parametrize("states", [1, 2])
def test_a_kept_state_beside_a_given_one_is_a_type_error(states):
    x = torch.ones(2, 3)
    with pytest.raises(TypeError, match=r"^syn should not be passed while init_hidden=True$"):
        Synaptic(0.5, 0.9, init_hidden=True)(x, *[x] * states)
    with pytest.raises(TypeError, match=re.escape("should not be passed")):
        Synaptic(0.5, 0.9, init_hidden=True)(x, None, x)
