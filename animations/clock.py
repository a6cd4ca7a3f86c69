"""Which recorded iteration a film's frame shows."""

from __future__ import annotations

import numpy as np

from bsnn_tha.errors import InvalidValueError

PACES = {"even": 1.0, "early": 2.0}
"""How iterations follow each other: evenly, or slowly at first, where thresholds move
most (the n-th frame of N shows the iteration at (n / N)² of all)."""


def iterations_of(recorded: int, frames: int, pace: str = "even") -> np.ndarray:
    """Indices of recorded iterations for so many frames, first and last included.

    Args:
        recorded: how many iterations there are.
        frames: how many are wanted; there are never more than iterations.
        pace: one of :data:`PACES`.

    Returns:
        ``[frames]``, ascending.

    Raises:
        InvalidValueError: fewer than one of either, or an unknown pace.

    >>> iterations_of(1000, 5).tolist()
    [0, 250, 500, 749, 999]
    >>> iterations_of(1000, 5, "early").tolist()
    [0, 62, 250, 562, 999]
    >>> iterations_of(3, 100).tolist()
    [0, 1, 2]
    """
    for what, number in (("frames", frames), ("recorded iterations", recorded)):
        if number < 1:
            raise InvalidValueError(f"{what} must be at least 1, but got {number}")
    if pace not in PACES:
        raise InvalidValueError(f"pace must be one of {', '.join(PACES)}, but got {pace!r}")
    share = np.linspace(0, 1, min(frames, recorded)) ** PACES[pace]
    # Early iterations can be closer to each other than the recorded ones.
    return np.unique((share * (recorded - 1)).round().astype(int))
