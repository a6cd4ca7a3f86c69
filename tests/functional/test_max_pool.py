"""Max pooling of windows beside each other: PyTorch's, to the last bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from bsnn_tha.functional import max_pool as module
from bsnn_tha.functional.max_pool import max_pool
from bsnn_tha.functional.running import running
from bsnn_tha.kernels import tuning


@pytest.fixture
def compiled(monkeypatch):
    """What PyTorch's own pooling is called with: nothing, if the compiled loop is taken."""
    called = []
    monkeypatch.setattr(module.F, "max_pool2d", lambda *a: called.append(a) or torch.zeros(()))
    return called


@given(
    samples=st.integers(1, 3),
    channels=st.integers(1, 5),
    height=st.integers(2, 17),
    width=st.integers(2, 19),
    pool=st.sampled_from([2, 3]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    threads=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_values_and_gradients_are_pytorchs(
    samples, channels, height, width, pool, dtype, threads, seed
):
    generator = torch.Generator().manual_seed(seed)
    # Few different values: most windows have several maxima, and which is taken shows.
    shape = samples, channels, max(height, pool), max(width, pool)
    maps = torch.randint(-2, 3, shape, generator=generator).to(dtype).requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "POOL_THREAD", 1)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        found = max_pool(maps, pool)
        assert "max_pool" in type(found.grad_fn).__name__  # the operator of this package
        upstream = torch.randn(found.shape, generator=generator, dtype=dtype)
        (gradient,) = torch.autograd.grad(found, maps, upstream)
    expected = F.max_pool2d(maps, pool)
    assert torch.equal(found, expected)
    assert torch.equal(gradient, torch.autograd.grad(expected, maps, upstream)[0])


def test_nan_and_infinity_are_pytorchs():
    nan, inf = float("nan"), float("inf")
    windows = [
        [nan, 1, 2, 3], [1, nan, 2, nan], [nan, 1, nan, 2], [0, nan, nan, 3], [nan, nan, 1, 0],
        [-inf] * 4, [-inf, -inf, -inf, 0],
        [inf, inf, 0, nan], [0.0, -0.0, 0.0, -0.0], [-0.0, 0.0, -0.0, 0.0],
    ]  # fmt: skip
    maps = torch.tensor(windows).view(1, 10, 2, 2).requires_grad_()
    found, expected = max_pool(maps, 2), F.max_pool2d(maps, 2)
    assert found.detach().view(torch.int32).equal(expected.detach().view(torch.int32))
    upstream = torch.arange(1.0, 11).view(1, 10, 1, 1)
    gradients = [torch.autograd.grad(pooled, maps, upstream)[0] for pooled in (found, expected)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize(
    "maps",
    [
        torch.ones(1, 4, 4, 4).to(memory_format=torch.channels_last),
        torch.ones(1, 2, 4, 4, dtype=torch.bfloat16),
        torch.ones(0, 2, 4, 4),
    ],
    ids=["channels innermost", "bfloat16", "no samples"],
)
def test_what_the_loop_does_not_take_is_left_to_pytorch(maps, compiled):
    max_pool(torch.ones(1, 2, 4, 4), 2)
    assert not compiled
    max_pool(maps, 2)
    assert len(compiled) == 1


def test_the_reference_and_transforms_are_left_to_pytorch():
    maps = torch.randn(2, 3, 4, 4)
    with running("reference"):
        own = maps.clone().requires_grad_()
        assert "MaxPool2D" in type(max_pool(own, 2).grad_fn).__name__
    jacobian = torch.func.vmap(torch.func.grad(lambda x: max_pool(x[None], 2).sum()))(maps)
    assert jacobian.sum((1, 2, 3)).tolist() == [12, 12]
    with pytest.raises(RuntimeError, match="too small|smaller"):
        max_pool(torch.ones(1, 1, 1, 1), 2)


def test_it_is_an_operator_that_compilers_can_take():
    maps = torch.randn(2, 3, 5, 6, requires_grad=True)
    torch.library.opcheck(module._pool, (maps, 2))
