"""Recording models that are no SpikingNetwork: what people build from the layers."""

from __future__ import annotations

import copy

import pytest
import torch
from reference import lif_forward
from torch import nn

from bsnn_tha import BinaryLinear, Leaky, SpikingNetwork, Synaptic
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.observe.recording import record

THETA, BETA, STEPS = 1.5, 0.8, 12


def model():
    torch.manual_seed(2)
    return nn.Sequential(
        BinaryLinear(6, 5, bias=False),
        Leaky(BETA, THETA, init_hidden=True),
        nn.Flatten(),
        BinaryLinear(5, 3, bias=False),
        Leaky(BETA, THETA, init_hidden=True, output=True),
    )


def window(samples=2):
    torch.manual_seed(3)
    return (torch.rand(STEPS, samples, 6) < 0.6).float()


def test_a_sequential_is_seen_neuron_by_neuron():
    net, input = model(), window()
    traces = record(net, input, neurons=[[0, 4], [1]])
    assert [trace.neurons.tolist() for trace in traces] == [[0, 4], [1]]
    currents = torch.nn.functional.linear(input, net[0].weight)
    hidden = torch.zeros(STEPS, 2, 5)
    for sample in range(2):
        for neuron in range(5):
            membranes, fired = lif_forward(currents[:, sample, neuron].tolist(), BETA, THETA)
            hidden[:, sample, neuron] = torch.tensor(fired)
            if neuron in (0, 4):
                place = (0, 4).index(neuron)
                assert traces[0].membranes[:, sample, place] == pytest.approx(membranes, abs=1e-5)
                assert traces[0].spikes[:, sample, place].tolist() == fired
    out = torch.nn.functional.linear(hidden, net[3].weight)[:, :, 1]
    for sample in range(2):
        membranes, fired = lif_forward(out[:, sample].tolist(), BETA, THETA)
        assert traces[1].membranes[:, sample, 0] == pytest.approx(membranes, abs=1e-5)
        assert traces[1].spikes[:, sample, 0].tolist() == fired
    assert traces[1].threshold == THETA


def test_the_model_comes_out_as_it_went_in():
    net, input = model(), window()
    net(input[0])  # a state is kept
    before = copy.deepcopy(net.state_dict()), net[1].mem.clone(), torch.get_rng_state()
    first = record(net, input.requires_grad_())
    second = record(net, input)
    assert torch.equal(net[1].mem, before[1]) and torch.equal(torch.get_rng_state(), before[2])
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before[0].items())
    assert not net[1]._forward_hooks
    assert (first[0].membranes == second[0].membranes).all()  # each from cleared states


def test_one_sample_needs_no_batch_axis():
    net, input = model(), window(1)
    net = nn.Sequential(net[0], net[1])  # Flatten wants a batch
    alone, batch = record(net, input[:, 0])[0], record(net, input)[0]
    assert alone.spikes.shape == batch.spikes.shape == (STEPS, 1, 5)
    assert (alone.membranes == batch.membranes).all()
    torch.manual_seed(0)
    network = SpikingNetwork("5-3", (6,), beta=BETA, theta_0=THETA)
    alone, batch = record(network, input[:, 0])[0], record(network, input)[0]
    assert (alone.membranes == batch.membranes).all() and alone.spikes.shape == (STEPS, 1, 5)


def test_maps_and_two_states():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), Synaptic(0.7, 0.8, 0.02, init_hidden=True))
    image = torch.rand(4, 1, 6, 6)
    (trace,) = record(net, image, num_steps=7, neurons=4)
    assert trace.membranes.shape == (7, 4, 4) and trace.spikes.any()
    (framed,) = record(net, image.expand(7, -1, -1, -1, -1), neurons=4)  # [T, B, C, H, W]
    assert (framed.membranes == trace.membranes).all()


def test_a_model_that_goes_through_time_itself_is_called_once():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.lif = BinaryLinear(6, 5, bias=False), Leaky(BETA, THETA)

        def forward(self, x):
            mem = torch.zeros(1)
            for step in x:
                _, mem = self.lif(self.fc(step), mem)
            return mem

    torch.manual_seed(2)
    own, input = Own(), window()
    (trace,) = record(own, input, neurons=[[2]])
    current = torch.nn.functional.linear(input, own.fc.weight)[:, 1, 2]
    assert trace.membranes[:, 1, 0] == pytest.approx(
        lif_forward(current.tolist(), BETA, THETA)[0], abs=1e-5
    )


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Linear(6, 2), "must have neurons of bsnn_tha, but Linear has none"),
        (
            nn.Sequential(nn.Linear(6, 2), Leaky(0.9, 1.0), nn.Linear(2, 2)),
            "must keep their states; build them with init_hidden=True",
        ),
    ],
)
def test_models_without_neurons_are_refused(net, message):
    with pytest.raises(InvalidValueError, match=message):
        record(net, window())


class Looping(nn.Module):
    """Goes through the window itself."""

    def __init__(self, **settings):
        super().__init__()
        self.fc, self.lif = BinaryLinear(6, 5, bias=False), Leaky(BETA, THETA, **settings)

    def forward(self, x):
        mem = torch.zeros(1)
        for step in x:
            if self.lif.init_hidden:
                self.lif(self.fc(step))
            else:
                _, mem = self.lif(self.fc(step), mem)


def test_a_still_input_is_a_window_to_a_model_that_loops():
    torch.manual_seed(2)
    model, image = Looping(), torch.rand(2, 6)
    (trace,) = record(model, image, num_steps=5)
    (window,) = record(model, image.expand(5, 2, 6))
    assert trace.membranes.shape == (5, 2, 5)
    assert (trace.membranes == window.membranes).all()


def test_calls_that_are_no_time_steps_are_not_taken_for_them():
    twice = Leaky(BETA, THETA, init_hidden=True)
    for model in (Looping(init_hidden=True), nn.Sequential(nn.Linear(6, 6), twice, twice)):
        with pytest.raises(InvalidValueError, match="called once at each of the 12 time steps"):
            record(model, window())
