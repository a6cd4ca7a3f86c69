"""The temporal coding task (THA, Section 4.1 and Fig. 4): films and stills.

An output neuron is to let its membrane potential rise along a ramp and to fire
where the ramp ends. Drawn: the target, the membrane potential u, the threshold θ
as it moves, and below them the neuron's spikes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from animations.clock import iterations_of
from animations.film import Film
from animations.layout import IterationTitle, lay_out
from animations.raster import Raster, show_steps
from animations.run_arrays import OutputRecording, check_index
from animations.smoothing import bulk, check_window, over_iterations, over_time
from animations.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RC, SKY, VERMILION, colour, theme
from bsnn_tha.errors import InvalidValueError

_SHOWN = 1.5
"""Heights of target or threshold that a panel shows at most, above and below zero."""


class OutputPanel:
    """One output neuron, an iteration at a time.

    Args:
        axes: to draw on.
        recording: of the neuron.
        iterations: which one each frame shows, indices from 0.
        title: before the threshold's value, which is left out where it never moves.
        average_steps: draw u as its moving average over so many time steps.
        average_iterations: draw u as its mean over an iteration and those before it.

    Raises:
        InvalidValueError: an iteration that was not recorded, or a window below 1.
    """

    def __init__(
        self,
        axes: Axes,
        recording: OutputRecording,
        iterations: Sequence[int] | np.ndarray,
        title: str = "",
        average_steps: int = 1,
        average_iterations: int = 1,
    ) -> None:
        for iteration in iterations:
            check_index("iteration", int(iteration), len(recording))
        check_window("time steps", average_steps)
        check_window("iterations", average_iterations)
        self.recording, self.iterations, self.title = recording, iterations, title
        self._averages = average_steps, average_iterations
        self._moves = bool(title) and np.ptp(recording.threshold) > 0
        steps = np.arange(recording.membranes.shape[1])
        axes.plot(steps, recording.target, color=GREY, ls="--", lw=1.2, label="target")
        smooth = max(self._averages) > 1
        label = "membrane potential u" + (", averaged" if smooth else "")
        (self._membrane,) = axes.plot(steps, steps * np.nan, color=colour(0), label=label)
        self._threshold = axes.axhline(0, color=ORANGE, label="threshold θ")
        axes.plot([], [], "|", color=VERMILION, mew=1.8, label="output spike")
        self._raster = Raster(axes, 1, 0.1, VERMILION)
        self._title = axes.set_title(title)
        show_steps(axes, len(steps))
        self._limit()

    def _limit(self) -> None:
        # A few iterations may throw u far away; they must not flatten all others.
        largest = 1.1 * max(self.recording.target.max(), self.recording.threshold.max())
        low, high = bulk(self.recording.membranes, 98)
        self._raster.make_room(
            max(low, -_SHOWN * largest), min(max(high, largest), _SHOWN * largest)
        )

    def update(self, frame: int) -> Iterable[Artist]:
        index = int(self.iterations[frame])
        steps, iterations = self._averages
        trace = over_iterations(self.recording.membranes, index, iterations)
        self._membrane.set_ydata(over_time(trace, steps) if steps > 1 else trace)
        threshold = float(self.recording.threshold[index])
        self._threshold.set_ydata([threshold, threshold])
        self._raster.show(self.recording.spikes[index])
        self._title.set_text(f"{self.title}, θ = {threshold:.3g}" if self._moves else self.title)
        return self._membrane, self._threshold, self._raster.artist, self._title


class SpikeHistoryPanel:
    """When the neuron has fired in every iteration so far.

    Args:
        axes: to draw on; iterations grow downwards.
        recording: of the neuron.
        iterations: up to which each frame shows.
    """

    def __init__(
        self, axes: Axes, recording: OutputRecording, iterations: Sequence[int] | np.ndarray
    ) -> None:
        self.iterations = iterations
        self._when, self._fired = np.nonzero(recording.spikes)
        (self._dots,) = axes.plot([], [], "s", color=VERMILION, ms=1.6, mew=0)
        self._line = axes.axhline(0, color=ORANGE, lw=1)
        axes.axvline(int(recording.target.argmax()), color=GREY, ls="--", lw=1.2)
        show_steps(axes, recording.spikes.shape[1])
        axes.set(
            ylim=(len(recording), 0),
            ylabel="training iteration",
            title="output spikes so far",
        )

    def update(self, frame: int) -> Iterable[Artist]:
        now = int(self.iterations[frame])
        past = int(np.searchsorted(self._when, now, side="right"))
        self._dots.set_data(self._fired[:past], self._when[:past] + 1)
        self._line.set_ydata([now + 1, now + 1])
        return self._dots, self._line


def temporal_coding_film(
    recordings: Mapping[str, OutputRecording],
    frames: int = 100,
    pace: str = "even",
    average_steps: int = 1,
    average_iterations: int = 1,
    style: str = "light",
) -> Film:
    """Output neurons over their training, side by side with a shared clock.

    A single recording is shown with the spikes of all iterations beside it.

    Args:
        recordings: by title, of the same length.
        frames: of the film.
        pace: how they are spread over the iterations, see :mod:`animations.clock`.
        average_steps, average_iterations: see :class:`OutputPanel`.
        style: ``"light"`` or ``"dark"``.

    Raises:
        InvalidValueError: no recordings, or of different lengths.
    """
    total = _common_length(recordings)
    iterations = iterations_of(total, frames, pace)
    averages = {"average_steps": average_steps, "average_iterations": average_iterations}
    with theme(style):
        figure = Figure()
        columns = 1 if len(recordings) == 1 else 2
        rows = -(-len(recordings) // columns)
        if rows > 2:
            figure.set_size_inches(plt.rcParams["figure.figsize"][0], 2.4 * rows + 0.8)
        panels: list = [IterationTitle(figure, iterations, total)]
        if len(recordings) == 1:
            ((title, recording),) = recordings.items()
            left, right = figure.subplots(1, 2, width_ratios=[1.7, 1])
            panels.append(OutputPanel(left, recording, iterations, title, **averages))
            panels.append(SpikeHistoryPanel(right, recording, iterations))
            right.set_xlabel("time step")
            shown = [left]
        else:
            grid = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
            shown = list(grid[: len(recordings)])
            for axes in grid[len(recordings) :]:
                axes.set_visible(False)
            for axes, (title, recording) in zip(shown, recordings.items(), strict=True):
                panels.append(OutputPanel(axes, recording, iterations, title, **averages))
        for axes in shown[-columns:]:
            axes.set_xlabel("time step")
            axes.xaxis.set_tick_params(labelbottom=True)
        lay_out(figure, shown[0])
        return Film(figure, panels, len(iterations), title="temporal coding")


def temporal_coding_figure(
    recordings: Mapping[str, OutputRecording], iterations: Sequence[int] = (0, 99, 399, 999)
) -> Figure:
    """Fig. 4: one row per recording, one column per iteration.

    Args:
        recordings: by row label.
        iterations: indices from 0; those beyond a recording's end are left out.

    Raises:
        InvalidValueError: no recordings, or none of the iterations was recorded.
    """
    total = _common_length(recordings)
    iterations = [iteration for iteration in iterations if iteration < total]
    if not iterations:
        raise InvalidValueError(f"iterations to draw must be below {total}; choose others")
    with plt.rc_context(RC):
        rows, columns = len(recordings), len(iterations)
        figure = Figure(figsize=(2.3 * columns, 1.75 * rows + 0.5))
        grid = figure.subplots(rows, columns, sharex=True, sharey="row", squeeze=False)
        for row, (label, recording) in zip(grid, recordings.items(), strict=True):
            for axes, iteration in zip(row, iterations, strict=True):
                OutputPanel(axes, recording, [iteration], f"iteration {iteration + 1:,}").update(0)
            row[0].set_ylabel(label.replace(", ", "\n", 1))
        for axes in grid[-1]:
            axes.set_xlabel("time step")
        lay_out(figure, grid[0, 0])
    return figure


def loss_figure(losses: Mapping[str, np.ndarray]) -> Figure:
    """Loss over iterations: median over seeds, shaded from lowest to highest.

    Args:
        losses: by label, ``[iterations, seeds]``, over a silent network's loss.
    """
    colours = [BLUE, ORANGE, VERMILION, GREY, GREEN, PURPLE, SKY]
    with plt.rc_context(RC):
        figure = Figure(figsize=(6.4, 3.2))
        axes = figure.subplots()
        for colour, (label, loss) in zip(colours, losses.items(), strict=False):
            steps = np.arange(1, len(loss) + 1)
            axes.fill_between(steps, loss.min(1), loss.max(1), color=colour, alpha=0.15, lw=0)
            axes.plot(steps, np.median(loss, axis=1), color=colour, lw=1.3, label=label)
        axes.axhline(1, color=GREY, lw=0.8, ls=":")
        axes.set(
            yscale="log", xlabel="training iteration", ylabel="loss / loss of a silent network"
        )
        axes.legend(loc="upper right", ncols=2, fontsize=7.5)
        figure.tight_layout()
    return figure


def _common_length(recordings: Mapping[str, OutputRecording]) -> int:
    lengths = {label: len(recording) for label, recording in recordings.items()}
    if len(set(lengths.values())) != 1:
        raise InvalidValueError(
            "what is drawn side by side needs recordings of one length, at least one, but got "
            + (", ".join(f"{label}: {n}" for label, n in lengths.items()) or "none")
        )
    return next(iter(lengths.values()))
