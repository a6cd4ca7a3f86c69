"""The film of a detector: its boxes are those that the network finds, drawn where they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectors import detector
from film_runs import trained as film_runs
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from typer.testing import CliRunner

import animations.detection as module
from animations.detection import BoxPanel, detection_film
from animations.overview import SnapshotFrames
from bsnn_tha import load
from bsnn_tha.cli import app
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.observe.recording import FoundBoxes, Recording
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.run import train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One that learns nothing to speak of, so that all its snapshots are of one network."""
    folder = tmp_path_factory.mktemp("boxes")
    here = Machine(folder / "data", folder / "cache", device="cpu", threads=1)
    config = detector(
        "fixed", network__norm="none", loss__gain=0.02, optimizer__lr=1e-12, training__epochs=1,
        snapshots__count=3, snapshots__samples=3,
    )  # fmt: skip
    return train(config, output=folder / "run", machine=here, verbose=False).folder.path


def test_snapshots_have_what_the_network_finds(run):
    recording, trained = Recording.open(run), load(run)
    probe = recording.probe
    assert len(recording) == len(probe.samples) == len(probe.targets) == 3
    inputs = torch.from_numpy(probe.inputs).float()
    width, height = trained.task.frame
    scale = np.array([width, height, width, height])
    predicted = trained.predict(inputs)
    for snapshot in recording:
        assert len(snapshot.found) == 3
        for found, wanted in zip(snapshot.found, predicted, strict=True):
            np.testing.assert_allclose(found.boxes * scale, wanted.boxes, rtol=1e-4, atol=1e-3)
            np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-4)
            assert found.classes.tolist() == wanted.classes.tolist()
            assert len(found.scores) > 0


@pytest.fixture
def panel(run, monkeypatch):
    """A panel of the first sample, and what its frames find."""
    frames = SnapshotFrames(Recording.open(run), np.array([0, 1]))
    truths = frames.probe.targets[0]
    true = truths[truths[:, 4] >= 0]
    finds = {
        0: FoundBoxes(np.zeros((0, 4), np.float32), np.zeros(0), np.zeros(0, np.int64)),
        1: FoundBoxes(
            np.concatenate([true[:1, :4], true[:1, :4], [[0.25, 0.5, 0.5, 0.25]]]).astype("f4"),
            np.array([0.9, 0.5, module.LEAST_SCORE / 2]),
            np.array([true[0, 4], 1 - true[0, 4], 0]).astype(int),
        ),
    }

    class Shown:
        def __init__(self, frame):
            self.found = (finds[frame],)

    monkeypatch.setattr(frames, "at", Shown)
    axes = Figure().subplots()
    return BoxPanel(axes, frames, 0), axes, true


def boxes_of(axes, width):
    """Bounds of the visible rectangles with lines of a width."""
    return [
        patch.get_bbox().bounds
        for patch in axes.patches
        if isinstance(patch, Rectangle) and patch.get_visible() and patch.get_linewidth() == width
    ]


def test_boxes_are_drawn_where_they_are_with_class_and_score(panel):
    box, axes, true = panel
    size = np.array([80, 64, 80, 64])
    np.testing.assert_allclose(boxes_of(axes, 3.0), true[:, :4] * size, rtol=1e-5)
    shown = {}
    for frame in (1, 0, 1):
        artists = list(box.update(frame))
        texts = [text.get_text() for text in axes.texts if text.get_visible()]
        shown[frame] = boxes_of(axes, 1.8), texts, axes.get_title(), len(artists)
    found, texts, title, count = shown[1]
    # The one below the least score is not drawn; one of the other class finds nothing.
    np.testing.assert_allclose(found, [true[0, :4] * size] * 2, rtol=1e-5)
    names = "box", "disc"
    own = int(true[0, 4])
    assert texts == [f"{names[own]} 0.90", f"{names[1 - own]} 0.50"]
    assert title == f"1 of {len(true)} found"
    assert shown[0] == ([], [], f"0 of {len(true)} found", count)


def test_the_film_moves_and_chooses_samples(run):
    recording = Recording.open(run)
    film = detection_film(recording)
    assert film.frames == len(recording)
    images = list(film.images([0, film.frames - 1], dpi=30))
    assert not np.array_equal(*images) and images[0].std() > 5
    one = next(detection_film(recording, sample=2, style="dark").images([0], dpi=30))
    assert one.mean() < 100 < images[0].mean()
    with pytest.raises(InvalidValueError, match="sample must be from 0 to 2, but got 3"):
        detection_film(recording, sample=3)


@pytest.mark.parametrize("name", ["film.gif", "film.html"])
def test_the_command_writes_it(run, tmp_path, name):
    words = ["animate", "run", run, "--view", "detection", "-o", tmp_path / name, "--dpi", 40]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert (tmp_path / name).stat().st_size > 5000
    assert "3 frames, 384 × 216" in result.output


def test_a_network_that_finds_no_boxes_has_no_such_film(tmp_path_factory, tmp_path):
    run = film_runs(tmp_path_factory)["fixed"]
    words = ["animate", "run", run, "--view", "detection", "-o", tmp_path / "film.gif"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code != 0 and not list(tmp_path.iterdir())
    assert isinstance(result.exception, InvalidValueError)
    assert "choose another --view" in str(result.exception)
