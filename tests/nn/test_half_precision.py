"""Under the CPU's autocast to bfloat16 a network is the one that float32 computes."""

from __future__ import annotations

import pytest
import torch

from benchmarks.half_precision import agreement
from benchmarks.peers.workload import from_preset
from bsnn_tha import Leaky, SpikingNetwork
from bsnn_tha.functional import autocast, unrounded
from bsnn_tha.kernels import tuning


@pytest.fixture
def small(monkeypatch):
    """Small layers take the routes of large ones."""
    for name in ("SMALL", "SPIKE_CONV_SMALL"):
        monkeypatch.setattr(tuning, name, 0)


@pytest.mark.parametrize(
    ("name", "steps", "batch"),
    [("mnist", 12, 6), ("mnist-t6", 6, 16), ("mnist-t6", 1, 16), ("shd", 40, 3), ("dvs", 40, 3)],
)
def test_networks_of_the_papers(name, steps, batch, small):
    """All spike counts, in training and in evaluation; gradients but for bfloat16's rounding."""
    found = agreement(from_preset(name).shrunk(steps, batch))
    assert found.mean_count > 0.01 and found.equal == 1.0
    assert found.cosine > 0.999


def test_networks_where_the_processor_multiplies_bfloat16(small, monkeypatch):
    for module in (autocast, unrounded):
        monkeypatch.setattr(module, "multiplies_bfloat16", lambda: True)
    found = agreement(from_preset("mnist-t6").shrunk(3, 4))
    assert found.mean_count > 0.1 and found.equal == 1.0 and found.cosine > 0.99


LAYERS = {
    "dense activity": {"theta_0": 0.02},
    "no norm": {"norm": "none", "theta_0": 1.0},
    "norm of every step": {"norm": "per-step", "theta_0": 0.5},
    "full precision": {"weights": "float", "norm": "per-step", "theta_0": 0.1},
}
"""Settings of layers that take other routes than those of the papers' networks."""


@pytest.mark.parametrize("route", ["auto", "parts", "reference"])
@pytest.mark.parametrize("settings", LAYERS.values(), ids=LAYERS)
def test_other_layers(settings, route, small):
    input = torch.rand(5, 4, 2, 16, 16) * (torch.rand(5, 4, 2, 16, 16) < 0.4)
    found = []
    for half in (False, True):
        torch.manual_seed(0)
        told = {"beta": 0.5, "norm": "tdbn"} | settings
        network = SpikingNetwork("6C3-AP2-8C3-T-30-5", (2, 16, 16), route=route, **told)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            window = network(input, record=True)
        (window.spikes.float() * torch.linspace(-1, 1, 5)).sum().backward()
        found.append([window, [its.grad for its in network.parameters()]])
    (plain, wanted), (half, gradients) = found
    assert plain.spikes.any() and torch.equal(half.spikes.float(), plain.spikes)
    # A bias may be added in another order.
    torch.testing.assert_close(half.membranes, plain.membranes, rtol=1e-5, atol=1e-5)
    for got, its in zip(gradients, wanted, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, its, rtol=0.05, atol=0.02 * its.abs().max().item())


def test_graded_spikes_are_not_rounded():
    neuron = Leaky(beta=0.5, graded_spikes_factor=0.3)
    spikes = torch.tensor([0.0, 1.0]).bfloat16()
    assert neuron.handed_on(spikes).tolist() == torch.tensor([0.0, 0.3]).tolist()
