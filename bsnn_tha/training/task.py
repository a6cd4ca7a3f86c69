"""What a network was trained for, kept in its checkpoints: it can be used without its data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from bsnn_tha.data.dataset import Dataset


@dataclass(frozen=True)
class Task:
    """What a network reads and what its outputs stand for.

    Args:
        input_shape: of one sample at one time step.
        static: True if a sample is one frame, shown at every time step.
        class_names: in the order of the outputs; empty where classes are numbers.
        frame: width and height in pixels of what boxes are found in; None if nothing is.
    """

    KEY: ClassVar[str] = "task"
    """Of a checkpoint."""

    input_shape: tuple[int, ...]
    static: bool
    class_names: tuple[str, ...] = ()
    frame: tuple[int, int] | None = None

    @classmethod
    def of(cls, dataset: Dataset) -> Task:
        """Of a network that is trained on this data set."""
        frame = None if dataset.boxes is None else dataset.boxes.frame
        return cls(dataset.input_shape, dataset.static, dataset.class_names, frame)

    def to_plain(self) -> dict[str, Any]:
        """As lists, numbers and words, which a checkpoint may hold."""
        return {k: [*v] if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_plain(cls, values: Any) -> Task | None:
        """From a checkpoint's; None where it has none, as one of an earlier version."""
        try:
            frame = values.get("frame")
            return cls(
                tuple(map(int, values["input_shape"])),
                bool(values["static"]),
                tuple(map(str, values["class_names"])),
                None if frame is None else (int(frame[0]), int(frame[1])),
            )
        except (AttributeError, IndexError, TypeError, KeyError, ValueError):
            return None
