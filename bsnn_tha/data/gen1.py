"""Data sets of boxes in Prophesee's automotive layout, and :data:`GEN1` itself.

``train``, ``val`` and ``test`` below the set's folder hold ``NAME_td.dat`` and
``NAME_bbox.npy`` (:mod:`bsnn_tha.data.gen1_files`). A sample is a moment that has boxes, with
the events of the T time bins that end there: what a camera knows when it is asked. Targets
are :mod:`bsnn_tha.detection.boxes`, in shares of the frame.

Gen1 (de Tournemire et al. 2020, 750 GB) cannot be downloaded from here and was not at hand:
its reader is tested on recordings made after the format's description.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from bsnn_tha.data.binning import Invalid
from bsnn_tha.data.dataset import BoxTask, Dataset
from bsnn_tha.data.event_batch import EventBatch
from bsnn_tha.data.event_cache import Binning, cached_events
from bsnn_tha.data.event_split import EventSplit
from bsnn_tha.data.gen1_windows import LabelledWindows
from bsnn_tha.detection.boxes import padded
from bsnn_tha.errors import DataError, InvalidValueError

Width = Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)]
PARTS = ("train", "val", "test")
"""Folders of a set."""


@dataclass(frozen=True)
class BoxSplit:
    """Windows of events with their boxes.

    Args:
        events: the windows.
        targets: ``[samples, most boxes, 5]``, see :mod:`bsnn_tha.detection.boxes`.
        times: of each moment, in seconds from its recording's start, ``[samples]``.
    """

    events: EventSplit
    targets: Tensor
    times: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, indices: list[int]) -> tuple[EventBatch, Tensor]:
        batch, _ = self.events[indices]
        return batch, self.targets[indices]


class BoxOptions(NamedTuple):
    """What a configuration sets of a set of boxes."""

    num_steps: int
    bin_ms: float
    downsample: int
    counted: bool = False
    invalid: Invalid = "refuse"


@dataclass(frozen=True)
class BoxSet:
    """A data set in Prophesee's automotive layout.

    Args:
        name: on the command line.
        title: its folder below the data root.
        frame: width and height of the sensor.
        class_names: in the order of ``class_id``.
        protocols: of evaluation, by name (:data:`bsnn_tha.detection.protocols.PROTOCOLS`);
            the first selects checkpoints and stands for the result.
    """

    name: str
    title: str
    frame: tuple[int, int]
    class_names: tuple[str, ...]
    protocols: tuple[str, ...] = field(default=("all",))

    def load(self, folder: Path, cache: Path, options: BoxOptions) -> Dataset:
        """The data set from a folder that holds its three parts.

        Raises:
            DataError: a part is missing or empty, or a file breaks a rule of
                :mod:`bsnn_tha.data.gen1_files`.
            InvalidValueError: ``downsample`` does not divide the frame.
        """
        width, height = self.frame
        if width % options.downsample or height % options.downsample:
            raise InvalidValueError(
                f"data.options.downsample must divide the frame of {width} × {height}, but got "
                f"{options.downsample}; choose a divisor of both"
            )
        bin_us = round(options.bin_ms * 1000)
        if bin_us < 1 or abs(bin_us - options.bin_ms * 1000) > 1e-6:
            raise InvalidValueError(
                f"data.options.bin_ms must be a whole number of µs, but got {options.bin_ms:g} ms"
            )
        span = bin_us * options.num_steps
        for part in PARTS:
            if not (folder / part).is_dir():
                raise DataError(
                    f"{self.name} needs the folders {', '.join(PARTS)} below {folder}, but "
                    f"{part} is not there; place the files there, or name the folder that holds "
                    f"{self.title} with --data-root or BSNN_THA_DATA"
                )
        # All labels are read before the first event: what is wrong with them comes early.
        windows = {
            part: LabelledWindows(folder / part, self.frame, len(self.class_names), span)
            for part in PARTS
        }
        binning = Binning(bin_us, options.downsample, invalid=options.invalid)
        splits = {part: self._split(windows[part], part, binning, cache, options) for part in PARTS}
        counts = ", ".join(f"{len(splits[part]):,} {part}" for part in PARTS)
        outside = sum(window.outside for window in windows.values())
        dropped = sum(split.events.store.dropped for split in splits.values())
        return Dataset(
            name=self.name,
            input_shape=splits["train"].events.store.shape,
            num_classes=None,
            static=False,
            train=splits["train"],
            validation=splits["val"],
            test=splits["test"],
            source=f"{self.title}, frames with boxes: {counts}; {options.num_steps} bins of "
            f"{bin_us / 1000:g} ms before each"
            + (f"; {outside:,} boxes outside the frame left out" if outside else "")
            + (f"; {dropped:,} invalid events left out" if dropped else ""),
            step_ms=bin_us / 1000,
            class_names=self.class_names,
            boxes=BoxTask(self.frame, self.protocols),
        )

    def _split(
        self,
        windows: LabelledWindows,
        part: str,
        binning: Binning,
        cache: Path,
        options: BoxOptions,
    ) -> BoxSplit:
        store = cached_events(windows, f"{self.name}-{part}", binning, 1, cache)
        samples = np.arange(len(store))
        events = EventSplit(store, samples, options.num_steps, counted=options.counted)
        width, height = self.frame
        scale = torch.tensor([width, height, width, height, 1.0])
        targets = padded([torch.from_numpy(boxes) / scale for boxes in windows.boxes])
        return BoxSplit(events, targets, torch.from_numpy(windows.times).double() / 1e6)


GEN1 = BoxSet("gen1", "Gen1", (304, 240), ("car", "pedestrian"), ("rvt", "psee", "cordone", "all"))


def load_gen1(
    root: Path,
    *,
    cache: Path,
    num_steps: int,
    bin_ms: Width = 10.0,
    downsample: Annotated[int, Field(ge=1)] = 1,
    counted: bool = False,
    invalid: Invalid = "refuse",
) -> Dataset:
    """Prophesee's Gen1 automotive data set, from ``Gen1/{train,val,test}``.

    Args:
        root: data root.
        cache: folder for the binned windows.
        num_steps: T.
        bin_ms: width of a time bin, in ms. LT-SNN does not say.
        downsample: so many neighbouring rows and columns become one; it divides 304 and 240.
        counted: several events of a pixel in one bin add up; otherwise they are one spike, as
            in LT-SNN (Appendix A).
        invalid: ``"refuse"`` recordings with events outside the sensor, or ``"drop"`` such
            events.
    """
    options = BoxOptions(num_steps, bin_ms, downsample, counted, invalid)
    return GEN1.load(root / GEN1.title, cache, options)
