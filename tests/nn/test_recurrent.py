"""Recurrent layers, ``Rec12``, against a loop written out in plain PyTorch."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.func import functional_call
from training_runs import train_recurrent

from bsnn_tha import Leaky, SpikingNetwork, load
from bsnn_tha.config import RunConfig
from bsnn_tha.equations.binarize import Binary
from bsnn_tha.equations.surrogate import FastSigmoid
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.running import running
from bsnn_tha.nn.notation import DenseSpec, parse_network
from bsnn_tha.observe.metrics import weight_bits
from bsnn_tha.training.callbacks.monitor import _signs
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.run import train

STEPS, BATCH, INPUTS = 9, 3, 8
SLOPE = 0.7


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Spike(torch.autograd.Function):
    """u ≥ θ, with 1 / (1 + k |u − c|)² as its gradient for u and minus that for θ."""

    @staticmethod
    def forward(ctx, u, theta, centre):
        ctx.save_for_backward(u, theta, centre)
        return (u >= theta).to(u.dtype)

    @staticmethod
    def backward(ctx, g):
        u, theta, centre = ctx.saved_tensors
        g = g / (1 + SLOPE * (u - centre).abs()) ** 2
        return g, -g.sum_to_size(theta.shape), None


def by_loop(current, weight, beta, theta, centre, how, start=None):
    """u[t+1] = β u[t] + I[t+1] + V z[t], reset by the detached z[t]; z and u of every step."""
    u = torch.zeros_like(current[0]) if start is None else start
    z = torch.zeros_like(u) if start is None else Spike.apply(u, theta, centre)
    spikes, membranes = [], []
    for now in current:
        kept = u * (1 - z.detach()) if how == "zero" else u
        u = beta * kept + now + torch.einsum("ij,bj->bi", weight, z)
        if how == "subtract":
            u = u - theta * z.detach()
        z = Spike.apply(u, theta, centre)
        spikes.append(z)
        membranes.append(u)
    return torch.stack(spikes), torch.stack(membranes)


def make_layer(**settings):
    """One recurrent layer in double precision, and what the loop needs of it."""
    given = {"beta": 0.8, "theta_0": 1.5, "slope": SLOPE} | settings
    network = SpikingNetwork("Rec12", (INPUTS,), **given).double()
    layer = network.layers[0]
    with torch.no_grad():
        for synapse in (layer.synapse, layer.recurrence.synapse):
            next(synapse.parameters()).normal_()  # as often +1 as −1
        layer.synapse.bias.normal_()
    return network, layer


def weights_of(synapse):
    """The weights that count, apart from the layer, and the parameter that learns them."""
    latent = next(synapse.parameters())
    values = (
        latent.detach()
        if isinstance(synapse, nn.Linear) and not hasattr(synapse, "quantizer")
        else torch.where(latent.detach() >= 0, 1.0, -1.0)
    )
    return values.double().requires_grad_(), latent


RULES = {
    "fixed": {},
    "annealed, clamped": {"theta_inf": 4.0, "alpha": 0.2},
    "annealed, moving": {"theta_inf": 4.0, "alpha": 0.2, "surrogate_centre": "moving"},
    "learned": {"rule": "learned", "learn_beta": True, "surrogate_centre": "moving"},
    "learned by neuron": {"rule": "learned", "per": "neuron", "learn_beta": True},
}


@pytest.mark.parametrize("route", ["auto", "parts", "reference"])
@pytest.mark.parametrize("how", ["subtract", "zero", "none"])
@pytest.mark.parametrize("weights", ["binary", "float"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("started", [False, True], ids=["afresh", "continued"])
def test_values_and_gradients_are_the_loops(route, how, weights, rule, started):
    network, layer = make_layer(weights=weights, route=route, reset_mechanism=how, **RULES[rule])
    layer.neuron.anneal(2)
    frames = (torch.rand(STEPS, BATCH, INPUTS) < 0.4).double()
    start = (2 * torch.randn(BATCH, 12).double()).requires_grad_() if started else None
    upstream = [torch.randn(STEPS, BATCH, 12).double() for _ in range(2)]

    window = network(frames, state=None if start is None else [start], record=True)
    (upstream[0] * window.spikes + upstream[1] * window.membranes).sum().backward()
    found = [parameter.grad for parameter in network.parameters()]
    g_start = None if start is None else start.grad

    forward, latent = weights_of(layer.synapse)
    back, recurrent = weights_of(layer.recurrence.synapse)
    bias = layer.synapse.bias.detach().clone().requires_grad_()
    theta = layer.neuron.threshold.detach().clone().requires_grad_()
    centre = theta.detach() if "clamped" not in rule else torch.tensor(1.5).double()
    beta = layer.neuron.beta.detach().clone().requires_grad_()
    begin = None if start is None else start.detach().clone().requires_grad_()
    current = frames @ forward.t() + bias
    spikes, membranes = by_loop(current, back, beta, theta, centre, how, begin)
    (upstream[0] * spikes + upstream[1] * membranes).sum().backward()

    assert 0.05 < spikes.mean() < 0.95
    assert torch.equal(window.spikes, spikes)
    torch.testing.assert_close(window.membranes, membranes)
    assert torch.equal(window.state[0], window.membranes[-1])
    expected = {id(latent): forward, id(recurrent): back, id(layer.synapse.bias): bias}
    if "learned" in rule:
        expected |= {id(layer.neuron.threshold): theta, id(layer.neuron.beta): beta}
    own = [expected[id(parameter)].grad for parameter in network.parameters()]
    assert all(bool(gradient.any()) for gradient in own)
    for one, other in zip(found, own, strict=True):
        torch.testing.assert_close(one, other)
    if begin is not None:
        torch.testing.assert_close(g_start, begin.grad)


@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_backends_give_the_same_spikes(backend, dtype):
    current = torch.randn(STEPS, BATCH, 40).to(dtype)
    signs = torch.randn(40, 40).sign()
    expected = Leaky(0.8, 1.0, backend="reference").recurrent_window(current, signs, record=True)
    found = Leaky(0.8, 1.0, backend=backend).recurrent_window(current, signs, record=True)
    assert found.spikes.dtype == dtype and 0.05 < found.spikes.float().mean() < 0.95
    assert torch.equal(found.spikes, expected.spikes)
    assert torch.equal(found.membranes, expected.membranes)


def test_a_backend_without_recurrent_layers_says_so():
    with pytest.raises(InvalidValueError, match="backend='triton' has no recurrent layers"):
        Leaky(0.8, backend="triton").recurrent_window(torch.ones(2, 1, 12), torch.ones(12, 12))


def test_autocast_rounds_nothing_but_spikes():
    network = SpikingNetwork("Rec40-5", (INPUTS,), beta=0.8, theta_0=[2.0, 1.0], slope=SLOPE)
    frames = (torch.rand(STEPS, BATCH, INPUTS) < 0.4).float()
    expected = network(frames).spikes
    with torch.autocast("cpu", torch.bfloat16):
        window = network(frames)
        window.spikes.float().sum().backward()
    assert torch.equal(window.spikes, expected) and window.spikes.any()
    grads = [parameter.grad for parameter in network.parameters()]
    assert all(grad.dtype == torch.float32 and grad.any() for grad in grads)


def test_windows_large_enough_to_skip_zeros_are_the_loops(monkeypatch):
    # 12 neurons are too few for the sparse gradient of weights.
    from bsnn_tha.kernels.cpu import sparse_linear

    called = []
    original = sparse_linear.gradient
    monkeypatch.setattr(
        sparse_linear, "gradient", lambda *args: called.append(1) or original(*args)
    )
    neuron = Leaky(0.9, 40.0, slope=0.1, surrogate_scale=0.1).double()
    current = (8 * torch.randn(6, 16, 600)).double().requires_grad_()
    signs = torch.randn(600, 600).sign().double().requires_grad_()
    window = neuron.recurrent_window(current, signs)
    upstream = torch.randn_like(window.spikes)
    (upstream * window.spikes).sum().backward()
    assert called
    found = window.spikes, current.grad, signs.grad
    current.grad = signs.grad = None
    again = Leaky(0.9, 40.0, slope=0.1, surrogate_scale=0.1).double()
    with running("reference"):
        expected = again.recurrent_window(current, signs).spikes
    (upstream * expected).sum().backward()
    assert 0 < expected.mean() < 0.02 and len(called) == 1
    torch.testing.assert_close(found, (expected, current.grad, signs.grad))


def test_one_step_after_the_other_is_the_window():
    network = SpikingNetwork("Rec12-Rec9-5", (INPUTS,), beta=0.8, theta_0=[2.0, 2.0, 1.0])
    frames = (torch.rand(STEPS, BATCH, INPUTS) < 0.5).float()
    window = network(frames, record=True)
    state, spikes = None, []
    for frame in frames.unsqueeze(1):
        step = network(frame, state=state)
        state = step.state
        spikes.append(step.spikes)
    assert torch.equal(torch.cat(spikes), window.spikes) and window.spikes.any()
    assert all(map(torch.equal, state, window.state))


def test_a_compiled_network_and_transforms_take_the_loop():
    network, _ = make_layer()
    frames = (torch.rand(4, BATCH, INPUTS) < 0.4).double()
    values = dict(network.named_parameters())
    expected = torch.autograd.grad(network(frames).spikes.sum(), list(values.values()))
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    found = torch.autograd.grad(compiled(frames).spikes.sum(), list(values.values()))
    torch.testing.assert_close(found, expected)

    def loss(values):
        return functional_call(network, values, (frames,)).spikes.sum()

    found = torch.func.grad(loss)({name: value.detach() for name, value in values.items()})
    torch.testing.assert_close(list(found.values()), list(expected))


@dataclass(frozen=True)
class Gaussian:
    """A surrogate of somebody's own, as ``docs/extending.md`` has it."""

    width: float

    def __call__(self, membrane, centre):
        return torch.exp(-(((membrane - centre) / self.width) ** 2) / 2)


@pytest.mark.parametrize("shape", [FastSigmoid, Gaussian])
def test_networks_that_differ_in_their_surrogate_are_compiled_one_after_the_other(shape):
    frames, found = (torch.rand(4, BATCH, INPUTS) < 0.4).float(), []
    for number in (2.0, 5.0, 2.0):
        torch.manual_seed(0)
        network = SpikingNetwork("Rec6-5-4", (INPUTS,), beta=0.8, surrogate=shape(number))
        values = list(network.parameters())
        compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
        found.append(torch.autograd.grad(compiled(frames).spikes.sum(), values))
        expected = torch.autograd.grad(network(frames).spikes.sum(), values)
        torch.testing.assert_close(found[-1], expected)
    assert all(map(torch.equal, found[0], found[2]))
    assert not all(map(torch.equal, found[0], found[1]))


def test_the_notation_says_which_layers_are_recurrent():
    plans = parse_network("70Rec40Dense30Rec20-Rec10-5", (70,))
    assert [plan.spec for plan in plans] == [DenseSpec(n) for n in (40, 30, 20, 10, 5)]
    own = [plan.recurrence for plan in plans]
    assert [None if its is None else its.reads for its in own] == [(0,), None, (2,), (3,), None]
    assert own[2].spec == DenseSpec(20, bias=False)
    after_maps = parse_network("4C3-Rec6", (1, 5, 5))[-1]
    assert after_maps.input_shape == (4, 3, 3) and after_maps.recurrence.reads == (1,)
    assert parse_network("4C3P-GAP-Rec6", (1, 5, 5))[-1].spec.of_means
    for wrong in ("40Rec", "Rec", "40R", "rec40"):
        with pytest.raises(InvalidValueError, match=re.escape(wrong)):
            parse_network(f"{wrong}-5", (70,))
    with pytest.raises(InvalidValueError, match="states 71 inputs, but gets 70"):
        parse_network("71Rec40-5", (70,))


def test_its_weights_are_quantized_counted_and_saved():
    network = SpikingNetwork("Rec12-5", (INPUTS,), beta=0.8)
    synapse = network.layers[0].recurrence.synapse
    assert isinstance(synapse.quantizer, Binary) and synapse.bias is None
    assert weight_bits(network).quantized == 8 * 12 + 12 * 12 + 12 * 5
    several = SpikingNetwork("Rec12-5", (INPUTS,), beta=0.8, weights="sawb", weight_bits=3)
    assert weight_bits(several).quantized == 3 * (8 * 12 + 12 * 12 + 12 * 5)
    plain = SpikingNetwork("Rec12-5", (INPUTS,), beta=0.8, weights="float", init="kaiming")
    deviation = plain.layers[0].recurrence.synapse.weight.std().item()
    assert deviation == pytest.approx((2 / 12) ** 0.5, rel=0.3)
    again = SpikingNetwork("Rec12-5", (INPUTS,), beta=0.8)
    again.load_state_dict(network.state_dict())
    frames = (torch.rand(STEPS, BATCH, INPUTS) < 0.5).float()
    assert torch.equal(again(frames).spikes, network(frames).spikes)
    reads = [reads for layer in network.layers for _, reads in layer.connections()]
    assert reads == [(), (0,), (0,)]


def test_dropout_is_of_the_input_alone():
    network, layer = make_layer(dropout=0.5)
    layer.dropout.register_forward_hook(lambda module, args, output: torch.zeros_like(output))
    start = torch.full((BATCH, 12), 9.0).double()
    window = network(torch.zeros(2, BATCH, INPUTS).double(), state=[start], record=True)
    expected = 0.8 * 9.0 - 1.5 + layer.recurrence.synapse.weight.sum(1)
    torch.testing.assert_close(window.membranes[0], expected.expand(BATCH, 12))


def test_hooks_see_the_spikes_that_come_back():
    network, layer = make_layer()
    seen = []
    layer.recurrence.synapse.register_forward_hook(lambda module, args, output: seen.append(args))
    window = network((torch.rand(STEPS, BATCH, INPUTS) < 0.4).double())
    assert torch.equal(seen[0][0], window.spikes.flatten(0, 1))


@pytest.mark.parametrize(
    ("notation", "settings", "words"),
    [
        ("Rec12-5", {"model": "synaptic", "synaptic_decay": 0.5}, "needs leaky neurons"),
        ("Rec12-5", {"lateral_width": 3}, "needs leaky neurons without lateral interaction"),
        ("Rec12-5", {"emits": "membrane"}, "hand on membrane potentials; write Dense12"),
        ("12-Rec5", {"output": "membrane"}, "hand on membrane potentials; write Dense5"),
        ("Rec12-5", {"init_hidden": True}, "but got init_hidden=True"),
    ],
)
def test_what_cannot_be_recurrent_is_refused(notation, settings, words):
    with pytest.raises(InvalidValueError, match=words) as refusal:
        SpikingNetwork(notation, (INPUTS,), beta=0.8, **settings)
    assert "\n" not in str(refusal.value)


def test_one_pass_is_refused_and_says_why():
    network = SpikingNetwork("Rec12-5", (INPUTS,), beta=0.8, route="one_pass")
    with pytest.raises(InvalidValueError, match="its own spikes come back to it"):
        network(torch.ones(2, 1, INPUTS))


def test_weights_of_another_shape_are_refused():
    with pytest.raises(InvalidValueError, match=r"but got \[12, 11\] for \[2, 1, 12\]"):
        Leaky(0.8).recurrent_window(torch.ones(2, 1, 12), torch.ones(12, 11))
    with pytest.raises(InvalidValueError, match="for a current"):
        Leaky(0.8).recurrent_window(torch.ones(2, 1, 3, 2, 2), torch.ones(3, 3))


# In training


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recurrent") / "run"
    return train_recurrent(folder, {"training.norm_batches": 3, "snapshots.count": 3})


def test_operations_and_flips_count_recurrent_weights(run):
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    hidden, output = summary["layers"]
    spikes = hidden["spikes_per_sample"]
    assert spikes > 1
    assert hidden["dense_operations"] == 6 * (64 * 24 + 24 * 24)
    assert output["effective_acs"] == pytest.approx(10 * spikes)
    # The first layer reads pixels, every one at each step, and its own spikes.
    assert hidden["effective_acs"] == pytest.approx(24 * spikes)
    assert 20 < hidden["effective_macs"] / (6 * 24) < 64
    assert summary["weight_bits"]["quantized"] == 64 * 24 + 24 * 24 + 24 * 10


def test_a_run_loads_with_the_same_answers(run):
    one, two = load(run), load(run)
    images = torch.rand(5, 1, 8, 8)
    first, second = (its.network.eval()(images, 6).membranes for its in (one, two))
    assert torch.equal(first, second) and first.any()


def test_flips_are_of_all_weights_of_a_layer():
    network = SpikingNetwork("Rec4-2", (3,), beta=0.8)
    layer = network.layers[0]
    signs = _signs(layer)
    assert len(signs) == 4 * 3 + 4 * 4
    with torch.no_grad():
        layer.recurrence.synapse.latent_weight.neg_()
    flipped = _signs(layer) != signs
    assert not flipped[:12].any() and flipped[12:].all()


def test_silencing_is_not_defined_for_it(run, tmp_path):
    config = RunConfig.from_file(run / "config.toml").with_changes(
        {"training.check_silencing": True, "threshold.rule": None, "threshold.theta_inf": 6.0,
         "threshold.alpha": 0.01}
    )  # fmt: skip
    with pytest.raises(InvalidValueError, match="whose spikes do not come back"):
        train(config, output=tmp_path / "run", machine=Machine(threads=1), verbose=False)
