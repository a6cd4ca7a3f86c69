"""snnTorch's tutorials 1 to 7, and the modules they use, with the neurons here.

Written anew and small: what each tutorial does with its neurons, not its text. Results
are compared with snnTorch's own neurons, which agree wherever no membrane meets its
threshold exactly.
"""

from __future__ import annotations

import sys
import types

import matplotlib
import pytest
import snntorch as snn
import torch
from snntorch import functional as SF
from snntorch import spikegen, surrogate, utils
from torch import nn
from torch.nn import functional as F

from bsnn_tha import AnnealedLeaky, BinaryLinear, Leaky, Synaptic

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


# 1: spike trains from data


@pytest.mark.parametrize(
    "encode",
    [
        lambda data: spikegen.rate(data, num_steps=20),
        lambda data: spikegen.latency(data, num_steps=20, threshold=0.01, normalize=True),
        lambda data: spikegen.delta(data.expand(20, 3, 4).cumsum(0), threshold=0.4),
    ],
    ids=["rate", "latency", "delta"],
)
def test_1_spike_trains_are_read(encode):
    train = encode(torch.rand(3, 4))
    spikes, membranes = Leaky(0.9).sequence(train, record=True)
    mem, expected = torch.zeros(3, 4), []
    for step in train:
        mem = 0.9 * mem + step - (mem >= 1).float()
        expected.append(mem)
    torch.testing.assert_close(membranes, torch.stack(expected))
    assert train.any() and torch.equal(spikes, (membranes >= 1).float())


# 2 and 3: one neuron after the other, by hand


@pytest.mark.parametrize("reset_mechanism", ["subtract", "zero"])
def test_2_and_3_a_scalar_current(reset_mechanism):
    current = torch.cat((torch.zeros(10), torch.ones(190) * 0.21))
    recorded = []
    for neuron in (Leaky, snn.Leaky):
        lif = neuron(beta=0.8, reset_mechanism=reset_mechanism)
        mem, spikes = torch.zeros(1), []
        for step in range(200):
            spk, mem = lif(current[step], mem)
            spikes.append(spk.reshape(()))
        recorded.append(torch.stack(spikes))
    assert torch.equal(*recorded) and recorded[0].sum() > 5


def test_3_a_feedforward_network():
    spk_in = spikegen.rate_conv(torch.rand((50, 16))).unsqueeze(1)
    fc1, fc2 = nn.Linear(16, 30), nn.Linear(30, 10)
    recorded = []
    for neuron in (Leaky, snn.Leaky):
        lif1, lif2 = neuron(beta=0.99), neuron(beta=0.99)
        mem1, mem2 = lif1.init_leaky(), lif2.init_leaky()
        spikes = []
        for step in range(50):
            spk1, mem1 = lif1(fc1(spk_in[step]), mem1)
            spk2, mem2 = lif2(fc2(spk1), mem2)
            spikes.append(spk2)
        recorded.append(torch.stack(spikes))
    assert torch.equal(*recorded) and recorded[0].any()


# 4: neurons with a synaptic current


def test_4_a_synaptic_current():
    spk_in = torch.zeros(30)
    spk_in[::5] = 0.21
    recorded = []
    for neuron in (Synaptic, snn.Synaptic):
        lif = neuron(alpha=0.9, beta=0.8)
        syn, mem = lif.init_synaptic()
        traces = []
        for step in spk_in:
            spk, syn, mem = lif(step, syn, mem)
            traces.append(torch.stack([spk, syn, mem]))
        recorded.append(torch.stack(traces))
    torch.testing.assert_close(*recorded)
    assert recorded[0][:, 0].any()


# 5: training, a loss of the membranes at every step


def test_5_training_step_by_step():
    images, labels = torch.rand(8, 12), torch.randint(4, (8,))
    results = []
    for neuron in (Leaky, snn.Leaky):
        torch.manual_seed(1)
        fc1, fc2 = nn.Linear(12, 20), nn.Linear(20, 4)
        lif1, lif2 = (neuron(beta=0.95, spike_grad=surrogate.atan()) for _ in range(2))
        optimizer = torch.optim.Adam([*fc1.parameters(), *fc2.parameters()], lr=5e-3)
        for _ in range(3):
            mem1, mem2, loss = lif1.init_leaky(), lif2.init_leaky(), torch.zeros(1)
            for _ in range(10):
                spk1, mem1 = lif1(fc1(images), mem1)
                _, mem2 = lif2(fc2(spk1), mem2)
                loss += F.cross_entropy(mem2, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        results.append([loss.detach(), *(weight.detach() for weight in fc1.parameters())])
    same(*results)


# 6 and 7: convolutions in nn.Sequential, with the losses of snntorch.functional


def convolutional(neuron):
    keep = {"beta": 0.5, "spike_grad": surrogate.fast_sigmoid(slope=25), "init_hidden": True}
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), neuron(**keep),
        nn.Flatten(), nn.Linear(27, 10), neuron(**keep, output=True),
    )  # fmt: skip


def run(net, data, num_steps):
    utils.reset(net)
    recorded = [net(data if data.dim() == 4 else data[step]) for step in range(num_steps)]
    return (torch.stack(kind) for kind in zip(*recorded, strict=True))


@pytest.mark.parametrize("varying", [False, True], ids=["6: still images", "7: frames of events"])
def test_6_and_7_a_convolutional_network(varying):
    shape = (6, 4, 1, 8, 8) if varying else (4, 1, 8, 8)
    batches = [(torch.rand(shape) * 3, torch.randint(10, (4,))) for _ in range(2)]
    loss_fn = SF.mse_count_loss(0.8, 0.2) if varying else SF.ce_rate_loss()
    results = []
    for neuron in (Leaky, snn.Leaky):
        torch.manual_seed(1)
        net = convolutional(neuron)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
        for data, targets in batches:
            spikes, membranes = run(net, data, 6)
            loss = loss_fn(spikes, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        accuracy = SF.accuracy_rate(spikes, targets)
        results.append([loss.detach(), torch.tensor(accuracy), spikes.detach(), membranes.detach()])
    same(*results)
    assert results[0][2].any()


# snntorch.functional: every loss on spikes and membranes of a whole window

LOSSES = {
    "ce_rate_loss": lambda: SF.ce_rate_loss(),
    "ce_count_loss": lambda: SF.ce_count_loss(),
    "ce_max_membrane_loss": lambda: SF.ce_max_membrane_loss(),
    "mse_count_loss": lambda: SF.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2),
    "mse_membrane_loss": lambda: SF.mse_membrane_loss(),
    "ce_temporal_loss": lambda: SF.ce_temporal_loss(),
    "mse_temporal_loss": lambda: SF.mse_temporal_loss(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_their_gradients(name):
    current, targets = torch.rand(12, 5, 4), torch.randint(4, (5,))
    settings = {"beta": 0.9, "spike_grad": surrogate.atan()}
    results = []
    for neuron in (Leaky(**settings), snn.Leaky(**settings)):
        leaf = current.clone().requires_grad_()
        if isinstance(neuron, Leaky):
            spikes, membranes = neuron.sequence(leaf, record=True)
        else:
            mem, recorded = neuron.init_leaky(), []
            for step in leaf:
                spk, mem = neuron(step, mem)
                recorded.append((spk, mem))
            spikes, membranes = (torch.stack(kind) for kind in zip(*recorded, strict=True))
        loss = LOSSES[name]()(membranes if "membrane" in name else spikes, targets)
        loss.backward()
        results.append((loss.detach(), leaf.grad))
    same(*results)
    assert results[0][1].any()


def test_accuracies_and_regularisers():
    spikes, _ = Leaky(0.9).sequence(torch.rand(12, 5, 4).requires_grad_())
    counts = spikes.sum(0)
    targets = counts.argmax(1)
    assert SF.accuracy_rate(spikes, targets) == 1.0
    assert 0 <= SF.accuracy_temporal(spikes, targets) <= 1
    assert SF.l1_rate_sparsity(Lambda=0.5)(spikes).item() == pytest.approx(
        0.5 * counts.sum().item()
    )


# snntorch.spikeplot


def test_plots_take_what_the_neurons_give(monkeypatch):
    plt = pytest.importorskip("matplotlib.pyplot")
    # Imported at its top, used by none of these: snnTorch does not install it.
    monkeypatch.setitem(sys.modules, "pandas", types.ModuleType("pandas"))
    from snntorch import spikeplot

    spikes, membranes = Leaky(0.9).sequence(torch.rand(20, 1, 3), record=True)
    figure, axes = plt.subplots()
    spikeplot.raster(spikes.squeeze(1), axes, s=1)
    assert len(axes.collections[0].get_offsets()) == spikes.sum()
    plt.close(figure)
    spikeplot.traces(membranes.squeeze(1), spk=spikes.squeeze(1), dim=(1, 3))
    plt.close("all")


# What snnTorch's own loops do not do


def test_annealing_in_a_loop_of_snntorchs():
    net = nn.Sequential(
        BinaryLinear(6, 8),
        AnnealedLeaky(0.9, 0.5, 1.5, 0.1, init_hidden=True),
        BinaryLinear(8, 4),
        AnnealedLeaky(0.9, 0.5, 1.5, 0.1, init_hidden=True, output=True),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for iteration in range(3):
        utils.reset(net)
        data, targets = torch.rand(5, 6), torch.randint(4, (5,))
        spikes = torch.stack([net(data)[0] for _ in range(6)])
        optimizer.zero_grad()
        SF.ce_rate_loss()(spikes, targets).backward()
        optimizer.step()
        for module in net:
            if isinstance(module, AnnealedLeaky):
                module.anneal()
        assert net[1].iteration.item() == net[3].iteration.item() == iteration + 1
    assert net[1].threshold.item() == pytest.approx(1.5 - 0.9**3)
