"""Mixup: whose samples and losses are blended, by how much, and that only training is."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import Trainer
from scipy.stats import beta, kstest
from torch.nn import functional as F
from training_runs import (
    BATCH,
    FIXED,
    PER_EPOCH,
    SEED,
    STEPS,
    SUBSET,
    digits,
    network_weights,
    tiny,
    train_tiny,
)

from bsnn_tha.data.dataset import Dataset, TensorSplit
from bsnn_tha.data.mixup import Mixup
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.window import NetworkWindow
from bsnn_tha.training.loaders import training_batches
from bsnn_tha.training.module import SpikingModule
from bsnn_tha.training.seeding import epoch_seed

IMAGES = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 7, 2, 7, 4, 1])


def before(values, index):
    """What comes before one of a batch; before the first one, the last."""
    return values[len(values) - 1 if index == 0 else index - 1]


def blended(images, share):
    """The equation, sample by sample."""
    mixed = [share * own + (1 - share) * before(images, i) for i, own in enumerate(images)]
    return torch.stack(mixed)


def module_of(**changes):
    torch.manual_seed(0)
    split = TensorSplit(IMAGES, LABELS)
    dataset = Dataset("digits", (1, 8, 8), 10, True, split, None, None, "")
    module = SpikingModule(tiny(**changes), dataset)
    module.trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    module._log = lambda *logged: None
    return module


def step(module):
    """One training step: λ, the window and the loss."""
    torch.manual_seed(1)
    result = module.training_step((IMAGES, LABELS), 0)
    torch.manual_seed(1)
    return Mixup.drawn(module.augment.mixup).share, result["window"], result["loss"]


@pytest.mark.parametrize("share", [0.5, 0.7, 1.0])
def test_samples_are_blended_with_the_one_before(share):
    torch.manual_seed(0)
    images = torch.rand(5, 2, 3, 4)
    torch.testing.assert_close(Mixup(share).samples(images), blended(images, share))


@pytest.mark.parametrize("a", [0.2, 1.0, 4.0])
def test_shares_are_beta_distributed(a):
    """The larger of λ and 1 − λ is at most s where λ is between 1 − s and s."""
    torch.manual_seed(0)
    shares = [Mixup.drawn(a).share for _ in range(2000)]
    found = kstest(shares, lambda s: beta.cdf(s, a, a) - beta.cdf(1 - s, a, a))
    assert found.pvalue > 0.01


def test_a_small_parameter_is_hardly_any_blending():
    """Where both of the gamma distributed numbers underflow, λ is no half."""
    torch.manual_seed(0)
    shares = torch.tensor([Mixup.drawn(0.001).share for _ in range(500)])
    assert (shares > 0.99).float().mean() > 0.98


def test_nothing_is_drawn_or_changed_without_it():
    images, state = torch.rand(4, 1, 2, 2), torch.get_rng_state()
    off = Mixup.drawn(0.0)
    assert torch.equal(torch.get_rng_state(), state)
    assert off.samples(images) is images
    heard = []
    off.loss(lambda labels: heard.append(labels), labels := torch.arange(4))
    assert len(heard) == 1 and heard[0] is labels


@pytest.mark.parametrize(
    "changes",
    [
        {"loss__name": "spike_count"},
        {"loss__name": "mean_membrane"},
        {"loss__name": "cross_entropy", "loss__readout": "spike_rate"},
        {"loss__name": "cross_entropy", "loss__readout": "softmax_membrane"},
        {"loss__name": "tet"},
    ],
    ids=lambda changes: "-".join(changes.values()),
)
def test_every_loss_of_classes_is_mixed(changes):
    module = module_of(**changes, augment__mixup=0.5)
    share, window, loss = step(module)
    assert 0.5 < share < 0.99
    others = torch.tensor([1, 0, 7, 2, 7, 4])
    expected = share * module.loss(window, LABELS) + (1 - share) * module.loss(window, others)
    torch.testing.assert_close(loss, expected)


def test_cross_entropy_becomes_that_of_soft_labels():
    options = {"readout": "mean_membrane", "temperature": 3.0, "label_smoothing": 0.1}
    settings = {f"loss__{key}": value for key, value in options.items()}
    module = module_of(loss__name="cross_entropy", augment__mixup=0.5, **settings)
    share, window, loss = step(module)
    soft = blended(F.one_hot(LABELS, 10).float(), share)
    logits = window.membranes.mean(0) / 3.0
    expected = F.cross_entropy(logits, soft, label_smoothing=0.1)
    torch.testing.assert_close(loss, expected)


def test_both_passes_of_a_divergence_see_the_same_blends():
    settings = {"loss__name": "mean_membrane", "loss__divergence": 0.5}
    module = module_of(**settings, network__moderate_dropout=0.0, augment__mixup=0.5)
    share, window, loss = step(module)
    assert window.spikes.shape[1] == 12
    # Nothing is dropped: the passes are the same one, and their divergence is 0.
    one = NetworkWindow(window.spikes[:, :6], window.membranes[:, :6], ())
    torch.testing.assert_close(one.membranes, window.membranes[:, 6:])
    logits = one.membranes.mean(0)
    expected = F.cross_entropy(logits, blended(F.one_hot(LABELS, 10).float(), share))
    torch.testing.assert_close(loss, expected)


def test_a_run_trains_on_blends_and_counts_their_heavier_class(tmp_path):
    """By a loop over the batches of an epoch in which nothing is learned."""
    settings = {"network__notation": "12-10", "optimizer__lr": 1e-30, "training__epochs": 1}
    settings |= {**FIXED, "augment__mixup": 1.0}
    mixed = train_tiny(tmp_path / "mixed", **settings)
    network = tiny(**settings).build_network((1, 8, 8))
    network.load_state_dict(network_weights(mixed.folder.path / "last.ckpt"))
    loader = training_batches(digits().train, BATCH, SEED, SUBSET)
    torch.manual_seed(epoch_seed(SEED, 0))
    right = total = 0.0
    for images, labels in loader:
        share = Mixup.drawn(1.0).share
        counts = network(blended(images, share), STEPS).spikes.sum(0)
        for index, count in enumerate(counts):
            for part, label in ((share, labels[index]), (1 - share, before(labels, index))):
                error = count - STEPS * (0.2 + 0.6 * F.one_hot(label, 10))
                total += part * error.square().sum().item() / (10 * STEPS)
        right += (counts.argmax(1) == labels).sum().item()
    assert len(loader) == PER_EPOCH
    assert mixed.summary["train"]["loss"] == pytest.approx(total / SUBSET, rel=1e-5)
    assert mixed.summary["train"]["accuracy"] == pytest.approx(right / SUBSET)


def test_targets_that_are_no_classes_are_refused():
    images = TensorSplit(torch.rand(6, 1, 8, 8), torch.rand(6))
    dataset = Dataset("traces", (1, 8, 8), None, True, images, None, None, "")
    rule = "augment.mixup mixes the classes of two samples, but traces has a target trace"
    with pytest.raises(InvalidValueError, match=rule):
        SpikingModule(tiny(loss__name="membrane", augment__mixup=0.2), dataset)
