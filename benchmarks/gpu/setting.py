"""What a stage is told, and what it gives."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]
"""A line of a stage's table: plain values, for JSON."""


@dataclass(frozen=True)
class Setting:
    """Where and how large a stage is.

    Attributes:
        device: ``"cuda"``, or ``"cpu"`` in a dry run.
        tiny: sizes that Triton's interpreter takes seconds for.
        data_root: folder of the data sets; None for the default.
        folder: where runs are kept.
        deadline: of the whole command, on :func:`time.time`'s clock.
    """

    device: str
    tiny: bool
    data_root: Path | None
    folder: Path
    deadline: float

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.time()

    def synchronize(self) -> None:
        """Wait for the device: its work is asynchronous, a clock is not."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def median_ms(self, work: Callable[[], object], seconds: float = 0.3) -> float:
        """Milliseconds of ``work``: the median of as many repetitions as fit, after two."""
        for _ in range(2):
            work()
        self.synchronize()
        found: list[float] = []
        while sum(found) < seconds * 1000 or len(found) < 3:
            start = time.perf_counter()
            work()
            self.synchronize()
            found.append(1000 * (time.perf_counter() - start))
            if self.tiny:
                break
        return sorted(found)[len(found) // 2]
