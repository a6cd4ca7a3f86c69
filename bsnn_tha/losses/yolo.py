"""YOLOv2's loss on what a spiking network's last layer did over a window."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from bsnn_tha.detection.anchors import k_means_anchors
from bsnn_tha.detection.boxes import NONE, Detections
from bsnn_tha.detection.head import Head, Raw, detect
from bsnn_tha.detection.yolo import yolo_terms
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.losses.readouts import READOUTS
from bsnn_tha.nn.window import NetworkWindow

_SPIKE_RATE = "spike_rate"


class YoloLoss(nn.Module):
    """:func:`~bsnn_tha.detection.yolo.yolo_terms`, weighed, of an output layer's window.

    The last layer's values are read as one number each: its mean membrane potential, or its
    spike rate r as r − ½, since what a head gives has both signs. Times ``gain`` they are the
    outputs of :class:`~bsnn_tha.detection.head.Head`.

    Args:
        outputs: the network's output shape for one sample and step.
        anchors: how many each cell has. Their sizes are those of :meth:`fit`, which are kept
            with the weights.
        grid: rows and columns of cells, where the last layer is fully connected.
        shared_classes: classes are scored once for a cell instead of for each anchor.
        readout: ``"mean_membrane"``, ``"spike_rate"``, or a function of the window.
        gain: factor. Membranes of 1-bit weights without a norm are large and want a low one,
            spike rates a high one.
        object_prior: P(object) where a head's output is 0, in (0, 1). Most anchors have no box:
            with ½, as in YOLOv2, training begins by learning that (Lin et al. 2017, focal
            loss, section 4.1, for a low one).
        coordinate_weight, object_weight, empty_weight, class_weight: λ of the four terms.
        ignore: overlap above which an anchor without a box is left alone.
        least_score, suppress: of :meth:`detect`: scores below it are no detections; overlap of
            two boxes of a class above which the better one stays.

    Attributes:
        anchor_sizes: ``[anchors, 2]``, in shares of the frame; 0 before :meth:`fit`.

    Raises:
        InvalidValueError: the outputs fit no head, or a value is outside its range.

    Example:
        >>> loss = YoloLoss((7, 1, 1), anchors=1)
        >>> truths = torch.tensor([[[0.3, 0.3, 0.4, 0.4, 1.0]]])
        >>> loss.fit(truths)
        >>> window = NetworkWindow(torch.zeros(3, 1, 7, 1, 1), torch.zeros(3, 1, 7, 1, 1), ())
        >>> loss(window, truths)  # 5 · (½ − 1)² + ln 2
        tensor(1.9431)
    """

    classifies: ClassVar[bool] = False
    detects: ClassVar[bool] = True

    anchor_sizes: Tensor

    def __init__(
        self,
        outputs: tuple[int, ...],
        anchors: int = 5,
        grid: list[int] | None = None,
        shared_classes: bool = False,
        readout: str = "mean_membrane",
        gain: float = 1.0,
        object_prior: float = 0.5,
        coordinate_weight: float = 1.0,
        object_weight: float = 5.0,
        empty_weight: float = 1.0,
        class_weight: float = 1.0,
        ignore: float = 0.6,
        least_score: float = 0.01,
        suppress: float = 0.5,
    ) -> None:
        super().__init__()
        if anchors < 1:
            raise InvalidValueError(f"loss.anchors must be at least 1, but got {anchors}")
        if grid is not None and len(grid) != 2:
            raise InvalidValueError(f"loss.grid must be [rows, columns], but got {grid}")
        self.weights = {
            "coordinate_weight": coordinate_weight,
            "object_weight": object_weight,
            "empty_weight": empty_weight,
            "class_weight": class_weight,
        }
        for name, value in (*self.weights.items(), ("gain", gain)):
            if not 0 <= value < float("inf") or (name == "gain" and not value):
                least = "above 0" if name == "gain" else "at least 0"
                raise InvalidValueError(f"loss.{name} must be {least}, but got {value:g}")
        shares = {"ignore": ignore, "least_score": least_score, "suppress": suppress}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise InvalidValueError(f"loss.{name} must be in [0, 1], but got {value:g}")
        if not 0 < object_prior < 1:
            raise InvalidValueError(
                f"loss.object_prior must be in (0, 1), but got {object_prior:g}"
            )
        READOUTS.find(readout)
        if readout == "softmax_membrane":
            raise InvalidValueError(
                "loss.readout = 'softmax_membrane' gives shares of all outputs, but a head's are "
                "read one by one; use mean_membrane or spike_rate"
            )
        rows_and_columns = None if grid is None else (grid[0], grid[1])
        self.head = Head.of_outputs(tuple(outputs), anchors, rows_and_columns, shared_classes)
        self.readout, self.gain, self.ignore = readout, gain, ignore
        self.least_score, self.suppress = least_score, suppress
        self._prior = math.log(object_prior / (1 - object_prior))
        self.register_buffer("anchor_sizes", torch.zeros(anchors, 2))

    @property
    def needs_membranes(self) -> bool:
        """Whether the output membranes must be recorded."""
        return self.readout != _SPIKE_RATE

    def fit(self, truths: Tensor, seed: int = 0) -> None:
        """Take the anchors that suit training boxes, by k-means.

        Args:
            truths: ``[samples, boxes, 5]``, see :mod:`bsnn_tha.detection.boxes`.
            seed: of the first guess.

        Raises:
            InvalidValueError: fewer boxes of different size than anchors.
        """
        sizes = truths[truths[..., 4] != NONE][:, 2:4]
        self.anchor_sizes.copy_(k_means_anchors(sizes, self.head.anchors, seed))

    def raw(self, window: NetworkWindow) -> Raw:
        """The head's outputs."""
        values: Tensor = READOUTS.find(self.readout)(window)
        if self.readout == _SPIKE_RATE:
            values = values - 0.5
        raw = self.head.sort(self.gain * values)
        return raw._replace(objectness=raw.objectness + self._prior)

    def forward(self, window: NetworkWindow, targets: Tensor) -> Tensor:
        """The loss, a scalar: the mean over samples.

        Args:
            window: what the network did.
            targets: true boxes, ``[batch, boxes, 5]``.
        """
        raw = self.raw(window)
        terms = yolo_terms(raw, targets, self.anchor_sizes.to(raw.boxes.dtype), self.ignore)
        weighed = [w * t for w, t in zip(self.weights.values(), terms, strict=True)]
        return torch.stack(weighed).sum()

    def detect(self, window: NetworkWindow) -> list[Detections]:
        """What was found in each sample, in shares of the frame."""
        raw = self.raw(window)
        return detect(
            raw,
            self.anchor_sizes.to(raw.boxes.dtype),
            least_score=self.least_score,
            limit=self.suppress,
        )

    def scores(self, window: NetworkWindow) -> Tensor:
        """None: boxes are no class."""
        raise NotImplementedError("a detector has boxes, not a class to score; see detect")
