"""Windows of event recordings: which bins they show, and as which frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from event_files import MemoryRecordings
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bsnn_tha.data.dataset import stratified_split
from bsnn_tha.data.event_batch import EventBatch
from bsnn_tha.data.event_cache import Binning, cached_events
from bsnn_tha.data.event_split import EventSplit

# --------------------------------------------------------------------- EventBatch


@st.composite
def batches(draw: st.DrawFn) -> tuple[EventBatch, list[list[list[int]]]]:
    """A batch, and the units of every bin of every sample."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    unit = st.integers(0, int(np.prod(shape)) - 1)
    size, steps = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    bins = st.lists(st.lists(unit, max_size=5), min_size=steps, max_size=steps)
    samples = draw(st.lists(bins, min_size=size, max_size=size))
    per_bin = torch.tensor([[len(units) for units in sample] for sample in samples])
    units = [unit for sample in samples for units in sample for unit in units]
    counted = draw(st.booleans())
    return EventBatch(per_bin, torch.tensor(units, dtype=torch.int32), shape, counted), samples


def frames_by_loops(samples: list[list[list[int]]], shape: Any, counted: bool) -> np.ndarray:
    frames = np.zeros((len(samples[0]), len(samples), int(np.prod(shape))), np.float32)
    for b, sample in enumerate(samples):
        for t, units in enumerate(sample):
            for unit in units:
                frames[t, b, unit] = frames[t, b, unit] + 1 if counted else 1
    return frames.reshape(len(samples[0]), len(samples), *shape)


@settings(max_examples=200, deadline=None)
@given(batches())
def test_dense_frames_are_those_of_plain_loops(case: Any) -> None:
    batch, samples = case
    frames = batch.dense()
    assert frames.dtype == torch.float32 and frames.is_contiguous()
    expected = frames_by_loops(samples, batch.shape, batch.counted)
    assert frames.shape == expected.shape and np.array_equal(frames.numpy(), expected)


def test_dense_without_events_is_silence() -> None:
    none = torch.zeros(0, dtype=torch.int32)
    for counted in (True, False):
        frames = EventBatch(torch.zeros(2, 5, dtype=torch.int64), none, (3, 4), counted).dense()
        assert frames.shape == (5, 2, 3, 4) and not frames.any()


def test_dense_leaves_the_batch_as_it_is() -> None:
    batch = EventBatch(torch.tensor([[2, 1]]), torch.tensor([1, 1, 0], dtype=torch.int32), (2,))
    assert torch.equal(batch.dense(), batch.dense())
    assert batch.units.tolist() == [1, 1, 0] and batch.per_bin.tolist() == [[2, 1]]


def test_to_moves_both_tensors_and_keeps_the_rest() -> None:
    units = torch.tensor([1], dtype=torch.int32)
    batch = EventBatch(torch.tensor([[1]]), units, (2,), counted=False)
    moved = batch.to("meta", non_blocking=True)
    assert moved.per_bin.device.type == moved.units.device.type == "meta"
    assert (moved.shape, moved.counted) == ((2,), False)
    assert batch.units.device.type == "cpu"
    assert torch.equal(batch.to(torch.device("cpu")).dense(), batch.dense())


# --------------------------------------------------------------------- EventSplit


LENGTHS = [12, 5, 0, 20, 8, 1]
"""Bins of each sample; unit and bin of an event tell where it comes from."""


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., EventSplit]:
    # In bin t of sample s: t % 3 + 1 events of unit t, and one of unit 20 + s.
    samples = []
    for sample, length in enumerate(LENGTHS):
        bins = np.arange(length).repeat(np.arange(length) % 3 + 1)
        times = np.concatenate([bins, np.arange(length)]) * 1000
        units = np.concatenate([bins, np.full(length, 20 + sample)])
        samples.append((times, units))
    recordings = MemoryRecordings(samples, labels=[0, 1, 2, 0, 1, 2], sensor=(26,))
    store = cached_events(recordings, "x", Binning(1000), 3, tmp_path_factory.mktemp("cache"))

    def make(num_steps: int, samples: Any = range(6), **options: Any) -> EventSplit:
        return EventSplit(store, np.array(samples), num_steps, **options)

    return make


def window_by_loops(sample: int, start: int, steps: int, counted: bool = True) -> np.ndarray:
    frames = np.zeros((steps, 26), np.float32)
    for t in range(steps):
        if start + t < LENGTHS[sample]:
            frames[t, start + t] = (start + t) % 3 + 1 if counted else 1
            frames[t, 20 + sample] += 1
    return frames


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("start", [0, 3, 7, 100])
@pytest.mark.parametrize("steps", [1, 5, 12, 30])
def test_a_window_is_cut_from_the_recording_or_followed_by_silence(
    split: Callable[..., EventSplit], steps: int, start: int, counted: bool
) -> None:
    part = split(steps, start=start, counted=counted)
    batch, targets = part[[3, 0, 2, 5, 0]]
    assert batch.per_bin.shape == (5, steps) and batch.per_bin.dtype == torch.int64
    assert batch.units.dtype == torch.int32 and targets.tolist() == [0, 0, 2, 2, 0]
    frames = batch.dense()
    assert frames.shape == (steps, 5, 26)
    for b, sample in enumerate([3, 0, 2, 5, 0]):
        # Beyond bin 19 a frame's unit t is none: samples have at most 20 bins.
        assert np.array_equal(frames[:, b], window_by_loops(sample, start, steps, counted))


def test_targets_and_select(split: Callable[..., EventSplit]) -> None:
    whole = split(4, [5, 3, 1, 0], start=2, counted=False, random_start=True)
    assert len(whole) == 4 and whole.targets.tolist() == [2, 0, 1, 0]
    assert whole.targets.dtype == torch.int64
    part = whole.select(torch.tensor([2, 0]))
    assert part.samples.tolist() == [1, 5] and part.targets.tolist() == [1, 2]
    assert (part.num_steps, part.start, part.counted, part.random_start) == (4, 2, False, True)
    assert torch.equal(part[[0]][0].dense(), split(4, start=2, counted=False)[[1]][0].dense())
    assert len(part.select(torch.tensor([], dtype=torch.int64))) == 0


def test_positions_beyond_the_split_are_an_error(split: Callable[..., EventSplit]) -> None:
    with pytest.raises(IndexError):
        split(4, [0, 1])[[2]]


def starts_of(part: EventSplit, position: int, draws: int) -> list[int]:
    """First bins of windows, told by the unit of their first frame."""
    found = []
    for _ in range(draws):
        frame = part[[position]][0].dense()[0, 0, :20]
        found.append(int(frame.nonzero().item()))
    return found


def test_random_starts_reach_every_window_within_the_recording(
    split: Callable[..., EventSplit],
) -> None:
    torch.manual_seed(0)
    # 12 bins, windows of 5, from bin 2 on: 2 to 7.
    found = starts_of(split(5, start=2, random_start=True), 0, 300)
    assert sorted(set(found)) == [2, 3, 4, 5, 6, 7]
    assert min(np.bincount(found)[2:]) > 20
    # One bin to spare.
    assert set(starts_of(split(11, random_start=True), 0, 40)) == {0, 1}


@pytest.mark.parametrize("steps", [12, 13, 40])
def test_windows_that_fill_the_recording_start_where_it_does(
    split: Callable[..., EventSplit], steps: int
) -> None:
    state = torch.random.get_rng_state()
    assert set(starts_of(split(steps, random_start=True), 0, 20)) == {0}
    assert torch.equal(torch.random.get_rng_state(), state)
    for empty in (2,):
        assert not split(steps, random_start=True)[[empty]][0].dense().any()


def test_random_starts_come_from_the_global_generator(split: Callable[..., EventSplit]) -> None:
    part, fixed = split(3, random_start=True), split(3)

    def draw(seed: int, of: EventSplit) -> Tensor:
        torch.manual_seed(seed)
        return of[[3, 3, 0, 3]][0].dense()

    assert torch.equal(draw(0, part), draw(0, part))
    assert not torch.equal(draw(0, part), draw(1, part))
    assert torch.equal(draw(0, fixed), draw(1, fixed))
    frames = draw(0, part)  # drawn for each sample of a batch on its own
    assert not torch.equal(frames[:, 0], frames[:, 1])


def test_a_stratified_part_keeps_every_class(tmp_path: Path) -> None:
    labels = np.repeat([0, 1, 2], [40, 20, 10])
    none = np.zeros(0, int)
    store = cached_events(
        MemoryRecordings([(none, none)] * 70, labels=labels), "x", Binning(1000), 3, tmp_path
    )
    whole = EventSplit(store, np.arange(70), 4)
    kept, held = (whole.select(part) for part in stratified_split(whole.targets, 0.2, seed=3))
    assert torch.bincount(held.targets).tolist() == [8, 4, 2]
    assert sorted([*kept.samples, *held.samples]) == list(range(70))


def test_no_samples_are_a_batch_of_none(split: Callable[..., EventSplit]) -> None:
    batch, targets = split(4)[[]]
    assert batch.dense().shape == (4, 0, 26) and len(targets) == 0
