"""The temporal coding task: its data, and a recorded run against an own recomputation."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import sign, threshold_recurrence

from bsnn_tha.data import load_dataset
from bsnn_tha.data.temporal_coding import load_temporal_coding, membrane_target
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.presets import load_preset
from bsnn_tha.training.run import Machine, train

# The task


def test_the_target_rises_linearly_to_the_peak_and_rests_at_zero():
    target = membrane_target(100, 75, 55.0)
    assert target.shape == (100,)
    for t in range(100):
        expected = 55.0 * t / 75 if t <= 75 else 0.0
        assert target[t].item() == pytest.approx(expected, rel=1e-6)
    assert target.argmax() == 75


@pytest.mark.parametrize("step", [-1, 0, 20, 21])
def test_a_target_step_outside_the_window_is_refused(step):
    with pytest.raises(InvalidValueError, match=rf"^target_step must be .*19.*target_step={step}$"):
        membrane_target(20, step, 1.0)
    with pytest.raises(InvalidValueError, match="target_step"):
        load_temporal_coding(seed=0, num_steps=20, peak=1.0, target_step=step)


@pytest.mark.parametrize("step", [1, 19])
def test_the_first_and_last_possible_target_steps_work(step):
    assert membrane_target(20, step, 2.0)[step] == 2.0


def load(seed=0, **options):
    return load_temporal_coding(seed=seed, num_steps=100, peak=55.0, **options)


def test_the_pattern_is_fixed_by_the_seed():
    torch.manual_seed(1)
    first = load(seed=3).train
    torch.manual_seed(2)
    second = load(seed=3).train
    assert torch.equal(first.input, second.input)
    assert not torch.equal(first.input, load(seed=4).train.input)


def test_the_pattern_does_not_touch_the_global_generator():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load()
    assert torch.equal(torch.rand(3), expected)


def test_the_pattern_is_of_zeros_and_ones_at_a_rate_near_one_half():
    pattern = load().train.input
    assert pattern.shape == (100, 100)
    assert set(pattern.unique().tolist()) == {0.0, 1.0}
    assert abs(pattern.mean().item() - 0.5) < 0.03  # six standard deviations of 10,000 draws
    # One probability per input and step: neither inputs nor steps differ beyond chance.
    assert pattern.mean(0).std() < 0.1
    assert pattern.mean(1).std() < 0.1


@pytest.mark.parametrize("batch", [1, 3])
def test_a_batch_repeats_the_one_sample(batch):
    dataset = load(inputs=7, iterations=11)
    assert (len(dataset.train), dataset.input_shape, dataset.static) == (11, (7,), False)
    assert dataset.validation is None
    assert dataset.test is None
    assert dataset.num_classes is None
    inputs, targets = dataset.train[list(range(batch))]
    assert inputs.shape == (100, batch, 7)
    assert targets.shape == (100, batch, 1)
    for sample in range(batch):
        assert torch.equal(inputs[:, sample], dataset.train.input)
        assert torch.equal(targets[:, sample, 0], membrane_target(100, 75, 55.0))


@pytest.mark.parametrize(
    "options",
    [{}, {"peak": "high"}, {"peak": math.nan}, {"peak": 1.0, "iterations": 0}],
    ids=["no_peak", "peak_in_words", "peak_not_a_number", "no_iterations"],
)
def test_bad_options_are_refused_in_one_line(options):
    with pytest.raises(InvalidValueError, match="peak|iterations") as refusal:
        load_dataset(
            "temporal-coding",
            root=Path(),
            cache=Path(),
            seed=0,
            validation=0.0,
            num_steps=100,
            options=options,
        )
    assert "\n" not in str(refusal.value)


# A recorded run


INPUTS, HIDDEN, STEPS, ITERATIONS, TARGET = 12, 9, 30, 20, 22
# Decay and schedule are exact in float32, so that a run in float64 has the same.
BETA, SLOPE = 0.625, 0.5
THETA_0, THETA_INF, ALPHA = [1.5, 1.0], [2.5, 3.0], [0.0625, 0.125]
PEAK = 3.3

SETTINGS = {
    "network.notation": f"{INPUTS}Dense{HIDDEN}Dense1",
    "data.num_steps": STEPS,
    "data.options.inputs": INPUTS,
    "data.options.iterations": ITERATIONS,
    "data.options.target_step": TARGET,
    "data.options.peak": PEAK,
    "neuron.beta": BETA,
    "neuron.slope": SLOPE,
    "threshold.theta_0": THETA_0,
    "threshold.theta_inf": THETA_INF,
    "threshold.alpha": ALPHA,
    "optimizer.lr": 5e-3,
    "training.seed": 4,
}


def run(output, **changes):
    config = load_preset("temporal-coding", "tha").with_changes(SETTINGS | changes)
    return train(config, output=output, machine=Machine(device="cpu", threads=1), verbose=False)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """(summary, arrays) of one run."""
    result = run(tmp_path_factory.mktemp("recorded") / "run")
    with np.load(result.folder.recording) as file:
        return result.summary, dict(file)


def scalar_forward(pattern, latent, bias, thetas):
    """The two layers as loops over plain numbers: (membranes, spikes) of the output."""
    u = [[0.0] * HIDDEN, [0.0]]
    outputs = ([], [])
    for t in range(STEPS):
        inputs = [float(value) for value in pattern[t]]
        for layer, theta in enumerate(thetas):
            fired = []
            for j, before in enumerate(u[layer]):
                current = float(bias[layer][j])
                for i, value in enumerate(inputs):
                    current += sign(float(latent[layer][j, i])) * value
                u[layer][j] = BETA * before + current - (theta if before >= theta else 0.0)
                fired.append(1.0 if u[layer][j] >= theta else 0.0)
            inputs = fired
        outputs[0].append(u[1][0])
        outputs[1].append(fired[0])
    return outputs


def initial_weights(seed):
    """As published: binary layers start from a Glorot uniform draw, biases at zero."""
    torch.manual_seed(seed)
    latent = []
    for inputs, outputs in ((INPUTS, HIDDEN), (HIDDEN, 1)):
        bound = math.sqrt(1.5 / (inputs + outputs))
        latent.append(torch.empty(outputs, inputs).uniform_(-bound, bound))
    return latent, [torch.zeros(HIDDEN), torch.zeros(1)]


def input_pattern(seed):
    generator = torch.Generator().manual_seed(seed)
    probability = torch.rand(STEPS, INPUTS, generator=generator)
    return torch.bernoulli(probability, generator=generator)


def test_the_recording_has_every_array_in_its_shape(recorded):
    _, arrays = recorded
    assert {name: array.shape for name, array in arrays.items()} == {
        "membranes": (ITERATIONS, STEPS, 1, 1),
        "spikes": (ITERATIONS, STEPS, 1, 1),
        "thresholds": (ITERATIONS, 2),
        "loss": (ITERATIONS,),
        "target": (STEPS, 1, 1),
    }
    assert arrays["spikes"].dtype == np.uint8


def test_recorded_thresholds_follow_the_recurrence_from_theta_0(recorded):
    _, arrays = recorded
    for layer in range(2):
        expected = threshold_recurrence(
            ITERATIONS - 1, THETA_0[layer], THETA_INF[layer], ALPHA[layer]
        )
        np.testing.assert_allclose(arrays["thresholds"][:, layer], expected, rtol=1e-6)


def test_the_first_recorded_iteration_equals_an_independent_forward_pass(recorded):
    _, arrays = recorded
    membranes, spikes = scalar_forward(input_pattern(4), *initial_weights(4), THETA_0)
    assert 0 < sum(spikes) < STEPS
    np.testing.assert_allclose(arrays["membranes"][0, :, 0, 0], membranes, rtol=1e-5, atol=1e-5)
    assert arrays["spikes"][0, :, 0, 0].tolist() == spikes


def test_recorded_spikes_are_where_the_membrane_reaches_the_recorded_threshold(recorded):
    _, arrays = recorded
    reached = arrays["membranes"] >= arrays["thresholds"][:, -1].reshape(-1, 1, 1, 1)
    assert np.array_equal(arrays["spikes"], reached)
    assert arrays["spikes"].any()


def test_recorded_losses_and_target_fit_the_membranes(recorded):
    _, arrays = recorded
    ramp = [PEAK * t / TARGET if t <= TARGET else 0.0 for t in range(STEPS)]
    np.testing.assert_allclose(arrays["target"][:, 0, 0], ramp, rtol=1e-6)
    for iteration in range(ITERATIONS):
        errors = (arrays["membranes"][iteration, :, 0, 0].astype(np.float64) - ramp) ** 2
        assert arrays["loss"][iteration] == pytest.approx(errors.mean(), rel=1e-5)


def test_every_recorded_iteration_equals_a_step_by_step_training_loop(tmp_path):
    """SGD with momentum on latent weights, written out with torch's autograd only."""
    result = run(tmp_path / "run", **{"training.precision": "64-true"})
    with np.load(result.folder.recording) as file:
        arrays = dict(file)
    pattern, ramp = input_pattern(4).double(), torch.from_numpy(arrays["target"][:, 0, 0])
    parameters = [
        parameter.double().requires_grad_()
        for pair in zip(*initial_weights(4), strict=True)
        for parameter in pair
    ]
    velocity: list[torch.Tensor | None] = [None] * 4
    thetas = [
        threshold_recurrence(ITERATIONS, *values)
        for values in zip(THETA_0, THETA_INF, ALPHA, strict=True)
    ]
    for iteration in range(ITERATIONS):
        u = [torch.zeros(HIDDEN, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)]
        membranes = []
        for t in range(STEPS):
            z = pattern[t]
            for layer in range(2):
                w, b = parameters[2 * layer], parameters[2 * layer + 1]
                ones = torch.where(w >= 0, 1.0, -1.0).double()
                weight = ones.detach() + w - w.detach()
                theta = thetas[layer][iteration]
                reset = (u[layer].detach() >= theta).double() * theta
                u[layer] = BETA * u[layer] + weight @ z + b - reset
                # The integral of Eq. 8, clamped at θ0, lends the spike its gradient.
                distance = u[layer] - THETA_0[layer]
                smooth = distance / (1 + SLOPE * distance.abs())
                hard = (u[layer].detach() >= theta).double()
                z = hard + smooth - smooth.detach()
            membranes.append(u[1][0])
        trace = torch.stack(membranes)
        recorded_trace = torch.from_numpy(arrays["membranes"][iteration, :, 0, 0])
        torch.testing.assert_close(trace.detach(), recorded_trace, rtol=1e-8, atol=1e-8)
        gradients = torch.autograd.grad(((trace - ramp) ** 2).mean(), parameters)
        with torch.no_grad():
            for index, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
                before = velocity[index]
                velocity[index] = gradient if before is None else 0.9 * before + gradient
                parameter -= 5e-3 * velocity[index]


def test_the_timing_in_the_summary_is_that_of_the_arrays(recorded):
    summary, arrays = recorded
    hits = []
    for row in arrays["spikes"][:, :, 0, 0]:
        times = [t for t, fired in enumerate(row) if fired]
        hits.append(len(times) == 1 and abs(times[0] - TARGET) <= 2)
    assert summary["timing"] == {
        "target_step": TARGET,
        "tolerance": 2,
        "last": ITERATIONS,
        "share": sum(hits) / ITERATIONS,
        "first": hits.index(True) if any(hits) else None,
    }


def test_a_task_without_test_data_reports_training_only(recorded):
    summary, _ = recorded
    assert "test" not in summary
    assert "validation" not in summary
    assert summary["iterations"] == ITERATIONS
    assert summary["protocol"] == "no validation split: the last checkpoint is used"


def test_a_spike_count_loss_does_not_fit_the_task_and_says_so(tmp_path):
    with pytest.raises(InvalidValueError, match="spike_count") as refusal:
        run(tmp_path / "run", **{"loss.name": "spike_count"})
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()
