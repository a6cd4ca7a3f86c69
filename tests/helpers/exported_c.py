"""Networks that between them have everything a C export can have, for tests of it."""

from __future__ import annotations

import random
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deployed import look_trained, random_input

from bsnn_tha import SpikingNetwork
from bsnn_tha.deploy import c
from bsnn_tha.deploy.deployment import Deployment, Samples
from bsnn_tha.deploy.fold import fold
from bsnn_tha.deploy.integer import Precision, integer_network
from bsnn_tha.deploy.network import InputEncoding


@dataclass(frozen=True)
class Case:
    """A network and how it is deployed."""

    notation: str
    input: InputEncoding
    neuron: dict[str, Any] = field(default_factory=dict)
    state_bits: int = 32
    readout: str = "spike_count"
    rate: float = 0.3

    def deployment(self, samples: int = 3, steps: int = 5, **options: Any) -> Deployment:
        settings: dict[str, Any] = {"beta": 0.9, "theta_0": 2.0, **self.neuron}
        torch.manual_seed(0)
        network = look_trained(SpikingNetwork(self.notation, self.input.shape, **settings))
        folded = fold(network, self.input, self.readout, steps)
        whole = integer_network(folded, Precision(state_bits=self.state_bits))
        inputs = random_input(self.input, steps, samples, rate=self.rate)
        if self.input.kind == "events":  # several at once, where there may be
            counts = np.random.default_rng(1).integers(1, self.input.high + 1, inputs.shape)
            inputs = inputs * counts
        constant = steps if self.input.kind == "image" else None
        drawn = Samples(inputs, np.zeros(samples, np.int64), constant)
        facts = {"accuracy": 0.5}
        return Deployment("hand-made", whole, folded, network, drawn, facts, options)


def _image(*shape: int, bits: int = 8, signed: bool = False) -> InputEncoding:
    return InputEncoding("image", shape, bits, signed, 1 / 2 ** (bits - 1))


def _events(*shape: int, bits: int = 1) -> InputEncoding:
    return InputEncoding("events", shape, bits, False, 1.0)


CASES = {
    # Dense: values of an image; more channels than are done in one go; thresholds per neuron.
    "dense": Case("70-10", _image(30), {"rule": "learned", "per": "neuron"}),
    # Bits of events, through packed words; 16-bit states; two states to each neuron.
    "synaptic": Case("20-10", _events(40), {"model": "synaptic", "synaptic_decay": 0.7}, 16),
    # Counts of events, added up; signs of the input; β = 1, where states are held.
    "held": Case("20-10", _events(6, bits=5), {"beta": 1.0, "theta_0": 40.0}),
    "signed": Case(
        "20-10", _image(6, bits=9, signed=True), {"theta_0": 0.5, "reset_mechanism": "zero"}
    ),
    "convolution": Case("16C3-AP2-48C3-AP2-10", _image(1, 12, 12), {"theta_0": 1.0}),
    # Largest of a window, with gains of both signs; strides, padding; a membrane readout.
    "maximum": Case("16C3P-MP2-20C3PS2-MP2-10", _events(2, 12, 12, bits=2), readout="membrane_sum"),
    # Sums of two scales; spikes of several layers as they are; means of maps.
    "residual": Case("8C3P-8R-12RS2-GAP-10", _image(1, 8, 8), {"theta_0": 0.7}),
    "blocks": Case("8C3P-2DB4-16R-T-10", _image(1, 8, 8), {"theta_0": 0.7}),
    # No memory at all; padding around a single place.
    "one place": Case(
        "8C2S2-AP3-10C3P-10", _image(1, 8, 8), {"beta": 0.0, "reset_mechanism": "zero"}
    ),
    # Spikes that come back, in more than one block of channels, behind batch norm of scales of
    # their own; and beside sums of a constant input.
    "recurrent": Case("Rec70-Rec33-10", _events(40), {"norm": {"default": "tdbn"}}),
    "recurrent, held": Case("Rec20-Rec10", _image(30), {"beta": 1.0}, readout="membrane_sum"),
    "separable": Case("8DW-70DWS2-10", _image(3, 6, 6), {"reset_mechanism": "none"}),
}


def random_case(seed: int) -> Case:
    """A small network of random layers, input, neurons and bits."""
    pick = random.Random(seed)
    sizes = (3, 8, 17, 33, 70)
    if pick.random() < 0.25:
        kinds = ("", "", "Rec")
        layers = [pick.choice(kinds) + str(pick.choice(sizes)) for _ in range(pick.randint(1, 3))]
        shape: tuple[int, ...] = (pick.choice((5, 31, 64, 70)),)
    else:
        shape = pick.choice((1, 2, 3, 9)), pick.choice((7, 8, 11)), pick.choice((7, 8, 10))
        layers = [f"{pick.choice(sizes)}C{pick.choice(('3P', '1', '3', '3PS2', '2S2', '5P'))}"]
        layers += pick.choice(([], [], ["AP2"], ["MP2"], ["AP3"]))
        blocks = ("8R", "12RS2", "2DB4", "T", "16DW", "9DWS2", "10C3P", "24C1")
        layers += [pick.choice(blocks) for _ in range(pick.randint(0, 2))]
        layers += pick.choice(([], ["GAP"], ["12"], ["Rec12"]))
    kind, bits = pick.choice((_events, _image)), pick.choice((1, 2, 5, 8))
    neuron: dict[str, Any] = {
        "beta": pick.choice((0.0, 0.3, 0.9, 1.0)),
        "theta_0": pick.choice((0.3, 1.0, 4.0)),
        "reset_mechanism": pick.choice(("subtract", "zero", "none")),
    }
    if pick.random() < 0.3 and not any("Rec" in layer for layer in layers):
        neuron |= {"model": "synaptic", "synaptic_decay": pick.choice((0.2, 0.8, 1.0))}
    if pick.random() < 0.2:
        neuron |= {"rule": "learned", "per": "neuron"}
    readout = pick.choice(("spike_count", "membrane_sum"))
    return Case(
        "-".join([*layers, "5"]), kind(*shape, bits=bits), neuron, pick.choice((16, 32)), readout
    )


needs_compiler = pytest.mark.skipif(
    not (shutil.which("cc") and shutil.which("make")), reason="needs a C compiler and make"
)
needs_board = pytest.mark.skipif(
    not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")),
    reason="needs gcc-arm-none-eabi and qemu-system-arm (Debian packages)",
)


def exported(deployment: Deployment, folder: Path) -> Any:
    """Write the program; the report."""
    folder.mkdir(exist_ok=True)
    return c.write(deployment, folder)


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``make`` in the folder, its output as text."""
    command = ["make", "--silent", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)
