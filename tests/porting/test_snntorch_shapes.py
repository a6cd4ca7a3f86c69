"""Shapes that snnTorch takes: scalars, states and parameters that broadcast."""

from __future__ import annotations

import pytest
import snntorch as snn
import torch

from bsnn_tha import Leaky, Synaptic, lif_sequence
from bsnn_tha.equations.surrogate import FastSigmoid
from bsnn_tha.errors import InvalidValueError

SHAPES = {
    "scalars": ((), ()),
    "tutorial 3": ((), (1,)),
    "state of one": ((2, 3), (1,)),
    "state of a sample": ((2, 3), (3,)),
    "state of a batch": ((3,), (2, 3)),
    "maps": ((2, 3, 4, 4), (1, 3, 1, 1)),
}
shapes = pytest.mark.parametrize(("input_shape", "state_shape"), SHAPES.values(), ids=SHAPES)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def membranes_of(beta, current, mem):
    """u[t+1] = β u[t] + I[t+1], none firing."""
    membranes = []
    for step in current:
        mem = beta * mem + step
        membranes.append(mem)
    return torch.stack(membranes)


@shapes
def test_states_broadcast(input_shape, state_shape):
    current, start = torch.rand(5, *input_shape), torch.rand(state_shape)
    expected = membranes_of(0.8, current, start)
    lif = Leaky(0.8, threshold=100.0)
    mem, stepped = start, []
    for step in current:
        _, mem = lif(step, mem)
        stepped.append(mem)
    torch.testing.assert_close(torch.stack(stepped), expected)
    spikes, membranes = lif.sequence(current, start, record=True)
    assert torch.equal(membranes, torch.stack(stepped)) and spikes.shape == membranes.shape
    synaptic = Synaptic(0.0, 0.8, threshold=100.0)
    syn, mem = torch.zeros(state_shape), start
    for step, membrane in zip(current, expected, strict=True):
        _, syn, mem = synaptic(step, syn, mem)
        torch.testing.assert_close(mem, membrane)


@shapes
def test_from_rest_all_is_snntorchs(input_shape, state_shape):
    current = torch.rand(12, *input_shape)
    ours, theirs = Leaky(0.8), snn.Leaky(0.8)
    mem = expected = torch.zeros(state_shape)
    spikes = 0
    for step in current:
        spk, mem = ours(step, mem)
        expected_spk, expected = theirs(step, expected)
        # snnTorch gives the input's shape, and with it drops a larger state.
        torch.testing.assert_close(mem, expected.expand_as(mem))
        assert torch.equal(spk, expected_spk.expand_as(spk))
        spikes += spk.sum()
    assert spikes > 0


def test_parameters_per_neuron_broadcast_a_smaller_input():
    beta = torch.tensor([0.0, 0.5, 1.0])
    for neuron in (Leaky(beta, threshold=100.0), Leaky(beta, torch.full((3,), 100.0))):
        _, membranes = neuron.sequence(torch.ones(3), record=True)
        assert membranes.tolist() == [[1.0] * 3, [1.0, 1.5, 2.0], [1.0, 1.75, 3.0]]
    kept = Leaky(beta, threshold=100.0, init_hidden=True)
    for _ in range(3):
        kept(torch.tensor(1.0))
    assert kept.mem.tolist() == [1.0, 1.75, 3.0]  # snnTorch starts afresh at every step
    synaptic = Synaptic(beta, 0.0, threshold=100.0)
    assert synaptic.sequence(torch.ones(3), record=True)[1][-1].tolist() == [1.0, 1.75, 3.0]


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_the_function_takes_numbers_and_tensors(backend):
    current = torch.rand(9, 2, 3).requires_grad_()
    beta, theta = torch.tensor(0.9), torch.tensor(0.7)
    expected = lif_sequence(current, beta, theta, theta, FastSigmoid(), record=True)
    window = lif_sequence(current, 0.9, 0.7, 0.7, FastSigmoid(), record=True, backend=backend)
    assert torch.equal(window.spikes, expected.spikes) and window.spikes.any()
    assert torch.equal(window.membranes, expected.membranes)


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_gradients_through_what_was_broadcast(backend):
    shapes = {"current": (6, 3), "beta": (2, 1), "threshold": (3,), "membrane": (1,)}
    leaves = {
        name: torch.rand(shape, dtype=torch.float64).requires_grad_()
        for name, shape in shapes.items()
    }
    results = []
    for expand in (False, True):
        given = dict(leaves)
        if expand:
            given["current"] = leaves["current"].unsqueeze(1).expand(6, 2, 3)
            given |= {n: leaves[n].expand(2, 3) for n in ("beta", "threshold", "membrane")}
        window = lif_sequence(
            given["current"], given["beta"], given["threshold"], 0.5, FastSigmoid(3.0),
            membrane=given["membrane"], record=True, backend=backend,
        )  # fmt: skip
        loss = window.spikes.sum() + window.membranes.square().sum()
        results.append(torch.autograd.grad(loss, list(leaves.values())))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_a_state_that_does_not_fit_is_refused():
    # snnTorch drops it and starts from rest.
    for name, call in {
        "mem": lambda: Leaky(0.9)(torch.ones(3, 4), torch.zeros(2, 4)),
        "syn": lambda: Synaptic(0.5, 0.9)(torch.ones(3, 4), torch.zeros(2, 4)),
    }.items():
        with pytest.raises(InvalidValueError, match=f"^{name} must have the shape of the input"):
            call()


def test_a_synapse_takes_one_state_of_two():
    neuron = Synaptic(0.5, 1.0, threshold=100.0)
    _, syn, mem = neuron(torch.ones(2), torch.ones(2))
    assert syn.tolist() == mem.tolist() == [1.5, 1.5]
    _, syn, mem = neuron(torch.ones(2), mem=torch.ones(2))
    assert syn.tolist() == [1.0, 1.0] and mem.tolist() == [2.0, 2.0]
