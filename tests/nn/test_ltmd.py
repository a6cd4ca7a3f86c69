"""LTMD's parts in a network and its training: potentials handed on, dropout, two passes."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from lightning.pytorch import Trainer

from bsnn_tha import Leaky, SpikingNetwork, Synaptic, thresholds
from bsnn_tha.data.dataset import Dataset, TensorSplit
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.losses import MeanMembraneLoss, symmetric_divergence
from bsnn_tha.nn.moderate_dropout import drop_probabilities
from bsnn_tha.nn.neurons.lateral import LateralLeaky
from bsnn_tha.nn.window import NetworkWindow
from bsnn_tha.presets import load_preset
from bsnn_tha.training.module import SpikingModule


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def network_of(notation="6-5-3", shape=(4,), theta_0=0.3, **settings):
    return SpikingNetwork(notation, shape, weights="float", beta=0.6, theta_0=theta_0, **settings)


def seen_by_layers(network, *args):
    """What each layer is called with, and its window."""
    calls = []
    hooks = [
        layer.register_forward_hook(lambda layer, given, window: calls.append((given[0], window)))
        for layer in network.layers
    ]
    network(*args)
    for hook in hooks:
        hook.remove()
    return calls


@pytest.mark.parametrize("emits", ["spikes", "membrane"])
def test_layers_hand_on_what_they_emit(emits):
    network = network_of(emits=[emits, emits, "spikes"])
    calls = seen_by_layers(network, torch.rand(7, 2, 4))
    for (_, window), (given, _) in itertools.pairwise(calls):
        assert 0 < window.spikes.mean() < 1
        expected = window.spikes if emits == "spikes" else window.membranes
        assert torch.equal(given, expected)


def test_potentials_in_chunks_and_their_gradients():
    network = network_of(emits=["membrane", "membrane", "spikes"], lateral_width=[3, 3, 0])
    for layer in network.layers[:2]:
        assert type(layer.neuron) is LateralLeaky
        torch.nn.init.normal_(layer.neuron.lateral_weight, std=0.3)
    frames = torch.rand(9, 2, 4)
    whole, chunked = network(frames), network(frames, chunk_steps=4)
    assert torch.equal(whole.spikes, chunked.spikes)
    gradients = [
        torch.autograd.grad(window.spikes.sum(), list(network.parameters()))
        for window in (whole, chunked)
    ]
    for one, other in zip(*gradients, strict=True):
        assert one.abs().sum() > 0
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_moderate_dropout_is_for_hidden_dense_layers_in_training():
    settings = {"moderate_dropout": 0.5, "norm": "none", "theta_0": 0.01}
    network = network_of("4C3-AP2-6-5", (1, 8, 8), **settings)
    rates = [
        None if layer.moderate_dropout is None else layer.moderate_dropout.rate
        for layer in network.layers
    ]
    assert rates == [None, 0.5, None]
    frames = torch.rand(20, 4, 1, 8, 8)
    _, (_, window), (given, _) = seen_by_layers(network, frames)
    kept = given != 0
    chances = drop_probabilities(window.membranes, 0.5)
    torch.testing.assert_close(given[kept], 1 / (1 - chances[kept]))
    dropped = (given == 0) & (window.spikes == 1)
    assert 0 < dropped.sum() < window.spikes.sum()
    network.eval()
    _, (_, window), (given, _) = seen_by_layers(network, frames)
    assert torch.equal(given, window.spikes)


def module_of(**changes):
    config = load_preset("digits", "flt32").with_changes(
        {
            "network.notation": "12-10",
            "network.moderate_dropout": 0.4,
            "threshold.theta_0": 0.2,
            "loss.name": "mean_membrane",
            "data.num_steps": 4,
            **changes,
        }
    )
    split = TensorSplit(torch.rand(6, 1, 8, 8), torch.arange(6))
    return SpikingModule(config, Dataset("digits", (1, 8, 8), 10, True, split, None, None, ""))


def test_two_passes_are_equation_12():
    """½ (L_P + L_Q) + γ (KL(P ‖ Q) + KL(Q ‖ P)) over two passes with masks of their own."""
    module = module_of(**{"loss.divergence": 0.5})
    module.trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    targets = torch.arange(6)
    module._log = lambda *logged: None
    result = module.training_step((torch.rand(6, 1, 8, 8), targets), 0)
    window = result["window"]
    assert window.spikes.shape == (4, 12, 10)
    p, q = (
        NetworkWindow(*(tensor[:, part] for tensor in (window.spikes, window.membranes)), ())
        for part in (slice(0, 6), slice(6, 12))
    )
    loss = MeanMembraneLoss()
    assert not torch.equal(p.membranes, q.membranes)
    divergence = symmetric_divergence(loss.scores(p), loss.scores(q))
    expected = (loss(p, targets) + loss(q, targets)) / 2 + 0.5 * divergence
    torch.testing.assert_close(result["loss"], expected)
    assert divergence > 0


def test_without_divergence_there_is_one_pass():
    module = module_of()
    module.trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    module._log = lambda *logged: None
    batch = torch.rand(6, 1, 8, 8), torch.arange(6)
    assert module.training_step(batch, 0)["window"].spikes.shape == (4, 6, 10)


def test_the_answer_is_the_highest_mean_potential():
    module = module_of()
    membranes = torch.zeros(4, 2, 10)
    membranes[:, 0, 3], membranes[:, 1, 7] = 1.0, 2.0
    spikes = torch.zeros_like(membranes)
    spikes[:, :, 0] = 1.0  # a spike count would say otherwise
    assert module.predict(NetworkWindow(spikes, membranes, ())).tolist() == [3, 7]


def test_a_trace_loss_does_not_fit_classes():
    with pytest.raises(InvalidValueError, match=r"^loss\.name = 'membrane' needs a target trace"):
        module_of(**{"loss.name": "membrane"})


# Thresholds of layers that hand on potentials


def by_hand(current, k, kappa, weights=()):
    """dΣu/dk of Eq. 9 and 10, step by step: a reset has −f'(u − tanh k) for k, and for u none."""
    theta, slope = math.tanh(k), 1 / math.cosh(k) ** 2
    u = [0.0] * len(current[0])
    du, total, first = list(u), 0.0, True
    for step in current:
        fired = [float(each >= theta) for each in u]
        near = [float(abs(each - theta) < 0.5 and not first) for each in u]
        reach = len(weights) // 2
        lateral = [
            sum(
                w * row[i + j - reach] for j, w in enumerate(weights) if 0 <= i + j - reach < len(u)
            )
            for row in (u, du)
            for i in range(len(u))
        ]
        du = [
            kappa * (du[i] * (1 - fired[i]) + u[i] * near[i] * slope) + lateral[len(u) + i]
            for i in range(len(u))
        ]
        u = [kappa * u[i] * (1 - fired[i]) + step[i] + lateral[i] for i in range(len(u))]
        total, first = total + sum(du), False
    return total


@pytest.mark.parametrize("weights", [(), (0.3, -0.2, 0.4)], ids=["plain", "lateral"])
def test_thresholds_of_potentials_learn_by_their_resets(weights):
    """Section 3.1 learns all of them; Eq. 9 and 10 have θ in the reset only."""
    rule = thresholds.Tanh(0.4, 1.0)
    settings = {
        "surrogate": "rectangle",
        "slope": 1.0,
        "surrogate_centre": "moving",
        "reset_mechanism": "zero",
    }
    if weights:
        neuron = LateralLeaky(0.8, rule, width=3, emits="membrane", **settings).double()
        neuron.lateral_weight.data.copy_(torch.tensor(weights))
    else:
        neuron = Leaky(0.8, rule, **settings).double()
        neuron.emits = "membrane"
    current = torch.rand(9, 1, 4, dtype=torch.float64)
    window = neuron.window(current, record=True)
    window.membranes.sum().backward()
    gradient = neuron.rule.k.grad.item()
    expected = by_hand(current[:, 0].tolist(), rule.k.item(), neuron.beta.item(), weights)
    assert expected > 0.1
    assert gradient == pytest.approx(expected, rel=1e-5)
    neuron.rule.k.grad = None
    mem, total = None, 0.0
    for step in current:
        _, mem = neuron(step, mem)
        total = total + mem.sum()
    total.backward()
    assert neuron.rule.k.grad.item() == pytest.approx(gradient, rel=1e-9)


def test_potentials_of_a_synaptic_layer_teach_too():
    rule = thresholds.Learned(0.5)
    neuron = Synaptic(0.5, 0.8, rule, reset_mechanism="zero", surrogate_centre="moving")
    neuron.emits = "membrane"
    neuron.sequence(torch.rand(9, 2, 3), record=True)[1].sum().backward()
    assert rule.threshold.grad != 0
    plain = Synaptic(0.5, 0.8, thresholds.Learned(0.5), reset_mechanism="zero")
    current = torch.rand(9, 2, 3)
    pairs = zip(
        neuron.sequence(current, None, True), plain.sequence(current, None, True), strict=True
    )
    for one, other in pairs:
        torch.testing.assert_close(one, other)
