"""Interleaved repetitions, and what is made of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

BASE = "ours"
VARIANTS = ("ours-bf16",)
"""Of ours as well: they are to be faster than ours, not slower."""
PAUSE = 0.1
"""Seconds between repetitions, in which threads of the one before stop to wait for work."""

Quartiles = list[float]
"""Lower quartile, median, upper quartile."""


def quartiles(values: Sequence[float]) -> Quartiles:
    """The three, of at least one value.

    Example:
        >>> quartiles([1.0, 2.0, 3.0, 4.0, 5.0])
        [2.0, 3.0, 4.0]
        >>> quartiles([7.0])
        [7.0, 7.0, 7.0]
    """
    if len(values) == 1:
        return [values[0]] * 3
    return statistics.quantiles(values, method="inclusive")


def ratios(seconds: Sequence[float], base: Sequence[float]) -> list[float]:
    """Round by round, how many times as long as ours.

    Example:
        >>> ratios([6.0, 8.0], [2.0, 2.0])
        [3.0, 4.0]
    """
    return [value / own for value, own in zip(seconds, base, strict=True)]


def interleave(
    peers: Sequence[str],
    repeats: int,
    repetition: Callable[[str], float],
    pause: float = PAUSE,
) -> dict[str, list[float]]:
    """Let the peers take turns, each round beginning with another one.

    Args:
        peers: their names.
        repeats: rounds.
        repetition: runs one of a peer and returns its seconds.
    """
    seconds: dict[str, list[float]] = {peer: [] for peer in peers}
    for turn in range(repeats):
        first = turn % len(peers)
        for peer in [*peers[first:], *peers[:first]]:
            time.sleep(pause)
            seconds[peer].append(repetition(peer))
    return seconds


def summary(seconds: dict[str, list[float]]) -> dict[str, dict[str, list[float]]]:
    """Per peer: all seconds, their quartiles and those of the ratio to ours.

    Example:
        >>> summary({"ours": [1.0, 2.0], "other": [3.0, 6.0]})["other"]["ratio"]
        [3.0, 3.0, 3.0]
    """
    found = {}
    for peer, values in seconds.items():
        found[peer] = {"all": values, "seconds": quartiles(values)}
        if BASE in seconds:
            found[peer]["ratio"] = quartiles(ratios(values, seconds[BASE]))
    return found
