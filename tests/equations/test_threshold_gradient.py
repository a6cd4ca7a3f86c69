"""Which part of a spike's gradient reaches θ: windows by formula, and LT-SNN's Eq. 9 to 11."""

from __future__ import annotations

import math
import pickle
import re

import pytest
import torch
from reference import PENALTY_WINDOWS, threshold_factor

from bsnn_tha import ThresholdGradient
from bsnn_tha.equations.lif import fire
from bsnn_tha.equations.surrogate import Triangle
from bsnn_tha.equations.threshold_gradient import SHARED, WINDOWS
from bsnn_tha.errors import InvalidValueError

windows = pytest.mark.parametrize("window", WINDOWS)
fired = pytest.mark.parametrize("fired_only", [False, True], ids=["all", "fired_only"])


def float64(values):
    return torch.tensor(values, dtype=torch.float64)


@windows
@fired
def test_is_the_formula(window, fired_only):
    distances = [0.0, 1e-9, -1e-9, 0.3, -0.3, 0.5, -0.5, 0.51, 1.0, -1.0, 1.01, 7.0, -30.0]
    actual = ThresholdGradient(window, fired_only)(float64(distances))
    expected = [threshold_factor(x, 0.0, window, fired_only) for x in distances]
    assert actual.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-15)


@windows
@fired
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_is_in_0_to_1_and_keeps_dtype_and_argument(window, fired_only, dtype):
    distance = torch.tensor([[-math.inf, -2.0, -0.0], [0.7, 2.0, math.inf]], dtype=dtype)
    before = distance.clone()
    factor = ThresholdGradient(window, fired_only)(distance)
    assert factor.dtype == dtype and factor.shape == distance.shape
    assert bool(((factor >= 0) & (factor <= 1)).all())
    assert torch.equal(distance, before)


@pytest.mark.parametrize("window", [window for window in WINDOWS if window != "none"])
@fired
def test_nan_stays_nan(window, fired_only):
    assert ThresholdGradient(window, fired_only)(torch.tensor([math.nan])).isnan().all()


def test_separate_path_by_hand():
    # Eq. 9 to 11 at u − θ = −½, 0, ½ and 2: not fired, at θ, fired, fired off the triangle.
    membrane = float64([1.5, 2.0, 2.5, 4.0]).requires_grad_()
    theta = float64(2.0).requires_grad_()
    spikes = fire(membrane, theta, theta, Triangle(), ThresholdGradient("sigmoid", fired_only=True))
    assert spikes.tolist() == [0, 1, 1, 1]
    upstream = float64([10.0, 2.0, -3.0, 5.0])
    to_membrane, to_theta = torch.autograd.grad(spikes, (membrane, theta), upstream)
    assert to_membrane.tolist() == [5, 2, -1.5, 0]  # Eq. 8: no window, no restriction
    expected = -(2.0 * 1.0 * 0.5 - 3.0 * 0.5 / (1 + math.exp(-0.5)))
    assert to_theta.item() == pytest.approx(expected, rel=1e-12)


def test_the_shared_path_is_minus_the_surrogate():
    membrane, theta = float64([1.5, 2.0, 2.25]), float64([2.0] * 3).requires_grad_()
    for arguments in ((), (SHARED,), (ThresholdGradient(),)):
        spikes = fire(membrane, theta, theta, Triangle(), *arguments)
        assert torch.autograd.grad(spikes.sum(), theta)[0].tolist() == [-0.5, -1, -0.75]


def test_unknown_window():
    names = "none, sigmoid, arctan, triangle, piecewise"
    message = f"window must be one of {names}, but got 'tanh'"
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$"):
        ThresholdGradient("tanh")


def test_frozen_comparable_and_pickles():
    separate = ThresholdGradient("sigmoid", fired_only=True)
    assert pickle.loads(pickle.dumps(separate)) == separate
    assert separate != ThresholdGradient("sigmoid") and ThresholdGradient() == SHARED
    assert len({separate, ThresholdGradient("sigmoid", True), SHARED}) == 2
    with pytest.raises(AttributeError):
        separate.window = "none"


def test_the_references_windows_are_all():
    assert set(PENALTY_WINDOWS) == set(WINDOWS)
