"""Run folders: what is in one, how it is made and how its files are written."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from training_runs import (
    BATCH,
    EPOCHS,
    FINISHED,
    MACHINE,
    PER_EPOCH,
    SEED,
    names,
    table,
    tiny,
    train_tiny,
    weights,
)

from bsnn_tha.config import RunConfig
from bsnn_tha.errors import RunError
from bsnn_tha.run_folder import RunFolder, replace_atomically
from bsnn_tha.training.run import train
from bsnn_tha.training.summary import read_summary

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning")


def test_a_run_folder_holds_its_files_and_no_others(done):
    assert names(done.folder.path) == FINISHED
    assert json.loads(done.folder.summary.read_text()) == done.summary
    assert RunConfig.from_file(done.folder.config) == tiny()


def test_there_is_a_row_per_epoch(done):
    rows = table(done.folder)
    assert [row["epoch"] for row in rows] == list(range(EPOCHS))
    assert [row["iteration"] for row in rows] == [PER_EPOCH * (i + 1) for i in range(EPOCHS)]
    assert done.summary["epochs"] == EPOCHS
    assert done.summary["iterations"] == PER_EPOCH * EPOCHS
    assert done.summary["seed"] == SEED
    for ways in done.summary["routes"]:
        assert set(ways) == {"training", "evaluation"}
        assert all(way.endswith(("cpu.lif", "norm_lif")) for own in ways.values() for way in own)
    for split, value in (("train", "loss"), ("train", "accuracy")):
        assert done.summary[split][value] == pytest.approx(rows[-1][f"{split}_{value}"], rel=1e-5)


def test_the_configuration_in_the_folder_repeats_the_run(tmp_path):
    first = train_tiny(tmp_path / "first", network__dropout=0.2, training__epochs=2)
    config = RunConfig.from_file(first.folder.config)
    torch.rand(17)  # the state of the global generator must not matter
    second = train(config, output=tmp_path / "second", machine=MACHINE, verbose=False)
    assert second.folder.metrics.read_text() == first.folder.metrics.read_text()
    for name in ("best.ckpt", "last.ckpt"):
        a, b = weights(first.folder.path / name), weights(second.folder.path / name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)
    other = train(
        config.with_changes({"training.seed": SEED + 1}),
        output=tmp_path / "other",
        machine=MACHINE,
        verbose=False,
    )
    a, b = weights(first.folder.last), weights(other.folder.last)
    key = "network.layers.0.synapse.latent_weight"
    assert not torch.equal(a[key], b[key])
    assert other.folder.metrics.read_text() != first.folder.metrics.read_text()


def test_numbered_folders_take_the_next_free_number(tmp_path):
    config = tiny(training__epochs=1, data__subset=BATCH)
    parent = tmp_path / "deep" / "runs"
    folders = [
        train(config, parent=parent, machine=MACHINE, verbose=False).folder.path for _ in range(2)
    ]
    assert folders == [parent / "digits-tha-1", parent / "digits-tha-2"]


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        ("mine/v2", "digits-mine-v2-1"),
        ("../../mine", "digits-..-..-mine-1"),
        ("a\\b:c\x00d", "digits-a-b-c-d-1"),
        ("ü" * 300, f"digits-{'ü' * 73}-1"),
    ],
    ids=["slash", "above", "other_systems", "long"],
)
def test_a_variant_may_have_any_name_and_its_run_stays_below_the_parent(variant, name, tmp_path):
    parent = tmp_path / "runs"
    config = tiny(training__epochs=1, data__subset=BATCH, variant=variant)
    result = train(config, parent=parent, machine=MACHINE, verbose=False)
    assert result.folder.path == parent / name
    assert names(tmp_path) == ["runs"] and names(parent) == [name]
    assert RunConfig.from_file(result.folder.config).variant == variant


def test_numbered_folders_are_claimed_by_one_caller_each(tmp_path):
    (tmp_path / "x-2").write_text("a file in the way")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: RunFolder.create_numbered(tmp_path, "x").path, range(24)))
    assert len(set(made)) == 24
    assert {path.name for path in made} == {f"x-{n}" for n in range(1, 26)} - {"x-2"}


def test_a_file_is_replaced_only_if_all_went_well(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replace_atomically(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    with replace_atomically(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file"]


def test_an_output_folder_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "summary.json").write_text("mine")
    with pytest.raises(RunError, match=r"is not empty; results are never overwritten"):
        train_tiny(tmp_path)
    assert names(tmp_path) == ["summary.json"]
    assert (tmp_path / "summary.json").read_text() == "mine"


@pytest.mark.parametrize("where", ["output", "parent"])
@pytest.mark.parametrize("below", ["", "below", "below/deeper"], ids=["at", "below", "far_below"])
def test_an_output_folder_that_cannot_be_made_is_refused(where, below, tmp_path):
    file = tmp_path / "file"
    file.write_text("a regular file")
    with pytest.raises(RunError, match=r"^cannot write output folder ") as refusal:
        train(tiny(), **{where: file / below}, machine=MACHINE, verbose=False)
    assert "\n" not in str(refusal.value)
    assert names(tmp_path) == ["file"]
    assert file.read_text() == "a regular file"


def test_an_empty_folder_may_be_given(tmp_path):
    train_tiny(tmp_path, training__epochs=1, data__subset=BATCH)
    assert "summary.json" in names(tmp_path)


@pytest.mark.parametrize("content", [b"", b'{"epochs": 3', b"[]", b"\xff"])
def test_a_damaged_summary_is_named_with_the_way_out(content, tmp_path):
    (tmp_path / "summary.json").write_bytes(content)
    with pytest.raises(RunError, match=r"summary\.json is damaged; delete it, then .* --resume"):
        read_summary(RunFolder(tmp_path))
