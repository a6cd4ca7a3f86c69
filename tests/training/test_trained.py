"""A trained network in one line: it answers as it did when it was measured."""

from __future__ import annotations

import pytest
import torch

import bsnn_tha
from bsnn_tha.data.dataset import Dataset, TensorSplit
from bsnn_tha.data.images import load_digits
from bsnn_tha.presets import load_preset
from bsnn_tha.training.run import train
from bsnn_tha.training.task import Task

TINY = {
    "network.notation": "4C3-AP2-10",
    "threshold.theta_0": [0.5, 1.0],
    "threshold.theta_inf": [1.5, 2.5],
    "data.subset": 512,
    "data.num_steps": 5,
    "training.epochs": 1,
    "snapshots.count": 0,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = load_preset("digits", "tha").with_changes(TINY)
    return train(config, output=tmp_path_factory.mktemp("runs") / "a", verbose=False)


def test_it_answers_as_it_was_measured(run, tmp_path):
    trained = bsnn_tha.load(run.folder.path)
    test = load_digits(tmp_path, validation=0.1, seed=0).test
    images, labels = test[list(range(len(test)))]
    right = (trained.predict(images) == labels).float().mean().item()
    assert right == pytest.approx(trained.accuracy, abs=1e-6)
    assert trained.accuracy == run.summary["test"]["accuracy"]
    assert trained.config.network.notation == "4C3-AP2-10"
    assert not trained.network.training
    assert trained(images[:3]).spikes.shape == (5, 3, 10)
    assert trained.names(torch.tensor([3, 1])) == ["3", "1"]


def test_last_is_another_checkpoint_and_missing_ones_are_refused(run, tmp_path):
    assert bsnn_tha.load(run.folder.path, checkpoint="last").task == Task(
        (1, 8, 8), True, (*"0123456789",)
    )
    with pytest.raises(bsnn_tha.BsnnThaError, match="not a run folder"):
        bsnn_tha.load(tmp_path)
    with pytest.raises(bsnn_tha.BsnnThaError, match="none is not a run folder: there is nothing"):
        bsnn_tha.load(tmp_path / "none")
    with pytest.raises(bsnn_tha.BsnnThaError, match=r"best\.ckpt is not a run folder but a file"):
        bsnn_tha.load(run.folder.best)
    with pytest.raises(bsnn_tha.BsnnThaError, match="no checkpoint"):
        bsnn_tha.load(run.folder.path, checkpoint=tmp_path / "none.ckpt")


def test_a_checkpoint_of_before_needs_the_data(run, tmp_path):
    path = tmp_path / "old.ckpt"
    content = torch.load(run.folder.best, weights_only=True)
    assert content.pop(Task.KEY)["input_shape"] == [1, 8, 8]
    torch.save(content, path)
    old, new = bsnn_tha.load(run.folder.path, checkpoint=path), bsnn_tha.load(run.folder.path)
    assert old.task == new.task
    for one, other in zip(old.network.parameters(), new.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_names_of_classes_travel_with_the_checkpoint():
    split = TensorSplit(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]))
    named = Dataset("pets", (1, 2, 2), 2, True, split, None, None, "", class_names=("cat", "dog"))
    task = Task.of(named)
    assert Task.from_plain(task.to_plain()) == task
    assert Task.from_plain(None) is None
