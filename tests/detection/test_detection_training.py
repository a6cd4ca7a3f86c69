"""Training, measuring and resuming on moving-boxes, at sizes that take seconds."""

from __future__ import annotations

import json

import pytest
import torch
from detectors import detector
from typer.testing import CliRunner

from bsnn_tha import load
from bsnn_tha.cli import app
from bsnn_tha.data.dataset import BoxTask
from bsnn_tha.data.moving_boxes import load_moving_boxes
from bsnn_tha.detection.anchors import k_means_anchors
from bsnn_tha.detection.boxes import NONE, Detections
from bsnn_tha.detection.precision import in_pixels
from bsnn_tha.detection.protocols import PROTOCOLS
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.presets import load_preset, preset_names
from bsnn_tha.training.boxes import BoxMeter
from bsnn_tha.training.evaluation import evaluate
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.run import train


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boxes")
    return Machine(folder / "data", folder / "cache", device="cpu")


@pytest.fixture(scope="module")
def trained(machine, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "run"
    return train(detector(), output=output, machine=machine, verbose=False)


def dataset_of(machine):
    return load_moving_boxes(
        machine.data_root, cache=machine.cache_root, num_steps=3, bin_ms=15.0, clips=[4, 2, 2]
    )


def test_a_run_has_its_precision_and_its_activity(trained):
    summary = json.loads(trained.folder.summary.read_text())
    assert 0 <= summary["test"]["map"] <= 1 and 0 <= summary["validation"]["best_map"] <= 1
    assert summary["test"]["protocol"] == "all" and set(summary["test"]["classes"]) == {
        "box",
        "disc",
    }
    assert summary["test"]["protocols"]["all"]["map"] == summary["test"]["map"]
    assert summary["layers"][0]["spikes_per_sample"] > 0
    assert summary["weight_bits"]["quantized"] > 0 and summary["workload"]["effective_acs"] > 0
    assert "val_map" in trained.folder.metrics.read_text().splitlines()[0]


def test_what_is_reported_is_what_the_network_finds(trained, machine):
    """Sample by sample with the loaded network, measured anew."""
    network, dataset = load(trained.folder.path), dataset_of(machine)
    frames = []
    for number in range(len(dataset.test)):
        batch, truths = dataset.test[[number]]
        (found,) = network.detect(batch.dense())
        assert (found.boxes[:, 2:] <= torch.tensor([80.0, 64.0])).all()
        scale = torch.tensor([80.0, 64.0, 80.0, 64.0])
        frames.append(in_pixels(truths[0], found._replace(boxes=found.boxes / scale), (80, 64)))
    times = dataset.test.times.tolist()
    expected = PROTOCOLS["all"].measure(frames, times, dataset.class_names)
    assert trained.summary["test"]["map"] == pytest.approx(expected.mean, abs=1e-6)
    assert trained.summary["test"]["boxes"] == (dataset.test.targets[..., 4] != NONE).sum()
    evaluated = evaluate(trained.folder.path, machine=machine)
    assert evaluated["map"] == trained.summary["test"]["map"]


def test_a_loaded_detector_predicts_boxes_and_says_what_it_is_worth(trained, machine):
    network = load(trained.folder.path)
    batch, _ = dataset_of(machine).test[[0, 1, 2]]
    predicted, found = network.predict(batch.dense()), network.detect(batch.dense())
    assert len(predicted) == len(found) == 3
    for one, other in zip(predicted, found, strict=True):
        assert all(torch.equal(*values) for values in zip(one, other, strict=True))
        assert (one.scores.diff() <= 0).all() and len(one.scores) == len(one.boxes) > 0
        assert set(network.names(one.classes)) <= {"box", "disc"}
    assert network.map == trained.summary["test"]["map"] and network.accuracy is None


def test_anchors_are_those_of_the_training_boxes_and_kept_with_the_run(trained, machine):
    targets = dataset_of(machine).train.targets
    sizes = targets[targets[..., 4] != NONE][:, 2:4]
    anchors = load(trained.folder.path).loss.anchor_sizes
    assert torch.equal(anchors, k_means_anchors(sizes, 2))


@pytest.mark.parametrize("variant", ["fixed", "tha", "flt32"])
def test_every_variant_trains(variant, machine, tmp_path):
    config = detector(variant, training__epochs=1, snapshots__count=0)
    result = train(config, output=tmp_path / "run", machine=machine, verbose=False)
    assert result.summary["test"]["map"] is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"network__weights": "sawb", "network__weight_bits": 4},
        {"loss__readout": "spike_rate", "network__output": "spikes", "loss__gain": 8.0},
        {
            "network__notation": "4C3P-MP2-8C3P-MP2-960", "loss__grid": [8, 10],
            "loss__shared_classes": True, "loss__gain": 0.02,
        },
    ],
)  # fmt: skip
def test_other_weights_readouts_and_heads_train(changes, machine, tmp_path):
    config = detector(training__epochs=1, snapshots__count=0, **changes)
    result = train(config, output=tmp_path / "run", machine=machine, verbose=False)
    assert result.summary["test"]["map"] is not None


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"network__notation": "4C3P-MP2-16C1"}, "has 2 .box, disc.; end network.notation in 14"),
        ({"network__notation": "4C3P-MP2-13C1"}, "each cell must have anchors"),
        ({"network__notation": "4C3P-MP3-14C1"}, "21 rows of cells do not divide 64 rows"),
        ({"loss__anchors": 60, "network__notation": "4C3P-MP2-420C1"}, "at most as many as boxes"),
        (
            {"loss__name": "cross_entropy", "loss__anchors": None},
            "needs classes, but moving-boxes has boxes; use yolo",
        ),
        ({"augment__shift": 2}, "augment.shift changes where things are"),
        ({"augment__mixup": 0.2}, "augment.mixup is for still images"),
        ({"training__record_output": True, "data__batch_size": 5}, "record_output keeps traces"),
        ({"loss__divergence": 1.0}, "moving-boxes has boxes; set it to 0"),
        ({"loss__anchors": 0}, "loss.anchors must be at least 1"),
        ({"loss__gain": 0.0}, "loss.gain must be above 0"),
        ({"loss__ignore": 1.5}, r"loss.ignore must be in \[0, 1\]"),
        ({"loss__readout": "softmax_membrane"}, "read one by one"),
        ({"loss__readout": "spike_rate"}, "reads output spikes"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(changes, rule, machine, tmp_path):
    with pytest.raises(InvalidValueError, match=rule) as caught:
        train(detector(**changes), output=tmp_path / "run", machine=machine, verbose=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_detectors_loss_is_refused_for_classes(tmp_path):
    config = load_preset("digits", "bsnn").with_changes(
        {"loss.name": "yolo", "network.notation": "8C3P-14C1", "loss.anchors": 2}
    )
    with pytest.raises(InvalidValueError, match="needs boxes, but digits has classes"):
        train(config, output=tmp_path / "run", machine=Machine(device="cpu"), verbose=False)


def test_batches_are_measured_as_one():
    """However samples come together, and in whatever order."""
    torch.manual_seed(0)
    truths = torch.rand(6, 3, 5) * 0.4 + 0.1
    truths[..., 4] = torch.randint(0, 2, (6, 3))
    truths[2, 1:, 4] = NONE
    found = [
        Detections(rows[:, :4] + 0.02 * torch.randn(3, 4), torch.rand(3), rows[:, 4].abs().long())
        for rows in truths
    ]

    def precision(*batches):
        meter = BoxMeter(BoxTask((80, 64)), ("box", "disc"))
        for rows in batches:
            meter.update([found[row] for row in rows], truths[rows])
        return meter.compute().item()

    whole = precision([0, 1, 2, 3, 4, 5])
    assert 0 < whole < 1
    assert precision([5, 1], [0], [2, 3, 4]) == pytest.approx(whole, abs=1e-7)


def test_presets_of_gen1_build_the_papers_network():
    assert preset_names()["gen1"] == ["fixed", "lt-snn", "tha"]
    for variant in preset_names()["gen1"]:
        config = load_preset("gen1", variant)
        network = config.build_network((2, 240, 304))
        head = config.build_loss(network).head
        assert (head.rows, head.columns, head.anchors, head.classes) == (6, 8, 2, 2)


def test_its_report_has_the_precision_and_dashes_for_what_does_not_fire(trained, machine, tmp_path):
    places = ["--data-root", machine.data_root, "--cache-root", machine.cache_root]
    words = ["report", trained.folder.path, *places, "-o", tmp_path / "page.html"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"{trained.summary['test']['map']:.3f}</b>test mAP" in page
