"""Networks that between them have everything a C export can have, for tests of it."""

from __future__ import annotations

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
    "separable": Case("8DW-70DWS2-10", _image(3, 6, 6), {"reset_mechanism": "none"}),
}

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
