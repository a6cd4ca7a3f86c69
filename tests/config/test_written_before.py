"""Files that earlier versions wrote are still read, and mean what they meant.

``written_by_da905e9`` holds what commit da905e9 wrote, untouched: runs of a tiny
network on the digits (annealed; learned thresholds per neuron with synaptic
neurons; two seeds), a study of two trials, every preset's full configuration,
and the weights that the annealed run had after a third epoch without a stop.
"""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import MACHINE, network_weights

from bsnn_tha.config import RunConfig
from bsnn_tha.observe.recording import Recording
from bsnn_tha.presets import load_preset
from bsnn_tha.training.evaluation import evaluate
from bsnn_tha.training.run import resume
from studies.storage import open_storage
from studies.study import load_existing

WRITTEN = Path(__file__).parent / "written_by_da905e9"


@pytest.fixture
def written(tmp_path):
    """A copy: a run folder may be written to."""
    return Path(shutil.copytree(WRITTEN, tmp_path / "written"))


def summary(run):
    return json.loads((run / "summary.json").read_text())


@pytest.mark.parametrize("name", ["annealed", "learned", "seeds/seed-1"])
def test_a_run_measures_what_it_measured(written, name):
    before = summary(written / name)["test"]
    after = evaluate(written / name, machine=MACHINE)
    assert after["accuracy"] == pytest.approx(before["accuracy"], abs=1e-7)
    assert after["loss"] == pytest.approx(before["loss"], rel=1e-5)


def test_a_longer_run_ends_where_it_would_have_ended(written):
    """Optimizer, schedule, thresholds and order of samples all come back."""
    resume(written / "annealed", epochs=3, machine=MACHINE, verbose=False)
    after = network_weights(written / "annealed" / "last.ckpt")
    with np.load(WRITTEN / "three_epochs.npz") as before:
        for key in before.files:
            name = key.removeprefix("network.")
            torch.testing.assert_close(after[name], torch.from_numpy(before[key]), msg=name)


@pytest.mark.parametrize("name", ["annealed", "learned"])
def test_snapshots_are_read(written, name):
    recording = Recording.open(written / name)
    assert [snapshot.iteration for snapshot in recording] == [0, 2, 3]
    assert len(recording[-1].layers) == 2


def test_a_study_is_read():
    storage = open_storage(str(WRITTEN / "studies"), "old", create=False)
    opened = load_existing(storage, "studies", "old")
    assert [trial.values for trial in opened.study.trials] == [
        [pytest.approx(1 / 13)],
        [pytest.approx(20 / 143)],
    ]


def configurations():
    return json.loads(gzip.decompress((WRITTEN / "configurations.json.gz").read_bytes()))


@pytest.mark.parametrize("preset", configurations())
def test_a_configuration_written_out_in_full_is_read(preset):
    text = configurations()[preset]
    config = RunConfig.from_toml(text)
    assert RunConfig.from_toml(config.to_toml()) == config
    # Settings that were given, not defaults that were written out, make the run.
    assert (config.data.name, config.variant) == tuple(preset.split("/"))
    assert config.network.notation and config.training.epochs >= 1


@pytest.mark.parametrize("preset", [f"{name}/tha" for name in ("mnist", "shd", "digits")])
def test_the_published_settings_are_the_same(preset):
    before = RunConfig.from_toml(configurations()[preset])
    assert before.with_changes({}) == load_preset(*preset.split("/"))
