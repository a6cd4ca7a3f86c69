"""What a data set is to the trainer: three splits that hand out whole batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from bsnn_tha.data.event_batch import EventBatch
from bsnn_tha.errors import InvalidValueError


class Split(Protocol):
    """One part of a data set. Indexed with a list, it returns a batch.

    ``split[indices]`` is ``(inputs, targets)``. Inputs are ``[batch, ...]``
    for static samples and ``[time, batch, ...]`` for sequences, float32; or an
    :class:`~bsnn_tha.data.event_batch.EventBatch`, which becomes such a
    sequence on the device.
    """

    @property
    def targets(self) -> Tensor:
        """Class indices ``[samples]``, or whatever the loss compares with."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, indices: list[int]) -> tuple[Tensor | EventBatch, Tensor]: ...


@dataclass(frozen=True)
class TensorSplit:
    """Samples held in memory, as bytes or floats, scaled when a batch is taken.

    Args:
        inputs: ``[samples, ...]``, any dtype.
        targets: ``[samples]``, int64 class indices.
        scale: factor from stored to float values, e.g. 1 / 255 for pixels.

    Example:
        >>> split = TensorSplit(torch.tensor([[0], [255]], dtype=torch.uint8),
        ...                     torch.tensor([3, 7]), scale=1 / 255)
        >>> split[[1]]
        (tensor([[1.]]), tensor([7]))
    """

    inputs: Tensor
    targets: Tensor
    scale: float = 1.0

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        # Whole rows of memory at a time; indexing copies value by value.
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return self.inputs.index_select(0, chosen).float().mul_(self.scale), self.targets[chosen]

    def select(self, indices: Tensor) -> TensorSplit:
        """The part with these sample indices, in this order."""
        return TensorSplit(self.inputs[indices], self.targets[indices], self.scale)


@dataclass(frozen=True)
class BoxTask:
    """What boxes are found in, and which of them count. Splits then have ``times``, in seconds
    from the start of each sample's recording.

    Args:
        frame: width and height of the sensor, in pixels.
        protocols: names of :data:`bsnn_tha.detection.protocols.PROTOCOLS`; the first one's
            precision is the result.
    """

    frame: tuple[int, int]
    protocols: tuple[str, ...] = ("all",)


@dataclass(frozen=True)
class Dataset:
    """A named data set, split for training, model selection and the final test.

    Args:
        name: as on the command line.
        input_shape: of one sample at one time step.
        num_classes: number of classes, or None where targets are not classes.
        static: True if a sample is one frame, shown at every time step.
        train, validation, test: the splits; the last two may be None.
        source: one line on where it comes from and how it was split.
        test_groups: parts of the test samples that are reported on their own,
            by name: masks ``[samples]``.
        step_ms: one time step in ms, where samples have a time of their own.
        class_names: in the order of the class indices; empty where classes are numbers.
        boxes: if targets are boxes (:mod:`bsnn_tha.detection.boxes`).
    """

    name: str
    input_shape: tuple[int, ...]
    num_classes: int | None
    static: bool
    train: Split
    validation: Split | None
    test: Split | None
    source: str
    test_groups: Mapping[str, Tensor] = field(default_factory=dict)
    step_ms: float | None = None
    class_names: tuple[str, ...] = ()
    boxes: BoxTask | None = None

    def with_train(self, train: Split, note: str) -> Dataset:
        """The same with other training samples, which its source notes."""
        return replace(self, train=train, source=f"{self.source}, {note}")

    def with_class_names(self, names: Iterable[str]) -> Dataset:
        """The same with names of its classes, in the order of their indices."""
        return replace(self, class_names=tuple(names))


def stratified_split(targets: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the samples to keep and of those held out, class by class.

    Args:
        targets: ``[samples]`` class indices.
        fraction: share of every class to hold out, in (0, 1); rounded, but at
            least one sample of each class is held out and one is kept.
        seed: of the draw; the same seed gives the same split anywhere.

    Returns:
        ``(kept, held_out)``, each ascending.

    Raises:
        InvalidValueError: ``fraction`` outside (0, 1).

    Example:
        >>> kept, held = stratified_split(torch.tensor([0, 0, 0, 1, 1, 1]), 1 / 3, seed=0)
        >>> len(kept), len(held)
        (4, 2)
    """
    if not 0 < fraction < 1:
        raise InvalidValueError(
            f"the held-out fraction must be in (0, 1), but got fraction={fraction:g}"
        )
    generator = torch.Generator().manual_seed(seed)
    held_out = []
    for label in targets.unique():
        members = (targets == label).nonzero().flatten()
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        held_out.append(members[torch.randperm(len(members), generator=generator)[:count]])
    mask = torch.zeros(len(targets), dtype=torch.bool)
    mask[torch.cat(held_out)] = True
    return (~mask).nonzero().flatten(), mask.nonzero().flatten()
