"""Training runs: what is in a run folder, and whether a plain loop would agree."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from reference import threshold_recurrence
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from bsnn_tha import AnnealedLeaky, SpikingNetwork
from bsnn_tha.config import RunConfig
from bsnn_tha.data import load_dataset
from bsnn_tha.errors import InvalidValueError, RunError, TrainingError
from bsnn_tha.losses import SpikeCountLoss
from bsnn_tha.presets import load_preset
from bsnn_tha.training import run as run_module
from bsnn_tha.training.callbacks import ThresholdAnnealing, anneal
from bsnn_tha.training.files import RunFolder, replace_atomically
from bsnn_tha.training.module import SpikingModule
from bsnn_tha.training.run import Machine, evaluate, train
from bsnn_tha.training.schedule import cosine_factor

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning")

MACHINE = Machine(device="cpu", threads=1)
STEPS, BATCH, SUBSET, EPOCHS, SEED = 5, 32, 80, 3, 3
PER_EPOCH = 3  # batches of 32, 32 and 16
THETA_0, THETA_INF, ALPHA = [0.5, 1.0], [1.5, 2.5], [0.05, 0.1]
BETA, SLOPE, LR, PERIOD = 0.9, 1.0, 0.02, 2.0

SETTINGS = {
    "network.notation": "4C3-AP2-10",
    "data.num_steps": STEPS,
    "data.batch_size": BATCH,
    "data.subset": SUBSET,
    "neuron.beta": BETA,
    "neuron.slope": SLOPE,
    "threshold.theta_0": THETA_0,
    "threshold.theta_inf": THETA_INF,
    "threshold.alpha": ALPHA,
    "optimizer.lr": LR,
    "optimizer.period": PERIOD,
    "training.epochs": EPOCHS,
    "training.seed": SEED,
}
FIXED = {"threshold.theta_inf": None, "threshold.alpha": None}


def tiny(**changes):
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    return load_preset("digits", "tha").with_changes(SETTINGS | changes)


def tiny_network():
    """The network of ``tiny()``, built without a configuration."""
    return SpikingNetwork(
        "4C3-AP2-10",
        (1, 8, 8),
        beta=BETA,
        slope=SLOPE,
        theta_0=THETA_0,
        theta_inf=THETA_INF,
        alpha=ALPHA,
    )


def train_tiny(output, **changes):
    return train(tiny(**changes), output=output, machine=MACHINE, verbose=False)


def weights(path):
    return torch.load(path, map_location="cpu", weights_only=True)["state_dict"]


def network_weights(path):
    return {name.removeprefix("network."): value for name, value in weights(path).items()}


def table(folder):
    with folder.metrics.open(newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def digits(seed=SEED):
    return load_dataset("digits", root=Path(), seed=seed, validation=0.1, num_steps=STEPS)


def names(path):
    return sorted(entry.name for entry in path.iterdir())


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One finished run that many tests look at."""
    return train_tiny(tmp_path_factory.mktemp("done") / "run")


# The run folder


def test_a_run_folder_holds_its_files_and_no_others(done):
    assert names(done.folder.path) == [
        "best.ckpt",
        "config.toml",
        "last.ckpt",
        "metrics.csv",
        "summary.json",
    ]
    assert json.loads(done.folder.summary.read_text()) == done.summary
    assert RunConfig.from_file(done.folder.config) == tiny()


def test_there_is_a_row_per_epoch(done):
    rows = table(done.folder)
    assert [row["epoch"] for row in rows] == list(range(EPOCHS))
    assert [row["iteration"] for row in rows] == [PER_EPOCH * (i + 1) for i in range(EPOCHS)]
    assert done.summary["epochs"] == EPOCHS
    assert done.summary["iterations"] == PER_EPOCH * EPOCHS
    assert done.summary["seed"] == SEED
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


# Against a plain loop


def test_a_plain_loop_gives_the_same_weights_to_the_last_bit(done):
    """AnnealedLeaky in a SpikingNetwork, trained without Lightning."""
    split = digits().train
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(SEED))[:SUBSET]
    shuffling = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    network = tiny_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=LR)
    fired = [torch.zeros(4, 3, 3), torch.zeros(10)]

    def count(layer, _, window):
        fired[list(network.layers).index(layer)] += window.spikes.detach().sum((0, 1))

    for layer in network.layers:
        layer.register_forward_hook(count)
    rows, iteration = table(done.folder), 0
    for epoch in range(EPOCHS):
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
        assert last[f"{neuron}.iteration"] == PER_EPOCH * EPOCHS
        assert last[f"{neuron}.threshold"].item() == pytest.approx(thetas[-1], rel=1e-6)
        assert last[f"{neuron}.theta_0"].item() == pytest.approx(THETA_0[index])
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
    assert [last[f"layers.{i}.neuron.threshold"].item() for i in range(2)] == THETA_0


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


# Selection and measurement


def measure(path, split):
    """Accuracy, loss and activity per layer by a loop over single samples."""
    network = tiny_network()
    network.load_state_dict(network_weights(path))
    network.eval()
    fired = [torch.zeros(layer.output_shape, dtype=torch.float64) for layer in network.layers]
    correct = loss = 0.0
    with torch.no_grad():
        for sample in range(len(split)):
            image, label = split[[sample]]
            spikes = image.expand(STEPS, *image.shape)
            for layer, total in zip(network.layers, fired, strict=True):
                spikes = layer(spikes).spikes
                total += spikes.sum((0, 1))
            counts = spikes.sum((0, 1)).tolist()
            correct += counts.index(max(counts)) == label.item()
            for index, count in enumerate(counts):
                wanted = (0.8 if index == label.item() else 0.2) * STEPS
                loss += (count - wanted) ** 2 / (10 * STEPS)
    layers = [
        {
            "neurons": total.numel(),
            "threshold": layer.neuron.threshold.item(),
            "firing_rate": total.sum().item() / (len(split) * STEPS * total.numel()),
            "dead_share": (total == 0).double().mean().item(),
            "spikes_per_sample": total.sum().item() / len(split),
        }
        for layer, total in zip(network.layers, fired, strict=True)
    ]
    return {"accuracy": correct / len(split), "loss": loss / len(split), "layers": layers}


def assert_alike(actual, expected):
    assert actual["accuracy"] == pytest.approx(expected["accuracy"], abs=1e-7)
    assert actual["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    for row, wanted in zip(actual["layers"], expected["layers"], strict=True):
        assert row == pytest.approx(wanted, rel=1e-6)


@pytest.fixture(scope="module")
def wandering(tmp_path_factory):
    """A run whose best epoch is not the last: the rate grows too large for it."""
    return train_tiny(
        tmp_path_factory.mktemp("wandering") / "run",
        training__epochs=5,
        optimizer__lr=0.05,
        optimizer__schedule="none",
    )


def test_the_best_checkpoint_is_that_of_the_best_validation_epoch(wandering):
    accuracies = [row["val_accuracy"] for row in table(wandering.folder)]
    best = accuracies.index(max(accuracies))
    assert best < len(accuracies) - 1, "this run cannot tell the best epoch from the last"
    checkpoint = torch.load(wandering.folder.best, weights_only=True)
    assert checkpoint["epoch"] == best
    assert checkpoint["global_step"] == PER_EPOCH * (best + 1)
    assert torch.load(wandering.folder.last, weights_only=True)["epoch"] == 4
    validated = measure(wandering.folder.best, digits().validation)["accuracy"]
    assert wandering.summary["validation"]["best_accuracy"] == pytest.approx(validated, abs=1e-7)
    assert max(accuracies) == pytest.approx(validated, rel=1e-5)


def test_the_summary_equals_a_recomputation_from_the_best_checkpoint(wandering):
    expected = measure(wandering.folder.best, digits().test)
    assert_alike(wandering.summary["test"] | {"layers": wandering.summary["layers"]}, expected)
    other = measure(wandering.folder.last, digits().test)
    assert other["loss"] != pytest.approx(expected["loss"], rel=1e-3)


def test_the_weight_bits_in_the_summary(wandering):
    # 4·9 and 36·10 binary weights; batch norm's 2·4 and ten biases at 32 bits.
    assert wandering.summary["weight_bits"] == {"binary": 396, "full_precision": 32 * 18}


@pytest.mark.parametrize("checkpoint", ["best", "last", "path"])
@pytest.mark.parametrize("split", ["test", "validation"])
def test_evaluate_equals_a_recomputation(wandering, checkpoint, split):
    path = wandering.folder.last if checkpoint != "best" else wandering.folder.best
    chosen = path if checkpoint == "path" else checkpoint
    before = {entry: entry.read_bytes() for entry in wandering.folder.path.iterdir()}
    result = evaluate(wandering.folder.path, checkpoint=chosen, split=split, machine=MACHINE)
    assert_alike(result, measure(path, getattr(digits(), split)))
    assert {entry: entry.read_bytes() for entry in wandering.folder.path.iterdir()} == before


def test_evaluate_equals_the_summary_exactly(wandering):
    result = evaluate(wandering.folder.path, machine=MACHINE)
    assert result == wandering.summary["test"] | {"layers": wandering.summary["layers"]}


@dataclasses.dataclass
class Watched:
    """A split that keeps a log of the samples taken from it."""

    split: object
    taken: list

    def __len__(self):
        return len(self.split)

    def __getitem__(self, indices):
        self.taken.append(list(indices))
        return self.split[indices]


@pytest.fixture
def watched(monkeypatch):
    """Logs of the batches taken from the three splits."""
    logs = {"train": [], "validation": [], "test": []}
    original = run_module.load_dataset

    def load(*args, **kwargs):
        dataset = original(*args, **kwargs)
        splits = {name: Watched(getattr(dataset, name), log) for name, log in logs.items()}
        return dataclasses.replace(dataset, **splits)

    monkeypatch.setattr(run_module, "load_dataset", load)
    return logs


def test_the_test_set_is_seen_once_and_in_order(watched, tmp_path):
    result = train_tiny(tmp_path / "run")
    assert sum(watched["test"], []) == list(range(359))
    assert "test set used once" in result.summary["protocol"]


def test_the_subset_is_drawn_once_and_shuffled_in_every_epoch(watched, tmp_path):
    train_tiny(tmp_path / "run")
    taken = watched["train"]
    assert [len(batch) for batch in taken] == [32, 32, 16] * EPOCHS
    epochs = [sum(taken[i : i + PER_EPOCH], []) for i in range(0, len(taken), PER_EPOCH)]
    assert all(Counter(epoch) == Counter(epochs[0]) for epoch in epochs)
    assert len(set(epochs[0])) == SUBSET
    assert len({tuple(epoch) for epoch in epochs}) == EPOCHS
    assert max(epochs[0]) > SUBSET  # from anywhere in the training part
    taken.clear()
    train_tiny(tmp_path / "other", training__seed=SEED + 1, training__epochs=1)
    assert set(sum(taken, [])) != set(epochs[0])


def test_without_a_subset_every_training_sample_is_seen_once_per_epoch(watched, tmp_path):
    train_tiny(tmp_path / "run", data__subset=None, data__batch_size=500, training__epochs=1)
    assert sorted(sum(watched["train"], [])) == list(range(1295))


def test_without_validation_data_the_last_checkpoint_is_used(tmp_path):
    result = train_tiny(tmp_path / "run", data__validation=0.0, training__epochs=2)
    assert "best.ckpt" not in names(result.folder.path)
    assert "validation" not in result.summary
    assert result.summary["protocol"] == "no validation split: the last checkpoint is used"
    assert_alike(
        result.summary["test"] | {"layers": result.summary["layers"]},
        measure(result.folder.last, digits().test),
    )
    with pytest.raises(InvalidValueError, match=r"no 'validation' split in this run; known are"):
        evaluate(result.folder.path, split="validation", machine=MACHINE)


def test_training_stops_when_validation_no_longer_improves(tmp_path):
    # No batch norm, no annealing and no learning to speak of: all epochs are alike.
    result = train_tiny(
        tmp_path / "run",
        training__epochs=9,
        training__patience=2,
        network__batch_norm=False,
        optimizer__lr=1e-12,
        **FIXED,
    )
    assert result.summary["epochs"] == 3
    assert result.summary["iterations"] == 3 * PER_EPOCH
    assert len(table(result.folder)) == 3
    assert torch.load(result.folder.best, weights_only=True)["epoch"] == 0


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_other_precisions_train_and_measure(precision, tmp_path):
    result = train_tiny(tmp_path / "run", training__precision=precision, training__epochs=1)
    wide = torch.float64 if precision == "64-true" else torch.float32
    weight = weights(result.folder.last)["network.layers.0.synapse.latent_weight"]
    assert weight.dtype == wide
    assert 0 <= result.summary["test"]["accuracy"] <= 1
    assert all(0 < row["firing_rate"] < 1 for row in result.summary["layers"])
    assert torch.get_default_dtype() == torch.float32
    measured = evaluate(result.folder.path, machine=MACHINE)
    assert measured == result.summary["test"] | {"layers": result.summary["layers"]}


# When training cannot go on


class FailingLoss(SpikeCountLoss):
    """A spike count loss that goes wrong after so many training iterations."""

    def after(self, iterations, action):
        object.__setattr__(self, "left", iterations)
        object.__setattr__(self, "action", action)
        return self

    def __call__(self, window, targets):
        loss = super().__call__(window, targets)
        if not torch.is_grad_enabled():
            return loss
        object.__setattr__(self, "left", self.left - 1)
        return self.action(loss) if self.left < 0 else loss


def interrupt(loss):
    raise KeyboardInterrupt


def fail_after(monkeypatch, iterations, action):
    loss = FailingLoss().after(iterations, action)
    monkeypatch.setattr(RunConfig, "build_loss", lambda self: loss)


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=["nan", "inf"])
def test_a_loss_that_is_not_finite_ends_training_and_keeps_earlier_checkpoints(
    value, monkeypatch, tmp_path
):
    fail_after(monkeypatch, 4, lambda loss: loss * value)
    with pytest.raises(TrainingError) as refusal:
        train_tiny(tmp_path / "run")
    text = str(refusal.value)
    assert "\n" not in text
    assert f"is {value} at iteration 4" in text
    assert "--set training.grad_clip=1.0" in text
    folder = RunFolder.open(tmp_path / "run")
    assert names(folder.path) == ["best.ckpt", "config.toml", "last.ckpt", "metrics.csv"]
    assert len(table(folder)) == 1
    assert torch.load(folder.last, weights_only=True)["global_step"] == PER_EPOCH
    monkeypatch.undo()
    result = evaluate(folder.path, checkpoint="last", machine=MACHINE)
    assert_alike(result, measure(folder.last, digits().test))


def test_an_interrupt_writes_the_weights_as_they_are(monkeypatch, tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    fail_after(monkeypatch, 4, interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is handler
    folder = RunFolder.open(tmp_path / "run")
    assert names(folder.path) == ["best.ckpt", "config.toml", "last.ckpt", "metrics.csv"]
    last = torch.load(folder.last, weights_only=True)
    assert last["global_step"] == 4
    assert last["state_dict"]["network.layers.0.neuron.iteration"] == 4
    monkeypatch.undo()
    result = evaluate(folder.path, checkpoint="last", machine=MACHINE)
    assert_alike(result, measure(folder.last, digits().test))


def test_an_interrupt_before_the_first_iteration_leaves_no_checkpoint(monkeypatch, tmp_path):
    fail_after(monkeypatch, 0, interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path / "run")
    assert names(tmp_path / "run") == ["config.toml"]


@pytest.mark.parametrize("action", ["interrupt", "nan"])
def test_a_recording_is_kept_however_training_ends(action, monkeypatch, tmp_path):
    fail_after(monkeypatch, 4, interrupt if action == "interrupt" else lambda loss: loss * math.nan)
    with pytest.raises((KeyboardInterrupt, TrainingError)):
        train_tiny(tmp_path / "run", training__record_output=True, data__subset=96)
    assert RunFolder.open(tmp_path / "run").recording.exists()


def test_a_recording_with_a_smaller_last_batch_works_or_is_refused_in_time(tmp_path):
    try:
        result = train_tiny(tmp_path / "run", training__record_output=True)
    except InvalidValueError:
        assert names(tmp_path) == []
    else:
        assert result.folder.recording.exists()
        assert result.folder.summary.exists()


# What is refused

INVALID = {
    "theta_inf_below_theta_0": {"threshold.theta_inf": [0.4, 2.5]},
    "alpha_above_1": {"threshold.alpha": 1.5},
    "alpha_0": {"threshold.alpha": 0.0},
    "beta_above_1": {"neuron.beta": 1.1},
    "slope_0": {"neuron.slope": 0.0},
    "correct_rate": {"loss.correct_rate": 1.5},
    "notation": {"network.notation": "4C3-AP9-10"},
    "surrogate": {"neuron.surrogate": "fast_sigmod"},
    "dropout": {"network.dropout": 1.0},
    "option": {"data.options.peak": 1.0},
    "subset_larger_than_the_data": {"data.subset": 1296},
    "patience_without_validation": {"training.patience": 2, "data.validation": 0.0},
    "seed_beyond_32_bits": {"training.seed": 2**32},
    "adam_betas": {"optimizer.betas": [0.9, 1.5]},
    "sgd_momentum": {"optimizer.name": "sgd", "optimizer.momentum": -1.0},
    "learning_rate_beyond_float32": {"optimizer.lr": 1e39},
    "fewer_outputs_than_classes": {"network.notation": "4C3-AP2-5"},
    "membrane_loss_without_a_membrane_target": {"loss.name": "membrane"},
}


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("changes", INVALID.values(), ids=INVALID.keys())
def test_an_invalid_configuration_leaves_no_folder_behind(changes, tmp_path):
    output = tmp_path / "new" / "run"
    with pytest.raises(InvalidValueError) as refusal:
        train_tiny(output, **changes)
    assert "\n" not in str(refusal.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "machine", [Machine(device="gpu"), Machine(device="cpu", threads=0)], ids=["device", "threads"]
)
def test_an_unknown_machine_is_refused_before_a_folder_is_made(machine, tmp_path):
    with pytest.raises(InvalidValueError, match="device|threads"):
        train(tiny(), output=tmp_path / "run", machine=machine, verbose=False)
    assert names(tmp_path) == []


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_is_refused_before_a_folder_is_made(tmp_path):
    with pytest.raises(InvalidValueError, match="mps"):
        train(tiny(), output=tmp_path / "run", machine=Machine(device="mps"), verbose=False)
    assert names(tmp_path) == []


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


def refuse(done, path, message):
    with pytest.raises(RunError, match=message) as refusal:
        evaluate(done.folder.path, checkpoint=path, machine=MACHINE)
    text = str(refusal.value)
    assert "\n" not in text
    assert str(path) in text


def test_a_missing_checkpoint_is_refused(done, tmp_path):
    refuse(done, tmp_path / "absent.ckpt", "there is no checkpoint")


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
        ({"network__binary": False}, "it has no network.layers.0.synapse.latent_weight"),
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
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(RunError, match=r"is not a run folder: it has no config\.toml"):
            evaluate(path, machine=MACHINE)


def test_an_unknown_split_names_what_there_is(done):
    with pytest.raises(InvalidValueError, match=r"'train' split in this run; .*validation, test"):
        evaluate(done.folder.path, split="train", machine=MACHINE)
