"""Networks of the zoo are what they say, measured anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from places import ROOT
from typer.testing import CliRunner

from bsnn_tha import zoo
from bsnn_tha.cli import app
from bsnn_tha.deploy.export import deploy
from bsnn_tha.deploy.packed import serialised
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.training.evaluation import load_data
from bsnn_tha.training.machine import Machine

SLOW = {"mnist", "fashion-mnist", "spoken-digits", "saccade-digits"}
FILES = Path(zoo.__file__).parent


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in zoo.names()],
)
def test_every_network_does_on_its_test_set_what_it_says(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    root = tmp_path if name == "digits" else request.getfixturevalue("shared_data")
    trained, packed = zoo.load(name), zoo.packed(name)
    dataset = load_data(trained.config, Machine(root, tmp_path))
    assert dataset.test is not None
    made = deploy(trained, dataset, name=packed.facts["name"])
    for key in ("accuracy", "trained_accuracy", "test_samples", "labels", "preset", "seed"):
        assert made.deployment.facts[key] == packed.facts[key], key
    assert packed.facts["accuracy"] >= packed.facts["trained_accuracy"] - 0.001
    # Deployed again it is the same network, number for number.
    for again, stored in zip(made.deployment.whole.layers, packed.network.layers, strict=True):
        np.testing.assert_array_equal(again.threshold, stored.threshold)
        np.testing.assert_array_equal(again.offset, stored.offset)
        for one, other in zip(again.terms, stored.terms, strict=True):
            np.testing.assert_array_equal(one.weights, other.weights)
            np.testing.assert_array_equal(one.gain, other.gain)


@pytest.mark.parametrize("name", zoo.names())
def test_every_network_says_where_it_comes_from(name: str) -> None:
    packed = zoo.packed(name)
    for key in ("licence", "commit", "seed", "preset", "dataset", "labels", "notation"):
        assert key in packed.facts
    assert packed.config is not None
    content, sizes = serialised(packed)
    assert (FILES / f"{name}{zoo.SUFFIX}").read_bytes() == content
    assert sizes["weights"] * 8 >= packed.network.weight_bits


def test_the_zoo_is_evaluated_by_name() -> None:
    result = CliRunner().invoke(app, ["evaluate", "zoo:digits"])
    assert result.exit_code == 0, result.output
    accuracy = zoo.packed("digits").facts["trained_accuracy"]
    assert f"test accuracy {accuracy:.2%}" in result.output and "zoo:digits" in result.output


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_the_zoo_has_no_other_checkpoint(command: str, tmp_path: Path) -> None:
    words = [command, "zoo:digits", "--checkpoint", "last"]
    words += ["--output", str(tmp_path / "new")] if command == "export" else []
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, InvalidValueError)
    assert "zoo:digits has its best parameters only" in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_another_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidValueError, match="no network 'dgits'; did you mean 'digits'"):
        zoo.load("dgits")


@pytest.mark.parametrize("name", zoo.names())
def test_the_page_has_what_was_measured(name: str) -> None:
    page = (ROOT / "docs" / "deploy" / "README.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| `zoo:{name}`"))
    facts = zoo.packed(name).facts
    shown = f"{100 * facts['trained_accuracy']:.2f}, {100 * facts['accuracy']:.2f}"
    assert row.endswith(f"| {shown} |")
