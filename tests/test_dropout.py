"""Dropout with a mask of bytes is nn.Dropout, to the last bit."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bsnn_tha.nn.dropout import ByteDropout


def run(module, input, upstream):
    torch.manual_seed(3)
    input = input.detach().requires_grad_()
    output = module(input)
    (gradient,) = torch.autograd.grad(output, input, upstream)
    return output.detach(), gradient, torch.rand(3)


@pytest.mark.parametrize("p", [0.0, 0.0176, 0.186, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_same_bits_as_the_plain_one(p, dtype):
    torch.manual_seed(1)
    input, upstream = torch.randn(7, 33, 5).to(dtype), torch.randn(7, 33, 5).to(dtype)
    input[0, 0], input[1, 0] = math.inf, math.nan
    for lay_out in (lambda x: x, lambda x: x.transpose(0, 1)):
        pair = [
            run(module, lay_out(input), lay_out(upstream))
            for module in (ByteDropout(p), nn.Dropout(p))
        ]
        for got, wanted in zip(*pair, strict=True):
            assert got.stride() == wanted.stride()
            torch.testing.assert_close(got, wanted, rtol=0, atol=0, equal_nan=True)


def test_evaluation_leaves_the_input_alone():
    input = torch.randn(4, requires_grad=True)
    assert ByteDropout(0.5).eval()(input) is input


def test_the_mask_is_kept_as_bytes():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor
    ):
        ByteDropout(0.5)(torch.randn(40, requires_grad=True))
    assert [tensor.dtype for tensor in kept] == [torch.bool]
