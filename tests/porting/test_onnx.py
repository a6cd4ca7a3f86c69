"""Networks as ONNX graphs: the standard's operators only, and the same spikes."""

from __future__ import annotations

import pytest
import torch

from bsnn_tha import SpikingNetwork

reference = pytest.importorskip("onnx.reference", reason="needs onnx")
pytest.importorskip("onnxscript", reason="needs onnxscript")

# Each large enough for the routes that depend on values, which must step aside.
NETWORKS = {
    "annealed, lateral, membranes": (
        "8C5-AP2-300-10",
        (2, 36, 36),
        {
            "theta_inf": 3.0,
            "alpha": 0.1,
            "dropout": 0.3,
            "lateral_width": [0, 3, 0],
            "emits": ["spikes", "spikes", "membrane"],
        },
    ),
    "synaptic": ("3000-10", (700,), {"model": "synaptic", "synaptic_decay": 0.5}),
    "recurrent, normalised": (
        "Rec300-10",
        (700,),
        {"norm": {"dense": "tdbn", "output": "none"}, "slope": 1.0},
    ),
}


@pytest.mark.filterwarnings("ignore")  # PyTorch's exporter warns of itself
@pytest.mark.parametrize("name", NETWORKS)
def test_exported_networks_fire_the_same_spikes(name):
    torch.manual_seed(0)
    notation, shape, settings = NETWORKS[name]
    network = SpikingNetwork(notation, shape, beta=0.9, theta_0=1.0, **settings).eval()
    frames = (torch.rand(2, 2, *shape) < 0.03).float()
    program = torch.onnx.export(network, (frames,), dynamo=True, verbose=False)
    graph = program.model_proto.graph
    assert {node.domain for node in graph.node} == {""}
    evaluator = reference.ReferenceEvaluator(program.model_proto)
    spikes, *state = evaluator.run(None, {graph.input[0].name: frames.numpy()})
    expected = network(frames)
    assert expected.spikes.any()
    assert torch.equal(torch.from_numpy(spikes), expected.spikes)
    for ours, theirs in zip(expected.state, state, strict=True):
        torch.testing.assert_close(torch.from_numpy(theirs), ours)
