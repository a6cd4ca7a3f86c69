"""What windows see of recordings, and whether that can be meant.

A wrong unit of time raises no error by itself: with µs read as ms, a recording is a
thousand times too long and its window nearly empty; with ms read as µs, all of it lies in
the first bin. Both show in how many events lie in the windows, and where.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from bsnn_tha.data.binning import TIME_UNITS, unit_name
from bsnn_tha.data.event_split import EventSplit
from bsnn_tha.errors import DataError

LEAST_SHARE = 0.005
"""Of the events, in the windows: a unit wrong by a thousand leaves 0.001 or 0.002."""
LEAST_LENGTH = 0.02
"""Of the window, filled by half of the recordings."""


class Coverage(NamedTuple):
    """What windows see of recordings."""

    events: int
    """In all recordings."""
    seen: float
    """In their windows; the expected number where windows are drawn."""
    samples: int
    empty: int
    """Samples whose window has no event, wherever it is drawn."""

    @property
    def share(self) -> float:
        """Of the events, in the windows; 1 where there are none."""
        return self.seen / self.events if self.events else 1.0

    def __str__(self) -> str:
        empty = f", {self.empty:,} of {self.samples:,} samples empty" if self.empty else ""
        return f"{_percent(self.share)} of the events in the windows{empty}"


def together(parts: Iterable[Coverage]) -> Coverage:
    """What the windows of all parts see."""
    events, seen, samples, empty = zip(*parts, strict=True)
    return Coverage(sum(events), sum(seen), sum(samples), sum(empty))


def coverage(split: EventSplit, faster: int = 1) -> Coverage:
    """What the windows of a split see.

    Args:
        split: of which all samples count.
        faster: as if times were so many times smaller.
    """
    store, start = split.store, split.start * faster
    steps = split.num_steps * faster
    events = store.events_before(np.iinfo(np.int64).max)[split.samples]
    before = store.events_before(start)[split.samples]
    if split.random_start:
        after = events - before
        bins = store.lengths()[split.samples] - start
        seen = after * np.minimum(1.0, steps / np.maximum(1, bins))
        empty = after == 0
    else:
        seen = store.events_before(start + steps)[split.samples] - before
        empty = seen == 0
    return Coverage(int(events.sum()), float(seen.sum()), len(events), int(empty.sum()))


def check_coverage(split: EventSplit, where: str, microseconds: float, stated: bool) -> Coverage:
    """What the windows see, or an error if that cannot be meant.

    Args:
        split: of which all samples count.
        where: names it in error messages.
        microseconds: one unit of the recordings' times, as they were read.
        stated: the configuration names that unit, so it is not in doubt.

    Raises:
        DataError: all windows are empty; or, unless the unit is stated, nearly all events
            lie outside of them, or all at their very beginning.
    """
    seen = coverage(split)
    bins = split.store.lengths()[split.samples]
    window = f"windows of {where} ({split.num_steps} steps from bin {split.start} on)"
    unit = unit_name(microseconds)
    meant = f"set data.options.time_unit = '{unit}' if this is meant"
    if seen.empty == seen.samples:
        raise DataError(
            f"{window} must have events, but all {seen.samples:,} are empty, the longest recording "
            f"has {bins.max(initial=0):,} bins{'' if stated else _likely_unit(split, microseconds)}"
            "; change data.options.start_ms or bin_ms"
        )
    if stated:
        return seen
    if seen.share < LEAST_SHARE:
        raise DataError(
            f"{window} must have at least {_percent(LEAST_SHARE)} of its events, but have "
            f"{seen.seen:,.0f} of {seen.events:,}{_likely_unit(split, microseconds)}; change "
            f"data.options.start_ms or bin_ms, or {meant}"
        )
    half = float(np.median(bins[bins > 0]))
    if split.num_steps > 1 and half <= max(1, LEAST_LENGTH * split.num_steps):
        raise DataError(
            f"{window} must be filled to more than {_percent(LEAST_LENGTH)}, but half of the "
            f"recordings end by bin {half:g}: their times look like a larger unit than {unit}; "
            f"name it with data.options.time_unit, lower bin_ms, or {meant}"
        )
    return seen


def _likely_unit(split: EventSplit, microseconds: float) -> str:
    """Names the smaller unit that would put most events into the windows, if one would."""
    for factor in (1_000, 1_000_000):
        name = unit_name(microseconds / factor)
        if name in TIME_UNITS and coverage(split, factor).share >= 0.5:
            return (
                f": its times look like {name}, but are read as {unit_name(microseconds)}; "
                f"set data.options.time_unit = '{name}'"
            )
    return ""


def _percent(share: float) -> str:
    """100% only for all of it."""
    return f"{100 * share if share >= 1 else min(100 * share, 99.9):.3g}%"
