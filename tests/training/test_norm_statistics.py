"""Running statistics measured again: what they become, and that training is untouched."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from training_runs import (
    BATCH,
    BETA,
    MACHINE,
    SEED,
    STEPS,
    SUBSET,
    digits,
    network_weights,
    tiny,
    train_tiny,
)

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.training.loaders import training_batches
from bsnn_tha.training.run import resume, train

NORM = "layers.0.norm"


def last_weights(result):
    return network_weights(result.folder.path / "last.ckpt")


@pytest.mark.parametrize(("norm", "mixup"), [("per-step", 0.0), ("tdbn", 0.0), ("tdbn", 0.5)])
def test_running_statistics_are_those_of_training_batches_and_the_weights_at_the_end(
    tmp_path, norm, mixup
):
    """Of the images as they are, as evaluation sees them, also where training blends them."""
    settings = {"network__norm": norm, "training__norm_batches": 2, "augment__mixup": mixup}
    result = train_tiny(tmp_path / "run", **settings)
    weights = last_weights(result)
    loader = training_batches(digits().train, BATCH, SEED, SUBSET)
    loader.sampler.set_epoch(2)  # of the third, last epoch
    signs = torch.where(weights["layers.0.synapse.latent_weight"] < 0, -1.0, 1.0)
    means, variances = [], []
    for images, _ in [batch for batch in loader][:2]:
        current = F.avg_pool2d(F.conv2d(images, signs), 2)  # the same at every time step
        means.append(current.mean((0, 2, 3)))
        variances.append(current.var((0, 2, 3)))
    for name, expected in (("mean", means), ("var", variances)):
        actual = weights[f"{NORM}.running_{name}"]
        torch.testing.assert_close(actual, torch.stack(expected).mean(0), rtol=1e-4, atol=1e-5)


def batch_norm(current, weight, bias, scale):
    """By the batch's own statistics: of each step, or, with a scale, of the window."""
    over = (1, 3, 4) if scale is None else (0, 1, 3, 4)
    mean = current.mean(over, keepdim=True)
    spread = current.var(over, correction=0, keepdim=True) + 1e-5
    shape = (1, 1, -1, 1, 1)
    return (scale or 1.0) * weight.view(shape) * (current - mean) / spread.sqrt() + bias.view(shape)


@pytest.mark.parametrize("norm", ["per-step", "tdbn"])
def test_a_layer_that_reads_spikes_is_measured_as_its_norm_sees_it(tmp_path, norm):
    """A loop over time steps, in double precision, to the second layer's currents."""
    result = train_tiny(
        tmp_path / "run",
        network__notation="4C3-AP2-6C2-10",
        network__norm=norm,
        threshold__rule="fixed",
        threshold__theta_0=1.0,
        threshold__theta_inf=None,
        threshold__alpha=None,
        training__norm_batches=2,
    )
    weights = last_weights(result)
    loader = training_batches(digits().train, BATCH, SEED, SUBSET)
    loader.sampler.set_epoch(2)
    signs = [
        torch.where(weights[f"layers.{i}.synapse.latent_weight"] < 0, -1.0, 1.0).double()
        for i in (0, 1)
    ]
    scale = 1.0 if norm == "tdbn" else None
    own = [weights[f"{NORM}.{name}"].double() for name in ("weight", "bias")]
    means, variances = [], []
    for images, _ in [batch for batch in loader][:2]:
        still = F.avg_pool2d(F.conv2d(images.double(), signs[0]), 2)
        current = batch_norm(still.expand(STEPS, *still.shape), *own, scale)
        membrane = fired = torch.zeros_like(current[0])
        currents = []
        for step in current:
            membrane = BETA * membrane + step - fired * 1.0
            fired = (membrane >= 1.0).double()
            currents.append(F.conv2d(fired, signs[1]))
        seen = torch.stack(currents)
        if norm == "tdbn":
            seen = seen.flatten(0, 1).unsqueeze(0)
        means.append(seen.mean((1, 3, 4)).mean(0))
        variances.append(seen.var((1, 3, 4)).mean(0))
    for name, expected in (("mean", means), ("var", variances)):
        actual = weights[f"layers.1.norm.running_{name}"]
        # A membrane at the threshold may be rounded to either side of it.
        torch.testing.assert_close(
            actual.double(), torch.stack(expected).mean(0), rtol=5e-3, atol=5e-3
        )


def test_training_is_the_same_to_the_last_bit(tmp_path):
    settings = {"network__notation": "4C3-AP2-12-10", "network__dropout": 0.3}
    three = {"theta_0": [0.5, 1.0, 1.0], "theta_inf": [1.0, 2.0, 2.0], "alpha": 0.1}
    settings |= {f"threshold__{key}": value for key, value in three.items()}
    plain = last_weights(train_tiny(tmp_path / "plain", **settings))
    again = last_weights(train_tiny(tmp_path / "again", **settings, training__norm_batches=3))
    differing = {name for name in plain if not torch.equal(plain[name], again[name])}
    assert differing == {f"{NORM}.running_mean", f"{NORM}.running_var"}


def test_a_resumed_run_ends_with_the_same_statistics(tmp_path):
    config = tiny(training__norm_batches=2, augment__shift=1)
    whole = train(config, output=tmp_path / "whole", machine=MACHINE, verbose=False)
    first = config.with_changes({"training.epochs": 1})
    train(first, output=tmp_path / "half", machine=MACHINE, verbose=False)
    half = resume(tmp_path / "half", epochs=3, machine=MACHINE, verbose=False)
    one, two = last_weights(whole), last_weights(half)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("setting", ["data__batch_size", "data__subset"])
def test_batches_of_one_value_are_refused_before_training(tmp_path, setting):
    maps_of_one_pixel = {
        "network__notation": "4C8-10",
        "threshold__theta_0": 1.0,
        "threshold__theta_inf": 2.0,
        "threshold__alpha": 0.1,
    }
    with pytest.raises(InvalidValueError, match="batch norm of layer 1 has one value of each"):
        train_tiny(tmp_path / "run", **maps_of_one_pixel, **{setting: 1})
    assert not (tmp_path / "run").exists()


def test_a_window_in_chunks_is_the_window(tmp_path):
    """Of five time steps, four and one; every step counts once."""
    settings = {"training__norm_batches": 2, "network__norm": "per-step"}
    settings |= {"network__notation": "4C3-AP2-4C3-10", "threshold__rule": "fixed"}
    settings |= {"threshold__theta_0": 0.5, "threshold__theta_inf": None, "threshold__alpha": None}
    whole, parts = (
        last_weights(train_tiny(tmp_path / name, **settings, training__chunk_steps=steps))
        for name, steps in (("whole", None), ("parts", 4))
    )
    for name in ("running_mean", "running_var"):
        for layer in (0, 1):
            key = f"layers.{layer}.norm.{name}"
            torch.testing.assert_close(parts[key], whole[key], rtol=1e-3, atol=1e-4)


def test_statistics_of_a_run_in_double_precision_are_double(tmp_path):
    result = train_tiny(
        tmp_path / "run",
        training__precision="64-true",
        training__norm_batches=2,
        training__epochs=1,
    )
    assert last_weights(result)[f"{NORM}.running_mean"].dtype == torch.float64
