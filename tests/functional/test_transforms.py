"""Networks under ``torch.func``: functional gradients, and those of each sample."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call, grad, jacrev, vmap

from bsnn_tha import SpikingNetwork, lif_sequence
from bsnn_tha.equations.surrogate import FastSigmoid
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.transforms import transformed

USUAL = {"beta": 0.9, "theta_0": [2.0, 1.0], "slope": 0.5, "norm": "none"}


def network(**settings):
    torch.manual_seed(0)
    return SpikingNetwork("6C5-AP2-7", (2, 20, 20), **(USUAL | settings))


def window(samples=3):
    return (
        torch.rand(5, samples, 2, 20, 20, generator=torch.Generator().manual_seed(1)) < 0.1
    ) * 1.0


def loss_of(net):
    """Of parameters and a window: a weighted sum of the output spikes."""

    def loss(parameters, input):
        spikes = functional_call(net, parameters, (input,)).spikes
        weights = torch.linspace(-1, 1, spikes[:, 0].numel()).view(len(spikes), 1, -1)
        return (spikes * weights).sum()

    return loss


def usual_gradients(net, input):
    net.zero_grad()
    loss_of(net)(dict(net.named_parameters()), input).backward()
    return {name: its.grad.clone() for name, its in net.named_parameters()}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"backend": "reference"},
        {"rule": "learned"},
        {"per": "neuron", "rule": "learned"},
        {"weights": "sawb", "weight_bits": 2},
        {"model": "synaptic", "synaptic_decay": 0.5},
        {"reset_mechanism": "zero"},
    ],
    ids=str,
)
def test_gradients_are_the_usual_ones(settings):
    net, input = network(**settings), window()
    expected = usual_gradients(net, input)
    found = grad(loss_of(net))(dict(net.named_parameters()), input)
    assert found.keys() == expected.keys()
    assert any(its.any() for its in expected.values())
    for name, wanted in expected.items():
        torch.testing.assert_close(found[name], wanted, rtol=1e-4, atol=1e-5)


def test_every_sample_has_its_gradient():
    net, input = network(), window()
    parameters = dict(net.named_parameters())
    loss = loss_of(net)
    found = vmap(
        grad(lambda given, one: loss(given, one.unsqueeze(1))), in_dims=(None, 1)
    )(parameters, input)  # fmt: skip
    for sample in range(input.shape[1]):
        expected = usual_gradients(net, input[:, sample : sample + 1])
        for name, wanted in expected.items():
            torch.testing.assert_close(found[name][sample], wanted, rtol=1e-4, atol=1e-5)


def test_with_dropout_every_sample_draws_its_own():
    net, input = network(dropout=0.5), window().repeat(1, 2, 1, 1, 1)
    net.train()
    counts = vmap(
        lambda one: net(one.unsqueeze(1)).spikes.sum(), in_dims=1, randomness="different"
    )(input)  # fmt: skip
    assert counts.shape == (6,) and not torch.equal(counts[:3], counts[3:])


def test_normalised_layers_take_part_in_evaluation():
    net, input = network(norm="per-step").eval(), window()
    expected = usual_gradients(net, input)
    found = grad(loss_of(net))(dict(net.named_parameters()), input)
    for name, wanted in expected.items():
        torch.testing.assert_close(found[name], wanted, rtol=1e-4, atol=1e-5)


def test_a_jacobian_of_membranes():
    one, theta = torch.tensor(0.5), torch.tensor(10.0)

    def membranes(current):
        return lif_sequence(current, one, theta, theta, FastSigmoid(), record=True).membranes

    # Nobody fires: u[t] = Σ β^(t − s) I[s].
    jacobian = jacrev(membranes)(torch.ones(3, 1)).flatten(1).view(3, 3)
    expected = torch.tensor([[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.25, 0.5, 1.0]])
    torch.testing.assert_close(jacobian, expected)


def test_a_backend_that_takes_no_part_says_so():
    one = torch.tensor(1.0)

    def spikes(current):
        return lif_sequence(current, one, one, one, FastSigmoid(), backend="numba").spikes.sum()

    with pytest.raises(InvalidValueError, match=r"backend='numba' takes no part in torch\.func"):
        grad(spikes)(torch.ones(3, 1))
    assert not transformed()
