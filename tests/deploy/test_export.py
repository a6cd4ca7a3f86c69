"""The command ``export``: folders whole or not at all, reports that hold, refusals of one line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from deployed import behaviour
from typer.testing import CliRunner

from bsnn_tha.cli import app
from bsnn_tha.cli import export as export_command
from bsnn_tha.data import load_dataset
from bsnn_tha.data.dataset import Dataset, TensorSplit
from bsnn_tha.deploy import export
from bsnn_tha.deploy.deployment import Deployment
from bsnn_tha.deploy.encode import encoding_of
from bsnn_tha.deploy.packed import read
from bsnn_tha.deploy.reference import run
from bsnn_tha.errors import BsnnThaError, DeployError, InvalidValueError, RunError
from bsnn_tha.losses import CrossEntropyLoss, MembraneLoss
from bsnn_tha.observe.energy import Costs
from bsnn_tha.presets import load_preset
from bsnn_tha.training.run import train
from bsnn_tha.training.trained import Trained, load


@pytest.fixture(scope="module")
def digits() -> Dataset:
    options = {"root": Path(), "cache": Path(), "seed": 0, "validation": 0.1, "num_steps": 6}
    return load_dataset("digits", **options)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    changes = {"training.epochs": 8, "data.subset": 256, "snapshots.count": 0,
               "network.notation": "4C3-AP2-10"}  # fmt: skip
    config = load_preset("digits", "best").with_changes(changes)
    train(config, output=folder, verbose=False)
    return folder


@pytest.fixture(scope="module")
def trained(run_folder: Path) -> Trained:
    return load(run_folder)


@pytest.fixture(scope="module")
def exported(trained: Trained, digits: Dataset) -> export.Exported:
    return export.deploy(trained, digits, name="small", samples=120)


def test_figures_are_those_of_the_two_networks(
    exported: export.Exported, trained: Trained, digits: Dataset
) -> None:
    assert digits.test is not None
    images, targets = digits.test[list(range(120))]
    spikes, membranes = behaviour(trained.network, images, 6)
    network = exported.deployment.whole
    inputs = np.rint(images.numpy() * 16).astype(np.int64)
    window = run(network, inputs, 6)
    figures = exported.figures
    right = membranes.mean(0).argmax(-1) == targets.numpy()
    assert figures["trained_accuracy"] == right.mean() > 0.15
    assert figures["deployed_accuracy"] == (window.scores.argmax(-1) == targets.numpy()).mean()
    differ = [(a != b).sum() for a, b in zip(spikes, window.layers, strict=True)]
    assert figures["differing_spikes"] == sum(differ) / sum(a.size for a in spikes)
    # Additions: an image's pixels meet their weights once, spikes at each step.
    first, second = figures["layers"]
    weight = torch.ones(4, 1, 3, 3)
    fan = torch.nn.functional.conv2d((images > 0).float(), weight).sum().item() / 120
    assert first["additions"] == pytest.approx(fan)
    assert first["dense_additions"] == 4 * 6 * 6 * 9
    assert second["additions"] == window.layers[0].sum() * 10 / 120
    assert second["dense_additions"] == 36 * 10 * 6
    assert first["updates"] == 36 * 6


def test_energy_follows_its_constants(trained: Trained, digits: Dataset) -> None:
    free = Costs(0.0, 0.0, 0.0, 0.0, 0.0, "nothing costs")
    only = Costs(1.0, 0.0, 0.0, 0.0, 0.0, "additions")
    for costs, expected in (
        (free, lambda row: 0.0),
        (only, lambda row: (row["additions"] + 2 * row["updates"]) / 1000),
    ):
        made = export.deploy(trained, digits, name="n", samples=10, costs=costs)
        for row in made.figures["layers"]:
            assert row["energy_nj"] == pytest.approx(expected(row))


def test_a_packed_export_is_the_network_and_its_report(
    exported: export.Exported, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    figures = export.write(exported, "packed", folder)
    assert sorted(file.name for file in folder.iterdir()) == [
        "report.json", "report.md", "small.safetensors"
    ]  # fmt: skip
    assert json.loads((folder / "report.json").read_text()) == figures
    size = (folder / "small.safetensors").stat().st_size
    assert figures["written"]["bytes"]["total"] == size
    assert f"total {size:,}" in (folder / "report.md").read_text()
    samples = exported.deployment.samples
    again = run(read(folder / "small.safetensors").network, samples.inputs, samples.num_steps)
    expected = run(exported.deployment.whole, samples.inputs, samples.num_steps)
    np.testing.assert_array_equal(again.scores, expected.scores)


def test_a_fact_of_ones_own_replaces_nothing_that_was_measured(
    exported: export.Exported, tmp_path: Path
) -> None:
    def write(**options: object) -> dict[str, object]:
        deployment = dataclasses.replace(exported.deployment, options=options)
        return export.write(
            dataclasses.replace(exported, deployment=deployment), "packed", tmp_path / "out"
        )

    with pytest.raises(InvalidValueError, match=r"^accuracy is 0\.\d+ here, as known or measured"):
        write(accuracy=1.0)
    assert list(tmp_path.iterdir()) == []
    write(licence="MIT")
    facts = read(tmp_path / "out" / "small.safetensors").facts
    assert facts == {**exported.deployment.facts, "licence": "MIT"}


def breaks(deployment: Deployment, folder: Path) -> dict[str, int]:
    (folder / "half").write_text("written")
    raise InvalidValueError("cannot be exact")


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "deploy", None)  # a minute of MNIST
    (tmp_path / "file").touch()
    options = ["export", "zoo:digits", "--samples=2", "-o", str(tmp_path / "file" / "out")]
    result = CliRunner().invoke(app, options)
    assert isinstance(result.exception, RunError)
    assert str(result.exception).startswith(f"cannot write output folder {tmp_path / 'file'}")


def test_nothing_is_left_of_an_export_that_fails(exported: export.Exported, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="cannot be exact"):
        export.write(exported, f"{__file__}:breaks", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    with pytest.raises(DeployError, match="exists"):
        export.write(exported, "packed", tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(DeployError, match="cannot write"):
        export.write(exported, "packed", tmp_path / "file" / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("loss", "match"),
    [
        (CrossEntropyLoss("softmax_membrane"), "softmax_membrane.*'mean_membrane'"),
        (MembraneLoss(), "MembraneLoss.*spike_count"),
    ],
)
def test_answers_that_are_no_sum_are_refused(loss: object, match: str) -> None:
    with pytest.raises(InvalidValueError, match=match):
        export.readout_of(loss)  # type: ignore[arg-type]


def _images(values: torch.Tensor, scale: float = 1.0) -> Dataset:
    split = TensorSplit(values, torch.zeros(len(values), dtype=torch.int64), scale)
    return Dataset("own", tuple(values.shape[1:]), 2, True, split, None, split, "made here")


@pytest.mark.parametrize(
    ("values", "bits", "expected"),
    [
        (torch.tensor([[7.0, 255.0]]) / 255, 8, (8, False, 1 / 255)),
        (torch.tensor([[0.0, 3.0]]), 8, (2, False, 1.0)),
        (torch.tensor([[-2.0, 3.0]]), 8, (3, True, 1.0)),
        (torch.tensor([[0.0, 0.7312]]), 6, (6, False, 0.7312 / 63)),
        (torch.tensor([[-0.7312, 0.5]]), 6, (6, True, 0.7312 / 31)),
        (torch.tensor([[7.0, 255.0]]) / 255, 4, (4, False, 1 / 15)),
    ],
)
def test_inputs_take_the_bits_that_they_need(
    values: torch.Tensor, bits: int, expected: tuple[int, bool, float]
) -> None:
    found = encoding_of(_images(values), bits)
    assert (found.bits, found.signed) == expected[:2]
    assert found.scale == pytest.approx(expected[2])
    if bits == 8:
        held = found.encode(values.numpy()) * found.scale
        np.testing.assert_allclose(held, values.numpy(), rtol=1e-6)


def _command(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["export", *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, BsnnThaError), result.exception
        return 2, str(result.exception)
    return result.exit_code, result.output


def test_the_command_writes_beside_the_run(run_folder: Path) -> None:
    code, output = _command(str(run_folder), "--samples", "20", "--state-bits", "16")
    assert code == 0 and "accuracy in whole numbers" in output
    assert (run_folder / "packed" / "small.safetensors").exists()
    code, output = _command(str(run_folder), "--samples", "20")
    assert code == 2 and "exists" in output


def test_the_command_says_what_to_do_with_c_and_when_answers_change(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    code, output = _command("zoo:digits", "--to", "c", "--samples", "2", "-o", f"{tmp_path}/c")
    assert code == 0 and "note:" not in output
    assert output.endswith(f"make -C {tmp_path / 'c'} test\n")
    monkeypatch.setattr(export_command, "_ALIKE", 1.01)
    code, output = _command(str(run_folder), "--samples", "20", "-o", f"{tmp_path}/packed")
    assert code == 0 and "note: 0.0% of the answers are others" in output


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["nowhere"], "nowhere"),
        (["zoo:mnits"], "did you mean 'mnist'"),
        (["zoo:digits", "--to", "pakced"], "unknown target 'pakced'; did you mean 'packed'"),
        (["zoo:digits", "--fraction-bits", "99"], "fraction_bits must be 0 to 24"),
        (["zoo:digits", "--samples", "0", "-o", "new"], "samples must be at least 1"),
        (["zoo:digits", "--input-bits", "0", "-o", "new"], "input_bits must be 1 to 16"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = _command(*arguments)
    assert code == 2 and match in output and "\n" not in output.strip()
    assert list(tmp_path.iterdir()) == []


def test_runs_without_checkpoint_or_bits_are_refused(tmp_path: Path, run_folder: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.toml").write_bytes((run_folder / "config.toml").read_bytes())
    code, output = _command(str(empty))
    assert code == 2 and "no checkpoint" in output
    real = tmp_path / "float"
    changes = {"training.epochs": 1, "data.subset": 64, "snapshots.count": 0,
               "network.notation": "10"}  # fmt: skip
    config = load_preset("digits", "flt32").with_changes(
        {**changes, "threshold.theta_0": 1.0, "threshold.theta_inf": None, "threshold.alpha": None}
    )
    train(config, output=real, verbose=False)
    code, output = _command(str(real))
    assert code == 2 and "full-precision weights" in output and "'binary'" in output
    assert not (real / "packed").exists()
