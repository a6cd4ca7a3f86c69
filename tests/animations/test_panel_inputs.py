"""Panels draw what people have: tensors of any kind, a batch of one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from animations.activity import activity_figure
from animations.curves import layers_figure
from animations.inputs import InputPanel, SpikeCountPanel
from animations.layers import LayerCurves
from animations.membranes import LayerOverTime
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.observe.recording import LayerTrace

KINDS = {
    "tensor": torch.from_numpy,
    "with gradient": lambda array: torch.from_numpy(array).requires_grad_(),
    "bfloat16": lambda array: torch.from_numpy(array).bfloat16(),
    "batch of one": lambda array: torch.from_numpy(array).unsqueeze(1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_events_and_counts_are_those_of_the_array(kind):
    events = np.random.default_rng(0).integers(0, 2, (6, 2, 4, 4)).astype(np.float32)
    spikes = events[:, 0, 0]
    pictures, heights = [], []
    for convert in (np.asarray, KINDS[kind]):
        axes = Figure().subplots(1, 2)
        pictures.append(InputPanel(axes[0], convert(events)).update(3)[0].get_array())
        bars = SpikeCountPanel(axes[1], convert(spikes), target=1).update(5)
        heights.append([bar.get_height() for bar in bars])
    assert np.array_equal(*pictures)
    assert heights[1] == heights[0] == spikes.sum(0).tolist()


def test_several_samples_are_refused_with_the_way_out():
    axes = Figure().subplots()
    with pytest.raises(InvalidValueError, match=r"one sample, but got 3 .* give inputs\[:, 0\]"):
        InputPanel(axes, torch.zeros(6, 3, 2, 4, 4))
    with pytest.raises(InvalidValueError, match="must have 2 dimensions"):
        SpikeCountPanel(axes, torch.zeros(6), target=0)


def test_curves_of_tensors():
    axes = Figure().subplots()
    values = torch.rand(4, 2, requires_grad=True)
    LayerCurves(axes, torch.arange(4), values, [0, 1], ["a", "b"], "rates")
    assert axes.lines[1].get_ydata().tolist() == values[:, 1].tolist()
    assert axes.lines[0].get_xdata().tolist() == [1, 2, 3, 4]


def test_membranes_of_tensors():
    drawn = []
    for convert in (np.asarray, torch.from_numpy):
        membranes = np.random.default_rng(1).random((5, 2, 3)).astype(np.float32)
        spikes = (membranes > 0.8).astype(np.uint8)
        trace = LayerTrace(convert(membranes), convert(spikes), np.arange(3), 0.8, 0.8)
        panel = LayerOverTime(Figure().subplots(), trace, [0, 2], sample=1)
        drawn.append([line.get_ydata().tolist() for line in list(panel.update(4))[:2]])
    assert drawn[0] == drawn[1] == membranes[:, 1, [0, 2]].T.tolist()


def test_figures_of_tensors():
    counts = torch.tensor([0.0, 2.0, 4.0, 4.0])
    (axes,) = activity_figure({"layer 1": {"run": counts}}).axes
    assert "25.0% dead" in axes.get_legend().get_texts()[0].get_text()
    rates = torch.tensor([[1.0, 3.0]], requires_grad=True)
    (axes,) = layers_figure({"run": rates}, "rate, %", {"run": torch.tensor([1, 2])}).axes
    assert axes.lines[0].get_ydata().tolist() == [1.0, 3.0]
