"""``bsnn-tha data``: from files to a configuration that trains, and to a picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bsnn_tha.cli import app
from bsnn_tha.config import RunConfig
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.training.run import train


def call(*words):
    return CliRunner().invoke(app, ["data", *map(str, words)])


@pytest.fixture
def arrays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BSNN_THA_CACHE", str(tmp_path / "cache"))
    y = np.arange(60) % 3
    x = np.random.default_rng(0).random((60, 10, 10)) * 0.2 + (y / 3)[:, None, None]
    np.savez("shades.npz", x=x.astype("f4"), y=y, classes=["dark", "grey", "light"])
    return tmp_path


def test_what_make_writes_trains(arrays):
    made = call("make", "shades.npz", "-o", "shades.toml", "--picture", "shades.png")
    assert made.exit_code == 0, made.output
    assert "class light" in made.output and "nothing stands out" in made.output
    with Image.open("shades.png") as picture:
        assert picture.size[0] > 400
    config = RunConfig.from_file(arrays / "shades.toml")
    changes = {"training.epochs": 1, "network.notation": "4C3-AP2-3", "snapshots.count": 0}
    result = train(config.with_changes(changes), output=arrays / "run", verbose=False)
    assert len(result.summary["layers"]) == 2
    again = call("make", "shades.npz", "-o", "shades.toml")
    assert again.exit_code and "is there already" in str(again.exception)


def test_check_writes_nothing(arrays):
    before = sorted(arrays.iterdir())
    checked = call("check", "shades.npz", "--set", "scale=1000.0")
    assert checked.exit_code == 0 and "! values go from" in checked.output
    assert sorted(arrays.iterdir()) == before


def test_what_a_table_does_not_say_is_asked_for_as_it_is_typed(tmp_path):
    (tmp_path / "recordings.csv").write_text("file,label\na.npy,one\n")
    asked = call("check", tmp_path / "recordings.csv")
    assert isinstance(asked.exception, InvalidValueError)
    path = tmp_path / "recordings.csv"
    assert str(asked.exception) == (
        f"{path} needs sensor and time_unit; add --set sensor=[2,128,128] --set time_unit=us|ms|s"
    )
    given = call("check", path, "--set", "sensor=[2,128,128]", "--set", "time_unit=us")
    assert "names" in str(given.exception) and "a.npy, which is not there" in str(given.exception)


def test_list_says_what_is_here_and_how_to_get_the_rest(tmp_path):
    listed = call("list", "--data-root", tmp_path)
    lines = {line.split()[0]: line for line in listed.output.splitlines()}
    assert "built in" in lines["digits"]
    assert "missing" in lines["mnist"] and "data check mnist downloads it" in lines["mnist"]
    assert "image-folder" not in lines
