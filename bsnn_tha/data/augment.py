"""Changed copies of training samples, a batch at a time, on the device.

What is drawn comes from torch's generator, which every training epoch seeds
anew (:class:`bsnn_tha.training.seeding.EpochSeed`): a resumed run sees the same
copies. Samples of one batch are changed independently of each other; the time
steps of one sample are changed alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bsnn_tha.errors import InvalidValueError


@dataclass(frozen=True)
class Augmentation:
    """How the samples of a training batch are changed; nothing, as it stands.

    Args:
        shift: moves a sample by up to so many pixels along each axis, or so
            many channels where it has one axis; what moves in is 0.
        flip: mirrors left and right with probability ½.
        cutout: sets a square of so many pixels a side, at a random place and
            cut off at the borders, to 0 (DeVries and Taylor 2017).
        drop: share of the events (non-zero inputs) that are lost, in [0, 1).
        jitter: moves a window of events by up to so many time steps; what
            moves in is 0.
        mixup: a ≥ 0 of :class:`bsnn_tha.data.mixup.Mixup`, which the training step
            does, since labels take part in it.

    Raises:
        InvalidValueError: a size below 0, a share outside [0, 1), or an ``a`` that is
            no finite number of at least 0.

    Example:
        >>> augment = Augmentation(shift=1)
        >>> image = torch.zeros(1, 1, 3, 3)
        >>> image[0, 0, 1, 1] = 1.0
        >>> augment(image, static=True).sum()  # wherever it is now
        tensor(1.)
    """

    shift: int = 0
    flip: bool = False
    cutout: int = 0
    drop: float = 0.0
    jitter: int = 0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        for name in ("shift", "cutout", "jitter"):
            if getattr(self, name) < 0:
                raise InvalidValueError(
                    f"augment.{name} must be at least 0, but got {getattr(self, name)}"
                )
        if not 0 <= self.drop < 1:
            raise InvalidValueError(f"augment.drop must be in [0, 1), but got {self.drop:g}")
        if not 0 <= self.mixup < math.inf:
            raise InvalidValueError(
                f"augment.mixup must be finite and at least 0, but got {self.mixup:g}"
            )

    def check(self, sample_shape: tuple[int, ...], static: bool) -> None:
        """Whether this can be done to such samples.

        Args:
            sample_shape: of one sample at one time step.
            static: whether a sample is one image that every time step sees.

        Raises:
            InvalidValueError: flips or squares without an image, time steps
                or events without a window, blends of windows, or shifts and squares
                larger than a sample.
        """
        if len(sample_shape) != 3 and (self.flip or self.cutout):
            name = "flip" if self.flip else "cutout"
            raise InvalidValueError(
                f"augment.{name} is for images [channels, height, width], but samples are "
                f"{list(sample_shape)}; leave it out, or use augment.shift"
            )
        sides = sample_shape[-2:] if len(sample_shape) == 3 else sample_shape
        for name in ("shift", "cutout"):
            if getattr(self, name) > min(sides):
                raise InvalidValueError(
                    f"augment.{name} must be at most {min(sides)} for samples of "
                    f"{list(sample_shape)}, of which it leaves nothing, but got "
                    f"{getattr(self, name)}"
                )
        if static and (self.drop or self.jitter):
            name = "drop" if self.drop else "jitter"
            raise InvalidValueError(
                f"augment.{name} is for events over time, but the samples are still images; "
                "leave it out, or use augment.shift or augment.cutout"
            )
        if self.mixup and not static:
            raise InvalidValueError(
                "augment.mixup is for still images, but the samples change over time and "
                f"augment.mixup is {self.mixup:g}; leave it out"
            )

    def __call__(self, batch: Tensor, static: bool) -> Tensor:
        """Change a batch.

        Args:
            batch: ``[batch, ...]`` if ``static``, else ``[time, batch, ...]``.
            static: whether there is no time axis.

        Returns:
            A new tensor of that shape, or ``batch`` itself if nothing is to be done.
        """
        window = batch.unsqueeze(0) if static else batch
        if self.jitter:
            window = _moved(window, self.jitter, (0,))
        if self.shift:
            # One axis of channels, or height and width; maps' channels stay.
            window = _moved(window, self.shift, range(max(2, window.dim() - 2), window.dim()))
        if self.flip:
            mirrored = torch.rand(window.shape[1], device=window.device) < 0.5
            window = torch.where(_along_batch(mirrored, window), window.flip(-1), window)
        if self.cutout:
            window = window.masked_fill(_squares(window, self.cutout), 0)
        if self.drop:
            window = window * (torch.rand_like(window, dtype=torch.float32) >= self.drop)
        return window.squeeze(0) if static else window


def _along_batch(values: Tensor, window: Tensor) -> Tensor:
    """``[batch]`` as ``[1, batch, 1, ...]``, to meet a window."""
    return values.view(1, -1, *[1] * (window.dim() - 2))


def _moved(window: Tensor, most: int, axes: Sequence[int]) -> Tensor:
    """Every sample moved along each of the axes by −most to most places of its own."""
    batch, dims = window.shape[1], range(window.dim())
    # As a view of all places: of each sample the one that is wanted is copied, and nothing else.
    places = F.pad(window, [most if dim in axes else 0 for dim in reversed(dims) for _ in (0, 1)])
    starts = []
    for axis in axes:
        places = places.unfold(axis, window.shape[axis], 1)
        by = torch.randint(-most, most + 1, (batch,), device=window.device)
        starts.append(most - by)
    inside = {axis: window.dim() + number for number, axis in enumerate(axes)}
    rest = [inside.get(dim, dim) for dim in dims if dim != 1]
    samples = torch.arange(batch, device=window.device)
    moved = places.permute(1, *axes, *rest)[(samples, *starts)]
    return moved.movedim(0, 1).contiguous()


def _squares(window: Tensor, side: int) -> Tensor:
    """A square of each sample's pixels, ``[1, batch, 1, height, width]``."""
    inside = []
    for axis in (-2, -1):
        size = window.shape[axis]
        centre = torch.randint(0, size, (window.shape[1],), device=window.device)
        first = centre - side // 2
        places = torch.arange(size, device=window.device)
        inside.append((places >= first[:, None]) & (places < first[:, None] + side))
    rows, columns = inside
    return (rows[:, :, None] & columns[:, None, :])[None, :, None]
