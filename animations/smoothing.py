"""Moving averages for traces."""

from __future__ import annotations

import numpy as np

from bsnn_tha.errors import InvalidValueError


def over_time(trace: np.ndarray, window: int) -> np.ndarray:
    """Centred moving average along the last axis; shorter windows at the ends.

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
    sums = np.concatenate([np.zeros((*trace.shape[:-1], 1)), trace.cumsum(-1)], axis=-1)
    steps = np.arange(time)
    start = np.maximum(steps - window // 2, 0)
    stop = np.minimum(steps - window // 2 + window, time)
    return (sums[..., stop] - sums[..., start]) / (stop - start)


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


def check_window(what: str, window: int) -> None:
    """Refuse windows without a length.

    Raises:
        InvalidValueError: a window below 1.
    """
    if window < 1:
        raise InvalidValueError(f"an average over {what} needs at least 1 of them, got {window}")
