"""SAWB against the best clips of known distributions, and quantized layers with it."""

from __future__ import annotations

import copy
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats
from torch import nn

from bsnn_tha import SpikingNetwork
from bsnn_tha.equations.binarize import Binary
from bsnn_tha.equations.quantizers import choose_quantizer
from bsnn_tha.equations.sawb import COEFFICIENTS, SAWB, sawb_clip
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.weights.quantized import QuantizedConv2d, QuantizedLinear
from bsnn_tha.observe.metrics import weight_bits

ALL_BITS = range(2, 9)
SHAPES = {
    "gaussian": stats.norm(),
    "uniform": stats.uniform(-1, 2),
    "laplace": stats.laplace(),
    "logistic": stats.logistic(),
    "triangle": stats.triang(0.5, -1, 2),
    "von_mises": stats.vonmises(4.0),
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def nearest_level(w, clip, bits):
    """By trying all of them; the upper one of two equally near."""
    levels = [clip * (2 * k / (2**bits - 1) - 1) for k in range(2**bits)]
    return min(reversed(levels), key=lambda level: abs(level - w))


class Positive:
    """The positive half of a symmetric distribution, on a grid."""

    def __init__(self, shape, points=20_001):
        self.x = np.linspace(0, min(shape.ppf(1 - 1e-12), 40.0), points)
        density = shape.pdf(self.x)
        self.density = density / np.trapezoid(density, self.x)
        self.magnitude = self.mean(self.x)
        self.rms = math.sqrt(self.mean(self.x**2))

    def mean(self, values):
        return float(np.trapezoid(values * self.density, self.x))

    def error(self, clip, bits):
        """E[(q(w) − w)²] with levels at odd multiples of half a step."""
        half = clip / (2**bits - 1)
        odd = 2 * np.clip(np.floor(self.x / (2 * half)), 0, 2 ** (bits - 1) - 1) + 1
        return self.mean((odd * half - self.x) ** 2)

    def best_clip(self, bits):
        grid = np.linspace(0.5 * self.rms, min(1.05 * self.x[-1], 8 * self.rms), 100)
        place = int(np.argmin([self.error(clip, bits) for clip in grid]))
        low, high = grid[max(0, place - 1)], grid[min(99, place + 1)]
        found = optimize.minimize_scalar(
            lambda clip: self.error(clip, bits), bounds=(low, high), method="bounded"
        )
        return float(found.x)


# The clip


@pytest.mark.parametrize("bits", ALL_BITS)
def test_the_coefficients_are_those_of_the_best_clips_of_six_shapes(bits):
    shapes = [Positive(shape) for shape in SHAPES.values()]
    ratios = [shape.rms / shape.magnitude for shape in shapes]
    best = [shape.best_clip(bits) / shape.magnitude for shape in shapes]
    slope, offset = np.polyfit(ratios, best, 1)
    # Fitted here at 6 and 7 bits, as published elsewhere.
    tolerance = 0.002 if bits in (6, 7) else 0.065
    assert COEFFICIENTS[bits] == pytest.approx((slope, -offset), rel=tolerance)


# Max (1960), "Quantizing for minimum distortion", Table II: spacing of the best equally
# spaced levels for a Gaussian of variance 1. The outermost of N is (N − 1) / 2 spacings out.
MAX_SPACING = {2: 0.9957, 3: 0.5860, 4: 0.3352, 5: 0.1881}


@pytest.mark.parametrize("bits", MAX_SPACING)
def test_the_reference_finds_the_published_optimum_for_gaussian_weights(bits):
    best = (2**bits - 1) / 2 * MAX_SPACING[bits]
    assert Positive(stats.norm()).best_clip(bits) == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_gaussian_weights(bits):
    # E|w| = σ √(2/π), so that α* = (c1 − c2 √(2/π)) σ.
    c1, c2 = COEFFICIENTS[bits]
    closed_form = 0.02 * (c1 - c2 * math.sqrt(2 / math.pi))
    weight = 0.02 * torch.randn(400, 500, dtype=torch.float64)
    assert sawb_clip(weight, bits).item() == pytest.approx(closed_form, rel=0.03)
    gaussian = Positive(stats.norm())
    error = (SAWB(bits)(weight) - weight).square().mean().item() / 0.02**2
    assert error < 1.1 * gaussian.error(gaussian.best_clip(bits), bits)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_the_clip_scales_with_the_weights(bits):
    weight = torch.randn(50, 50)
    torch.testing.assert_close(sawb_clip(4 * weight, bits), 4 * sawb_clip(weight, bits))


@pytest.mark.parametrize("bits", ALL_BITS)
def test_equal_magnitudes_are_kept(bits):
    # The line's own clip would be 0.6 of them at 3 bits, and negative from 4 bits on.
    weight = 0.3 * torch.randn(20).sign()
    torch.testing.assert_close(SAWB(bits)(weight), weight, rtol=0.06 if bits == 2 else 1e-6, atol=0)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_weights_that_are_all_zero_stay_near_zero(bits):
    quantized = SAWB(bits)(torch.zeros(3, 4))
    assert bool((quantized.abs() < 1e-30).all())


# Levels and gradient


@given(
    weights=st.lists(st.floats(-3, 3, width=32), min_size=2, max_size=20),
    bits=st.sampled_from(ALL_BITS),
)
def test_weights_go_to_the_nearest_level(weights, bits):
    weight = torch.tensor(weights, dtype=torch.float64)
    clip = sawb_clip(weight, bits).item()
    if clip < 1e-6:
        return
    expected = [nearest_level(w, clip, bits) for w in weights]
    actual = SAWB(bits)(weight).tolist()
    step = 2 * clip / (2**bits - 1)
    for w, a, e in zip(weights, actual, expected, strict=True):
        # Midway between two levels, rounding decides.
        tie = math.isclose(abs(a - e), step, rel_tol=1e-6) and math.isclose(
            abs(a - w), abs(e - w), rel_tol=1e-6
        )
        assert tie or a == pytest.approx(e, abs=1e-9 * clip)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_there_are_as_many_levels_as_the_bits_tell_apart(bits):
    levels = SAWB(bits)(torch.randn(200_000, dtype=torch.float64)).unique()
    assert len(levels) == 2**bits
    steps = levels.diff()
    torch.testing.assert_close(steps, steps[:1].expand_as(steps))
    torch.testing.assert_close(levels, -levels.flip(0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_gradient_passes_inside_the_clip_only(dtype):
    weight = torch.randn(40, 30, dtype=dtype, requires_grad=True)
    quantized = SAWB(2)(weight)
    upstream = torch.randn_like(quantized)
    quantized.backward(upstream)
    inside = weight.detach().abs() <= sawb_clip(weight, 2)
    assert 0.8 < inside.double().mean() < 0.95
    assert torch.equal(weight.grad, torch.where(inside, upstream, torch.zeros_like(upstream)))
    assert quantized.dtype == dtype


# By name


def test_choice_by_name():
    assert choose_quantizer("float") is None
    assert choose_quantizer("binary") == Binary()
    assert choose_quantizer("sawb") == SAWB(4)
    assert [choose_quantizer("sawb", bits) for bits in ALL_BITS] == [SAWB(b) for b in ALL_BITS]


@pytest.mark.parametrize(
    ("weights", "bits", "message"),
    [
        (
            "ternary",
            None,
            "unknown weights 'ternary'; did you mean 'binary'? Yours is given as module:Class",
        ),
        ("sawb", 9, "weight_bits must be a whole number from 2 to 8, but got weight_bits=9"),
        (
            "sawb",
            1,
            "weight_bits must be a whole number from 2 to 8, but got weight_bits=1; "
            "for one bit choose weights='binary'",
        ),
        (
            "float",
            4,
            "weights 'float' has no setting 'weight_bits'; it takes none",
        ),
    ],
)
def test_bad_choices(weights, bits, message):
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$"):
        choose_quantizer(weights, bits)


# Layers and networks


@pytest.mark.parametrize(
    ("plain", "kind", "shape"),
    [
        (nn.Linear(6, 40), QuantizedLinear, (3, 6)),
        (nn.Conv2d(2, 8, 3, stride=2, padding=1, bias=False), QuantizedConv2d, (3, 2, 5, 5)),
    ],
    ids=["linear", "conv"],
)
def test_layers_compute_with_the_quantized_weights(plain, kind, shape):
    layer = kind.from_float(plain, quantizer=SAWB(3))
    reference = copy.deepcopy(plain)
    with torch.no_grad():
        reference.weight.copy_(SAWB(3)(plain.weight))
    input = torch.randn(shape)
    assert torch.equal(layer.latent_weight, plain.weight)
    assert torch.equal(layer(input), reference(input))
    assert torch.equal(layer.to_float()(input), reference(input))
    assert len(layer.weight.unique()) <= 8


@pytest.mark.parametrize(("weights", "bits"), [("binary", 1), ("sawb", 2), ("sawb", 8)])
def test_weight_bits_are_the_quantizers(weights, bits):
    network = SpikingNetwork(
        "4C3-6", (1, 5, 5), beta=0.9, weights=weights, weight_bits=bits if bits > 1 else None
    )
    # 4 · 9 and 36 · 6 weights; batch norm's 2 · 4 and six biases at 32 bits.
    assert weight_bits(network) == ((36 + 216) * bits, 32 * 14)


def test_a_network_with_sawb_learns():
    network = SpikingNetwork(
        "20-2", (5,), beta=0.5, theta_0=0.5, slope=1.0, weights="sawb", init="pytorch"
    )
    inputs, wanted = torch.rand(6, 8, 5).round(), torch.randint(2, (8,))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(network(inputs).spikes.sum(0), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
