"""The losses against scalar loops from Eq. 29 and 30, and against snnTorch's."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from snntorch.functional import mse_count_loss

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.losses import (
    CrossEntropyLoss,
    MeanMembraneLoss,
    MembraneLoss,
    SpikeCountLoss,
    TemporalEfficientLoss,
    mean_threshold,
    symmetric_divergence,
)
from bsnn_tha.nn.window import NetworkWindow


def make_spikes(steps, batch=3, outputs=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rates = torch.rand(batch, outputs, generator=generator)
    spikes = torch.rand(steps, batch, outputs, generator=generator) < rates
    return spikes.double()


def count_loss_by_loop(spikes, targets, correct, incorrect):
    """Eq. 30, then divided by batch, outputs and T."""
    steps, batch, outputs = spikes.shape
    total = 0.0
    for i, j in itertools.product(range(batch), range(outputs)):
        count = 0.0
        for t in range(steps):
            count += float(spikes[t, i, j])
        wanted = (correct if j == int(targets[i]) else incorrect) * steps
        total += (wanted - count) ** 2
    return total / (batch * outputs * steps)


@pytest.mark.parametrize("steps", [1, 7, 100])
@pytest.mark.parametrize("rates", [(0.8, 0.2), (1.0, 0.0), (0.37, 0.11)], ids=str)
def test_spike_count_loss_equals_the_loop(steps, rates):
    spikes, targets = make_spikes(steps), torch.tensor([2, 0, 3])
    loss = SpikeCountLoss(*rates)(NetworkWindow(spikes, None, ()), targets)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(count_loss_by_loop(spikes, targets, *rates), rel=1e-12)


def test_the_published_rates_are_the_default():
    spikes, targets = make_spikes(20), torch.tensor([1, 1, 0])
    loss = SpikeCountLoss()(NetworkWindow(spikes, None, ()), targets)
    assert loss.item() == pytest.approx(count_loss_by_loop(spikes, targets, 0.8, 0.2), rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_spike_count_loss_and_gradient_equal_snntorch_at_100_steps(seed):
    targets = torch.tensor([2, 0, 3])
    ours, theirs = (make_spikes(100, seed=seed).float().requires_grad_() for _ in range(2))
    loss = SpikeCountLoss()(NetworkWindow(ours, None, ()), targets)
    expected = mse_count_loss(correct_rate=0.8, incorrect_rate=0.2)(theirs, targets)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_spike_count_gradient_is_that_of_the_squared_error():
    spikes = make_spikes(10).requires_grad_()
    targets = torch.tensor([2, 0, 3])
    SpikeCountLoss(0.9, 0.3)(NetworkWindow(spikes, None, ()), targets).backward()
    counts = spikes.detach().sum(0)
    for i, j in itertools.product(range(3), range(4)):
        wanted = 10 * (0.9 if j == int(targets[i]) else 0.3)
        expected = 2 * (float(counts[i, j]) - wanted) / (3 * 4 * 10)
        for t in range(10):  # a spike counts alike at every step
            assert spikes.grad[t, i, j].item() == pytest.approx(expected, rel=1e-12)


def test_half_precision_spikes_are_counted_exactly():
    # bfloat16 has no 301; windows of 500 steps (SHD in full precision) pass 256.
    spikes = torch.zeros(500, 1, 2, dtype=torch.bfloat16)
    spikes[:301, 0, 0] = 1
    loss = SpikeCountLoss()(NetworkWindow(spikes, None, ()), torch.tensor([1]))
    expected = ((100 - 301) ** 2 + 400**2) / (2 * 500)
    assert loss.item() == pytest.approx(expected, rel=1e-3)


def test_a_perfect_output_costs_nothing():
    spikes = torch.zeros(10, 2, 3)
    for sample, right in enumerate((2, 0)):
        spikes[:2, sample] = 1.0
        spikes[:8, sample, right] = 1.0
    loss = SpikeCountLoss()(NetworkWindow(spikes, None, ()), torch.tensor([2, 0]))
    assert loss.item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_membrane_loss_equals_the_loop(reduction):
    generator = torch.Generator().manual_seed(0)
    membranes, targets = torch.randn(2, 6, 3, 2, generator=generator, dtype=torch.float64)
    total = 0.0
    for t, i, j in itertools.product(range(6), range(3), range(2)):
        total += (float(targets[t, i, j]) - float(membranes[t, i, j])) ** 2
    over_time = total / (3 * 2)
    window = NetworkWindow(torch.zeros_like(membranes), membranes, ())
    loss = MembraneLoss(reduction)(window, targets)
    assert loss.shape == ()
    expected = over_time if reduction == "sum" else over_time / 6
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("reduction", "scale"), [("mean", 2 / 24), ("sum", 2 / 6)])
def test_membrane_gradient_reaches_every_step(reduction, scale):
    membranes = torch.randn(4, 3, 2, dtype=torch.float64).requires_grad_()
    targets = torch.zeros(4, 3, 2, dtype=torch.float64)
    window = NetworkWindow(torch.zeros(4, 3, 2), membranes, ())
    MembraneLoss(reduction)(window, targets).backward()
    torch.testing.assert_close(membranes.grad, scale * membranes.detach())


def test_only_the_membrane_loss_asks_for_membranes():
    assert MembraneLoss.needs_membranes
    assert not SpikeCountLoss.needs_membranes


@pytest.mark.parametrize("name", ["correct_rate", "incorrect_rate"])
@pytest.mark.parametrize("rate", [-0.01, 1.01, float("nan")])
def test_a_rate_outside_0_to_1_is_refused(name, rate):
    with pytest.raises(InvalidValueError, match=rf"^{name} must be in \[0, 1\], but got {name}="):
        SpikeCountLoss(**{name: rate})


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_the_ends_of_the_range_are_allowed(rate):
    assert SpikeCountLoss(rate, rate).correct_rate == rate


def test_an_unknown_reduction_is_refused():
    with pytest.raises(InvalidValueError, match="reduction"):
        MembraneLoss("median")  # type: ignore[arg-type]


# The losses of LTMD and LT-SNN


def softmax(values):
    exponentials = [math.exp(value) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def test_tet_loss_equals_the_loop():
    """LT-SNN, Eq. 12: β mean_t CE(O(t), y) + (1 − β) mean_t MSE(O(t), Ω)."""
    spikes, targets, omega, beta = make_spikes(7), [2, 0, 3], 0.6, 0.45
    entropy = distance = 0.0
    for t in range(7):
        for i in range(3):
            outputs = spikes[t, i].tolist()
            entropy -= math.log(softmax(outputs)[targets[i]]) / (7 * 3)
            distance += sum((value - omega) ** 2 for value in outputs) / (7 * 3 * 4)
    loss = TemporalEfficientLoss(lambda: torch.tensor(omega, dtype=torch.float64))
    window = NetworkWindow(spikes, None, ())
    expected = beta * entropy + (1 - beta) * distance
    assert loss(window, torch.tensor(targets)).item() == pytest.approx(expected, rel=1e-6)
    assert torch.equal(loss.scores(window), spikes.mean(0))


def test_omega_is_the_mean_over_layers_and_gets_no_gradient():
    """Eq. 13, with thresholds per neuron averaged within their layer first."""
    layers = [torch.tensor(1.0, requires_grad=True), torch.tensor([2.0, 6.0], requires_grad=True)]
    omega = mean_threshold(layers)
    assert omega.item() == 2.5 and not omega.requires_grad


def test_mean_membrane_loss_equals_the_loop():
    membranes = torch.randn(5, 3, 4, dtype=torch.float64)
    targets, expected = [1, 3, 0], 0.0
    for i in range(3):
        means = [sum(membranes[t, i, j].item() for t in range(5)) / 5 for j in range(4)]
        expected -= math.log(softmax(means)[targets[i]]) / 3
    window = NetworkWindow(torch.zeros(5, 3, 4), membranes, ())
    loss = MeanMembraneLoss()
    assert loss(window, torch.tensor(targets)).item() == pytest.approx(expected, rel=1e-9)
    assert loss.needs_membranes
    with pytest.raises(ValueError, match="record=True"):
        loss.scores(NetworkWindow(torch.zeros(5, 3, 4), None, ()))


def test_symmetric_divergence_equals_the_sums():
    """LTMD, Eq. 11 both ways round, as Eq. 12 adds them."""
    p_scores, q_scores = torch.randn(2, 3, 4, dtype=torch.float64)
    expected = 0.0
    for p_row, q_row in zip(p_scores.tolist(), q_scores.tolist(), strict=True):
        p, q = softmax(p_row), softmax(q_row)
        expected += sum(
            a * math.log(a / b) + b * math.log(b / a) for a, b in zip(p, q, strict=True)
        )
    divergence = symmetric_divergence(p_scores, q_scores)
    assert divergence.item() == pytest.approx(expected / 3, rel=1e-9)
    torch.testing.assert_close(symmetric_divergence(q_scores, p_scores), divergence)


def test_tet_beta_must_be_a_share():
    with pytest.raises(InvalidValueError, match=r"beta must be in \[0, 1\], but got beta=1.5"):
        TemporalEfficientLoss(lambda: torch.tensor(1.0), beta=1.5)


# Cross-entropy and its readouts


@pytest.mark.parametrize("readout", ["spike_rate", "mean_membrane", "softmax_membrane"])
def test_cross_entropy_equals_the_loop(readout):
    torch.manual_seed(3)
    spikes = (torch.rand(5, 3, 4) < 0.4).double()
    membranes, targets = torch.randn(5, 3, 4, dtype=torch.float64), [2, 0, 3]
    temperature, smoothing = 0.7, 0.2
    expected, scores = 0.0, torch.zeros(3, 4, dtype=torch.float64)
    for sample, right in enumerate(targets):
        for step in range(5):
            potentials = [math.exp(u) for u in membranes[step, sample].tolist()]
            for j in range(4):
                scores[sample, j] += {
                    "spike_rate": spikes[step, sample, j].item() / 5,
                    "mean_membrane": membranes[step, sample, j].item() / 5,
                    "softmax_membrane": potentials[j] / sum(potentials),
                }[readout]
        weights = [math.exp(s / temperature) for s in scores[sample].tolist()]
        for j in range(4):
            wanted = smoothing / 4 + (1 - smoothing) * (j == right)
            expected -= wanted * math.log(weights[j] / sum(weights)) / 3
    loss = CrossEntropyLoss(readout, temperature, smoothing)
    window = NetworkWindow(spikes, membranes if loss.needs_membranes else None, ())
    torch.testing.assert_close(loss.scores(window), scores)
    assert loss(window, torch.tensor(targets)).item() == pytest.approx(expected, rel=1e-9)
    assert loss.needs_membranes is (readout != "spike_rate")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"readout": "spikes"}, "unknown readout .spikes.; did you mean .spike_rate."),
        ({"temperature": 0.0}, "temperature must be above 0, but got temperature=0"),
        ({"temperature": float("nan")}, "temperature must be above 0"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\)"),
    ],
)
def test_cross_entropy_refuses_values_outside_their_range(settings, message):
    with pytest.raises(InvalidValueError, match=message):
        CrossEntropyLoss(**settings)


# What may be given as targets and outputs

CLASSIFYING = {
    "spike_count": SpikeCountLoss(),
    "mean_membrane": MeanMembraneLoss(),
    "cross_entropy": CrossEntropyLoss(),
    "tet": TemporalEfficientLoss(lambda: torch.tensor(1.0)),
}


@pytest.mark.parametrize("name", CLASSIFYING)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_class_indices_may_be_of_any_whole_dtype(name, dtype):
    spikes, targets = make_spikes(6), torch.tensor([3, 0, 1])
    loss = CLASSIFYING[name]
    expected = loss(NetworkWindow(spikes, spikes * 2, ()), targets)
    assert torch.equal(loss(NetworkWindow(spikes, spikes * 2, ()), targets.to(dtype)), expected)
    if not loss.needs_membranes:
        whole = loss(NetworkWindow(spikes.to(torch.int16), None, ()), targets)
        assert whole.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("name", CLASSIFYING)
@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.eye(4)[:3], r"class indices \[batch\], but got shape \[3, 4\]; give one_hot.argmax"),
        (torch.tensor([1.0, 0.0, 2.0]), r"whole numbers, but got torch.float32; give targets.long"),
        ([1, 0, 2], r"must be a tensor, but got list"),
    ],
)
def test_targets_of_another_kind_are_refused_in_one_line(name, targets, message):
    spikes = make_spikes(6)
    with pytest.raises(InvalidValueError, match=message):
        CLASSIFYING[name](NetworkWindow(spikes, spikes, ()), targets)


def test_a_trace_of_whole_numbers_is_a_trace():
    window = NetworkWindow(torch.zeros(2, 1, 1), torch.tensor([1.0, 3.0]).view(2, 1, 1), ())
    assert MembraneLoss()(window, torch.zeros(2, 1, 1, dtype=torch.int16)) == 5.0
