"""Which checkpoints are taken and which are refused, in one line."""

from __future__ import annotations

import re
import shutil

import pytest
import torch
from training_runs import MACHINE, digits, tiny

from bsnn_tha.errors import InvalidValueError, RunError
from bsnn_tha.run_folder import RunFolder
from bsnn_tha.training.evaluation import evaluate
from bsnn_tha.training.module import SpikingModule
from bsnn_tha.training.run import resume

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning")


def refuse(done, path, message):
    with pytest.raises(RunError, match=message) as refusal:
        evaluate(done.folder.path, checkpoint=path, machine=MACHINE)
    text = str(refusal.value)
    assert "\n" not in text
    assert str(path) in text


def test_a_missing_checkpoint_is_refused(done, tmp_path):
    refuse(done, tmp_path / "absent.ckpt", "there is no checkpoint .*; give best, last or the path")
    refuse(done, done.folder.path / "absent.ckpt", "has best.ckpt and last.ckpt$")


def test_a_run_without_a_finished_epoch_says_how_to_go_on(done, tmp_path):
    shutil.copy(done.folder.config, tmp_path / "config.toml")
    refuse(done, RunFolder(tmp_path).last, f"no epoch .* has ended: .* train --resume {tmp_path}$")


DAMAGE = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "end_missing": lambda content: content[:-100],
    "text": lambda content: b"epoch,loss\n0,1.0\n",
    "other_bytes": lambda content: bytes(range(256)) * 20,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_checkpoint_is_refused(done, damage, tmp_path):
    path = tmp_path / "damaged.ckpt"
    path.write_bytes(damage(done.folder.last.read_bytes()))
    refuse(done, path, "is not a readable checkpoint")


FOREIGN = {
    "tensor": torch.zeros(3),
    "list": [1, 2],
    "number": 3,
    "no_weights": {"epoch": 1},
    "weights_that_are_none": {"state_dict": 3},
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_file_of_torch_that_is_no_checkpoint_is_refused(done, content, tmp_path):
    path = tmp_path / "foreign.ckpt"
    torch.save(content, path)
    refuse(done, path, "is not a readable checkpoint")


def test_a_checkpoint_with_words_for_weights_is_refused(done, tmp_path):
    path = tmp_path / "foreign.ckpt"
    checkpoint = torch.load(done.folder.last, weights_only=True)
    checkpoint["state_dict"]["network.layers.0.neuron.beta"] = "0.9"
    torch.save(checkpoint, path)
    refuse(done, path, "checkpoint")


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"network__notation": "6C3-AP2-10"}, r"has shape \[6, 1, 3, 3\], this run's \[4, 1, 3"),
        ({"network__weights": "float"}, "it has no network.layers.0.synapse.latent_weight"),
        (
            {"network__notation": "4C3-AP2-10-10"} | {f"threshold__{k}": v for k, v in {
                "theta_0": 1.0, "theta_inf": 2.0, "alpha": 0.1}.items()},
            "it has network.layers.2",
        ),
    ],
    ids=["other_width", "float_weights", "deeper"],
)  # fmt: skip
def test_a_checkpoint_of_another_architecture_is_refused(done, change, difference, tmp_path):
    path = tmp_path / "other.ckpt"
    module = SpikingModule(tiny(**change), digits())
    torch.save({"state_dict": module.state_dict()}, path)
    refuse(done, path, f"is of another architecture: .*{difference}")


def test_what_is_no_run_folder_is_refused(tmp_path):
    for path, why in ((tmp_path, r"it has no config\.toml"), (tmp_path / "absent", "there is no")):
        with pytest.raises(RunError, match=f"is not a run folder: {why}"):
            evaluate(path, machine=MACHINE)


def test_an_unknown_split_names_what_there_is(done):
    with pytest.raises(InvalidValueError, match=r"'train' split in this run; .*validation, test"):
        evaluate(done.folder.path, split="train", machine=MACHINE)


# The way out


def spoil(path):
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(("damaged", "whole"), [("last", "best"), ("best", "last")])
def test_a_damaged_checkpoint_names_the_whole_one_beside_it(done, damaged, whole, tmp_path):
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(done.folder.path, folder.path)
    spoil(folder.checkpoint(damaged))
    with pytest.raises(RunError) as refusal:
        evaluate(folder.path, checkpoint=damaged, machine=MACHINE)
    assert str(refusal.value).endswith(
        f"{whole}.ckpt is whole: bsnn-tha evaluate {folder.path} --checkpoint {whole}"
    )
    assert evaluate(folder.path, checkpoint=whole, machine=MACHINE)["accuracy"] > 0
    spoil(folder.checkpoint(whole))
    with pytest.raises(RunError, match="use another one, or train anew$"):
        evaluate(folder.path, checkpoint=damaged, machine=MACHINE)


def test_a_run_that_cannot_go_on_says_what_is_left_of_it(done, tmp_path):
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(done.folder.path, folder.path)
    folder.summary.unlink()
    spoil(folder.last)
    anew = f"start anew with bsnn-tha train --config {folder.config}"
    with pytest.raises(RunError) as refusal:
        resume(folder.path, machine=MACHINE, verbose=False)
    assert str(refusal.value).endswith(
        f"best.ckpt is whole: bsnn-tha evaluate {folder.path} --checkpoint best, or {anew}"
    )
    spoil(folder.best)
    with pytest.raises(RunError, match=rf"cannot be resumed; {re.escape(anew)}$"):
        resume(folder.path, machine=MACHINE, verbose=False)


def test_a_folder_of_runs_names_one_of_them(tmp_path):
    for below in ("seed-3", "seed-4"):
        (tmp_path / below).mkdir()
        (tmp_path / below / "config.toml").touch()
    with pytest.raises(RunError, match=rf"it holds 2 runs, give one: {tmp_path / 'seed-3'}$"):
        RunFolder.open(tmp_path)
