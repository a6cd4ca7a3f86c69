"""Training by several processes: the same results as one process, and one set of files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commands import Command
from lightning.pytorch.utilities import rank_zero_only
from local_server import reserved_port
from places import ROOT
from training_runs import (
    EPOCHS,
    MACHINE,
    SEED,
    WITH_SNAPSHOTS,
    checkpoint,
    names,
    table,
    tiny,
    weights,
)

from bsnn_tha.config import RunConfig
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.observe.recording import Recording
from bsnn_tha.run_folder import RunFolder
from bsnn_tha.training import loaders
from bsnn_tha.training.loaders import Batches
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.run import train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")

# Shares of a batch


@pytest.fixture
def as_process(monkeypatch):
    """``as_process(rank, processes)``: what follows runs as one of so many processes."""

    def become(rank, processes):
        monkeypatch.setattr(loaders, "_process", lambda: (rank, processes))

    return become


def shares(as_process, processes, *args, epoch=0, **kwargs):
    """By process, its share of every batch."""
    found = []
    for rank in range(processes):
        as_process(rank, processes)
        batches = Batches(*args, **kwargs)
        batches.set_epoch(epoch)
        found.append(list(batches))
        assert len(batches) == len(found[-1])
    return found


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("samples", [8, 31, 32, 33, 34, 63, 64, 65, 80, 100])
@pytest.mark.parametrize("seed", [None, 5])
def test_processes_share_every_batch_without_rest(as_process, processes, samples, seed):
    indices = range(1000, 1000 + samples)
    shared = shares(as_process, processes, indices, 32, seed)
    assert len({len(share) for share in shared}) == 1, "processes must take as many steps"
    assert all(batch for share in shared for batch in share), "no process is without a sample"
    batches = [sum(parts, []) for parts in zip(*shared, strict=True)]
    assert Counter(sum(batches, [])) == Counter(indices)
    sizes = [len(batch) for batch in batches]
    rest = samples % 32
    if samples < 32 or rest >= processes or rest == 0:
        assert sizes == [32] * (samples // 32) + ([rest] if rest else [])
    else:  # fewer than one for each: they join the batch before
        assert sizes == [32] * (samples // 32 - 1) + [32 + rest]


@pytest.mark.parametrize("processes", [2, 3])
def test_the_joint_batches_are_those_of_one_process(as_process, processes):
    indices = range(100)
    (alone,) = shares(as_process, 1, indices, 32, 7, epoch=2)
    shared = shares(as_process, processes, indices, 32, 7, epoch=2)
    joint = [sum(parts, []) for parts in zip(*shared, strict=True)]
    assert [sorted(batch) for batch in joint] == [sorted(batch) for batch in alone]


def test_the_order_is_a_pure_function_of_seed_and_epoch(as_process):
    def order(seed, epoch):
        return shares(as_process, 1, range(50), 16, seed, epoch=epoch)[0]

    first = order(1, 0)
    torch.rand(3)
    assert order(1, 0) == first
    other = [order(1, 1), order(2, 0), order(2, 1)]
    assert all(entry != first for entry in other)
    assert len({str(entry) for entry in other}) == 3


def test_drawing_an_order_leaves_the_global_generator_alone(as_process):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    list(loaders.training_batches(Numbers(50), 16, seed=1))
    assert torch.equal(torch.rand(2), expected)


class Numbers:
    """A split of so many numbers."""

    def __init__(self, samples):
        self.targets = torch.arange(samples)

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, indices):
        return self.targets[indices].float(), self.targets[indices]


def test_without_a_seed_the_order_stays(as_process):
    (found,) = shares(as_process, 1, [5, 3, 1], 2, epoch=4)
    assert found == [[5, 3], [1]]


# Two processes on the CPU

DENSE = {
    "data__subset": 79,  # the last batch has 15, so that shares differ
    "network__notation": "10",
    "network__norm": "none",
    "threshold__theta_0": 0.5,
    "threshold__theta_inf": 1.5,
    "threshold__alpha": 0.05,
    "snapshots__count": 4,
}
SCRIPT = """
import os, sys
from pathlib import Path

import torch

from bsnn_tha import run_folder
from bsnn_tha.training import session

target, rank = Path(sys.argv.pop(1)), os.environ["RANK"]
written, replace, fit = [], os.replace, session.Session.fit

def counted(source, target):
    written.append(str(target))
    replace(source, target)

def keep(self, *args, **kwargs):
    result = fit(self, *args, **kwargs)
    content = {"state": self.module.state_dict(), "written": written}
    torch.save(content, target / f"rank-{rank}.pt")
    return result

os.replace, session.Session.fit = counted, keep
from bsnn_tha.cli import main
main()
"""


def together(*arguments, torchrun=None):
    """Two processes of the command line, started by Lightning or by torchrun."""
    start = ["-m", "bsnn_tha"]
    if torchrun is not None:
        start = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", *torchrun]
    options = ["--device=cpu", "--devices=2", "--threads=1"]
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with reserved_port() as port:
        if torchrun is None:  # which finds one for itself
            own["MASTER_PORT"] = str(port)
        result = subprocess.run(
            [sys.executable, *start, "train", *map(str, arguments), *options],
            env=os.environ | own,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert result.returncode == 0, result.stdout + result.stderr
    return result


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Trials of one process, by seed."""
    folder = tmp_path_factory.mktemp("alone")
    return {
        seed: train(
            tiny(**DENSE, training__seed=seed),
            output=folder / f"seed-{seed}",
            machine=MACHINE,
            verbose=False,
        )
        for seed in (SEED, SEED + 1)
    }


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    """(folder, output) of the same trials of two processes."""
    folder = tmp_path_factory.mktemp("joint")
    (folder / "config.toml").write_text(tiny(**DENSE).to_toml(), encoding="utf-8")
    output = ["--seeds=2", "--output", folder / "trials"]
    result = together("--config", folder / "config.toml", *output)
    return folder / "trials", result.stdout


@pytest.fixture(scope="module")
def by_torchrun(tmp_path_factory):
    """(run folder, what each process ended with, output)."""
    folder = tmp_path_factory.mktemp("torchrun")
    (folder / "config.toml").write_text(tiny(**DENSE).to_toml(), encoding="utf-8")
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    result = together(
        *["--config", folder / "config.toml", "--output", folder / "run"],
        torchrun=[folder / "script.py", folder],
    )
    ranks = [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(2)]
    return SimpleNamespace(folder=RunFolder(folder / "run"), ranks=ranks, output=result.stdout)


def assert_equal_but_for_rounding(folder, expected):
    rows, wanted = table(folder), table(expected)
    assert len(rows) == len(wanted) >= EPOCHS
    for row, other in zip(rows, wanted, strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=1e-7)
        assert {"train_loss", "val_accuracy", "grad_norm", "lr", "threshold_1"} <= row.keys()
    for name, tensor in weights(expected.last).items():
        torch.testing.assert_close(weights(folder.last)[name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seed", [SEED, SEED + 1])
def test_two_processes_train_as_one_with_the_joint_batch(seed, alone, joint):
    folder = RunFolder(joint[0] / f"seed-{seed}")
    assert_equal_but_for_rounding(folder, alone[seed].folder)


def test_torchrun_starts_them_as_well(alone, by_torchrun):
    assert_equal_but_for_rounding(by_torchrun.folder, alone[SEED].folder)


def test_every_process_ends_with_the_same_state(by_torchrun):
    first, second = (rank["state"] for rank in by_torchrun.ranks)
    assert first.keys() == second.keys()
    threshold = [name for name in first if name.endswith("threshold")]
    assert threshold
    networks = [name for name in first if name.startswith("network.")]
    assert all(torch.equal(first[name], second[name]) for name in networks)


def test_one_process_writes_and_talks(joint, by_torchrun):
    first, second = (rank["written"] for rank in by_torchrun.ranks)
    assert first
    assert second == []
    assert names(by_torchrun.folder.path) == WITH_SNAPSHOTS
    assert by_torchrun.output.count("written to ") == 1
    assert by_torchrun.output.count("epoch 1/3  ") == 1
    path, output = joint
    runs = [f"seed-{seed}" for seed in (SEED, SEED + 1)]
    assert names(path) == sorted([*runs, "trials.json", "trials.toml"])
    assert all(names(path / run) == WITH_SNAPSHOTS for run in runs)
    assert output.count("written to ") == 1
    assert output.count("epoch 1/3  ") == 2


def test_snapshots_are_those_of_one_process(alone, by_torchrun):
    one, two = (Recording.open(f.path) for f in (alone[SEED].folder, by_torchrun.folder))
    assert one.iterations == two.iterations
    assert np.array_equal(one.probe.inputs, two.probe.inputs)
    for expected, snapshot in zip(one, two, strict=True):
        for row, other in zip(expected.layers, snapshot.layers, strict=True):
            assert other.trace.threshold == row.trace.threshold
            assert other.trace.membranes == pytest.approx(row.trace.membranes, rel=1e-3, abs=1e-3)


def test_the_summary_is_that_of_one_process(alone, by_torchrun):
    summary = json.loads(by_torchrun.folder.summary.read_text())
    for part in ("train", "test", "validation"):
        assert summary[part] == pytest.approx(alone[SEED].summary[part], rel=1e-4)
    for row, expected in zip(summary["layers"], alone[SEED].summary["layers"], strict=True):
        assert row == pytest.approx(expected, rel=1e-4)


@contextmanager
def as_rank(rank, port):
    """This process, a fork, is one of two that somebody else has started."""
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    os.environ["MASTER_PORT"] = str(port)
    rank_zero_only.rank = rank  # as Lightning reads it when it is imported
    yield


def test_a_run_of_two_processes_goes_on(joint, tmp_path):
    path, processes = joint[0] / f"seed-{SEED}", []
    options = ["--epochs=4", "--device=cpu", "--devices=2", "--threads=1"]
    with reserved_port() as port:
        for rank in range(2):
            (tmp_path / f"rank-{rank}").mkdir()
            folder, own = tmp_path / f"rank-{rank}", as_rank(rank, port)
            processes.append(Command("train", "--resume", path, *options, cwd=folder, within=own))
        for process in processes:
            assert process.wait() == 0, process.complained
    config = tiny(**DENSE, training__epochs=4)
    assert RunConfig.from_file(path / "config.toml") == config
    expected = train(config, output=tmp_path / "run", machine=MACHINE, verbose=False)
    assert_equal_but_for_rounding(RunFolder(path), expected.folder)
    assert checkpoint(path / "last.ckpt")["epoch"] == 3


@pytest.mark.parametrize("changes", [{"data.batch_size": 1}, {"data.subset": 1}], ids=str)
def test_more_processes_than_samples_in_a_batch_are_refused(changes, tmp_path):
    config = tiny(**DENSE).with_changes(changes)
    machine = Machine(device="cpu", threads=1, devices=2)
    with pytest.raises(InvalidValueError, match="2 processes") as refusal:
        train(config, output=tmp_path / "run", machine=machine, verbose=False)
    assert "\n" not in str(refusal.value)
    assert names(tmp_path) == []
