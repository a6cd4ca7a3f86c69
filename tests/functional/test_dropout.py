"""Dropout with masks made of a seed: their statistics, and nn.Dropout's arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from bsnn_tha.functional import dropout as module
from bsnn_tha.functional.dropout import draw_seed, dropout
from bsnn_tha.nn.dropout import SeededDropout

RATES = [0.0176, 0.186, 0.5, 0.9]


def kept_mask(p, seed, rows, columns):
    """The hash, written out in numpy on whole arrays."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, rows + 1, dtype=np.uint64) * np.uint64(
            0x9E3779B97F4A7C15
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
        low = (z & np.uint64(0xFFFFFFFF)).astype(np.uint32)[:, None]
        high = (z >> np.uint64(32)).astype(np.uint32)[:, None]
        h = np.arange(columns, dtype=np.uint32) ^ low
        h = ((h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D)) ^ high
        h = (h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B)
    return torch.from_numpy(h >= np.uint32(round(p * 2**32)))


@pytest.mark.parametrize("p", RATES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_what_is_kept_is_scaled_as_by_the_plain_one(p, dtype):
    torch.manual_seed(1)
    input, upstream = torch.randn(7, 33, 5).to(dtype), torch.randn(7, 33, 5).to(dtype)
    input[0, 0], input[1, 0] = math.inf, math.nan
    input.requires_grad_()
    seed = draw_seed()
    kept = kept_mask(p, int(seed), 7 * 33, 5).view(7, 33, 5)
    output = dropout(input, p, seed)
    (gradient,) = torch.autograd.grad(output, input, upstream)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    # The mask is divided first: that is how nn.Dropout rounds.
    factor = kept.to(wide).div(torch.tensor(1 - p, dtype=wide))
    for got, value in ((output, input), (gradient, upstream)):
        expected = (factor * value.detach().to(wide)).to(dtype)
        torch.testing.assert_close(got.detach(), expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("p", RATES)
def test_masks_are_as_good_as_independent(p):
    """Rates over all, per time step and per neuron; neighbours; other seeds."""
    rows, columns, deviation = 1500, 1200, math.sqrt(p * (1 - p))
    centred = [
        (dropout(torch.ones(rows, columns), p, torch.tensor(seed)) == 0).double() - p
        for seed in (0, 1, 1 << 40)
    ]
    drops = centred[0]

    def deviations(sum_of_products, count, order):
        """In standard deviations of what independent draws would give."""
        return sum_of_products / (math.sqrt(count) * deviation**order)

    assert abs(deviations(drops.sum(), rows * columns, 1)) < 5
    for dim, count in ((1, columns), (0, rows)):
        each = deviations(drops.sum(dim), count, 1)
        assert each.abs().max() < 5.5 and abs(each.std() - 1) < 0.1
    for lag in (1, 2, 3, 4, 8, 16, 32, 64, 128, 256):
        for pair in (drops[:, lag:] * drops[:, :-lag], drops[lag:] * drops[:-lag]):
            assert abs(deviations(pair.sum(), pair.numel(), 2)) < 5
    for other in centred[1:]:
        assert abs(deviations((drops * other).sum(), rows * columns, 2)) < 5
    # Any two time steps, any two neurons: no pair shares its mask.
    for matrix, count in ((drops, columns), (drops.t(), rows)):
        shared = deviations(matrix @ matrix.t(), count, 2).fill_diagonal_(0)
        assert shared.abs().max() < 0.5 * math.sqrt(count) and abs(shared.std() - 1) < 0.05


def test_the_seed_comes_from_the_generator():
    drop, input = SeededDropout(0.5), torch.ones(20, 30)
    torch.manual_seed(5)
    first, second = drop(input), drop(input)
    torch.manual_seed(5)
    assert torch.equal(drop(input), first) and torch.equal(drop(input), second)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("count", [1, 3])
def test_masks_do_not_depend_on_threads(count, monkeypatch):
    seed, input = torch.tensor(7), torch.ones(301, 500)
    expected = dropout(input, 0.3, seed)
    monkeypatch.setattr(torch, "get_num_threads", lambda: count)
    assert torch.equal(dropout(input, 0.3, seed), expected)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (5,), ()], ids=str)
def test_small_and_empty(shape):
    output = dropout(torch.ones(shape), 0.5, torch.tensor(3))
    assert output.shape == shape and set(output.flatten().tolist()) <= {0.0, 2.0}


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_all_or_nothing_is_the_plain_one(p):
    input = torch.randn(4, 3)
    assert torch.equal(SeededDropout(p)(input), nn.Dropout(p)(input))


def test_evaluation_leaves_the_input_alone():
    input = torch.randn(4, requires_grad=True)
    assert SeededDropout(0.5).eval()(input) is input


def test_only_a_seed_is_kept():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor
    ):
        SeededDropout(0.5)(torch.randn(40, requires_grad=True))
    assert [tensor.numel() for tensor in kept] == [1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_without_numba_it_is_the_same(dtype, monkeypatch):
    input, seed = torch.randn(9, 8, 30).to(dtype), draw_seed()
    expected = dropout(input, 0.4, seed)
    monkeypatch.setattr(module, "_compiled_masks", lambda: None)
    assert torch.equal(dropout(input, 0.4, seed), expected)


def test_the_operator_is_registered_rightly():
    arguments = torch.randn(4, 5, requires_grad=True), 0.3, torch.tensor(1)
    torch.library.opcheck(module._drop, arguments)


def test_compilers_take_it_whole():
    drop, input = SeededDropout(0.5), torch.ones(6, 7)
    compiled = torch.compile(drop, fullgraph=True, backend="aot_eager")
    torch.manual_seed(4)
    expected = drop(input)
    torch.manual_seed(4)
    assert torch.equal(compiled(input), expected)
