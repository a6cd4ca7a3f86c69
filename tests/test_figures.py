"""Figures show the arrays they were given, where they belong."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from animations.temporal_coding import draw_output, loss_figure, temporal_coding_figure


@pytest.fixture
def recording():
    rng = np.random.default_rng(0)
    spikes = np.zeros((3, 20), dtype=np.uint8)
    spikes[1, [4, 17]] = 1
    return {
        "membranes": rng.normal(size=(3, 20)),
        "spikes": spikes,
        "threshold": np.array([1.0, 1.5, 2.0]),
        "loss": np.ones(3),
        "target": np.linspace(0, 2, 20),
    }


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_one_iteration_is_drawn(recording):
    _, axes = plt.subplots()
    draw_output(axes, recording, 1)
    target, membrane, threshold, spikes = axes.lines[:4]
    assert np.array_equal(target.get_ydata(), recording["target"])
    assert np.array_equal(membrane.get_ydata(), recording["membranes"][1])
    assert set(threshold.get_ydata()) == {1.5}
    assert list(spikes.get_xdata()) == [4, 17]
    assert spikes.get_ydata().min() > recording["target"].max()


def test_the_grid_has_a_row_per_recording_and_a_column_per_iteration(recording):
    figure = temporal_coding_figure({"one": recording, "two": recording}, iterations=(0, 1, -1))
    assert len(figure.axes) == 6
    assert "θ = 1.5" in figure.axes[1].get_title()
    assert figure.axes[3].get_ylabel() == "two"


def test_an_iteration_that_was_not_recorded(recording):
    with pytest.raises(IndexError):
        temporal_coding_figure({"one": recording}, iterations=(7,))


def test_loss_is_the_median_within_its_range():
    loss = np.array([[1.0, 2.0, 9.0], [0.5, 0.7, 0.8]])
    figure = loss_figure({"case": loss})
    line = figure.axes[0].lines[0]
    assert list(line.get_ydata()) == [2.0, 0.7]
    assert figure.axes[0].get_yscale() == "log"
