"""Recurrent layers, deployed: as trained, as a loop written out, and what they are counted as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deployed import behaviour, events, image, look_trained, random_input
from exported_c import make, needs_compiler
from training_runs import train_recurrent

from bsnn_tha import SpikingNetwork, load
from bsnn_tha.data import load_dataset
from bsnn_tha.deploy import export
from bsnn_tha.deploy.fold import fold
from bsnn_tha.deploy.infer import Runner
from bsnn_tha.deploy.integer import integer_network
from bsnn_tha.deploy.packed import read
from bsnn_tha.deploy.reference import run
from bsnn_tha.deploy.restore import spiking_network
from bsnn_tha.errors import InvalidValueError

INPUTS, STEPS = 20, 12


def by_loop(network: SpikingNetwork, frames: np.ndarray, reset: str) -> list[np.ndarray]:
    """Spikes of every layer, from the trained parameters: u = β u + N(W x + b) + V z."""

    def of(tensor: torch.Tensor) -> np.ndarray:
        return tensor.detach().numpy()

    given, layers = frames.reshape(*frames.shape[:2], -1), []
    for layer in network.layers:
        signs = np.where(of(layer.synapse.latent_weight) >= 0, 1.0, -1.0)
        theta, beta = of(layer.neuron.threshold), of(layer.neuron.beta)
        z = u = np.zeros((frames.shape[1], len(signs)))
        fired = []
        for x in given:
            current = x @ signs.T
            if layer.synapse.bias is not None:
                current = current + of(layer.synapse.bias)
            if (norm := layer.norm) is not None:
                deviation = np.sqrt(of(norm.running_var) + norm.eps)
                gain = of(norm.weight) * getattr(norm, "scale", 1.0)
                current = gain * (current - of(norm.running_mean)) / deviation + of(norm.bias)
            if layer.recurrence is not None:
                back = of(layer.recurrence.synapse.latent_weight)
                current = current + z @ np.where(back >= 0, 1.0, -1.0).T
            kept = u * (1 - z) if reset == "zero" else u
            u = beta * kept + current - (theta * z if reset == "subtract" else 0)
            z = (u >= theta).astype(float)
            fired.append(z)
        given = np.stack(fired)
        layers.append(given.astype(np.uint8))
    return layers


CASES: dict[str, dict[str, Any]] = {
    "no norm": {},
    "tdbn": {"norm": {"default": "tdbn"}},
    "per-step": {"norm": {"default": "per-step"}},
    "thresholds of neurons": {"rule": "learned", "per": "neuron"},
}


@pytest.mark.parametrize("still", [False, True], ids=["events", "image"])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("case", CASES)
def test_every_spike_is_the_loops(case: str, reset: Any, still: bool) -> None:
    torch.manual_seed(2)
    settings: dict[str, Any] = {"beta": 0.8, "theta_0": 2.5, "reset_mechanism": reset}
    notation = "Rec40-12-Rec7"
    network = look_trained(SpikingNetwork(notation, (INPUTS,), **settings, **CASES[case]), seed=3)
    encoding = image((INPUTS,)) if still else events((INPUTS,))
    inputs, steps = random_input(encoding, STEPS, 5), STEPS if still else None
    real = inputs * encoding.scale
    spikes, _ = behaviour(network, torch.from_numpy(real).double(), steps)
    folded = fold(network, encoding, "spike_count", STEPS)
    whole = integer_network(folded)
    window, deployed = run(folded, inputs, steps), run(whole, inputs, steps)
    packed = Runner(whole).run(inputs, steps, record=True)
    assert packed.layers is not None
    frames = np.repeat(real[None], STEPS, 0) if still else real
    differing = 0
    for index, expected in enumerate(by_loop(network, frames, reset)):
        np.testing.assert_array_equal(spikes[index], expected)
        np.testing.assert_array_equal(window.layers[index], expected)
        np.testing.assert_array_equal(packed.layers[index], deployed.layers[index])
        differing += int((deployed.layers[index] != expected).sum())
        assert 0.02 < expected.mean() < 0.98
    assert differing / sum(layer.size for layer in spikes) < 1e-3


def test_what_comes_back_decides_spikes() -> None:
    # Else the tests above would pass with recurrent weights left out.
    network = look_trained(SpikingNetwork("Rec40-5", (INPUTS,), beta=0.8, theta_0=2.5))
    folded = fold(network, events((INPUTS,)), "spike_count", STEPS)
    weights, back = folded.layers[0].terms
    assert back.reads == (0,) and back.comes_back_to(0) and not weights.comes_back_to(0)
    inputs = random_input(folded.input, STEPS, 3)
    before = run(folded, inputs).layers[0]
    assert back.weights is not None
    np.negative(back.weights, out=back.weights)
    after = run(folded, inputs).layers[0]
    np.testing.assert_array_equal(before[0], after[0])  # nothing has come back yet
    assert (before != after).mean() > 0.1


def test_the_norms_scale_and_that_of_what_comes_back_share_a_unit() -> None:
    torch.manual_seed(2)
    network = look_trained(
        SpikingNetwork("Rec40-5", (INPUTS,), beta=0.8, theta_0=2.5, norm={"dense": "tdbn"}), seed=3
    )
    layer = fold(network, events((INPUTS,)), "spike_count", STEPS).layers[0]
    weights, back = layer.terms
    np.testing.assert_allclose(back.gain * layer.unit, 1)
    assert (np.maximum(weights.gain, back.gain) == 1).all()
    assert (weights.gain < 1).any() and (back.gain < 1).any()


# Of a run


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> export.Exported:
    folder = tmp_path_factory.mktemp("recurrent") / "small"
    train_recurrent(folder, {"snapshots.count": 0})
    options = {"root": Path(), "cache": Path(), "seed": 0, "validation": 0.1, "num_steps": 6}
    digits = load_dataset("digits", **options)
    return export.deploy(load(folder), digits, name="small", samples=60)


def test_a_report_counts_recurrent_weights(exported: export.Exported) -> None:
    figures, samples = exported.figures, exported.deployment.samples
    hidden, output = figures["layers"]
    assert figures["differing_spikes"] < 1e-3
    assert hidden["weight_bits"] == 64 * 24 + 24 * 24
    assert hidden["flash"] == 24 * (8 + 3) + 4 * hidden["parameters"]
    assert hidden["ram"] == 24 * 4 + 3
    assert hidden["dense_additions"] == 64 * 24 + 6 * 24 * 24
    spikes = run(exported.deployment.whole, samples.inputs, 6).layers[0].sum()
    assert spikes > 60
    # An image's pixels meet their weights once, spikes that come back at every step.
    expected = 24 * ((samples.inputs != 0).sum() + spikes) / 60
    assert hidden["additions"] == pytest.approx(expected)
    assert output["additions"] == pytest.approx(10 * spikes / 60)


@pytest.mark.parametrize("target", ["packed", "c"])
def test_a_run_is_written_to_every_target(
    target: str, exported: export.Exported, tmp_path: Path
) -> None:
    report = export.write(exported, target, tmp_path / "out")["written"]
    samples = exported.deployment.samples
    if target == "c":
        # A byte of spikes each, three for their copy, and a held sum of each neuron.
        assert report["state_bytes"] == 8 * 10 + 4 * (24 + 10) + 2 * 24 + 2 * 3 + 2
        assert "static void sums_0_1(" in (tmp_path / "out" / "network.c").read_text()
        return
    packed = read(tmp_path / "out" / "small.safetensors")
    assert report["bytes"]["weights"] == 24 * (8 + 3) + 10 * 3
    again, inputs = spiking_network(packed), torch.from_numpy(samples.inputs / 16).float()
    for expected, found in zip(
        behaviour(exported.deployment.trained, inputs, 6)[0], behaviour(again, inputs, 6)[0],
        strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(found, expected)


@needs_compiler
def test_the_self_test_of_a_run_passes(exported: export.Exported, tmp_path: Path) -> None:
    export.write(exported, "c", tmp_path / "out")
    made = make(tmp_path / "out", "test")
    assert (made.returncode, made.stdout.splitlines()[-1]) == (
        0, "8 samples, every time step: all spikes equal the reference"
    ), made.stderr  # fmt: skip


def test_what_no_bit_says_is_refused_for_recurrent_weights_too() -> None:
    network = SpikingNetwork("Rec12-5", (INPUTS,), beta=0.8, weights="float")
    with pytest.raises(InvalidValueError, match="layer 1 of Rec12-5 has full-precision weights"):
        fold(network, events((INPUTS,)), "spike_count", STEPS)
