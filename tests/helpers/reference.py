"""The paper's equations as scalar loops over plain Python floats.

An oracle of its own: it imports nothing of bsnn_tha and nothing of torch, and
the gradients are propagated forward in time, one sensitivity per input, where
the product scans backward. Equation numbers are those of Eshraghian and Lu
(2022). Notation: u membrane potential, z spike, I input current, β decay,
θ threshold, c centre and k slope of the surrogate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple


def threshold_recurrence(steps: int, theta_0: float, theta_inf: float, alpha: float) -> list[float]:
    """θ[0] to θ[steps] by iterating Eq. 4."""
    thresholds = [theta_0]
    for _ in range(steps):
        theta = thresholds[-1]
        thresholds.append(theta + alpha * (theta_inf - theta))
    return thresholds


def spike(u: float, theta: float) -> float:
    """Eq. 2. A NaN does not fire."""
    return 1.0 if u >= theta else 0.0


def lif_forward(
    currents: Sequence[float],
    beta: float,
    theta: float,
    reset: str = "subtract",
    u0: float = 0.0,
) -> tuple[list[float], list[float]]:
    """One neuron over a window: (membranes, spikes) by Eq. 1 and 2."""
    membranes, spikes = [], []
    u = u0
    for current in currents:
        z = spike(u, theta)
        if reset == "subtract":
            u = beta * u + current - z * theta
        elif reset == "zero":
            u = beta * (0.0 if z else u) + current
        else:
            u = beta * u + current
        membranes.append(u)
        spikes.append(spike(u, theta))
    return membranes, spikes


def fast_sigmoid_derivative(u: float, centre: float, k: float, s: float = 1.0) -> float:
    """Eq. 8."""
    return s / (1.0 + k * math.fabs(centre - u)) ** 2


def fast_sigmoid_integral(u: float, centre: float, k: float) -> float:
    """The function of u whose derivative is Eq. 8."""
    return (u - centre) / (1.0 + k * math.fabs(u - centre))


def sigmoid_derivative(u: float, centre: float, k: float, s: float = 1.0) -> float:
    """σ′ of k (u − centre), by cosh, which cannot cancel."""
    return s * k / (2.0 * math.cosh(min(k * math.fabs(u - centre) / 2.0, 350.0))) ** 2


def arctan_derivative(u: float, centre: float, k: float, s: float = 1.0) -> float:
    """(1/π) arctan′ of π/2 k (u − centre)."""
    return s * k / 2.0 / (1.0 + (math.pi / 2.0 * k * (u - centre)) ** 2)


def exponential_derivative(u: float, centre: float, k: float, s: float = 1.0) -> float:
    """Takaghaj and Sampson, Eq. 2, with τ = 1/k."""
    tau = 1.0 / k
    return s / tau * math.exp(-math.fabs(u - centre) / tau)


def rectangle_derivative(u: float, centre: float, k: float, s: float = 1.0) -> float:
    """Wang, Cheng and Lim (2022), Eq. 4, on the scale of 1/k."""
    return s if math.fabs(u - centre) * k < 0.5 else 0.0


def triangle_derivative(u: float, centre: float, k: float, s: float = 1.0) -> float:
    """LT-SNN, Eq. 5, on the scale of 1/k."""
    return s * max(0.0, 1.0 - k * math.fabs(u - centre))


DERIVATIVES: dict[str, Callable[..., float]] = {
    "fast_sigmoid": fast_sigmoid_derivative,
    "sigmoid": sigmoid_derivative,
    "arctan": arctan_derivative,
    "exponential": exponential_derivative,
    "rectangle": rectangle_derivative,
    "triangle": triangle_derivative,
}

PENALTY_WINDOWS: dict[str, Callable[[float], float]] = {
    "none": lambda x: 1.0,
    "sigmoid": lambda x: 0.5 * (1.0 + math.tanh(x / 2.0)),  # LT-SNN, Eq. 10
    "arctan": lambda x: 0.5 + math.atan2(x, 1.0) / math.pi,
    "triangle": lambda x: max(0.0, 1.0 - math.fabs(x)),
    "piecewise": lambda x: min(max(x + 0.5, 0.0), 1.0),
}
"""p(x) of LT-SNN, Table 11; all but the sigmoid are the toolkit's own choice."""


def threshold_factor(u: float, theta: float, window: str, fired_only: bool) -> float:
    """What multiplies −s in ∂z/∂θ: LT-SNN, Eq. 9 and 11."""
    if fired_only and not spike(u, theta):
        return 0.0
    return PENALTY_WINDOWS[window](u - theta)


class LIFGradients(NamedTuple):
    """Derivatives of a loss with respect to everything a neuron gets."""

    currents: list[float]
    beta: float
    theta: float
    u0: float


def lif_backward(
    currents: Sequence[float],
    beta: float,
    theta: float,
    centre: float,
    k: float,
    gz: Sequence[float],
    gm: Sequence[float],
    reset: str = "subtract",
    u0: float = 0.0,
    surrogate: str = "fast_sigmoid",
    window: str = "none",
    fired_only: bool = False,
) -> LIFGradients:
    """Gradients of Σ gz[t] z[t] + gm[t] u[t], by the chain rule forward in time.

    For each input x the sensitivity du[t]/dx obeys

        du[t]/dx = β r[t] du[t−1]/dx + d[t],

    where r[t] is the part of u[t−1] that the (detached) reset leaves, and d[t]
    is how x enters step t itself. A spike then moves by s(u[t]) du[t]/dx, and
    with θ by −s(u[t]) times the factor of LT-SNN's separate path, or 1.
    """
    steps = range(len(currents))
    membranes, _ = lif_forward(currents, beta, theta, reset, u0)
    before = [u0, *membranes[:-1]]
    reset_spikes = [spike(u, theta) for u in before]
    left = [1.0 - z if reset == "zero" else 1.0 for z in reset_spikes]
    slopes = [DERIVATIVES[surrogate](u, centre, k) for u in membranes]
    factors = [threshold_factor(u, theta, window, fired_only) for u in membranes]

    def derivative(sensitivity: float, direct: Sequence[float]) -> float:
        total = 0.0
        for t in steps:
            sensitivity = beta * left[t] * sensitivity + direct[t]
            total += (gz[t] * slopes[t] + gm[t]) * sensitivity
        return total

    by_subtraction = [-z if reset == "subtract" else 0.0 for z in reset_spikes]
    return LIFGradients(
        currents=[derivative(0.0, [1.0 if t == s else 0.0 for t in steps]) for s in steps],
        beta=derivative(0.0, [left[t] * before[t] for t in steps]),
        theta=derivative(0.0, by_subtraction) - sum(gz[t] * slopes[t] * factors[t] for t in steps),
        u0=derivative(1.0, [0.0 for _ in steps]),
    )


def lif_smooth_gradients(
    currents: Sequence[float],
    beta: float,
    theta: float,
    centre: float,
    k: float,
    gz: Sequence[float],
    gm: Sequence[float],
    reset: str = "subtract",
    u0: float = 0.0,
) -> LIFGradients:
    """The gradients of :func:`lif_backward` by finite differences.

    The spikes in the loss are replaced by the integral of the surrogate; those
    in the reset are frozen at their hard values. What is left is a smooth
    function. A threshold that moves shifts the integral along with it.
    """
    membranes, _ = lif_forward(currents, beta, theta, reset, u0)
    frozen = [spike(u, theta) for u in (u0, *membranes[:-1])]

    def loss(currents: Sequence[float], beta: float, moved_theta: float, u0: float) -> float:
        total, u = 0.0, u0
        for t, current in enumerate(currents):
            left = 1.0 - frozen[t] if reset == "zero" else 1.0
            u = beta * left * u + current
            if reset == "subtract":
                u -= frozen[t] * moved_theta
            shifted = centre + (moved_theta - theta)
            total += gz[t] * fast_sigmoid_integral(u, shifted, k) + gm[t] * u
        return total

    def with_current(step: int) -> Callable[[float], float]:
        def moved(value: float) -> float:
            return loss([*currents[:step], value, *currents[step + 1 :]], beta, theta, u0)

        return moved

    return LIFGradients(
        currents=[
            central_difference(with_current(step), current) for step, current in enumerate(currents)
        ],
        beta=central_difference(lambda value: loss(currents, value, theta, u0), beta),
        theta=central_difference(lambda value: loss(currents, beta, value, u0), theta),
        u0=central_difference(lambda value: loss(currents, beta, theta, value), u0),
    )


def central_difference(function: Callable[[float], float], x: float, step: float = 1e-6) -> float:
    """(f(x + h) − f(x − h)) / 2h."""
    return (function(x + step) - function(x - step)) / (2.0 * step)


def sign(w: float) -> float:
    """The binary weight: sign(0) = +1."""
    return 1.0 if w >= 0 else -1.0


def binary_linear(
    inputs: Sequence[float],
    latent: Sequence[Sequence[float]],
    bias: Sequence[float] | None = None,
) -> list[float]:
    """Σ_i sign(w[o][i]) x[i] + b[o] for one sample."""
    outputs = []
    for o, row in enumerate(latent):
        total = 0.0 if bias is None else bias[o]
        for w, x in zip(row, inputs, strict=True):
            total += sign(w) * x
        outputs.append(total)
    return outputs


Maps = Sequence[Sequence[Sequence[float]]]


def binary_conv2d_avg_pool(
    image: Maps, latent: Sequence[Maps], pool: int = 1
) -> list[list[list[float]]]:
    """Convolve ``image[c][y][x]`` with signs of ``latent[o][c][y][x]``, then average.

    No padding, stride 1; pooling windows of pool × pool that do not overlap.
    """
    kernel = len(latent[0][0])
    height = len(image[0]) - kernel + 1
    width = len(image[0][0]) - kernel + 1
    outputs = []
    for filters in latent:
        full = [[0.0] * width for _ in range(height)]
        for y in range(height):
            for x in range(width):
                for channel, rows in enumerate(filters):
                    for dy in range(kernel):
                        for dx in range(kernel):
                            full[y][x] += sign(rows[dy][dx]) * image[channel][y + dy][x + dx]
        pooled = []
        for y in range(height // pool):
            pooled.append([])
            for x in range(width // pool):
                window = [
                    full[pool * y + dy][pool * x + dx] for dy in range(pool) for dx in range(pool)
                ]
                pooled[-1].append(sum(window) / len(window))
        outputs.append(pooled)
    return outputs
