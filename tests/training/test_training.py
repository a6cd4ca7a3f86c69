"""Training runs against a plain loop; annealing, surrogate and optimizer within them."""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from reference import threshold_recurrence
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from training_runs import (
    ALPHA,
    BATCH,
    EPOCHS,
    FIXED,
    LR,
    MACHINE,
    PER_EPOCH,
    PERIOD,
    SEED,
    SLOPE,
    STEPS,
    SUBSET,
    THETA_0,
    THETA_INF,
    digits,
    network_weights,
    table,
    tiny,
    tiny_network,
    train_tiny,
    weights,
)

from bsnn_tha import AnnealedLeaky, Leaky, load
from bsnn_tha.data.dataset import Dataset
from bsnn_tha.data.event_batch import EventBatch
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.thresholds import Learned
from bsnn_tha.run_folder import RunFolder
from bsnn_tha.training import session
from bsnn_tha.training.callbacks import ThresholdAnnealing, WeightClipping, anneal
from bsnn_tha.training.module import SpikingModule
from bsnn_tha.training.run import train
from bsnn_tha.training.schedule import cosine_factor
from bsnn_tha.training.seeding import EpochSeed, epoch_seed

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning")

# Against a plain loop


def test_a_plain_loop_gives_the_same_weights_to_the_last_bit(done):
    """AnnealedLeaky in a SpikingNetwork, trained without Lightning."""
    split = digits().train
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(SEED))[:SUBSET]
    torch.manual_seed(SEED)
    network = tiny_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=LR, fused=True)
    fired = [torch.zeros(4, 3, 3), torch.zeros(10)]

    def count(layer, _, window):
        fired[list(network.layers).index(layer)] += window.spikes.detach().sum((0, 1))

    for layer in network.layers:
        layer.register_forward_hook(count)
    rows, iteration = table(done.folder), 0
    for epoch in range(EPOCHS):
        shuffling = torch.Generator().manual_seed(epoch_seed(SEED, epoch))
        losses = correct = 0.0
        for total in fired:
            total.zero_()
        for positions in torch.randperm(SUBSET, generator=shuffling).split(BATCH):
            images, labels = split[chosen[positions].tolist()]
            factor = 0.5 * (1 + math.cos(math.pi * iteration / (PERIOD * PER_EPOCH)))
            optimizer.param_groups[0]["lr"] = LR * factor
            counts = network(images, num_steps=STEPS).spikes.sum(0)
            wanted = torch.where(F.one_hot(labels, 10).bool(), 0.8 * STEPS, 0.2 * STEPS)
            loss = F.mse_loss(counts, wanted) / STEPS
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for layer in network.layers:
                layer.neuron.anneal()
            iteration += 1
            losses += loss.item() * len(labels)
            correct += (counts.argmax(1) == labels).sum().item()
        row = rows[epoch]
        assert row["train_loss"] == pytest.approx(losses / SUBSET, rel=1e-5)
        assert row["train_accuracy"] == pytest.approx(correct / SUBSET, rel=1e-5)
        silent = 0
        for index, total in enumerate(fired, start=1):
            neurons = total.numel()
            rate = total.sum().item() / (SUBSET * STEPS * neurons)
            assert row[f"rate_{index}"] == pytest.approx(rate, rel=1e-5)
            dead = (total == 0).sum().item()
            assert row[f"dead_{index}"] == pytest.approx(dead / neurons, rel=1e-5)
            silent += dead
        assert row["dead"] == pytest.approx(silent / (36 + 10), rel=1e-5)
    expected, actual = network.state_dict(), network_weights(done.folder.last)
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(actual[name], tensor), name


# Annealing


def test_thresholds_advance_once_per_iteration_in_every_layer(done):
    for index in range(2):
        thetas = threshold_recurrence(
            PER_EPOCH * EPOCHS, THETA_0[index], THETA_INF[index], ALPHA[index]
        )
        neuron = f"layers.{index}.neuron"
        last = network_weights(done.folder.last)
        assert last[f"{neuron}.rule.iteration"] == PER_EPOCH * EPOCHS
        assert last[f"{neuron}.rule.threshold"].item() == pytest.approx(thetas[-1], rel=1e-6)
        assert last[f"{neuron}.rule.theta_0"].item() == pytest.approx(THETA_0[index])
        for row in table(done.folder):
            expected = thetas[int(row["iteration"])]
            assert row[f"threshold_{index + 1}"] == pytest.approx(expected, rel=1e-5)


class Wrapper(nn.Module):
    """Hides a network below names that no callback could guess."""

    def __init__(self, inner):
        super().__init__()
        self.secret = nn.ModuleDict({"deep": nn.ModuleList([inner])})

    def forward(self, x):
        return self.secret["deep"][0](x)


class PlainModule(LightningModule):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def training_step(self, batch, index):
        return self.network(batch[0]).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def nested():
    neuron = AnnealedLeaky(0.5, 1.0, 3.0, 0.25, init_hidden=True)
    return nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Sequential(neuron))), neuron


def wrapped():
    network, neuron = nested()
    return Wrapper(nn.DataParallel(network)), neuron


def shared():
    network, neuron = nested()
    return nn.Sequential(network, nn.Linear(2, 2), neuron), neuron


@pytest.mark.parametrize("build", [nested, wrapped, shared])
def test_a_layer_is_annealed_once_wherever_it_is(build):
    network, neuron = build()
    for _ in range(7):
        anneal(network)
    assert neuron.iteration == 7
    expected = threshold_recurrence(7, 1.0, 3.0, 0.25)[-1]
    assert neuron.threshold.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("build", [nested, wrapped, shared])
def test_the_callback_alone_anneals_in_any_lightning_loop(build, tmp_path):
    network, neuron = build()
    data = TensorDataset(torch.rand(10, 2))
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[ThresholdAnnealing()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    neuron.detach_hidden = True
    trainer.fit(PlainModule(DetachMembrane(network, neuron)), DataLoader(data, batch_size=4))
    assert neuron.iteration == 6
    expected = threshold_recurrence(6, 1.0, 3.0, 0.25)[-1]
    assert neuron.threshold.item() == pytest.approx(expected, rel=1e-6)


class DetachMembrane(nn.Module):
    """Starts every batch from rest, as a truncated graph needs."""

    def __init__(self, network, neuron):
        super().__init__()
        self.network, self.neuron = network, neuron

    def forward(self, x):
        self.neuron.reset_mem()
        return self.network(x)


def test_a_fixed_threshold_stays(tmp_path):
    result = train_tiny(tmp_path / "run", training__epochs=1, **FIXED)
    last = network_weights(result.folder.last)
    assert [last[f"layers.{i}.neuron.rule.theta_0"].item() for i in range(2)] == THETA_0


# The surrogate


@pytest.mark.parametrize("centre", ["clamped", "moving"])
def test_the_surrogate_centre_reaches_every_neuron(centre):
    network = SpikingModule(tiny(neuron__surrogate_centre=centre), digits()).network
    anneal(network)
    for index, layer in enumerate(network.layers):
        moved = threshold_recurrence(1, THETA_0[index], THETA_INF[index], ALPHA[index])[-1]
        expected = THETA_0[index] if centre == "clamped" else moved
        assert layer.neuron.centre.item() == pytest.approx(expected, rel=1e-6)
        assert layer.neuron.surrogate.slope == SLOPE


def test_clamped_and_moving_part_ways_after_the_first_annealing(tmp_path):
    after = {}
    for centre in ("clamped", "moving"):
        for iterations in (1, 3):
            result = train_tiny(
                tmp_path / f"{centre}-{iterations}",
                neuron__surrogate_centre=centre,
                data__subset=iterations * BATCH,
                data__batch_size=BATCH,
                training__epochs=1,
                optimizer__name="sgd",
                optimizer__schedule="none",
            )
            after[centre, iterations] = weights(result.folder.last)
    key = "network.layers.0.synapse.latent_weight"
    assert torch.equal(after["clamped", 1][key], after["moving", 1][key])
    assert not torch.equal(after["clamped", 3][key], after["moving", 3][key])


# The optimizer


@pytest.fixture
def steps(monkeypatch):
    """What every optimizer step found (after the backward pass) and left behind."""
    seen = []

    def spy_on(optimizer_class):
        original = optimizer_class.step

        def step(self, closure=None):
            found = {"lr": self.param_groups[0]["lr"]}

            def and_look():
                loss = closure()
                parameters = [p for group in self.param_groups for p in group["params"]]
                gradients = [p.grad.flatten() for p in parameters if p.grad is not None]
                found["largest"] = max(p.detach().abs().max().item() for p in parameters)
                found["norm"] = torch.cat(gradients).norm().item()
                found["parameters"] = parameters
                return loss

            result = original(self, and_look)
            found["largest_after"] = max(
                p.detach().abs().max().item() for p in found.pop("parameters")
            )
            seen.append(found)
            return result

        monkeypatch.setattr(optimizer_class, "step", step)

    spy_on(torch.optim.Adam)
    spy_on(torch.optim.SGD)
    return seen


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_learning_rate_follows_the_cosine_and_climbs_back(steps, tmp_path, optimizer):
    train_tiny(tmp_path / "run", training__epochs=5, optimizer__name=optimizer)
    period = PERIOD * PER_EPOCH  # 6 of the 15 iterations
    expected = [LR / 2 * (1 + math.cos(math.pi * gamma / period)) for gamma in range(15)]
    assert [found["lr"] for found in steps] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert steps[6]["lr"] == pytest.approx(0, abs=1e-12)
    assert steps[6]["lr"] < steps[8]["lr"] < steps[11]["lr"]
    assert steps[12]["lr"] == pytest.approx(LR)


def test_the_learning_rate_steps_after_epochs_and_takes_thresholds_along(tmp_path, monkeypatch):
    seen = []
    original = torch.optim.SGD.step
    monkeypatch.setattr(
        torch.optim.SGD,
        "step",
        lambda self, closure=None: (
            seen.append([group["lr"] for group in self.param_groups]), original(self, closure)
        )[1],
    )  # fmt: skip
    train_tiny(
        tmp_path / "run",
        training__epochs=4,
        optimizer__name="sgd",
        optimizer__lr=0.04,
        optimizer__threshold_lr=0.02,
        optimizer__schedule="steps",
        optimizer__steps={"3": 0.005, "1": 0.01},
        threshold__rule="learned",
        threshold__theta_inf=None,
        threshold__alpha=None,
    )
    rates = [0.04] * PER_EPOCH + [0.01] * 2 * PER_EPOCH + [0.005] * PER_EPOCH
    assert [weights for weights, _ in seen] == pytest.approx(rates)
    assert [thresholds for _, thresholds in seen] == pytest.approx([rate / 2 for rate in rates])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"schedule": "steps", "steps": {"half": 0.1}},
            "optimizer.steps must have numbers of epochs of at least 1 and rates above 0, "
            "but got half = 0.1",
        ),
        ({"schedule": "steps", "steps": {"0": 0.1}}, "but got 0 = 0.1"),
        ({"schedule": "steps", "steps": {"5": 0.0}}, "but got 5 = 0"),
    ],
)
def test_steps_that_do_not_fit_are_refused_before_training(tmp_path, changes, message):
    changes = {f"optimizer__{name}": value for name, value in changes.items()}
    with pytest.raises(InvalidValueError, match=re.escape(message) + "$"):
        train_tiny(tmp_path / "run", **changes)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_weight_decay_is_added_to_gradients(tmp_path, optimizer):
    settings = {"training__epochs": 1, "optimizer__name": optimizer, "data__subset": BATCH}
    plain, decayed, start = (
        weights(train_tiny(tmp_path / name, **settings, **changes).folder.last)
        for name, changes in [
            ("plain", {"optimizer__lr": 1e-3}),
            ("decayed", {"optimizer__lr": 1e-3, "optimizer__weight_decay": 1e3}),
            ("start", {"optimizer__lr": 1e-30}),
        ]
    )
    key = "network.layers.0.synapse.latent_weight"
    moved = decayed[key] - plain[key]
    assert (moved[start[key] > 0.01] <= 0).all() and (moved[start[key] < -0.01] >= 0).all()
    assert moved.abs().max() > 1e-4


def test_the_cosine_is_half_one_plus_cosine():
    for period in (1.0, 7.5, 4690.0):
        for share, factor in ((0, 1), (1 / 3, 0.75), (0.5, 0.5), (2 / 3, 0.25), (1, 0), (2, 1)):
            assert cosine_factor(share * period, period) == pytest.approx(factor, abs=1e-12)


def test_without_a_schedule_the_learning_rate_stays(steps, tmp_path):
    train_tiny(tmp_path / "run", optimizer__schedule="none")
    assert [found["lr"] for found in steps] == [LR] * (PER_EPOCH * EPOCHS)


def test_gradients_are_clipped_to_the_norm(steps, tmp_path):
    train_tiny(tmp_path / "free", training__epochs=1)
    free = [found["norm"] for found in steps]
    limit = 0.5 * min(free)
    steps.clear()
    train_tiny(tmp_path / "clipped", training__epochs=1, training__grad_clip=limit)
    assert steps[0]["norm"] == pytest.approx(limit, rel=1e-4)
    assert all(found["norm"] <= limit * (1 + 1e-4) for found in steps)


def test_weights_are_clamped_before_the_step_and_may_exceed_it_by_one_update(steps, tmp_path):
    limit, lr = 0.1, 0.03
    result = train_tiny(
        tmp_path / "run",
        training__weight_clip=limit,
        optimizer__lr=lr,
        optimizer__schedule="none",
    )
    single = torch.tensor(limit).item()
    assert all(found["largest"] <= single for found in steps)
    # Adam's updates are at most about lr in size; its first one is lr exactly.
    assert steps[0]["largest_after"] > limit
    assert all(found["largest_after"] <= limit + 10 * lr for found in steps)
    largest = max(
        value.abs().max().item()
        for name, value in weights(result.folder.last).items()
        if name.endswith(("weight", "bias"))
    )
    assert largest == pytest.approx(steps[-1]["largest_after"])
    assert largest > limit


def test_clipping_is_off_unless_asked_for(steps, tmp_path):
    train_tiny(tmp_path / "run", training__epochs=1)
    assert steps[0]["largest"] == 1.0  # batch norm's scale


# Random numbers


def test_an_epoch_of_a_process_has_random_numbers_of_its_own():
    seeds = set()
    for seed, epoch, rank in itertools.product((0, 1), (0, 1, 2), (0, 1)):
        place = SimpleNamespace(current_epoch=epoch, global_rank=rank)
        EpochSeed(seed).on_train_epoch_start(place, None)
        assert torch.initial_seed() == epoch_seed(seed, epoch, rank)
        seeds.add(torch.initial_seed())
    assert len(seeds) == 12
    assert all(0 <= seed < 2**63 for seed in seeds)


# Gradient accumulation

DENSE = {
    "network__notation": "10",
    "network__norm": "none",
    "threshold__theta_0": 0.5,
    "threshold__theta_inf": 1.5,
    "threshold__alpha": 0.05,
    "data__subset": 96,
}


def test_accumulated_batches_equal_one_larger_batch(steps, tmp_path):
    larger = train_tiny(tmp_path / "larger", **DENSE)
    expected = [dict(found) for found in steps]
    steps.clear()
    halves = train_tiny(tmp_path / "halves", **DENSE, data__batch_size=16, training__accumulate=2)
    assert halves.summary["iterations"] == larger.summary["iterations"] == EPOCHS * 3
    assert [found["lr"] for found in steps] == pytest.approx([found["lr"] for found in expected])
    one, other = network_weights(larger.folder.last), network_weights(halves.folder.last)
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=1e-6)
    for row, wanted in zip(table(halves.folder), table(larger.folder), strict=True):
        keys = ("iteration", "train_loss", "train_accuracy", "val_loss", "lr", "threshold_1")
        keys += ("grad_norm", "rate_1", "dead_1")
        assert {k: row[k] for k in keys} == pytest.approx({k: wanted[k] for k in keys}, rel=1e-4)


def test_accumulated_batches_are_one_iteration_of_annealing_and_of_the_schedule(steps, tmp_path):
    """Five batches, two at a time: the fifth is a step of its own, as the epoch ends."""
    result = train_tiny(
        tmp_path / "run",
        **DENSE | {"data__subset": 80},
        data__batch_size=16,
        training__accumulate=2,
    )
    assert len(steps) == result.summary["iterations"] == EPOCHS * 3
    expected = [LR / 2 * (1 + math.cos(math.pi * gamma / (PERIOD * 3))) for gamma in range(9)]
    assert [found["lr"] for found in steps] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    last = network_weights(result.folder.last)
    assert last["layers.0.neuron.rule.iteration"] == 9
    theta = threshold_recurrence(9, 0.5, 1.5, 0.05)[-1]
    assert last["layers.0.neuron.rule.threshold"].item() == pytest.approx(theta, rel=1e-6)


# Threads

LARGER = {
    "network__notation": "16C3-32C3-AP2-10",
    "threshold__theta_0": 1.0,
    "threshold__theta_inf": 2.0,
    "threshold__alpha": 0.05,
    "data__subset": 256,
    "data__batch_size": 64,
    "training__epochs": 1,
}


def test_the_number_of_threads_changes_no_more_than_rounding_does(tmp_path):
    """One epoch of one and of two threads: losses within 0.1%, accuracies within 2 of 256.

    Sums are taken in another order, and a membrane near its threshold may then
    spike or not. Bits are only promised for as many threads.
    """
    config = tiny(**LARGER)
    one = train(config, output=tmp_path / "one", machine=MACHINE, verbose=False)
    # In a process of its own, because threads that were started once stay; and not a fork
    # of this one, where threads that PyTorch has started before are waited for in vain.
    (tmp_path / "two.toml").write_text(config.to_toml(), encoding="utf-8")
    options = ["--config", str(tmp_path / "two.toml"), "--output", str(tmp_path / "two")]
    command = [sys.executable, "-m", "bsnn_tha", "train", *options, "--threads", "2"]
    subprocess.run([*command, "--device", "cpu"], check=True, capture_output=True)
    (row,), (other,) = table(one.folder), table(RunFolder(tmp_path / "two"))
    assert other["train_loss"] == pytest.approx(row["train_loss"], rel=1e-3)
    assert other["val_loss"] == pytest.approx(row["val_loss"], rel=1e-2)
    assert other["train_accuracy"] == pytest.approx(row["train_accuracy"], abs=2.01 / 256)
    assert other["threshold_1"] == row["threshold_1"]


def test_clipping_leaves_thresholds_alone():
    neuron = Leaky(0.9, Learned(9.0))
    layer = nn.Linear(3, 3)
    nn.init.constant_(layer.weight, 5.0)
    module = nn.Sequential(layer, neuron)
    WeightClipping(1.0).on_before_optimizer_step(None, module, None)
    assert layer.weight.unique().tolist() == [1.0]
    assert neuron.threshold.item() == 9.0


def test_what_a_loss_of_ones_own_learns_is_trained_and_kept(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "learned_losses.py").write_text(
        "import torch\n"
        "class Learned(torch.nn.Module):\n"
        "    needs_membranes, classifies = False, True\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.scale = torch.nn.Parameter(torch.tensor(1.0))\n"
        "    def forward(self, window, targets):\n"
        "        return torch.nn.functional.cross_entropy(self.scores(window), targets)\n"
        "    def scores(self, window):\n"
        "        return self.scale * window.spikes.mean(0)\n"
    )
    result = train_tiny(tmp_path / "run", loss__name="learned_losses:Learned")
    learned = weights(result.folder.last)["loss.scale"]
    assert learned != 1
    assert load(result.folder.path).loss.scale == weights(result.folder.best)["loss.scale"]


class OneEventAStep:
    """Eight recordings of five time steps, an event in each."""

    targets = torch.arange(8) % 5

    def __len__(self):
        return 8

    def __getitem__(self, indices):
        units = torch.tensor([[n] * 5 for n in indices], dtype=torch.int32).flatten()
        events = EventBatch(torch.ones(len(indices), 5, dtype=torch.int64), units, (8,))
        return events, self.targets[indices]


def test_events_train_in_double_precision(monkeypatch, tmp_path):
    """They are whole numbers on the way to the device, and double there."""
    split = OneEventAStep()
    dataset = Dataset("events", (8,), 5, False, split, split, split, "made here")
    monkeypatch.setattr(session, "load_data", lambda config, machine: dataset)
    wide = {"training__precision": "64-true", "training__norm_batches": 1, "training__epochs": 1}
    few = {"network__notation": "6-5", "data__batch_size": 4, "data__subset": 8}
    norm = {"network__norm": {"dense": "tdbn", "output": "none"}}
    result = train_tiny(tmp_path / "run", **wide, **few, **norm)
    kept = weights(result.folder.last)
    assert kept["network.layers.0.norm.running_mean"].dtype == torch.float64
    assert 0 < result.summary["layers"][0]["firing_rate"] < 1
