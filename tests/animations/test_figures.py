"""Figures show the arrays they were given, where they belong."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from animations.run_arrays import OutputRecording
from animations.temporal_coding import OutputPanel, loss_figure, temporal_coding_figure
from bsnn_tha.errors import InvalidValueError


@pytest.fixture
def recording():
    rng = np.random.default_rng(0)
    spikes = np.zeros((3, 20), dtype=np.uint8)
    spikes[1, [4, 17]] = 1
    return OutputRecording(
        membranes=rng.normal(size=(3, 20)),
        spikes=spikes,
        threshold=np.array([1.0, 1.5, 2.0]),
        target=np.linspace(0, 2, 20),
    )


def test_one_iteration_is_drawn(recording):
    axes = Figure().subplots()
    membrane, threshold, spikes, title = OutputPanel(axes, recording, [1], "case").update(0)
    assert np.array_equal(axes.lines[0].get_ydata(), recording.target)
    assert np.array_equal(membrane.get_ydata(), recording.membranes[1])
    assert set(threshold.get_ydata()) == {1.5}
    assert sorted(set(spikes.get_xdata())) == [4, 17]
    assert title.get_text() == "case, θ = 1.5"
    heights = spikes.get_ydata()
    top = axes.transAxes.transform((0, np.nanmax(heights)))[1]
    low = np.percentile(recording.membranes, 1)  # rare ones may be lower
    assert top < axes.transData.transform((0, low))[1]


def test_the_grid_has_a_row_per_recording_and_a_column_per_iteration(recording):
    figure = temporal_coding_figure({"one": recording, "two": recording}, iterations=(0, 1, 2))
    assert len(figure.axes) == 6
    assert "θ = 1.5" in figure.axes[1].get_title()
    assert figure.axes[3].get_ylabel() == "two"


def test_an_iteration_that_was_not_recorded(recording):
    with pytest.raises(InvalidValueError, match="below 3"):
        temporal_coding_figure({"one": recording}, iterations=(7,))


def test_loss_is_the_median_within_its_range():
    loss = np.array([[1.0, 2.0, 9.0], [0.5, 0.7, 0.8]])
    figure = loss_figure({"case": loss})
    line = figure.axes[0].lines[0]
    assert list(line.get_ydata()) == [2.0, 0.7]
    assert figure.axes[0].get_yscale() == "log"
