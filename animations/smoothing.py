"""Moving averages for traces, and how far these reach."""

from __future__ import annotations

import numpy as np

from bsnn_tha.errors import InvalidValueError


def over_time(trace: np.ndarray, window: int) -> np.ndarray:
    """Centred moving average along the last axis; shorter windows at the ends.

    Where a window has NaN or infinity in it, its average is NaN.

    Args:
        trace: ``[..., time]``.
        window: time steps; 1 changes nothing.

    Raises:
        InvalidValueError: a window below 1.

    >>> over_time(np.array([0.0, 3.0, 0.0, 3.0]), 3).tolist()
    [1.5, 1.0, 2.0, 1.5]
    """
    check_window("time steps", window)
    time = trace.shape[-1]
    steps = np.arange(time)
    start = np.maximum(steps - window // 2, 0)
    stop = np.minimum(steps - window // 2 + window, time)

    def summed(values: np.ndarray) -> np.ndarray:
        sums = np.zeros((*trace.shape[:-1], time + 1))
        np.cumsum(values, axis=-1, out=sums[..., 1:])
        return sums[..., stop] - sums[..., start]

    known = np.isfinite(trace)
    average = summed(np.where(known, trace, 0)) / (stop - start)
    return np.where(summed(~known) > 0, np.nan, average)


def over_iterations(traces: np.ndarray, index: int, window: int) -> np.ndarray:
    """Mean of an iteration's trace and those before it, ``[time]``.

    Args:
        traces: ``[iterations, time]``.
        index: of the iteration.
        window: iterations, fewer where training began; 1 changes nothing.

    Raises:
        InvalidValueError: a window below 1.

    >>> over_iterations(np.array([[0.0], [2.0], [6.0]]), 2, 2).tolist()
    [4.0]
    """
    check_window("iterations", window)
    return traces[max(0, index + 1 - window) : index + 1].mean(0)


def bulk(values: np.ndarray, share: float = 100) -> tuple[float, float]:
    """The range of most values; NaN and infinity are none, and nothing reaches from 0 to 0.

    Args:
        values: any shape.
        share: in percent, of the values that are to be inside.

    >>> bulk(np.array([1.0, np.nan, 3.0, np.inf]))
    (1.0, 3.0)
    """
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 0.0
    low, high = np.percentile(known, [(100 - share) / 2, (100 + share) / 2])
    return float(low), float(high)


def check_window(what: str, window: int) -> None:
    """Refuse windows without a length.

    Raises:
        InvalidValueError: a window below 1.
    """
    if window < 1:
        raise InvalidValueError(f"an average over {what} needs at least 1 of them, got {window}")
