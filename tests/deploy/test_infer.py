"""Compiled inference is the reference, bit for bit, whichever way a sum is taken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deployed import events, image, look_trained, random_input

from bsnn_tha import SpikingNetwork, zoo
from bsnn_tha.deploy.fold import fold
from bsnn_tha.deploy.infer import Runner
from bsnn_tha.deploy.integer import Precision, integer_network
from bsnn_tha.deploy.network import DeployedNetwork
from bsnn_tha.deploy.packed import Packed, write
from bsnn_tha.deploy.reference import run
from bsnn_tha.errors import InvalidValueError

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "residual, maximum": ("6C3P-MP2-8R-8RS2-10", {"norm": "tdbn"}),
    "dense block, means, reset to zero": ("6C3-2DB3-T-GAP-10", {"reset_mechanism": "zero"}),
    "depthwise": ("6C3P-8DWS2-AP2-10", {"reset_mechanism": "none", "beta": 0.9}),
    "depthwise, more places and channels than 7 bits": ("130C3P-9DW-10", {}),
    "strides, rows left over": ("9C3PS2-7C3P-AP2-70-10", {}),
    "words cut in two": ("33C3P-AP2-40C3P-12C3P-MP2-10", {}),
    "synaptic, thresholds of neurons": (
        "70-65-5",
        {"model": "synaptic", "synaptic_decay": 0.5, "rule": "learned", "per": "neuron"},
    ),
    "thresholds of neurons in maps": ("6C3P-AP2-10", {"rule": "learned", "per": "neuron"}),
    "recurrent": ("Rec70-Rec33-5", {"norm": {"dense": "tdbn"}}),
    "recurrent behind maps": ("6C3P-AP2-Rec300-Rec10", {"reset_mechanism": "zero"}),
    "decays of neurons": ("9-6", {"beta": [torch.linspace(0.1, 0.9, 9), 1.0]}),
}


def _whole(name: str, precision: Precision | None = None, still: bool = False) -> DeployedNetwork:
    notation, settings = NETWORKS[name]
    torch.manual_seed(2)
    shape = (2, 14, 14) if "C" in notation else (20,)
    network = SpikingNetwork(notation, shape, **{"beta": 0.8, "theta_0": 1.5, **settings})
    encoding = image(shape) if still else events(shape)
    readout: Any = "membrane_sum" if still else "spike_count"
    return integer_network(fold(look_trained(network), encoding, readout, 8), precision)


@pytest.mark.parametrize("rate", [0.02, 0.3, 1.0])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_spike_of_every_layer(name: str, rate: float) -> None:
    network = _whole(name)
    inputs = random_input(network.input, 8, 3, rate=rate) * (3 if rate == 1.0 else 1)
    expected, found = run(network, inputs), Runner(network).run(inputs, record=True)
    assert found.layers is not None
    for layer, wanted in zip(found.layers, expected.layers, strict=True):
        np.testing.assert_array_equal(layer, wanted)
    np.testing.assert_array_equal(found.scores, expected.scores)


@pytest.mark.parametrize("name", NETWORKS)
def test_images_are_summed_once_and_membranes_read(name: str) -> None:
    network = _whole(name, Precision(state_bits=16), still=True)
    inputs = random_input(network.input, 8, 3)
    expected, found = run(network, inputs, 5), Runner(network).run(inputs, 5, record=True)
    assert found.layers is not None
    for layer, wanted in zip(found.layers, expected.layers, strict=True):
        np.testing.assert_array_equal(layer, wanted)
    np.testing.assert_array_equal(found.scores, expected.scores)


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_of_a_stream_are_a_window(name: str) -> None:
    network = _whole(name)
    inputs = random_input(network.input, 12, 1)
    expected, runner = run(network, inputs), Runner(network)
    runner.step(inputs[0, 0])
    runner.reset()
    for step, frame in enumerate(inputs[:, 0]):
        np.testing.assert_array_equal(runner.step(frame), expected.spikes[step, 0])
        np.testing.assert_array_equal(runner.membranes, expected.membranes[step, 0])


@pytest.mark.parametrize("name", ["depthwise", "decays of neurons"])
def test_no_samples_have_no_answers(name: str) -> None:
    network = _whole(name)
    inputs = random_input(network.input, 8, 0)
    expected, found = run(network, inputs), Runner(network).run(inputs, record=True)
    assert found.scores.shape == expected.scores.shape == (0, network.layers[-1].neurons)
    assert found.layers is not None
    for layer, wanted in zip(found.layers, expected.layers, strict=True):
        assert layer.shape == wanted.shape


def test_a_state_is_held_at_its_ends() -> None:
    network = _whole("decays of neurons", Precision(state_bits=16))
    inputs = np.full((4000, 1, 20), 3)
    assert network.layers[1].widths is not None and network.layers[1].widths.saturates
    expected, runner = run(network, inputs), Runner(network)
    found = runner.run(inputs, record=True)
    assert found.layers is not None
    np.testing.assert_array_equal(found.layers[1], expected.layers[1])
    np.testing.assert_array_equal(runner.membranes, expected.membranes[-1, 0])


@pytest.mark.parametrize("name", zoo.names())
def test_networks_of_the_zoo(name: str) -> None:
    network = zoo.packed(name).network
    still = network.input.kind == "image"
    inputs = random_input(network.input, network.num_steps, 4, rate=0.05)
    steps = network.num_steps if still else None
    expected, found = run(network, inputs, steps), Runner(network).run(inputs, steps)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_neither_torch_nor_snntorch_is_loaded() -> None:
    program = (
        "import sys, numpy as np; from bsnn_tha import zoo;"
        "from bsnn_tha.deploy.infer import Runner; runner = Runner(zoo.packed('digits').network);"
        "runner.run(np.ones((1, 1, 8, 8), int), 6);"
        "assert not {'torch', 'snntorch', 'lightning'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_processor_without_vectors_of_64_bytes(tmp_path: Path) -> None:
    # Wide layers, and every way of listing spikes; kept on disk beside this processor's own loops.
    cases = [(_whole(name), f"{number}.safetensors") for number, name in enumerate(NETWORKS)]
    for network, file in cases:
        write(Packed(network), tmp_path / file)
        inputs = random_input(network.input, 6, 2)
        np.save(tmp_path / f"{file}.npy", inputs)
        np.save(tmp_path / f"{file}.scores.npy", run(network, inputs).scores)
    program = (
        "import sys, numpy as np; from pathlib import Path; from bsnn_tha import zoo;"
        "from bsnn_tha.deploy.infer import Runner; from bsnn_tha.deploy.packed import read;"
        "from bsnn_tha.deploy.reference import run;"
        "from bsnn_tha.kernels.cpu.packed.vectors import PUSHES; assert not PUSHES\n"
        "for path in Path(sys.argv[1]).glob('*.safetensors'):\n"
        "    scores = Runner(read(path).network).run(np.load(f'{path}.npy')).scores\n"
        "    np.testing.assert_array_equal(scores, np.load(f'{path}.scores.npy'), path.name)\n"
        "network = zoo.packed('spoken-digits').network\n"
        "inputs = (np.random.default_rng(0).random((5, 2, *network.input.shape)) < 0.05) * 1\n"
        "found = Runner(network).run(inputs, record=True)\n"
        "for layer, wanted in zip(found.layers, run(network, inputs).layers, strict=True):\n"
        "    np.testing.assert_array_equal(layer, wanted)\n"
    )
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic"}
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, env=environment)


def test_what_does_not_fit_is_refused() -> None:
    network = _whole("decays of neurons")
    with pytest.raises(InvalidValueError, match=r"frame must be of shape \[20\]"):
        Runner(network).run(np.zeros((3, 2, 21), int))
    with pytest.raises(InvalidValueError, match=r"frame must be of shape \[20\]"):
        Runner(network).step(np.zeros(3, int))
    floating = fold(
        SpikingNetwork("5", (20,), beta=0.9, theta_0=1.0), events((20,)), "spike_count", 5
    )
    with pytest.raises(InvalidValueError, match="whole numbers"):
        Runner(floating)
