"""Learning rates that end where training ends, AdamW, and what a run says of its last rate."""

from __future__ import annotations

import math

import pytest
import torch
from training_runs import EPOCHS, LR, PER_EPOCH, network_weights, train_tiny

from bsnn_tha.cli import show
from bsnn_tha.errors import InvalidValueError

TOTAL = EPOCHS * PER_EPOCH
TO_ZERO = {"optimizer__schedule": "cosine-to-zero", "optimizer__period": None}
CONSTANT = {"optimizer__schedule": "none", "optimizer__period": None}


@pytest.fixture
def rates(monkeypatch):
    """The learning rate of every step."""
    seen, original = [], torch.optim.Adam.step

    def step(self, closure=None):
        seen.append(self.param_groups[0]["lr"])
        return original(self, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    return seen


def half_cosine(first, last, done):
    return last + (first - last) * (1 + math.cos(math.pi * done)) / 2


def test_a_cosine_to_zero_rises_first_and_would_be_zero_at_the_end(rates, tmp_path):
    train_tiny(tmp_path / "run", **TO_ZERO, optimizer__warmup=1 / 3)
    rise = TOTAL // 3
    expected = [LR * (step + 1) / rise for step in range(rise)]
    expected += [half_cosine(LR, 0, step / (TOTAL - rise)) for step in range(TOTAL - rise)]
    assert rates == pytest.approx(expected)


def test_one_cycle_is_the_librarys(rates, tmp_path):
    settings = TO_ZERO | {"optimizer__schedule": "one-cycle"}
    train_tiny(tmp_path / "run", **settings, optimizer__warmup=1 / 3)
    rise = TOTAL // 3
    expected = [half_cosine(LR / 25, LR, step / rise) for step in range(rise)]
    expected += [half_cosine(LR, 0, step / (TOTAL - rise)) for step in range(TOTAL - rise)]
    assert rates == pytest.approx(expected)


def test_adamw_takes_decay_off_the_weights_themselves(tmp_path):
    settings = {"training__epochs": 1, "data__subset": 32, **CONSTANT}
    plain, decayed = (
        network_weights(train_tiny(tmp_path / name, **settings, **changes).folder.last)
        for name, changes in [
            ("plain", {"optimizer__name": "adamw"}),
            ("decayed", {"optimizer__name": "adamw", "optimizer__weight_decay": 0.5}),
        ]
    )
    # One step from the same start: w' = w (1 - lr decay) - step, whatever the gradient.
    key = "layers.0.synapse.latent_weight"
    start = network_weights(
        train_tiny(tmp_path / "start", **settings | {"optimizer__lr": 1e-30}).folder.last
    )[key]
    torch.testing.assert_close(decayed[key], plain[key] - LR * 0.5 * start)


@pytest.mark.parametrize(
    ("changes", "ends_at"),
    [
        ({"optimizer__period": 30.0}, "98%"),  # (1 + cos(3π/30)) / 2
        (TO_ZERO, None),
        (CONSTANT, None),
    ],
)
def test_a_run_that_ends_at_a_high_rate_says_so(tmp_path, changes, ends_at):
    text = show.summary(train_tiny(tmp_path / "run", **changes).summary)
    if ends_at is None:
        assert "learning rate" not in text
    else:
        assert f"the learning rate ended at {ends_at} of its highest" in text


def test_a_warm_up_that_nothing_uses_is_refused(tmp_path):
    with pytest.raises(InvalidValueError, match="optimizer.warmup"):
        train_tiny(tmp_path / "run", optimizer__warmup=0.2)
