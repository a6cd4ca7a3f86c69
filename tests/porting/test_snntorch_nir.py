"""snnTorch's own converter to NIR, on layers with weights and neurons in nn.Sequential."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bsnn_tha import BinaryLinear, Leaky, Synaptic

pytest.importorskip("nir")
pytest.importorskip("nirtorch")

SIZE = 3
DT = 1e-4  # of snnTorch's converter


def exported(neuron):
    from snntorch.export_nir import export_to_nir

    synapse = BinaryLinear(4, SIZE)
    graph = export_to_nir(nn.Sequential(synapse, neuron), torch.rand(1, 4), ignore_dims=[0])
    assert set(graph.edges) == {("input", "0"), ("0", "1"), ("1", "output")}
    torch.testing.assert_close(torch.as_tensor(graph.nodes["0"].weight), synapse.weight.detach())
    return graph.nodes["1"]


def test_leaky():
    # One β and θ per neuron: the format wants the layer's size, which a number does not say.
    node = exported(Leaky(torch.full((SIZE,), 0.9), torch.tensor([0.5, 1.0, 2.0])))
    assert type(node).__name__ == "LIF"
    assert node.v_threshold.tolist() == [0.5, 1.0, 2.0]
    assert node.tau.tolist() == pytest.approx([DT / (1 - 0.9)] * SIZE, rel=1e-4)


def test_a_synapse_keeps_its_memory():
    node = exported(Synaptic(torch.full((SIZE,), 0.5), torch.full((SIZE,), 0.9), torch.ones(SIZE)))
    assert type(node).__name__ == "CubaLIF"
    assert node.tau_syn.tolist() == pytest.approx([DT / (1 - 0.5)] * SIZE, rel=1e-4)
    assert node.tau_mem.tolist() == pytest.approx([DT / (1 - 0.9)] * SIZE, rel=1e-4)
    assert node.w_in.tolist() == pytest.approx([2.0] * SIZE, rel=1e-4)


def test_a_number_for_the_layer_is_refused_as_snntorchs_own_are():
    import snntorch as snn

    for neuron in (Leaky(0.9), snn.Leaky(0.9)):
        with pytest.raises(ValueError, match="type mismatch"):
            exported(neuron)
