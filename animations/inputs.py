"""What a network sees, step by step: an image, event frames, or channels over time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.container import BarContainer
from torch import Tensor

from animations.arrays import of_one_sample
from animations.style import BLUE, ORANGE, SKY, VERMILION, colour

_SUMMED = 5
"""Time steps of events that a frame of them shows: single ones are nearly empty."""


class EventPictures:
    """Events as pictures in the colours of the theme that held when this was made."""

    def __init__(self) -> None:
        self._ground = np.array(to_rgb(plt.rcParams["axes.facecolor"]))
        # The last channel is "on" (brighter), the one before "off".
        polarities = [SKY if _dark() else BLUE, ORANGE if _dark() else VERMILION]
        self._polarities = [np.array(to_rgb(each)) for each in polarities]

    def __call__(self, strengths: np.ndarray) -> np.ndarray:
        """A picture ``[height, width, 3]``.

        Args:
            strengths: ``[channels, height, width]``, from 0, the ground, to 1, full colour.
        """
        picture = np.ones((*strengths.shape[1:], 3)) * self._ground
        for channel, own in zip(strengths[::-1], self._polarities, strict=False):
            strength = np.clip(channel, 0, 1)[..., None]
            picture = picture * (1 - strength) + own * strength
        return picture


class InputPanel:
    """One sample's input.

    Args:
        axes: to draw on.
        inputs: a still image ``[channels, height, width]``, in colour if there are three,
            else the mean of all channels; frames ``[time,
            channels, height, width]`` with the polarities off and on; or channels
            ``[time, features]``, e.g. of a cochlea. Frames also as ``[time, 1, channels,
            height, width]``. An array or a tensor.
        step_ms: a time step in ms, if known.

    Raises:
        InvalidValueError: several samples, or another number of dimensions.
    """

    def __init__(
        self, axes: Axes, inputs: np.ndarray | Tensor, step_ms: float | None = None
    ) -> None:
        inputs = of_one_sample("inputs", inputs, (2, 3, 4), batch=1)
        self._inputs = inputs.astype(np.float32)
        self._moving: list[Artist] = []
        {2: self._channels, 3: self._image, 4: self._frames}[inputs.ndim](axes)
        self._step_ms = step_ms
        self._title = axes.set_title("input")

    def _image(self, axes: Axes) -> None:
        coloured = len(self._inputs) == 3
        image = self._inputs.transpose(1, 2, 0) if coloured else self._inputs.mean(0)
        axes.imshow(image, cmap="gray" if _dark() else "gray_r")
        axes.set_axis_off()

    def _frames(self, axes: Axes) -> None:
        # As bright as the busiest pixels get, not the one that flickers.
        starts = np.arange(0, len(self._inputs), _SUMMED)
        summed = np.add.reduceat(self._inputs, starts)
        self._brightest = max(float(np.percentile(summed, 99.5)), 1.0)
        self._pictures = EventPictures()
        self._picture = axes.imshow(self._picture_at(0))
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(True)
        self._moving.append(self._picture)

    def _picture_at(self, step: int) -> np.ndarray:
        events = self._inputs[max(0, step + 1 - _SUMMED) : step + 1].sum(0)
        return self._pictures(events / self._brightest)

    def _channels(self, axes: Axes) -> None:
        time, features = self._inputs.shape
        axes.imshow(
            np.clip(self._inputs.T, 0, np.percentile(self._inputs, 99.9) or 1),
            cmap="gray" if _dark() else "gray_r",
            aspect="auto",
            origin="lower",
            interpolation="antialiased",
            extent=(0, time, 0, features),
        )
        axes.set(xlabel="time step", ylabel="input channel")
        self._line = axes.axvline(0, color=ORANGE, lw=1.5)
        self._moving.append(self._line)

    def update(self, frame: int) -> Iterable[Artist]:
        if self._inputs.ndim == 4:
            self._picture.set_data(self._picture_at(frame))
        elif self._inputs.ndim == 2:
            self._line.set_xdata([frame + 0.5, frame + 0.5])
        when = "" if self._step_ms is None else f", {frame * self._step_ms:.0f} ms"
        self._title.set_text(f"input, step {frame}{when}")
        return [*self._moving, self._title]


class SpikeCountPanel:
    """Output spikes so far, a bar per class.

    Args:
        axes: to draw on.
        spikes: of the output layer, ``[time, outputs]`` or ``[time, 1, outputs]``, an
            array or a tensor.
        target: the sample's class.
        names: of the classes; their numbers if empty.
    """

    def __init__(
        self, axes: Axes, spikes: np.ndarray | Tensor, target: int, names: tuple[str, ...] = ()
    ) -> None:
        spikes = of_one_sample("spikes", spikes, (2,), batch=1)
        self._counts = np.cumsum(spikes.astype(int), axis=0)
        self._bars = _class_bars(axes, spikes.shape[1], target, names)
        axes.set(ylim=(0, 1.1 * max(1, self._counts.max())), title="output spikes so far")

    def update(self, frame: int) -> Iterable[Artist]:
        for bar, count in zip(self._bars, self._counts[frame], strict=True):
            bar.set_height(count)
        return tuple(self._bars)


class MeanMembranePanel:
    """Mean output membranes so far, a bar per class: of an output that does not fire.

    Args:
        axes: to draw on.
        membranes: of the output layer, ``[time, outputs]`` or ``[time, 1, outputs]``, an
            array or a tensor.
        target, names: as in :class:`SpikeCountPanel`.
    """

    def __init__(
        self, axes: Axes, membranes: np.ndarray | Tensor, target: int, names: tuple[str, ...] = ()
    ) -> None:
        membranes = of_one_sample("membranes", membranes, (2,), batch=1)
        steps = np.arange(1, len(membranes) + 1)
        self._means = np.cumsum(membranes, axis=0) / steps[:, None]
        self._bars = _class_bars(axes, self._means.shape[1], target, names)
        low, high = min(0.0, self._means.min()), max(0.0, self._means.max())
        margin = 0.1 * (high - low) or 1.0
        axes.set(ylim=(low - margin, high + margin), title="mean output membrane so far")

    def update(self, frame: int) -> Iterable[Artist]:
        for bar, mean in zip(self._bars, self._means[frame], strict=True):
            bar.set_height(mean)
        return tuple(self._bars)


def _class_bars(axes: Axes, outputs: int, target: int, names: tuple[str, ...]) -> BarContainer:
    """A bar of height 0 for each class, the target's in green."""
    bars = axes.bar(range(outputs), np.zeros(outputs), color=colour(0))
    bars[target].set_color(colour(2))
    step = -(-outputs // 10)
    axes.set_xticks(range(0, outputs, step), (names or tuple(map(str, range(outputs))))[::step])
    if any(len(name) > 2 for name in names):
        axes.tick_params(axis="x", labelrotation=60, labelsize=9)
    axes.set_xlabel(f"class (green: {names[target] if names else target})")
    return bars


def _dark() -> bool:
    return sum(to_rgb(plt.rcParams["axes.facecolor"])) < 1.5
