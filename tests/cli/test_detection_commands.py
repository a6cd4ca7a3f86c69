"""Boxes on the command line: make the recordings, look at them, train, evaluate."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from bsnn_tha.cli import app
from studies.errors import StudyError
from studies.objective import check_objectives


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data root with a small set in it."""
    root = tmp_path_factory.mktemp("root")
    result = call("data", "make", "moving-boxes", "--data-root", root, "--set", "clips=[4,2,2]")
    assert result.exit_code == 0, result.output
    return root


def test_what_is_made_is_looked_at_and_trained_on(made, tmp_path):
    assert len(list((made / "MovingBoxes" / "train").iterdir())) == 8
    places = ["--data-root", made, "--cache-root", tmp_path / "cache"]
    seen = call("data", "check", "moving-boxes", *places, "--picture", tmp_path / "a.png")
    assert seen.exit_code == 0, seen.output
    with Image.open(tmp_path / "a.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    assert (0x00, 0x9E, 0x73) in colours  # the boxes
    small = {"data.num_steps": 2, "network.notation": "4C3P-MP2-14C1", "loss.anchors": 2}
    sets = [word for key, value in small.items() for word in ("--set", f"{key}={value}")]
    run = tmp_path / "run"
    trained = call(
        "train", "moving-boxes", "--variant", "lt-snn", "--epochs", 1, "--batch-size", 4, *sets,
        *places, "--device", "cpu", "--output", run,
    )  # fmt: skip
    assert trained.exit_code == 0, trained.output
    measured = json.loads((run / "summary.json").read_text())["test"]
    assert f"test mAP {measured['map']:.3f}" in trained.output
    evaluated = call("evaluate", run, *places, "--device", "cpu")
    assert evaluated.exit_code == 0, evaluated.output
    assert f"test mAP {measured['map']:.3f}" in evaluated.output
    assert f"({measured['boxes']} boxes in {measured['frames']} frames)" in evaluated.output


def test_nothing_is_overwritten_and_settings_are_checked(made):
    again = call("data", "make", "moving-boxes", "--data-root", made)
    assert again.exit_code != 0
    assert len(list((made / "MovingBoxes" / "train").iterdir())) == 8
    for setting in ("clip=[1,1,1]", "clips=3", "clips=[1,1,0]", "made_from=x"):
        wrong = call("data", "make", "moving-boxes", "-o", made / "other", "--set", setting)
        assert wrong.exit_code != 0 and not (made / "other").exists()


def test_objectives_fit_what_is_found(made, tmp_path):
    from bsnn_tha.data import load_dataset

    def dataset(name):
        return load_dataset(
            name, root=made, cache=tmp_path, seed=0, validation=0.1, num_steps=2, options={}
        )

    boxes, classes = dataset("moving-boxes"), dataset("digits")
    check_objectives(("map",), boxes)
    check_objectives(("map", "spikes"), boxes)
    with pytest.raises(StudyError, match="another --objective than accuracy"):
        check_objectives(("accuracy",), boxes)
    with pytest.raises(StudyError, match="another --objective than map"):
        check_objectives(("map",), classes)
    with pytest.raises(StudyError, match="timing needs a target trace, but moving-boxes has boxes"):
        check_objectives(("timing",), boxes)
