"""The ensemble behind the temporal coding report is the trainer, many times over."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bsnn_tha.campaigns.temporal_coding import cases as module
from bsnn_tha.campaigns.temporal_coding.ensemble import train_ensemble
from bsnn_tha.campaigns.temporal_coding.search import search
from bsnn_tha.presets import load_preset
from bsnn_tha.training.run import train

ITERATIONS = 12


def configs(variant: str, *changes: dict) -> list:
    base = load_preset("temporal-coding", variant).with_changes(
        {"data.options.iterations": ITERATIONS, "network.notation": "100Dense60Dense1"}
    )
    return [base.with_changes(change) for change in changes]


@pytest.mark.parametrize(
    ("variant", "changes"),
    [
        ("flt32", {}),
        ("bsnn-unit", {}),
        ("tha", {"neuron.surrogate_centre": "moving"}),
        ("solved", {"optimizer.schedule": "cosine", "optimizer.period": 1.0}),
        ("bsnn-unit", {"loss.reduction": "sum", "optimizer.lr": 1e-6}),
    ],
    ids=["flt32", "bsnn-unit", "tha-moving", "solved-cosine", "sum"],
)
def test_each_run_is_what_the_trainer_does(variant, changes, tmp_path):
    runs = configs(
        variant,
        {**changes, "training.seed": 3},
        {**changes, "training.seed": 4, "optimizer.lr": 2e-4, "neuron.slope": 3.0},
    )
    ensemble = train_ensemble(runs)
    for index, config in enumerate(runs):
        folder = train(config, output=tmp_path / str(index), verbose=False).folder
        recording = np.load(folder.recording)
        expected = torch.from_numpy(recording["membranes"])[:, :, 0, 0]
        scale = expected.abs().max()
        torch.testing.assert_close(
            ensemble.membranes[:, index] / scale, expected / scale, rtol=0, atol=1e-5
        )
        assert np.array_equal(ensemble.spikes[:, index].numpy(), recording["spikes"][:, :, 0, 0])
        np.testing.assert_allclose(
            ensemble.thresholds[:, index], recording["thresholds"][:, -1], rtol=1e-6
        )
        steps = config.data.num_steps if config.loss.reduction == "sum" else 1
        np.testing.assert_allclose(ensemble.loss[:, index], recording["loss"] / steps, rtol=1e-4)


def test_report_writes_its_table_and_figures(tmp_path, monkeypatch):
    short = {"data.options.iterations": 40, "network.notation": "100Dense8Dense1"}
    labels = module._STILLS
    cases = [
        module.Case(labels[0], "tha", changes=short),
        module.Case(labels[1], "tha", "moving", changes=short),
        module.Case(labels[2], "solved", changes=short),
    ]
    monkeypatch.setattr(module, "CASES", cases)
    monkeypatch.setattr(module, "CHECKPOINTS", (5, 20, 40))
    monkeypatch.setattr(module, "_CURVES", labels)
    monkeypatch.setattr(module, "SEEDS", range(2))
    module.write(tmp_path)
    table = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert all(f"| {label} |" in table for label in labels)
    assert "| loss at 5 | loss at 20 | loss at 40 |" in table
    assert (tmp_path / "stills.png").stat().st_size > 10_000
    assert (tmp_path / "loss.png").stat().st_size > 5_000


def test_search_writes_one_valid_setting_per_line(tmp_path, monkeypatch):
    base = load_preset("temporal-coding", "tha").with_changes(
        {"data.options.iterations": 5, "network.notation": "100Dense8Dense1"}
    )
    monkeypatch.setattr("bsnn_tha.campaigns.temporal_coding.search.load_preset", lambda *_: base)
    search(1.008, "clamped", 6, tmp_path / "search.jsonl")
    assert len((tmp_path / "search.jsonl").read_text().splitlines()) == 6
