"""What a loaded data set holds, in figures, and what about it cannot be meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bsnn_tha.data.dataset import Dataset, Split
from bsnn_tha.data.event_batch import EventBatch

LOOKED_AT = 256
"""Samples of a split whose values are looked at."""
UNEQUAL = 10.0
"""Times as many samples of one class as of another, from which on it is said."""


@dataclass(frozen=True)
class SplitFacts:
    """One split in figures."""

    name: str
    samples: int
    per_class: list[int]
    low: float
    high: float
    mean: float
    active: float
    """Share of values that are not zero; of events, spikes per value and step."""


@dataclass(frozen=True)
class DataFacts:
    """A data set in figures."""

    splits: list[SplitFacts]
    notes: list[str]
    """What should be looked at, each with its way out."""


def inspect(dataset: Dataset) -> DataFacts:
    """Count, measure, and doubt.

    Example:
        >>> from pathlib import Path
        >>> from bsnn_tha.data.images import load_digits
        >>> facts = inspect(load_digits(Path(), validation=0.1, seed=0))
        >>> facts.splits[0].samples, facts.splits[0].high, facts.notes
        (1295, 1.0, [])
    """
    parts = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    present = [(name, split) for name, split in parts.items() if split is not None]
    splits = [_facts(name, split, dataset.num_classes) for name, split in present]
    return DataFacts(splits, [*_doubts(dataset, splits)])


def samples_of(split: Split, indices: list[int]) -> Tensor:
    """Inputs of some samples, ``[samples, ...]`` or ``[time, samples, ...]``, dense."""
    inputs, _ = split[indices]
    return inputs.dense() if isinstance(inputs, EventBatch) else inputs


def _facts(name: str, split: Split, classes: int | None) -> SplitFacts:
    step = max(1, len(split) // LOOKED_AT)
    values = samples_of(split, [*range(0, len(split), step)]).float()
    counts = [] if classes is None else torch.bincount(split.targets, minlength=classes).tolist()
    return SplitFacts(
        name,
        len(split),
        counts,
        values.min().item(),
        values.max().item(),
        values.mean().item(),
        (values != 0).float().mean().item(),
    )


def _doubts(dataset: Dataset, splits: list[SplitFacts]) -> Iterator[str]:
    train = splits[0]
    for facts in splits:
        missing = [_name(dataset, c) for c, count in enumerate(facts.per_class) if not count]
        if missing:
            yield f"{facts.name} has no sample of {', '.join(missing[:8])}: move or add some"
    counts = [count for count in train.per_class if count]
    if counts and max(counts) > UNEQUAL * min(counts):
        many, few = (_name(dataset, train.per_class.index(f(counts))) for f in (max, min))
        yield (
            f"classes are unequal: {max(counts):,} samples of {many}, {min(counts):,} of {few}; "
            "accuracy will mostly be about the former"
        )
    if train.low == train.high:
        yield f"all values looked at are {train.low:g}: nothing can be learned from them"
    elif dataset.static and (train.high > 4 or train.low < -4):
        yield (
            f"values go from {train.low:.3g} to {train.high:.3g}: a first layer of ±1 weights adds "
            "them up as they are; scale them to about [0, 1] (data.options.scale)"
        )
    for facts in splits[1:]:
        if train.mean and not 0.5 < facts.mean / train.mean < 2:
            yield (
                f"{facts.name} has a mean of {facts.mean:.3g}, training {train.mean:.3g}: are they "
                "stored in the same way?"
            )
    if not dataset.static and train.active < 1e-4:
        yield (
            f"only {train.active:.1e} of the values are spikes: wider bins (data.options.bin_ms), "
            "or fewer rows and columns (data.options.size), would show more to a network"
        )


def _name(dataset: Dataset, number: int) -> str:
    return dataset.class_names[number] if dataset.class_names else str(number)
