"""Watching changes nothing: weights are the same bits, on the sizes that have fast routes.

The networks are those of the presets, whole; batches and windows are short.
"""

from __future__ import annotations

import pytest
import torch
from input_shapes import INPUT_SHAPES

from bsnn_tha import SpikingNetwork
from bsnn_tha.losses import SpikeCountLoss
from bsnn_tha.observe.recording import evaluating, record
from bsnn_tha.presets import load_preset
from bsnn_tha.run_folder import RunFolder
from bsnn_tha.training.callbacks import anneal
from bsnn_tha.training.callbacks.snapshots import Snapshots
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.session import Session

STEPS = {"spoken-digits": 60, "saccade-digits": 30, "mnist": 10}


def inputs(dataset):
    """A batch as sparse as the recordings, or of still images."""
    generator = torch.Generator().manual_seed(1)
    if dataset == "mnist":
        return torch.rand(8, *INPUT_SHAPES[dataset], generator=generator), STEPS[dataset]
    window = torch.rand(STEPS[dataset], 8, *INPUT_SHAPES[dataset], generator=generator)
    return (window < 0.02).float(), None


def trained(dataset, watch):
    """Weights after three iterations of the preset, ``watch(network)`` around each."""
    torch.manual_seed(0)
    config = load_preset(dataset, "tha").with_changes({"network.dropout": 0.2})
    network = config.build_network(INPUT_SHAPES[dataset])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    before = network.layers[0].synapse.latent_weight.detach().clone()
    (input, steps), targets = inputs(dataset), torch.arange(8)
    spikes = []
    for _ in range(3):
        finish = watch(network)
        window = network(input, steps)
        SpikeCountLoss()(window, targets).backward()
        finish(input, steps)
        optimizer.step()
        optimizer.zero_grad()
        anneal(network)
        spikes.append(window.spikes)
    assert not torch.equal(before, network.layers[0].synapse.latent_weight)
    return {**network.state_dict(), "spikes": torch.stack(spikes).detach()}


def nobody(network):
    return lambda input, steps: None


def somebody(network):
    """Membranes shown to hooks on every module, and a recording beside the training."""
    seen, handles = [], []
    for layer in network.layers:
        layer.show_membranes = True
        handles.append(
            layer.register_forward_hook(lambda module, given, window: seen.append(window))
        )
    for module in network.modules():
        handles.append(module.register_forward_hook(lambda *_: None))

    def finish(input, steps):
        for handle in handles:
            handle.remove()
        assert len(seen) == len(network.layers)
        assert all(window.membranes.shape == window.spikes.shape for window in seen)
        for layer in network.layers:
            layer.show_membranes = False
        with evaluating(network):
            traces = record(network, input, steps)
        assert len(traces) == len(network.layers)

    return finish


@pytest.mark.parametrize("dataset", STEPS)
def test_hooks_shown_membranes_and_recordings_change_no_bit(dataset):
    alone, watched = trained(dataset, nobody), trained(dataset, somebody)
    differing = [name for name in alone if not torch.equal(alone[name], watched[name])]
    assert not differing


def test_a_shown_membrane_is_the_one_that_fired():
    """Beside the fused pass: the same mask of dropout, so the same crossings."""
    torch.manual_seed(0)
    config = load_preset("spoken-digits", "tha").with_changes({"network.dropout": 0.5})
    network = config.build_network((700,))
    network.layers[0].show_membranes = True
    windows = []
    network.layers[0].register_forward_hook(lambda module, given, window: windows.append(window))
    network(inputs("spoken-digits")[0])
    (window,) = windows
    crossed = window.membranes >= network.layers[0].neuron.threshold
    assert window.spikes.any()
    assert torch.equal(crossed, window.spikes.bool())


@pytest.mark.parametrize("route", ["one_pass", "parts"])
@pytest.mark.parametrize(("notation", "shape"), [("9Dense4", (9,)), ("4C3-AP2", (2, 8, 8))])
def test_hooks_on_the_weights_see_each_window(route, notation, shape):
    network = SpikingNetwork(notation, shape, beta=0.9, norm="none", route=route)
    synapse, seen = network.layers[0].synapse, []
    synapse.register_forward_hook(lambda module, given, output: seen.append((*given, output)))
    input = (torch.rand(3, 2, *shape) < 0.5).float()
    network(input)
    ((given, output),) = seen
    assert torch.equal(given, input.flatten(0, 1))
    assert torch.equal(output, synapse.to_float()(given))


def test_snapshots_change_no_bit_on_recordings(shared_data, tmp_path):
    machine = Machine(shared_data, tmp_path / "cache", device="cpu", threads=1)
    config = load_preset("spoken-digits", "tha").with_changes(
        {"training.epochs": 1, "data.subset": 128, "data.validation": 0.0}
    )
    weights = []
    for count in (0, 4):
        session = Session.prepare(config.with_changes({"snapshots.count": count}), machine)
        folder = RunFolder(tmp_path / str(count))
        folder.path.mkdir()
        snapshots = Snapshots(folder, session.config.snapshots, session.dataset)
        session.fit(before_annealing=[snapshots])
        weights.append(session.module.network.state_dict())
    assert len(list((tmp_path / "4" / "snapshots").glob("iteration-*"))) == 4
    differing = [name for name in weights[0] if not torch.equal(weights[0][name], weights[1][name])]
    assert not differing
