"""Networks with branches, pooling and strides, against hand-wired loops over time steps."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bsnn_tha import SpikingNetwork
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.layer import SpikingLayer
from bsnn_tha.nn.norms.batch_norm import ThresholdDependentBatchNorm
from bsnn_tha.observe.recording import evaluating, record

STEPS, BATCH, INPUT = 4, 3, (2, 6, 6)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Loop(nn.Module):
    """Pieces of a network for wiring by hand: torch's own layers, one call per time step."""

    def __init__(self, network: SpikingNetwork) -> None:
        super().__init__()
        self.connections, self.norms, self.neurons = (nn.ModuleDict() for _ in range(3))
        for index, layer in enumerate(network.layers):
            self._take(str(index), layer)
            self.neurons[str(index)] = copy.deepcopy(layer.neuron)
            if layer.shortcut is not None and layer.shortcut.connection is not None:
                self._take(f"{index}s", layer.shortcut.connection)
        self.membranes: dict[int, torch.Tensor] = {}
        self.train(network.training)

    def _take(self, key, connection):
        synapse = connection.synapse
        plain = synapse.to_float() if hasattr(synapse, "to_float") else copy.deepcopy(synapse)
        self.connections[key] = plain
        if connection.norm is not None:
            norm = nn.BatchNorm2d(connection.norm.num_features).double()
            norm.load_state_dict(connection.norm.state_dict())
            if isinstance(connection.norm, ThresholdDependentBatchNorm):
                with torch.no_grad():
                    norm.weight.mul_(connection.norm.scale)
            self.norms[key] = norm

    def conv(self, key, spikes, pool=None, **settings):
        """Weights as they are, everything else as given: strides, padding, groups."""
        current = F.conv2d(spikes, self.connections[key].weight, **settings)
        current = current if pool is None else pool(current, 2)
        return self.norms[key](current) if key in self.norms else current

    def dense(self, key, spikes):
        return self.connections[key](spikes.flatten(1))

    def fire(self, index, current):
        spikes, self.membranes[index] = self.neurons[str(index)](current, self.membranes.get(index))
        return spikes

    def run(self, wiring, frames):
        return torch.stack([wiring(self, frame) for frame in frames])


def residual(net, x):
    a = net.fire(0, net.conv("0", x, padding=1))
    b = net.fire(1, net.conv("1", a, padding=1))
    c = net.fire(2, net.conv("2", b, padding=1) + a)
    d = net.fire(3, net.conv("3", c, padding=1, stride=2))
    e = net.fire(4, net.conv("4", d, padding=1) + net.conv("4s", c, stride=2))
    return net.fire(5, net.dense("5", e.mean((2, 3))))


def dense_block(net, x):
    a = net.fire(0, net.conv("0", x, padding=1))
    b = net.fire(2, net.conv("2", net.fire(1, net.conv("1", a)), padding=1))
    ab = torch.cat([a, b], 1)
    c = net.fire(4, net.conv("4", net.fire(3, net.conv("3", ab)), padding=1))
    abc = torch.cat([a, b, c], 1)
    d = net.fire(5, net.conv("5", abc, pool=F.avg_pool2d))
    return net.fire(6, net.dense("6", d))


def separable(net, x):
    a = net.fire(0, net.conv("0", x, padding=1))
    b = net.fire(1, net.conv("1", a, padding=1, groups=3))
    c = net.fire(2, net.conv("2", b, pool=F.avg_pool2d))
    d = net.fire(3, net.conv("3", c, padding=1, stride=2, groups=4))
    e = net.fire(4, net.conv("4", d))
    return net.fire(5, net.dense("5", e))


def pooled(net, x):
    a = net.fire(0, net.conv("0", x, padding=1, pool=F.avg_pool2d))
    b = net.fire(1, net.conv("1", a, padding=1, pool=F.max_pool2d))
    return net.fire(2, net.dense("2", b))


def strided(net, x):
    a = net.fire(0, net.conv("0", x, padding=1, stride=2))
    b = net.fire(1, net.conv("1", a, pool=F.avg_pool2d))
    return net.fire(2, net.dense("2", b))


WIRINGS = {
    "residual": ("4C3P-4R-6RS2-GAP-5", residual),
    "dense": ("4C3P-2DB2-T-5", dense_block),
    "separable": ("3C3P-4DW-AP2-6DWS2-5", separable),
    "pooled": ("4C3P-AP2-6C3P-MP2-5", pooled),
    "strided": ("4C3PS2-6C2S1-AP2-5", strided),
}
wirings = pytest.mark.parametrize(("notation", "wiring"), WIRINGS.values(), ids=WIRINGS.keys())


def make_network(notation, **settings):
    defaults = {"beta": 0.7, "theta_0": 0.3, "slope": 0.5, "weights": "float"}
    network = SpikingNetwork(notation, INPUT, **{**defaults, **settings}).double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.add_(0.5 * torch.rand_like(parameter))
        for name, buffer in network.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(0.3 * torch.rand_like(buffer))
    return network


def make_frames():
    return torch.rand(STEPS, BATCH, *INPUT, dtype=torch.float64).round()


def gradients_of(network, loop):
    """Pairs of gradients of the same weights."""
    for index, layer in enumerate(network.layers):
        keys = [(layer, str(index))]
        if layer.shortcut is not None and layer.shortcut.connection is not None:
            keys.append((layer.shortcut.connection, f"{index}s"))
        for connection, key in keys:
            own = next(connection.synapse.parameters())
            yield own.grad, loop.connections[key].weight.grad
            if connection.norm is not None:
                yield connection.norm.bias.grad, loop.norms[key].bias.grad


@wirings
@pytest.mark.parametrize(
    "settings", [{}, {"weights": "binary", "theta_0": 0.5}, {"weights": "sawb"}]
)
@pytest.mark.parametrize(
    ("norm", "training"),
    [("per-step", True), ("per-step", False), ("tdbn", False), ("none", True)],
)
def test_equals_the_hand_wired_loop(notation, wiring, settings, norm, training):
    network = make_network(notation, norm=norm, **settings).train(training)
    loop, frames = Loop(network), make_frames()
    window = network(frames, record=True)
    spikes = loop.run(wiring, frames)
    assert 0 < spikes.mean() < 1
    assert torch.equal(window.spikes, spikes)
    for index, membrane in enumerate(window.state):
        torch.testing.assert_close(membrane, loop.membranes[index], rtol=1e-9, atol=1e-9)
    upstream = torch.randn_like(spikes)
    (upstream * window.spikes).sum().backward()
    (upstream * spikes).sum().backward()
    quantized = settings.get("weights") == "sawb"  # whose gradient is zero beyond the clip
    for actual, expected in gradients_of(network, loop):
        if quantized and expected.dim() > 1:
            expected = torch.where(actual == 0, 0.0, expected)
        torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-8)


@wirings
def test_tdbn_in_training_normalises_the_whole_window(notation, wiring):
    """The loop is over layers here: each takes the statistics of all its time steps."""
    network = make_network(notation, norm="tdbn").train()
    loop, frames = Loop(network).train(), make_frames()

    class OverTime(nn.Module):
        """Batch norm of a window that is a batch: T · B samples at once."""

        def fire(self, index, currents):
            steps = currents.unflatten(0, (STEPS, BATCH))
            return torch.stack([loop.fire(index, step) for step in steps]).flatten(0, 1)

        conv, dense = staticmethod(loop.conv), staticmethod(loop.dense)

    expected = wiring(OverTime(), frames.flatten(0, 1)).unflatten(0, (STEPS, BATCH))
    assert 0 < expected.mean() < 1
    assert torch.equal(network(frames).spikes, expected)
    for index, layer in enumerate(network.layers):
        if layer.norm is not None:
            theirs = loop.norms[str(index)]
            torch.testing.assert_close(layer.norm.running_mean, theirs.running_mean)
            torch.testing.assert_close(layer.norm.running_var, theirs.running_var)


@wirings
@pytest.mark.parametrize("norm", ["per-step", "tdbn"])
def test_a_constant_input_equals_the_same_input_at_every_step(notation, wiring, norm):
    network = make_network(notation, norm=norm).train()
    twin, image = copy.deepcopy(network), torch.rand(BATCH, *INPUT, dtype=torch.float64)
    constant = network(image, num_steps=STEPS, record=True)
    repeated = twin(image.expand(STEPS, *image.shape), record=True)
    assert 0 < constant.spikes.mean() < 1
    assert torch.equal(constant.spikes, repeated.spikes)
    for actual, expected in zip(network.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(actual, expected)


@wirings
@pytest.mark.parametrize("training", [True, False])
def test_chunks_and_state_change_nothing(notation, wiring, training):
    network = make_network(notation).train(training)
    chunked, split, frames = copy.deepcopy(network), copy.deepcopy(network), make_frames()
    upstream = torch.randn(STEPS, BATCH, 5, dtype=torch.float64)
    whole = network(frames)
    pieces = chunked(frames, chunk_steps=3)
    first = split(frames[:1])
    second = split(frames[1:], state=first.state)
    windows = [whole.spikes, pieces.spikes, torch.cat([first.spikes, second.spikes])]
    for spikes in windows:
        assert torch.equal(spikes, whole.spikes)
        (upstream * spikes).sum().backward()
    for ends in (pieces.state, second.state):
        for actual, expected in zip(ends, whole.state, strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
    for other in (chunked, split):
        for actual, expected in zip(other.parameters(), network.parameters(), strict=True):
            torch.testing.assert_close(actual.grad, expected.grad, rtol=1e-7, atol=1e-8)
        for actual, expected in zip(other.buffers(), network.buffers(), strict=True):
            torch.testing.assert_close(actual, expected)


@wirings
def test_gradient_reaches_every_parameter(notation, wiring):
    network = make_network(notation)
    network(make_frames()).spikes.sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()), name


@wirings
def test_recordings_and_hooks_see_every_layer(notation, wiring):
    network, frames = make_network(notation), make_frames()
    seen: list[int] = []
    for index, layer in enumerate(network.layers):
        assert isinstance(layer, SpikingLayer)
        layer.register_forward_hook(lambda layer, args, window, index=index: seen.append(index))
    with evaluating(network):
        traces = record(network, frames, neurons=10**6)
        assert seen == []
        window = network(frames)
    assert seen == list(range(len(network.layers)))
    sizes = [math.prod(layer.output_shape) for layer in network.layers]
    assert [trace.spikes.shape[2] for trace in traces] == sizes
    assert torch.equal(torch.from_numpy(traces[-1].spikes).double(), window.spikes)


def test_a_network_with_branches_can_be_exported():
    network = make_network("4C3P-4RS2-2DB2-GAP-5", norm="tdbn", weights="sawb").eval()
    frames = make_frames()
    program = torch.export.export(network, (frames,))
    assert torch.equal(program.module()(frames).spikes, network(frames).spikes)


# tdBN


def test_tdbn_gives_currents_on_the_scale_of_the_threshold():
    network = SpikingNetwork("8C3P-8R-8RS2-5", INPUT, beta=0.5, theta_0=0.8, norm="tdbn")
    scales = {"whole": 0.8, "added": 0.8 / 2**0.5}
    assert [layer.norm.scale for layer in network.layers[:-1]] == pytest.approx(
        [scales[kind] for kind in ("whole", "whole", "added", "whole", "added")]
    )
    assert network.layers[4].shortcut.connection.norm.scale == pytest.approx(scales["added"])
    current = network.layers[0].drive(3 + 7 * torch.rand(5, 4, *INPUT))
    torch.testing.assert_close(current.mean((0, 1, 3, 4)), torch.zeros(8), atol=1e-5, rtol=0)
    deviation = current.std((0, 1, 3, 4), correction=0)
    torch.testing.assert_close(deviation, torch.full((8,), 0.8), atol=1e-3, rtol=0)


def test_tdbn_refuses_chunks_in_training_only():
    network = make_network("4C3P-5", norm="tdbn").train()
    with pytest.raises(InvalidValueError, match="^training with ThresholdDependentBatchNorm needs"):
        network(make_frames(), chunk_steps=2)
    assert network(make_frames(), chunk_steps=STEPS).spikes.shape == (STEPS, BATCH, 5)
    network.eval()
    frames = make_frames()
    assert torch.equal(network(frames, chunk_steps=2).spikes, network(frames).spikes)


def test_unknown_norm():
    with pytest.raises(InvalidValueError, match="^unknown norm 'layer'; known are none, per-step"):
        make_network("4C3P-5", norm="layer")
