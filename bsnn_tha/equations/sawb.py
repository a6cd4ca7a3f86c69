r"""Statistics-aware weight binning: weights of 2 to 8 bits with a straight-through gradient.

Choi et al. (2019), "Accurate and efficient 2-bit quantized neural networks",
used by LT-SNN for its 4-bit networks. All weights of a layer share 2^b equally
spaced levels, symmetric about zero, of which the outermost are ±α*:

    q(w) = (⌊w / Δ⌋ + ½) Δ within ±α*,    Δ = 2 α* / (2^b − 1),
    α* = c1 √E[w²] − c2 E[|w|].

α* stands for the clip that minimises E[(q(w) − w)²]. The best clip depends on
the shape of the distribution, which the ratio of the two moments tells: c1 and
c2 are the line through the best clips of six shapes (Gaussian, uniform,
Laplace, logistic, triangle, von Mises), fitted by least squares in
α* / E[|w|] = c1 √E[w²] / E[|w|] − c2:

====  ==============  ============  ===========
bits  fitted here     published     used
====  ==============  ============  ===========
2     3.12, 2.07      3.12, 2.064   published
3     7.38, 6.72      7.509, 6.892  published
4     12.10, 12.06    12.68, 12.80  published
5     17.11, 17.79    17.74, 18.64  published
6     22.31, 23.79                  fitted here
7     27.63, 29.99                  fitted here
8     33.01, 36.32    31.76, 35.04  published
====  ==============  ============  ===========

What is published comes from its authors' code (FMS Model Optimizer). The fit
here weighs each shape once and takes κ = 4 for von Mises, with which it meets the
published pair for 2 bits; the others are up to 6% apart. For Gaussian weights the
best clips are 1.494 σ at 2 bits and 2.514 σ at 4, the published lines give
1.473 σ and 2.467 σ.

Weights of more equal magnitudes than the six shapes have would get too small a
clip from the line, even a negative one; α* is at least E[|w|], which is best
where all magnitudes are equal.

Gradient: straight through, and zero for weights beyond ±α*, as in the authors'
code (which calls a plain straight-through gradient SAWB+). LT-SNN does not say
which it uses. α* follows the weights and is a constant in the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from bsnn_tha.errors import InvalidValueError

COEFFICIENTS: dict[int, tuple[float, float]] = {
    2: (3.12, 2.064),
    3: (7.509, 6.892),
    4: (12.68, 12.80),
    5: (17.74, 18.64),
    6: (22.31, 23.79),
    7: (27.63, 29.99),
    8: (31.76, 35.04),
}
"""c1 and c2 by bits."""


def sawb_clip(weight: Tensor, bits: int) -> Tensor:
    """α*, the outermost level for weights with these moments.

    Args:
        weight: any shape and floating dtype.
        bits: b, 2 to 8.

    Returns:
        0-dimensional, detached.

    Example:
        >>> sawb_clip(torch.tensor([-3.0, -1.0, 1.0, 3.0]), bits=2)
        tensor(2.8485)
    """
    c1, c2 = COEFFICIENTS[bits]
    weight = weight.detach()
    magnitude = weight.abs().mean()
    return torch.maximum(c1 * weight.square().mean().sqrt() - c2 * magnitude, magnitude)


class _ToLevels(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(latent: Tensor, clip: Tensor, bits: int) -> Tensor:
        half = 1 << bits - 1
        # Weights that are all zero have no levels, but no NaN either.
        step = (2 * clip / (2 * half - 1)).clamp(min=torch.finfo(latent.dtype).tiny)
        return ((latent / step).floor().clamp(-half, half - 1) + 0.5) * step

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        latent, clip, _ = inputs
        ctx.save_for_backward(latent.abs() <= clip)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor | None, ...]:
        (inside,) = ctx.saved_tensors
        return grad[0] * inside, None, None


@dataclass(frozen=True)
class SAWB:
    """SAWB as a quantizer (:mod:`bsnn_tha.equations.quantizers`).

    Args:
        bits: of one weight, 2 to 8; 4 in LT-SNN's Table 4.

    Example:
        >>> weight = torch.tensor([-3.0, -1.0, 0.5, 3.0], requires_grad=True)
        >>> quantized = SAWB(bits=2)(weight)
        >>> [round(level, 3) for level in quantized.tolist()]
        [-2.974, -0.991, 0.991, 2.974]
        >>> quantized.sum().backward()
        >>> weight.grad
        tensor([0., 1., 1., 0.])
    """

    bits: int = 4

    def __post_init__(self) -> None:
        if self.bits not in COEFFICIENTS:
            raise InvalidValueError(
                f"weight_bits must be a whole number from 2 to 8, but got weight_bits={self.bits}"
                + ("; for one bit choose weights='binary'" if self.bits == 1 else "")
            )

    def __call__(self, latent: Tensor) -> Tensor:
        """Nearest levels, one set of them for the whole tensor."""
        return _ToLevels.apply(latent, sawb_clip(latent, self.bits), self.bits)
