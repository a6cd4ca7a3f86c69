"""Learned decays are held in their bounds where they are used, and find back into them."""

from __future__ import annotations

import lightning
import pytest
import torch
from torch import nn

from bsnn_tha import LateralLeaky, Leaky, SpikingNetwork, Synaptic
from bsnn_tha.equations.bounds import held
from bsnn_tha.training.callbacks import WeightClipping

NEURONS = {
    "leaky": lambda: Leaky(0.6, 99.0, learn_beta=True),
    "lateral": lambda: LateralLeaky(0.6, 99.0, width=3, learn_beta=True),
    "synaptic": lambda: Synaptic(0.4, 0.6, 99.0, learn_beta=True, learn_alpha=True),
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_the_gradient_passes_inside_and_inwards():
    value = torch.tensor([0.5, 0.0, 1.0, -0.1, -0.1, 1.1, 1.1], requires_grad=True)
    result = held(value, 0, 1)
    assert result.tolist() == [0.5, 0, 1, 0, 0, 1, 1]
    result.backward(torch.tensor([2.0, 2, -2, 2, -2, 2, -2]))
    assert value.grad.tolist() == [2, 2, -2, 0, -2, 2, 0]


@pytest.mark.parametrize("way", ["window", "steps"])
@pytest.mark.parametrize("name", NEURONS)
def test_a_decay_that_was_taken_out_of_bounds_comes_back(name, way):
    neuron = NEURONS[name]()
    current = torch.rand(5, 2, 4)

    def membranes():
        if way == "window":
            return neuron.sequence(current, record=True)[1]
        states, kept = (), []
        for step in current:
            _, *states = neuron(step, *states)
            kept.append(states[-1])
        return torch.stack(kept)

    target = membranes().detach()
    with torch.no_grad():
        for decay, beyond in zip(neuron.decays(), (1.3, -0.2), strict=False):
            decay.fill_(beyond)
    optimizer = torch.optim.SGD(neuron.decays(), lr=0.002)
    for _ in range(300):
        optimizer.zero_grad()
        (membranes() - target).square().sum().backward()
        optimizer.step()
    assert all(0.1 < decay < 0.9 for decay in neuron.decays())


def test_inside_the_bounds_it_is_the_clamp():
    network = SpikingNetwork("20-10", (30,), beta=0.9, theta_0=1.0, learn_beta=True)
    frames = (torch.rand(6, 3, 30) < 0.3).float()
    per_sample = torch.func.grad(
        lambda betas: torch.func.functional_call(network, betas, (frames,)).spikes.sum()
    )
    betas = {
        name: value for name, value in network.named_parameters() if name.endswith("neuron.beta")
    }
    network(frames).spikes.sum().backward()
    for name, gradient in per_sample(betas).items():
        assert gradient != 0
        torch.testing.assert_close(gradient, betas[name].grad)


def test_a_compiler_takes_it():
    value = torch.tensor([0.5, 1.5], requires_grad=True)
    compiled = torch.compile(lambda x: 2 * held(x, 0, 1), backend="aot_eager", fullgraph=True)
    compiled(value).sum().backward()
    assert value.grad.tolist() == [2, 2]


def test_clipped_weights_leave_decays_and_thresholds_alone():
    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(2, 2), *(make() for make in NEURONS.values())])

    module = Module()
    with torch.no_grad():
        module.layers[0].weight.fill_(1.0)
    WeightClipping(0.25).on_before_optimizer_step(None, module, None)
    assert module.layers[0].weight.eq(0.25).all()
    decays = [decay.item() for neuron in module.layers[1:] for decay in neuron.decays()]
    assert decays == pytest.approx([0.6, 0.6, 0.6, 0.4])
