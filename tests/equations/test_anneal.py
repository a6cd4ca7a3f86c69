"""Threshold annealing: the closed form against the recurrence it solves (Eq. 4)."""

from __future__ import annotations

import math
import re

import pytest
import torch
from reference import threshold_recurrence

from bsnn_tha.equations.anneal import check_annealing, check_threshold, threshold_at
from bsnn_tha.errors import BsnnThaError, InvalidValueError

SCHEDULES = {
    "shd_output": (11.20, 51.12, 1.36e-5),
    "mnist_output": (0.6656, 4.1616, 0.0011),
    "temporal_coding": (5.0, 50.0, 5e-3),
    "dvs_output": (6.81, 16.465, 0.173),
    "wide": (1.0, 1000.0, 0.5),
    "at_once": (5.0, 50.0, 1.0),
}
STEPS = 10_000

schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


@schedules
def test_floats_equal_the_recurrence(schedule):
    expected = threshold_recurrence(STEPS, *schedule)
    actual = [threshold_at(step, *schedule) for step in range(STEPS + 1)]
    assert all(isinstance(theta, float) for theta in actual)
    # The recurrence rounds 10,000 times; the closed form does not.
    assert actual == pytest.approx(expected, rel=1e-11)


@schedules
def test_float32_tensors_equal_the_recurrence(schedule):
    # The recurrence runs in double precision from the float32 values.
    parameters = [torch.tensor(value) for value in schedule]
    expected = threshold_recurrence(STEPS, *(value.item() for value in parameters))
    actual = threshold_at(torch.arange(STEPS + 1), *parameters)
    assert actual.dtype == torch.float32
    # Four units in the last place.
    torch.testing.assert_close(
        actual.double(), torch.tensor(expected, dtype=torch.float64), rtol=5e-7, atol=0
    )


def test_a_plain_power_in_float32_would_miss_that_tolerance():
    theta_0, theta_inf, alpha = (torch.tensor(value) for value in SCHEDULES["shd_output"])
    power = theta_inf - (theta_inf - theta_0) * (1 - alpha) ** STEPS
    exact = threshold_at(STEPS, theta_0.item(), theta_inf.item(), alpha.item())
    assert abs(power.item() / exact - 1) > 1e-5


@schedules
def test_float64_tensors_equal_floats(schedule):
    parameters = [torch.tensor(value, dtype=torch.float64) for value in schedule]
    steps = torch.tensor([0, 1, 7, 1000])
    expected = [threshold_at(step, *schedule) for step in steps.tolist()]
    actual = threshold_at(steps, *parameters)
    assert actual.tolist() == pytest.approx(expected, rel=1e-14)


@schedules
def test_step_0_is_theta_0_exactly(schedule):
    assert threshold_at(0, *schedule) == schedule[0]
    parameters = [torch.tensor(value) for value in schedule]
    assert torch.equal(threshold_at(torch.tensor(0), *parameters), parameters[0])


@schedules
def test_rises_and_never_passes_theta_inf(schedule):
    _, theta_inf, _ = schedule
    parameters = [torch.tensor(value) for value in schedule]
    thresholds = threshold_at(torch.arange(STEPS + 1), *parameters)
    assert bool((thresholds.diff() >= 0).all())
    assert bool((thresholds <= parameters[1]).all())
    assert threshold_at(10**9, *schedule) == pytest.approx(theta_inf, rel=1e-12)


def test_alpha_1_arrives_in_one_step():
    assert threshold_at(1, 5.0, 50.0, 1.0) == 50.0
    five, fifty, one = torch.tensor(5.0), torch.tensor(50.0), torch.tensor(1.0)
    assert threshold_at(torch.arange(3), five, fifty, one).tolist() == [5.0, 50.0, 50.0]


def test_hand_computed_first_steps():
    # 1, 1 + (3 - 1) / 4 = 1.5, 1.5 + (3 - 1.5) / 4 = 1.875
    thresholds = [threshold_at(step, 1.0, 3.0, 0.25) for step in range(3)]
    assert thresholds == pytest.approx([1.0, 1.5, 1.875], rel=1e-15)


def test_equal_thresholds_and_alpha_0_stand_for_a_fixed_threshold():
    assert threshold_at(1234, 1.7, 1.7, 0.0) == 1.7
    theta = torch.tensor(1.7)
    assert torch.equal(threshold_at(torch.tensor(1234), theta, theta, torch.tensor(0.0)), theta)


def test_tensors_broadcast():
    layers = torch.tensor([[11.7, 16.0, 2.4e-2], [14.1, 30.4, 0.12], [0.7, 4.2, 1.1e-3]])
    actual = threshold_at(torch.tensor([[0], [10]]), *layers.unbind(1))
    expected = [[threshold_at(step, *layer) for layer in layers.tolist()] for step in (0, 10)]
    torch.testing.assert_close(actual, torch.tensor(expected))


def test_the_right_schedules_pass():
    for schedule in SCHEDULES.values():
        check_annealing(*schedule)
    check_annealing(1, 2, 1)
    check_threshold(1e-3)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ((5.0, 50.0, 1.5), "alpha must be in (0, 1], but got alpha=1.5"),
        ((5.0, 50.0, 0.0), "alpha must be in (0, 1], but got alpha=0"),
        ((5.0, 50.0, -0.1), "alpha must be in (0, 1], but got alpha=-0.1"),
        ((5.0, 50.0, math.nan), "alpha must be in (0, 1], but got alpha=nan"),
        (
            (5.0, 5.0, 0.1),
            "theta_inf must be greater than theta_0=5, but got theta_inf=5; "
            "for a fixed threshold leave out theta_inf and alpha",
        ),
        (
            (5.0, 2.5, 0.1),
            "theta_inf must be greater than theta_0=5, but got theta_inf=2.5; "
            "for a fixed threshold leave out theta_inf and alpha",
        ),
        (
            (5.0, math.inf, 0.1),
            "theta_inf must be greater than theta_0=5, but got theta_inf=inf; "
            "for a fixed threshold leave out theta_inf and alpha",
        ),
        (
            (5.0, math.nan, 0.1),
            "theta_inf must be greater than theta_0=5, but got theta_inf=nan; "
            "for a fixed threshold leave out theta_inf and alpha",
        ),
        ((0.0, 50.0, 0.1), "theta_0 must be a finite number above 0, but got theta_0=0"),
        ((-1.0, 50.0, 0.1), "theta_0 must be a finite number above 0, but got theta_0=-1"),
        ((math.nan, 50.0, 0.1), "theta_0 must be a finite number above 0, but got theta_0=nan"),
        ((math.inf, 50.0, 0.1), "theta_0 must be a finite number above 0, but got theta_0=inf"),
    ],
)
def test_broken_rules_are_named(schedule, message):
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$") as raised:
        check_annealing(*schedule)
    assert isinstance(raised.value, BsnnThaError) and isinstance(raised.value, ValueError)


@pytest.mark.parametrize("theta_0", [0.0, -2.0, math.nan, math.inf])
def test_a_fixed_threshold_must_be_positive_and_finite(theta_0):
    message = f"theta_0 must be a finite number above 0, but got theta_0={theta_0:g}"
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$"):
        check_threshold(theta_0)
