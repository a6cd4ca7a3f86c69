"""Binary weights: the sign, with +1 at zero, and an unclipped straight-through gradient."""

from __future__ import annotations

import math

import pytest
import torch
from reference import sign

from bsnn_tha import binarize

dtypes = pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16]
)


@dtypes
def test_signs(dtype):
    latent = torch.tensor([-2.0, -1e-3, -0.0, 0.0, 1e-3, 2.0], dtype=dtype)
    binary = binarize(latent)
    assert binary.tolist() == [-1.0, -1.0, 1.0, 1.0, 1.0, 1.0]
    assert binary.dtype == dtype


def test_one_bit_for_each_weight_of_any_shape():
    torch.manual_seed(0)
    latent = torch.randn(4, 3, 5, 5).round(decimals=1)  # some are exactly zero
    assert bool((latent == 0).any())
    expected = [sign(w) for w in latent.flatten().tolist()]
    assert binarize(latent).shape == latent.shape
    assert binarize(latent).flatten().tolist() == expected


def test_the_extremes_have_a_sign():
    tiny = torch.finfo(torch.float32).smallest_normal
    latent = torch.tensor([-math.inf, -tiny, tiny, math.inf, math.nan])
    assert binarize(latent).tolist() == [-1.0, -1.0, 1.0, 1.0, -1.0]


@dtypes
def test_gradient_is_the_identity_and_not_clipped(dtype):
    latent = torch.tensor([-30.0, -1.5, -0.2, 0.0, 0.7, 1.01, 50.0], dtype=dtype)
    latent.requires_grad_()
    upstream = torch.tensor([0.5, -2.0, 3.0, 4.0, -5.0, 6.0, 700.0], dtype=dtype)
    binarize(latent).backward(upstream)
    assert torch.equal(latent.grad, upstream)


def test_gradient_is_that_of_the_loss_at_the_signs():
    # d/db (b - 3)^2 = 2 (b - 3): -8 at b = -1 and -4 at b = +1, whatever |w|.
    latent = torch.tensor([-0.1, -9.0, 0.1, 9.0], requires_grad=True)
    (binarize(latent) - 3).square().sum().backward()
    assert latent.grad.tolist() == [-8.0, -8.0, -4.0, -4.0]


def test_leaves_the_latent_weights_alone_and_returns_a_new_tensor():
    latent = torch.ones(3)
    binarize(latent).zero_()
    assert latent.tolist() == [1.0, 1.0, 1.0]


def test_works_without_grad_and_under_vmap_and_grad():
    latent = torch.tensor([[-0.5, 2.0], [0.0, -3.0]])
    with torch.no_grad():
        expected = binarize(latent)
    assert not expected.requires_grad
    assert torch.equal(torch.vmap(binarize)(latent), expected)
    gradient = torch.func.grad(lambda w: (binarize(w) * torch.tensor([2.0, 5.0])).sum())
    assert torch.func.vmap(gradient)(latent).tolist() == [[2.0, 5.0], [2.0, 5.0]]


def test_empty():
    assert binarize(torch.empty(0, 4)).shape == (0, 4)
