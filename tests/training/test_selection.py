"""Which samples train, select and test, and what is measured on them."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch
from training_runs import (
    BATCH,
    EPOCHS,
    FIXED,
    MACHINE,
    PER_EPOCH,
    SEED,
    SUBSET,
    assert_alike,
    contents,
    digits,
    measure,
    names,
    table,
    train_tiny,
    weights,
)

from bsnn_tha.cli import show
from bsnn_tha.data.dataset import stratified_split
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.presets import load_preset
from bsnn_tha.training import evaluation
from bsnn_tha.training.callbacks.progress import opening
from bsnn_tha.training.evaluation import evaluate
from bsnn_tha.training.module import SpikingModule
from bsnn_tha.training.run import resume

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning")


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
    assert wandering.summary["weight_bits"] == {"quantized": 396, "full_precision": 32 * 18}


@pytest.mark.parametrize("checkpoint", ["best", "last", "path"])
@pytest.mark.parametrize("split", ["test", "validation"])
def test_evaluate_equals_a_recomputation(wandering, checkpoint, split):
    path = wandering.folder.last if checkpoint != "best" else wandering.folder.best
    chosen = path if checkpoint == "path" else checkpoint
    before = contents(wandering.folder.path)
    result = evaluate(wandering.folder.path, checkpoint=chosen, split=split, machine=MACHINE)
    assert_alike(result, measure(path, getattr(digits(), split)))
    assert contents(wandering.folder.path) == before


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
    original = evaluation.load_dataset

    def load(*args, **kwargs):
        dataset = original(*args, **kwargs)
        splits = {
            name: Watched(split, log)
            for name, log in logs.items()
            if (split := getattr(dataset, name)) is not None
        }
        return dataclasses.replace(dataset, **splits)

    monkeypatch.setattr(evaluation, "load_dataset", load)
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


def one_of_each_class(monkeypatch):
    """Digits with one training sample of each class: of none can one be held out."""
    original = evaluation.load_dataset

    def load(*args, **kwargs):
        whole = original(*args, **kwargs | {"validation": 0.0})
        first = torch.stack([(whole.train.targets == c).nonzero()[0, 0] for c in range(10)])
        train = whole.train.select(first)
        kept, held = stratified_split(train.targets, 0.1, SEED)
        return dataclasses.replace(whole, train=train.select(kept), validation=train.select(held))

    monkeypatch.setattr(evaluation, "load_dataset", load)


def test_an_empty_validation_split_selects_nothing_and_does_not_say_it_did(monkeypatch, tmp_path):
    one_of_each_class(monkeypatch)
    result = train_tiny(tmp_path / "run", training__epochs=2, data__subset=None)
    assert result.summary["protocol"] == "no validation split: the last checkpoint is used"
    assert result.summary["layers_of"] == "the test set, last.ckpt"
    assert "validation" not in result.summary
    assert "best.ckpt" not in names(result.folder.path)
    with pytest.raises(InvalidValueError, match="patience needs a validation split"):
        train_tiny(tmp_path / "other", training__patience=2, data__subset=None)
    with pytest.raises(InvalidValueError, match=r"no 'validation' split in this run"):
        evaluate(result.folder.path, split="validation", machine=MACHINE)


def test_training_stops_when_validation_no_longer_improves(tmp_path):
    # No batch norm, no annealing and no learning to speak of: all epochs are alike.
    result = train_tiny(
        tmp_path / "run",
        training__epochs=9,
        training__patience=2,
        network__norm="none",
        optimizer__lr=1e-12,
        **FIXED,
    )
    assert result.summary["epochs"] == 3
    assert result.summary["stopped"] == "validation accuracy no better for 2 epochs"
    assert (
        show.summary(result.summary)
        .splitlines()[-1]
        .startswith("3 of 9 epochs (validation accuracy no better for 2 epochs), 9 iterations in ")
    )
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


def test_the_summary_names_the_device_that_trained(monkeypatch, tmp_path):
    """After training Lightning moves the network to the CPU, wherever it was trained."""

    def cpu(module):
        module._device = torch.device("meta")
        return module

    monkeypatch.setattr(SpikingModule, "cpu", cpu)
    summary = train_tiny(tmp_path / "run", training__epochs=1, data__subset=BATCH).summary
    assert (summary["machine"]["device"], summary["machine"]["processes"]) == ("cpu", 1)


def test_a_run_that_is_made_longer_says_that_it_used_the_test_set_before(tmp_path):
    path = train_tiny(tmp_path / "run", training__epochs=1, data__subset=BATCH).folder.path
    for epochs, uses in ((2, 2), (3, 3), (3, 3)):  # the last time there is nothing to do
        summary = resume(path, epochs=epochs, machine=MACHINE, verbose=False).summary
        assert summary["test_uses"] == uses
        assert summary["protocol"] == (
            "checkpoint selected on the validation split; "
            f"test set used {uses} times, as the run was made longer"
        )


def test_the_opening_says_what_is_not_as_published():
    published = load_preset("digits", "tha")
    changed = published.with_changes(
        {"neuron.beta": 0.5, "training.seed": 7, "snapshots.count": 3, "training.patience": 2}
    )
    first = [opening(config).splitlines()[0] for config in (published, changed)]
    assert first[0] == f"digits, variant tha ({published.source})"
    assert first[1] == (
        f"digits, variant tha ({published.source}; changed: neuron.beta, training.patience)"
    )
    found = changed.with_changes({"source": "study digits-tha, trial 3"})
    said = "digits, variant tha (starting from study digits-tha, trial 3)"
    assert opening(found).splitlines()[0] == said


# The paper's protocol


@pytest.fixture(scope="module")
def as_the_paper(tmp_path_factory):
    return train_tiny(
        tmp_path_factory.mktemp("paper") / "run",
        training__protocol="paper",
        training__epochs=5,
        optimizer__lr=0.05,
        optimizer__schedule="none",
    )


def test_the_papers_protocol_trains_on_every_training_sample(watched, tmp_path):
    result = train_tiny(
        tmp_path / "run",
        training__protocol="paper",
        data__validation=0.25,
        data__subset=None,
        data__batch_size=500,
        training__epochs=1,
    )
    assert sorted(sum(watched["train"], [])) == list(range(1438))  # 1,797 less the 359 for testing
    assert sum(watched["test"], []) == [*range(359), *range(359)]  # selects, then is measured
    assert "1,438 training" in result.summary["data"]


def test_the_papers_protocol_selects_on_the_test_set(as_the_paper):
    accuracies = [row["val_accuracy"] for row in table(as_the_paper.folder)]
    best = accuracies.index(max(accuracies))
    assert torch.load(as_the_paper.folder.best, weights_only=True)["epoch"] == best
    summary = as_the_paper.summary
    assert summary["validation"]["best_accuracy"] == pytest.approx(max(accuracies), rel=1e-5)
    assert summary["test"]["accuracy"] == pytest.approx(max(accuracies), rel=1e-5)
    assert_alike(
        summary["test"] | {"layers": summary["layers"]},
        measure(as_the_paper.folder.best, digits().test),
    )


def test_the_papers_protocol_is_named_wherever_its_accuracy_is(as_the_paper):
    label = "paper's protocol: checkpoint selected on the test set, so accuracy is optimistic"
    assert as_the_paper.summary["protocol"] == label
    line = show.summary(as_the_paper.summary).splitlines()[0]
    assert line.startswith("test accuracy ")
    assert label in line


def test_the_papers_protocol_ignores_the_validation_share(as_the_paper, tmp_path):
    other = train_tiny(
        tmp_path / "run",
        training__protocol="paper",
        training__epochs=5,
        optimizer__lr=0.05,
        optimizer__schedule="none",
        data__validation=0.5,
    )
    assert other.folder.metrics.read_text() == as_the_paper.folder.metrics.read_text()
    assert other.summary["test"] == as_the_paper.summary["test"]


def test_the_papers_protocol_has_no_validation_split_to_evaluate(as_the_paper):
    path = as_the_paper.folder.path
    with pytest.raises(InvalidValueError, match=r"no 'validation' split in this run; known are"):
        evaluate(path, split="validation", machine=MACHINE)
    result = evaluate(path, machine=MACHINE)
    layers = as_the_paper.summary["layers"]
    assert result == as_the_paper.summary["test"] | {"layers": layers}


def test_the_papers_protocol_stops_by_the_test_set(tmp_path):
    result = train_tiny(
        tmp_path / "run",
        training__protocol="paper",
        training__epochs=9,
        training__patience=2,
        network__norm="none",
        optimizer__lr=1e-12,
        data__validation=0.0,
        **FIXED,
    )
    assert result.summary["epochs"] == 3
