"""How layers are computed: each route forced on the sizes of the papers, and what is said of it."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from typer.testing import CliRunner

from bsnn_tha import InvalidValueError, Leaky, SpikingNetwork
from bsnn_tha.cli import app
from bsnn_tha.equations.binarize import Binary
from bsnn_tha.functional import routes
from bsnn_tha.functional.layer import Convolution, Layer
from bsnn_tha.functional.running import ROUTES, Refused, running
from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu import sparse_conv, sparse_lif, sparse_linear
from bsnn_tha.presets import load_preset

# The papers' layers; a few time steps of a few samples.
LAYERS = {
    "shd": (("shd", "tha"), (3, 4, 700), 0.024),
    "mnist": (("mnist", "tha"), (3, 4, 1, 28, 28), 0.2),
    "dvs-gesture": (("dvs-gesture", "tha"), (3, 4, 2, 32, 32), 0.05),
}


def step(preset: tuple[str, str], route: str, input: torch.Tensor, **changes: object):
    """Output spikes and gradients of a training step, and the ways its layers went."""
    torch.manual_seed(1)
    config = load_preset(*preset).with_changes({"network.route": route, **changes})
    network = config.build_network(tuple(input.shape[2:]))
    window = network(input)
    # Few output neurons fire so early: the last membranes learn as well.
    output = window.spikes.sum(0) + window.state[-1]
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    gradients = [p.grad.clone() for p in network.parameters()]
    return window.spikes.detach(), window.state, gradients, network.routes()


@pytest.mark.parametrize("name", LAYERS)
def test_every_route_is_the_reference_on_the_sizes_of_the_papers(name):
    preset, shape, share = LAYERS[name]
    torch.manual_seed(0)
    input = (torch.rand(shape) < share).float()
    convolves = name != "shd"
    # Behind batch norm nothing goes in one pass: without it.
    changes = {"network.norm": "none"} if convolves else {}
    spikes, state, gradients, ways = step(preset, "reference", input, **changes)
    plain = "conv2d" if convolves else "linear"
    assert ways[0] == {"training": [f"{plain} + lif_sequence_reference"]}
    for route in ("one_pass", "parts", "auto"):
        got = step(preset, route, input, **changes)
        assert torch.equal(got[0], spikes), route
        for its, wanted in zip(got[1], state, strict=True):
            torch.testing.assert_close(its, wanted, rtol=1e-5, atol=1e-5)
        for its, wanted in zip(got[2], gradients, strict=True):
            torch.testing.assert_close(its, wanted, rtol=1e-3, atol=1e-4)
        fused = "sparse_conv_lif" if convolves else "sparse_lif"
        if route == "one_pass":
            assert got[3][0] == {"training": [fused]}
        if route == "parts":
            assert fused not in got[3][0]["training"][0]


def test_behind_batch_norm_the_reference_is_plain_as_well():
    preset, shape, share = LAYERS["mnist"]
    torch.manual_seed(0)
    input = (torch.rand(shape) < share).float()
    ways = {route: step(preset, route, input)[3][1]["training"] for route in ("reference", "auto")}
    assert ways == {
        "reference": ["conv2d + batch_norm + lif_sequence_reference"],
        "auto": ["sparse_conv + norm_lif"],
    }


def test_the_reference_drops_by_the_same_masks():
    input = torch.ones(4, 2, 80)
    found = []
    for route in ("reference", "parts"):
        torch.manual_seed(2)
        network = SpikingNetwork("80Dense40Dense3", (80,), beta=0.9, dropout=0.5, route=route)
        found.append(network(input).spikes)
    assert torch.equal(*found)


HANDED_ON = {
    "graded": {"graded_spikes_factor": 0.5},
    "graded, learned": {"graded_spikes_factor": 1.5, "learn_graded_spikes_factor": True},
    "without a gradient": {"surrogate_disable": True},
}


@pytest.mark.parametrize("settings", HANDED_ON.values(), ids=HANDED_ON)
@pytest.mark.parametrize("first", ["sparse_lif", "sparse_conv_lif", "norm_lif"])
def test_one_pass_hands_on_what_the_neurons_say(first, settings):
    notation, norm, shape = {
        "sparse_lif": ("200", "none", (500,)),
        "sparse_conv_lif": ("16C5-AP2", "none", (2, 20, 20)),
        "norm_lif": ("16C5-AP2", "tdbn", (2, 20, 20)),
    }[first]
    torch.manual_seed(4)
    input = (torch.rand(20, 4, *shape) < 0.03).float()
    found = []
    for route in ("reference", "auto"):
        torch.manual_seed(5)
        norms = {} if len(shape) == 1 else {"norm": norm}
        network = SpikingNetwork(notation, shape, beta=0.8, route=route, **norms)
        network.layers[0].neuron = Leaky(0.8, **settings)
        window = network(input)
        # The last membrane has a gradient whatever spikes have.
        (window.spikes.square().sum() + window.state[0].sum()).backward()
        found.append((window.spikes.detach(), [its.grad for its in network.parameters()]))
    assert first in network.routes()[0]["training"][0]
    (spikes, gradients), (got, got_gradients) = found
    assert spikes.any() and torch.equal(got, spikes)
    for its, wanted in zip(got_gradients, gradients, strict=True):
        torch.testing.assert_close(its, wanted, rtol=1e-4, atol=1e-4)


def test_a_route_that_cannot_be_taken_says_why():
    network = SpikingNetwork("5Dense3", (5,), beta=0.9, route="one_pass")
    with pytest.raises(InvalidValueError, match="its input is constant"):
        network(torch.ones(2, 5), num_steps=3)
    with pytest.raises(InvalidValueError, match="its input is not few whole numbers"):
        network(0.5 * torch.ones(3, 2, 5))
    assert network((torch.rand(3, 2, 5) < 0.5).float()).spikes.shape == (3, 2, 3)
    with pytest.raises(InvalidValueError, match=r"route must be one of .* but got 'fast'"):
        SpikingNetwork("5Dense3", (5,), beta=0.9, route="fast")
    assert ROUTES == ("auto", "one_pass", "parts", "reference")


def test_the_routes_are_said_once(caplog):
    caplog.set_level(logging.DEBUG, "bsnn_tha.nn.layer")
    network = SpikingNetwork("5Dense3", (5,), beta=0.9, route="reference")
    for _ in range(2):
        network(torch.ones(3, 2, 5))
    assert [record.getMessage() for record in caplog.records] == [
        "the layer of 3 neurons in training: linear + lif_sequence_reference"
    ]


def test_the_command_line_takes_a_route_and_says_what_was_taken(tmp_path, caplog):
    caplog.set_level(logging.INFO, "bsnn_tha")  # as the command line begins, and put back
    caplog.handler.setLevel(logging.DEBUG)
    changes = ["network.route=reference", "data.subset=32", "training.epochs=1"]
    given = [word for change in changes for word in ("--set", change)]
    output = tmp_path / "run"
    command = ["--verbose", "train", "digits", *given, "--output", str(output)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    summary = json.loads((output / "summary.json").read_text())
    for ways in summary["routes"]:
        assert all(way.endswith("lif_sequence_reference") for way in ways["training"])
    said = [text for text in caplog.messages if text.endswith("lif_sequence_reference")]
    assert len(said) == 2 * len(summary["routes"])  # in training and in evaluation, once each


class Counted(Binary):
    """Signs, and how often they were asked for."""

    calls = 0

    def __call__(self, latent):
        type(self).calls += 1
        return super().__call__(latent)


ONCE = {
    "dense": ("200", (700,), 1.0, {}, "sparse_lif", 1),
    # One pass refuses before it looks at a value.
    "dense, learned β": ("200", (700,), 1.0, {"learn_beta": True}, "sparse_linear + cpu.lif", 0),
    # One pass looks at the values, and refuses; it does not list them.
    "dense, other values": ("200", (700,), 0.5, {}, "sparse_linear + cpu.lif", 1),
    "convolution": ("16C5-AP2", (2, 32, 32), 1.0, {}, "sparse_conv_lif", 1),
    "convolution, other values": ("16C5-AP2", (2, 32, 32), 0.5, {}, "conv2d + cpu.lif", 1),
}


@pytest.mark.parametrize("name", ONCE)
def test_weights_are_binarized_and_spikes_are_listed_once(name, monkeypatch):
    notation, shape, value, settings, way, looked = ONCE[name]
    asked, built = [], []
    for module, function in (
        (sparse_lif, "events_of"), (sparse_conv, "events_of"), (sparse_linear, "listed"),
    ):  # fmt: skip
        original = getattr(module, function)

        def ask(*given, original=original, function=function):
            asked.append(function)
            found = original(*given)
            built.extend([function] if found else [])
            return found

        monkeypatch.setattr(module, function, ask)
    Counted.calls = 0
    norm = {} if len(shape) == 1 else {"norm": "none"}
    network = SpikingNetwork(notation, shape, weights=Counted(), beta=0.9, **norm, **settings)
    input = value * (torch.rand(20, 4, *shape) < 0.02).float()
    network(input).spikes.sum().backward()
    assert network.routes() == [{"training": [way]}]
    assert Counted.calls == 1
    assert len(built) <= 1 and asked.count("events_of") == looked


PAPERS = {
    "MNIST, second": ((24, 16, 12, 12), (64, 16, 5, 5), Convolution(pool=2)),
    "DVS Gesture, first": ((24, 2, 32, 32), (16, 2, 5, 5), Convolution(pool=2)),
    "DVS Gesture, second": ((24, 16, 14, 14), (32, 16, 5, 5), Convolution(pool=2)),
    "SHD": ((40, 700), (3000, 700), None),
}


@pytest.mark.parametrize("name", PAPERS)
def test_every_route_of_a_current_is_the_plain_one_on_the_sizes_of_the_papers(name, monkeypatch):
    shape, sizes, convolution = PAPERS[name]
    for number, value in (("SMALL", 0), ("SPIKE_CONV_SMALL", 0), ("SPARSE_CONV_SHARE", 1.0)):
        monkeypatch.setattr(tuning, number, value)
    torch.manual_seed(3)
    spikes, signs = (torch.rand(shape) < 0.04).float(), torch.randn(sizes).sign()
    found = {}
    for route in routes.DENSE if convolution is None else routes.CONVOLUTIONS:
        # Of data, as a first layer has it; and of another layer's spikes.
        input = spikes.clone().requires_grad_(convolution is not None)
        weight = signs.clone().requires_grad_()
        accepted = route.accepts(Layer(lambda weight=weight: weight, None, convolution), input)
        assert not isinstance(accepted, Refused), accepted
        current = accepted.current()
        upstream = torch.linspace(-1, 1, current.numel()).view(current.shape)
        current.backward(upstream)
        found[route.__name__] = [current.detach(), weight.grad, input.grad]
    *others, plain = found.items()
    for other, (current, *gradients) in others:
        assert torch.equal(current, plain[1][0]), other
        for got, wanted in zip(gradients, plain[1][1:], strict=True):
            if wanted is not None:
                torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_a_route_says_why_not():
    layer = Layer(lambda: torch.ones(4, 2, 3, 3), convolution=Convolution(pool=3))
    input = torch.ones(2, 2, 9, 9)
    reasons = [route.accepts(layer, input) for route in routes.CONVOLUTIONS]
    assert reasons[:2] == ["it is too little to do", "it pools by other than a power of two"]
    with running("reference"):
        refused = [route.accepts(layer, input) for route in routes.CONVOLUTIONS[:3]]
        assert all(isinstance(reason, Refused) for reason in refused)
        expected = torch.nn.functional.avg_pool2d(
            torch.nn.functional.conv2d(input, layer.weight), 3
        )
        assert torch.equal(routes.current(layer, input), expected)
