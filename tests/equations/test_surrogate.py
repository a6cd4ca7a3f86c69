"""Surrogate gradients: Eq. 8 by hand, the others against integrals and snnTorch."""

from __future__ import annotations

import math
import pickle
import re

import pytest
import torch
from reference import DERIVATIVES, central_difference, fast_sigmoid_integral
from snntorch import surrogate as snn_surrogate

from bsnn_tha.equations.surrogate import (
    SURROGATES,
    ArcTan,
    Exponential,
    FastSigmoid,
    FromSnnTorch,
    Rectangle,
    Sigmoid,
    Triangle,
)
from bsnn_tha.errors import InvalidValueError

SHAPES = {
    **{name: shape(slope=3.0) for name, shape in SURROGATES.items()},
    "from_snntorch": FromSnnTorch(snn_surrogate.fast_sigmoid(slope=3.0)),
}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())


def float64(values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("slope", "centre", "membrane", "expected"),
    [
        (10.0, 1.0, 1.0, 1.0),
        (10.0, 1.0, 1.1, 1 / 4),
        (10.0, 1.0, 0.9, 1 / 4),
        (10.0, 1.0, 0.5, 1 / 36),
        (10.0, 1.0, 2.0, 1 / 121),
        (2.0, 5.0, 4.5, 1 / 4),
        (2.0, 5.0, -5.0, 1 / 441),
        (0.25, 11.2, 51.2, 1 / 121),
        (25.0, 1.0, 0.0, 1 / 676),
    ],
)
def test_fast_sigmoid_is_equation_8(slope, centre, membrane, expected):
    actual = FastSigmoid(slope)(float64([membrane]), float64(centre))
    assert actual.item() == pytest.approx(expected, rel=1e-12)


def test_defaults():
    assert FastSigmoid() == FastSigmoid(slope=25.0, scale=1.0)
    assert Sigmoid() == Sigmoid(slope=25.0, scale=1.0)
    assert ArcTan() == ArcTan(slope=2.0, scale=1.0)  # snnTorch's default alpha
    # The papers': τ = 3.75 and s = 1.5; |u − θ| < 0.5; 1 − |u − θ|.
    assert Exponential() == Exponential(slope=1 / 3.75, scale=1.5)
    assert Rectangle() == Rectangle(slope=1.0, scale=1.0)
    assert Triangle() == Triangle(slope=1.0, scale=1.0)


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize(("slope", "scale"), [(1.0, 1.0), (0.2, 1.5), (7.0, 0.3)])
def test_is_the_papers_formula(name, slope, scale):
    centre = 1.25
    # On the centre, on both edges of triangle and rectangle, beside and far off them.
    distances = [0.0, 0.5, 0.499, 0.501, 1.0, 0.999, 3.0, 600.0]
    membranes = [centre + side * d / slope for d in distances for side in (1, -1)]
    actual = SURROGATES[name](slope, scale)(float64(membranes), float64(centre))
    expected = [DERIVATIVES[name](u, centre, slope, scale) for u in membranes]
    assert actual.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (Exponential(), [0.4, 0.4 / math.e, 0.4 / math.e**2]),  # u − θ = 0, τ and 2τ
        (Rectangle(slope=1 / 7.5), [1.0, 0.0, 0.0]),  # τ is its edge, which is outside
        (Triangle(slope=1 / 7.5), [1.0, 0.5, 0.0]),
    ],
    ids=["exponential", "rectangle", "triangle"],
)
def test_hand_computed(shape, expected):
    actual = shape(float64([1.25, 5.0, 8.75]), float64(1.25))
    assert actual.tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_twice_the_scale_is_twice_every_bit(name, dtype):
    torch.manual_seed(0)
    membrane, centre = torch.randn(500, dtype=dtype), torch.tensor(0.3, dtype=dtype)
    once, twice = (SURROGATES[name](2.5, scale)(membrane, centre) for scale in (1.0, 2.0))
    assert torch.equal(twice, 2 * once)


INTEGRALS = {
    "fast_sigmoid": (FastSigmoid, fast_sigmoid_integral),
    "sigmoid": (Sigmoid, lambda u, c, k: 1 / (1 + math.exp(-k * (u - c)))),
    "arctan": (ArcTan, lambda u, c, k: math.atan(math.pi / 2 * k * (u - c)) / math.pi),
}


@pytest.mark.parametrize(("shape", "integral"), INTEGRALS.values(), ids=INTEGRALS.keys())
@pytest.mark.parametrize("slope", [0.2, 1.0, 7.0])
def test_is_the_derivative_of_its_integral(shape, integral, slope):
    centre = 1.3
    membranes = [-2.0, 0.0, 0.9, 1.31, 1.8, 6.0]
    expected = [
        central_difference(lambda u: integral(u, centre, slope), membrane) for membrane in membranes
    ]
    actual = shape(slope)(float64(membranes), float64(centre))
    assert actual.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-9)


SNNTORCH = {
    "fast_sigmoid": snn_surrogate.fast_sigmoid(slope=4.0),
    "sigmoid": snn_surrogate.sigmoid(slope=4.0),
    "atan": snn_surrogate.atan(alpha=3.0),
    "triangular": snn_surrogate.triangular(threshold=2.0),
    "straight_through": snn_surrogate.straight_through_estimator(),
    "spike_rate_escape": snn_surrogate.spike_rate_escape(beta=1, slope=4.0),
}


@pytest.mark.parametrize("spike_grad", SNNTORCH.values(), ids=SNNTORCH.keys())
@pytest.mark.parametrize("centre", [1.0, -0.5])
def test_from_snntorch_is_snntorchs_own_gradient(spike_grad, centre):
    membrane = torch.linspace(-3, 3, 21, requires_grad=True)
    spike_grad(membrane - centre).sum().backward()
    with torch.no_grad():  # as in a backward pass
        actual = FromSnnTorch(spike_grad)(membrane, torch.tensor(centre))
    assert torch.equal(actual, membrane.grad)
    assert not actual.requires_grad


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (FastSigmoid(4.0), snn_surrogate.fast_sigmoid(slope=4.0)),
        (Sigmoid(4.0), snn_surrogate.sigmoid(slope=4.0)),
        (ArcTan(3.0), snn_surrogate.atan(alpha=3.0)),
    ],
    ids=["fast_sigmoid", "sigmoid", "arctan"],
)
def test_shapes_equal_their_namesakes_in_snntorch(ours, theirs):
    membrane, centre = torch.linspace(-3, 5, 33, dtype=torch.float64), float64(1.25)
    torch.testing.assert_close(
        ours(membrane, centre), FromSnnTorch(theirs)(membrane, centre), rtol=1e-9, atol=1e-12
    )


@shapes
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_keeps_dtype_and_arguments_and_broadcasts_the_centre(shape, dtype):
    membrane = torch.tensor([[0.5, 2.0, -1.0], [1.0, 2.5, 0.0]], dtype=dtype)
    centre = torch.tensor([0.5, 2.0, 0.25], dtype=dtype)
    before = membrane.clone(), centre.clone()
    actual = shape(membrane, centre)
    assert actual.dtype == dtype and actual.shape == membrane.shape
    assert torch.equal(membrane, before[0]) and torch.equal(centre, before[1])
    peak = actual[0, 0]
    assert torch.equal(actual[0, :2], peak.expand(2)) and bool((actual[1] < peak).all())


@shapes
def test_a_full_precision_centre_does_not_promote_a_half_precision_membrane(shape):
    assert shape(torch.ones(3, dtype=torch.bfloat16), torch.tensor(1.5)).dtype == torch.bfloat16


@shapes
def test_nan_stays_nan(shape):
    assert shape(torch.tensor([math.nan]), torch.tensor(1.0)).isnan().all()


@shapes
def test_nothing_is_left_at_infinity(shape):
    far = torch.tensor([math.inf, -math.inf])
    assert shape(far, torch.tensor(1.0)).tolist() == [0, 0]


@pytest.mark.parametrize("shape", SURROGATES.values(), ids=SURROGATES.keys())
@pytest.mark.parametrize("field", ["slope", "scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_bad_slope_and_scale(shape, field, value):
    message = f"{field} must be a finite number above 0, but got {field}={value:g}"
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$"):
        shape(**{field: value})


@pytest.mark.parametrize("name", SURROGATES)
def test_named_shapes_are_frozen_comparable_and_pickle(name):
    shape = SURROGATES[name](slope=1.5, scale=0.5)
    assert pickle.loads(pickle.dumps(shape)) == shape
    assert hash(shape) == hash(SURROGATES[name](slope=1.5, scale=0.5))
    assert shape != SURROGATES[name](slope=1.6, scale=0.5)
    assert shape != SURROGATES[name](slope=1.5, scale=0.6)
    with pytest.raises(AttributeError):
        shape.slope = 2.0


def test_names_a_configuration_can_use():
    assert {
        "fast_sigmoid": FastSigmoid,
        "sigmoid": Sigmoid,
        "arctan": ArcTan,
        "exponential": Exponential,
        "rectangle": Rectangle,
        "triangle": Triangle,
    } == SURROGATES
