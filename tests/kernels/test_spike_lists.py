"""Spikes of a window as lists."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.events import events_of

ANY = 1 << 40


def plainly(input):
    """Starts and columns, one value after the other."""
    starts, columns = [0], []
    for row in input.double().flatten(0, 1).tolist():
        for column, count in enumerate(row):
            columns += [column] * int(count)
        starts.append(len(columns))
    return starts, columns


@given(
    steps=st.integers(0, 4),
    batch=st.integers(0, 3),
    width=st.sampled_from([1, 63, 64, 65, 128, 700]),
    share=st.sampled_from([0.0, 0.03, 1.0]),
    most=st.sampled_from([1, 3, 100]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    threads=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_every_spike_in_its_place(steps, batch, width, share, most, dtype, threads, seed):
    generator = torch.Generator().manual_seed(seed)
    shape = steps, batch, width
    fired = torch.rand(shape, generator=generator) < share
    input = (fired * torch.randint(1, most + 1, shape, generator=generator)).to(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "EVENTS_THREAD", 1)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        found = events_of(input, ANY, ANY)
    assert (found.starts.tolist(), found.columns.tolist()) == plainly(input)


@pytest.mark.parametrize("place", [0, 63, 64, 69])
@pytest.mark.parametrize("value", [0.5, -1.0, 101.0, 1e30, math.inf, -math.inf, math.nan])
def test_other_values_have_no_list(value, place):
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        input = torch.zeros(2, 3, 70, dtype=dtype)
        input[1, 1, 2] = 1
        assert events_of(input, ANY, ANY) is not None
        input[1, 1, place] = value
        assert events_of(input, ANY, ANY) is None


def test_minus_zero_is_no_spike():
    for dtype in (torch.float32, torch.bfloat16):
        assert events_of(torch.full((1, 1, 70), -0.0, dtype=dtype), ANY, ANY).columns.numel() == 0


def test_more_than_allowed_have_no_list():
    input = torch.zeros(2, 2, 70)
    input[0, 0, :3] = 2
    input[1, 1, 69] = 1
    assert events_of(input, 7, 6) is not None
    assert events_of(input, 6, 6) is None
    assert events_of(input, 7, 5) is None
