"""Which boxes count: the protocols of evaluation that are in use on Gen1, and disagree.

===========  ===========  ================  =============  =====================================
name         skipped      least diagonal    least side     from
===========  ===========  ================  =============  =====================================
``all``      nothing      0                 0              all boxes
``rvt``      first 0.5 s  30 pixels         10 pixels      the toolbox's README; RVT
``psee``     first 0.1 s  30 pixels         20 pixels      the toolbox's ``psee_evaluator.py``
``cordone``  nothing      30 pixels         20 pixels      Cordone et al. (2022)
===========  ===========  ================  =============  =====================================

Detections are filtered as the true boxes are, and frames left without a true box do not count.
Pixels are those of the sensor, 304 × 240 on Gen1. LT-SNN does not say which it used: a result
here names its protocol, and on Gen1 all are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from bsnn_tha.detection.boxes import Detections
from bsnn_tha.detection.precision import Frame, Precision, average_precision


@dataclass(frozen=True)
class Protocol:
    """Boxes that count.

    Args:
        skip_s: frames before it, in seconds from the recording's start, are left out.
        least_diagonal: of a box, in pixels; smaller ones are left out.
        least_side: of a box, width and height alike.

    Example:
        >>> import torch
        >>> PROTOCOLS["psee"].counts(torch.tensor([[0.0, 0, 40, 15], [0.0, 0, 25, 25]])).tolist()
        [False, True]
    """

    skip_s: float = 0.0
    least_diagonal: float = 0.0
    least_side: float = 0.0

    def counts(self, boxes: Tensor) -> Tensor:
        """Whether each of ``[boxes, 4 or more]`` counts, in pixels."""
        sides = boxes[:, 2:4]
        return (sides.square().sum(-1) >= self.least_diagonal**2) & (
            sides.amin(-1) >= self.least_side
        )

    def filtered(self, frames: Sequence[Frame], times: Sequence[float]) -> list[Frame]:
        """Frames that count, with the boxes that do.

        Args:
            frames: in pixels.
            times: of each, in seconds from its recording's start.
        """
        chosen = []
        for frame, time in zip(frames, times, strict=True):
            if time < self.skip_s:
                continue
            seen = self.counts(frame.found.boxes)
            found = Detections(*(values[seen] for values in frame.found))
            chosen.append(Frame(frame.truths[self.counts(frame.truths)], found))
        return chosen

    def measure(
        self, frames: Sequence[Frame], times: Sequence[float], class_names: Sequence[str]
    ) -> Precision:
        """Average precision over the boxes that count."""
        return average_precision(self.filtered(frames, times), class_names)


PROTOCOLS: dict[str, Protocol] = {
    "all": Protocol(),
    "rvt": Protocol(skip_s=0.5, least_diagonal=30, least_side=10),
    "psee": Protocol(skip_s=0.1, least_diagonal=30, least_side=20),
    "cordone": Protocol(least_diagonal=30, least_side=20),
}
"""By the name that results give."""
