"""A batch of event samples: compact on its way to the device, dense on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass  # not frozen: Lightning sets the parts of a batch that it converts
class EventBatch:
    """Events of a batch, to be turned into ``[time, batch, *shape]`` by :meth:`dense`.

    Args:
        per_bin: events of each sample in each time step, ``[batch, time]``, int64.
        units: flattened sensor positions of all events, sample after sample,
            each in order of time, ``[events]``, int32.
        shape: of the sensor, e.g. ``(2, 32, 32)``.
        counted: several events of a unit in one step add up; otherwise they
            are one spike.

    Example:
        >>> batch = EventBatch(torch.tensor([[2, 0, 1]]), torch.tensor([3, 3, 0]), (4,))
        >>> batch.dense()[:, 0].tolist()
        [[0.0, 0.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]
    """

    per_bin: Tensor
    units: Tensor
    shape: tuple[int, ...]
    counted: bool = True

    def to(self, device: torch.device | str, non_blocking: bool = False) -> EventBatch:
        """The same batch on another device."""
        return replace(
            self,
            per_bin=self.per_bin.to(device, non_blocking=non_blocking),
            units=self.units.to(device, non_blocking=non_blocking),
        )

    def dense(self) -> Tensor:
        """Float32 frames ``[time, batch, *shape]``, on the batch's device."""
        batch, steps = self.per_bin.shape
        length = 1
        for size in self.shape:
            length *= size
        device = self.units.device
        # Row t · batch + b of the frames, for every (b, t), then for every event.
        rows = torch.arange(steps, device=device) * batch
        rows = rows + torch.arange(batch, device=device).unsqueeze(1)
        rows = rows.flatten().repeat_interleave(self.per_bin.flatten(), output_size=len(self.units))
        cells = rows.mul_(length).add_(self.units)
        frames = torch.zeros(steps * batch * length, device=device)
        ones = torch.ones((), device=device).expand(len(cells))
        if self.counted:
            # Sums of ones are exact, in whatever order they are added.
            frames.scatter_add_(0, cells, ones)
        else:
            frames.index_fill_(0, cells, 1.0)
        return frames.view(steps, batch, *self.shape)
