"""Predictions, activity, weight bits and spike timing against loops and hand counts."""

from __future__ import annotations

import itertools

import pytest
import torch
from reference import fast_sigmoid_derivative
from torch import nn

from bsnn_tha import AnnealedLeaky, BinaryConv2d, BinaryLinear, SpikingNetwork
from bsnn_tha.equations.counts import neuron_counts
from bsnn_tha.equations.surrogate import FastSigmoid
from bsnn_tha.observe.metrics import (
    ActivityMeter,
    SurrogateMeter,
    predict,
    spike_timing,
    surrogate_mass,
    weight_bits,
)

# Predictions


def test_predict_takes_the_class_with_the_most_spikes():
    spikes = torch.zeros(5, 3, 4)
    for sample, counts in enumerate(([1, 3, 2, 0], [0, 0, 0, 1], [5, 4, 4, 4])):
        for label, count in enumerate(counts):
            spikes[5 - count :, sample, label] = 1
    assert predict(spikes).tolist() == [1, 3, 0]


@pytest.mark.parametrize(
    ("counts", "winner"),
    [([0, 0, 0], 0), ([2, 2, 2], 0), ([1, 2, 2], 1), ([2, 1, 2], 0)],
    ids=["silent", "all_alike", "last_two", "first_and_last"],
)
def test_the_lowest_index_wins_a_tie(counts, winner):
    spikes = torch.zeros(4, 1, 3)
    for label, count in enumerate(counts):
        spikes[:count, 0, label] = 1
    assert predict(spikes).tolist() == [winner]
    assert predict(spikes).dtype == torch.int64


def test_predict_counts_half_precision_spikes_exactly():
    # bfloat16 has no 299: 300 and 299 spikes must still be told apart.
    spikes = torch.ones(300, 1, 2, dtype=torch.bfloat16)
    spikes[0, 0, 0] = 0
    assert predict(spikes).tolist() == [1]


# Activity


def activity_by_loop(windows):
    """(rate, dead share, saturated share, spikes per sample), spike by spike."""
    samples = presentations = 0
    neurons = list(itertools.product(*(range(size) for size in windows[0].shape[2:])))
    fired = dict.fromkeys(neurons, 0)
    for window in windows:
        samples += window.shape[1]
        for t, sample in itertools.product(range(window.shape[0]), range(window.shape[1])):
            presentations += 1
            for neuron in neurons:
                fired[neuron] += window[(t, sample, *neuron)] > 0
    fired = {neuron: int(count) for neuron, count in fired.items()}
    spikes = sum(fired.values())
    return (
        spikes / presentations / len(neurons),
        sum(count == 0 for count in fired.values()) / len(neurons),
        sum(count == presentations for count in fired.values()) / len(neurons),
        spikes / samples,
    )


def figures(activity):
    return activity.rate, activity.dead, activity.saturated, activity.spikes_per_sample


def make_windows(shape, batches, steps=4, seed=0):
    """Sparse spikes; the first neuron is dead, the last one always fires."""
    generator = torch.Generator().manual_seed(seed)
    windows = []
    for batch in batches:
        window = (torch.rand(steps, batch, *shape, generator=generator) < 0.05).float()
        flat = window.view(steps, batch, -1)
        flat[..., 0], flat[..., -1] = 0, 1
        windows.append(window)
    return windows


def meter_of(windows):
    meter = ActivityMeter(tuple(windows[0].shape[2:]))
    for window in windows:
        meter.update(window)
    return meter


@pytest.mark.parametrize("shape", [(7,), (2, 3, 4)], ids=["dense", "conv"])
@pytest.mark.parametrize("batches", [(3,), (4, 4), (5, 1, 2)], ids=str)
def test_activity_equals_the_loop(shape, batches):
    windows = make_windows(shape, batches)
    activity = meter_of(windows).compute()
    assert figures(activity) == pytest.approx(activity_by_loop(windows), rel=1e-12)
    assert activity.dead > 0
    assert activity.saturated > 0


def test_every_sample_weighs_alike_whatever_its_batch():
    windows = [torch.ones(2, 1, 3), torch.zeros(2, 3, 3)]
    assert meter_of(windows).compute().rate == pytest.approx(1 / 4)


def test_windows_of_different_lengths_count_their_own_steps():
    windows = [torch.ones(6, 1, 3), torch.zeros(2, 1, 3)]
    activity = meter_of(windows).compute()
    assert (activity.rate, activity.spikes_per_sample) == (6 / 8, 9)


def test_dead_means_no_spike_for_any_sample_at_any_step():
    first, second = torch.zeros(2, 6, 3, 4)
    first[5, 2, 0] = 1  # once, in one sample at one step, is enough
    second[0, 0, 1] = 1
    meter = ActivityMeter((4,))
    meter.update(first)
    assert meter.compute().dead == 0.75
    meter.update(second)
    assert meter.compute().dead == 0.5


def test_saturated_means_a_spike_for_every_sample_at_every_step():
    first, second = torch.ones(2, 6, 3, 4)
    first[5, 2, 0] = 0
    second[0, 0, 1] = 0
    meter = ActivityMeter((4,))
    meter.update(first)
    assert meter.compute().saturated == 0.75
    meter.update(second)
    assert meter.compute().saturated == 0.5


def test_chunks_of_a_window_are_one_window():
    (window,) = make_windows((5,), (3,), steps=7)
    meter = ActivityMeter((5,))
    for start in (0, 3, 6):
        meter.update(window[start : start + 3], continued=start > 0)
    assert figures(meter.compute()) == figures(meter_of([window]).compute())


def test_reset_forgets_everything():
    meter = meter_of(make_windows((5,), (4, 2), seed=1))
    meter.reset()
    window = torch.zeros(3, 2, 5)
    window[0, 0, 4] = 1
    meter.update(window)
    assert figures(meter.compute()) == pytest.approx((1 / 30, 0.8, 0.0, 0.5))


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_a_meter_that_saw_nothing_says_so_without_dividing_by_zero():
    assert figures(ActivityMeter((3,)).compute()) == (0.0, 1.0, 0.0, 0.0)


DTYPES = [torch.float32, torch.float64, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("autocast", [False, True])
def test_spikes_of_any_dtype_are_counted_exactly(dtype, autocast):
    # 3 × 301 = 903 has no bfloat16 of its own.
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        activity = meter_of([torch.ones(301, 3, 2, dtype=dtype)] * 2).compute()
    assert activity.counts.tolist() == [2 * 903] * 2
    assert figures(activity) == (1.0, 0.0, 1.0, 602.0)


def test_views_are_counted_as_what_they_show():
    window = (torch.rand(4, 6, 5) < 0.5).float()
    seen = neuron_counts(window.permute(1, 2, 0))
    assert seen.tolist() == window.sum((1, 2)).tolist()
    assert neuron_counts(torch.ones(2, 1, 3).expand(2, 5, 3)).tolist() == [10] * 3


@pytest.mark.parametrize("order", [(0, 1, 3, 4, 2), (1, 0, 2, 3, 4), (1, 3, 0, 4, 2)])
def test_neurons_are_counted_whatever_the_order_in_memory(order):
    """As channels last, with samples outermost, and with neither first."""
    spikes = (torch.rand(3, 4, 2, 5, 6) < 0.5).float()
    back = sorted(range(5), key=order.__getitem__)
    lying = spikes.permute(order).contiguous().permute(back)
    expected = [
        [[int(lying[:, :, c, y, x].sum()) for x in range(6)] for y in range(5)] for c in (0, 1)
    ]
    assert lying.equal(spikes) and neuron_counts(lying).tolist() == expected


def test_the_meter_keeps_no_graph():
    spikes = torch.ones(2, 2, 3, requires_grad=True)
    assert not meter_of([spikes]).counts.requires_grad


# Surrogate mass


def test_surrogate_mass_is_the_mean_over_neurons_samples_and_steps():
    generator = torch.Generator().manual_seed(0)
    batches = [2 * torch.rand(4, batch, 3, generator=generator) for batch in (5, 2)]
    meter = SurrogateMeter()
    for membranes in batches:
        meter.update(membranes, torch.tensor(0.7), FastSigmoid(slope=3.0))
    values = [u for membranes in batches for u in membranes.flatten().tolist()]
    masses = [fast_sigmoid_derivative(u, 0.7, 3.0) for u in values]
    assert meter.compute() == pytest.approx(sum(masses) / len(masses), rel=1e-5)
    meter.reset()
    meter.update(batches[1], torch.tensor(0.7), FastSigmoid(slope=3.0))
    assert meter.compute() == pytest.approx(sum(masses[60:]) / 24, rel=1e-5)


def test_surrogate_mass_of_half_precision_is_averaged_in_full():
    membranes = torch.ones(3, 500, 7, dtype=torch.bfloat16)
    membranes[0] = 1.5
    mass = surrogate_mass(membranes, torch.tensor(1.0), FastSigmoid(slope=2.0))
    assert mass.dtype == torch.float32
    assert mass.item() == pytest.approx((2 + 1 / 4) / 3, rel=1e-6)
    assert not surrogate_mass(
        torch.ones(1, 1, requires_grad=True), torch.tensor(1.0), FastSigmoid()
    ).requires_grad


# Weight bits


def test_weight_bits_of_the_mnist_network():
    network = SpikingNetwork(
        "16Conv5-AP2-64Conv5-AP2-1024Dense10", (1, 28, 28), beta=0.9, theta_0=1.0, slope=5.0
    )
    # Convolutions 16·1·5·5 and 64·16·5·5, the dense layer 1024·10, one bit each;
    # scale and shift of batch norm for 16 and 64 channels and ten biases at 32 bits.
    assert weight_bits(network) == (400 + 25_600 + 10_240, 32 * (2 * (16 + 64) + 10))


def test_weight_bits_of_the_shd_network():
    network = SpikingNetwork("700Dense3000Dense20", (700,), beta=0.9, theta_0=1.0, slope=5.0)
    # 2.16 Mbit as in the paper; biases of 3000 + 20 neurons.
    assert weight_bits(network) == (2_160_000, 32 * 3020)


def test_weight_bits_of_full_precision_networks():
    settings = {"beta": 0.9, "theta_0": 1.0, "slope": 5.0, "weights": "float"}
    network = SpikingNetwork("2C3-5", (1, 4, 4), **settings)
    parameters = 2 * 9 + 2 * 2 + 8 * 5 + 5
    assert weight_bits(network) == (0, 32 * parameters)
    assert weight_bits(network.double()) == (0, 64 * parameters)


def test_weight_bits_count_a_shared_layer_once_and_learned_values_in_full():
    linear = BinaryLinear(3, 3, bias=False)
    neuron = AnnealedLeaky(0.9, learn_beta=True, learn_threshold=True)
    network = nn.Sequential(linear, nn.Sequential(linear), BinaryConv2d(1, 2, 3), neuron)
    assert weight_bits(network) == (9 + 18, 32 * (2 + 2))


# Spike timing


def raster(*rows, steps=20):
    spikes = torch.zeros(len(rows), steps)
    for row, times in zip(spikes, rows, strict=True):
        row[list(times)] = 1
    return spikes


@pytest.mark.parametrize(
    ("times", "hit"),
    [
        ([10], True),
        ([8], True),
        ([12], True),
        ([7], False),
        ([13], False),
        ([10, 11], False),
        ([3, 10], False),
        ([], False),
    ],
    ids=str,
)
def test_one_spike_within_the_tolerance_is_a_hit(times, hit):
    timing = spike_timing(raster(times), target_step=10)
    assert timing == ((1.0, 0) if hit else (0.0, None))


@pytest.mark.parametrize("tolerance", [0, 1])
def test_the_tolerance_is_inclusive(tolerance):
    rows = raster([10], [10 + tolerance], [11 + tolerance], [9 - tolerance])
    assert spike_timing(rows, 10, tolerance) == (0.5, 0)


def test_silence_is_not_a_spike_at_step_zero():
    # argmax of an empty row is 0, which must not count for a target near 0.
    assert spike_timing(raster([], []), target_step=1) == (0.0, None)


def test_the_share_is_over_the_last_iterations_and_first_over_all():
    rows = raster([10], [], [9], [10], [1])
    assert spike_timing(rows, 10, last=2) == (0.5, 0)
    assert spike_timing(rows[1:], 10, last=3) == (pytest.approx(2 / 3), 1)
    assert spike_timing(rows, 10, last=1) == (0.0, 0)


def test_with_fewer_iterations_than_last_the_share_is_over_all():
    assert spike_timing(raster([10], [], [11], [2]), 10, last=300) == (0.5, 0)


def test_bytes_do_as_well_as_floats():
    rows = raster([10], [9, 10])
    assert spike_timing(rows.to(torch.uint8), 10) == spike_timing(rows, 10) == (0.5, 0)
