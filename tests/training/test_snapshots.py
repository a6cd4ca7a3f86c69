"""Snapshots of training against the same figures taken by hand, and what they leave alone."""

from __future__ import annotations

import copy
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from event_files import hdf5_bytes, write
from reference import fast_sigmoid_derivative
from training_runs import (
    ALPHA,
    MACHINE,
    PER_EPOCH,
    SLOPE,
    STEPS,
    THETA_0,
    THETA_INF,
    WITH_SNAPSHOTS,
    assert_same_arrays,
    assert_same_run,
    at_call,
    checkpoint,
    difference,
    fail_after,
    interrupt,
    killed,
    names,
    tiny,
    train_tiny,
    without_seconds,
)

from bsnn_tha import threshold_at
from bsnn_tha.data.dataset import Dataset, TensorSplit
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.observe.recording import Recording, evaluating, read_activity, record
from bsnn_tha.presets import load_preset
from bsnn_tha.training.callbacks import snapshots as snapshots_module
from bsnn_tha.training.callbacks.snapshots import membrane_histogram, planned_iterations, take_probe
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.module import SpikingModule
from bsnn_tha.training.run import resume, train
from bsnn_tha.training.session import Session
from studies.study import Plan

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning")

TEMPORAL = load_preset("temporal-coding", "tha").with_changes(
    {
        "network.notation": "12Dense9Dense1",
        "data.num_steps": 20,
        "data.options": {"inputs": 12, "iterations": 5, "target_step": 15, "peak": 3.3},
        "threshold.theta_0": 1.5,
        "threshold.theta_inf": 2.5,
        "threshold.alpha": 0.1,
        "optimizer.lr": 5e-3,
        "training.epochs": 2,
    }
)


def run(config, path, **machine):
    used = Machine(**(MACHINE.__dict__ | machine))
    return train(config, output=path, machine=used, verbose=False).folder


@pytest.fixture
def events(tmp_path):
    """A machine with a few recordings that are longer than a window, and their configuration."""
    rng = np.random.default_rng(0)
    for part, samples in (("train", 24), ("test", 8)):
        times = [np.sort(rng.uniform(0, 0.1, 400)) for _ in range(samples)]
        units = [rng.integers(0, 700, 400) for _ in range(samples)]
        content = hdf5_bytes(times, units, [i % 4 for i in range(samples)])
        write(tmp_path / "data" / "SpokenDigits" / f"shd_{part}.h5", content)
    config = load_preset("spoken-digits", "tha").with_changes(
        {
            "network.notation": "6-20",
            "data.num_steps": 9,
            "data.batch_size": 20,
            "data.validation": 0.0,
            "data.options.random_start": True,
            "data.options.partial": True,  # four classes
            "threshold.theta_0": 1.0,
            "threshold.theta_inf": 2.0,
            "threshold.alpha": 0.1,
            "training.epochs": 2,
            "training.seed": 5,
        }
    )
    return {"data_root": tmp_path / "data", "cache_root": tmp_path / "cache"}, config


# Training goes on as it would without them

KINDS = {
    "plain": {},
    "dropout": {"network__dropout": 0.4},
    "accumulate": {"training__accumulate": 2, "network__dropout": 0.4},
    "chunks": {"training__chunk_steps": 2, "network__dropout": 0.4},
    "no_batch_norm": {"network__norm": "none", "neuron__surrogate_centre": "moving"},
    "double": {"training__precision": "64-true", "network__dropout": 0.4},
    "bfloat16": {"training__precision": "bf16-mixed"},
    "learned": {"threshold__theta_inf": None, "threshold__alpha": None}
    | {"threshold__rule": "learned", "threshold__per": "neuron", "neuron__learn_beta": True},
    "checked": {"training__check_silencing": True, "training__record_output": True}
    | {"data__subset": 64},
}


def assert_same_training(watched, plain):
    assert watched.metrics.read_text() == plain.metrics.read_text()
    for name in ("last.ckpt", "best.ckpt"):
        if (plain.path / name).exists():
            one, two = checkpoint(watched.path / name), checkpoint(plain.path / name)
            assert difference(one, two) is None
    assert without_seconds(watched) == without_seconds(plain)
    assert names(watched.path) == sorted([*names(plain.path), "snapshots"])


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS.keys())
def test_training_is_the_same_to_the_last_bit(changes, tmp_path):
    watched, plain = (
        train_tiny(tmp_path / f"{count}", **changes, snapshots__count=count).folder
        for count in (100, 0)
    )
    assert_same_training(watched, plain)
    assert len(Recording.open(watched.path)) >= 6  # every iteration


@pytest.mark.parametrize("notation", ["6-20", "700Dense1000Dense20"])
def test_training_on_events_is_the_same_to_the_last_bit(notation, events, tmp_path):
    machine, config = events
    config = config.with_changes({"network.notation": notation})
    watched, plain = (
        run(config.with_changes({"snapshots.count": count}), tmp_path / f"{count}", **machine)
        for count in (100, 0)
    )
    assert_same_training(watched, plain)


def test_training_on_traces_is_the_same_to_the_last_bit(tmp_path):
    watched, plain = (
        run(TEMPORAL.with_changes({"snapshots.count": count}), tmp_path / f"{count}")
        for count in (100, 0)
    )
    assert_same_training(watched, plain)


# What is in them


class Spy:
    """Copies of the module and the batch of every training step, before and after it."""

    def __init__(self, monkeypatch):
        self.steps = []
        original = SpikingModule.training_step

        def step(module, batch, index):
            before = copy.deepcopy(module.network)
            iteration = module.global_step
            result = original(module, batch, index)
            entry = (before, copy.deepcopy(module.network), batch[0], module.num_steps)
            self.steps.append((iteration, *entry, float(module.live["loss"])))
            return result

        monkeypatch.setattr(SpikingModule, "training_step", step)

    def first(self, iteration):
        return next(step[1:] for step in self.steps if step[0] == iteration)


def by_hand(network, input, num_steps):
    """Membranes and spikes of the first 16 samples of a batch, layer by layer."""
    windows = []
    for layer in network.layers:
        layer.show_membranes = True
        layer.register_forward_hook(lambda layer, args, window: windows.append(window))
    with torch.no_grad():
        network.train()(input, num_steps)
    return [
        (w.membranes[:, :16].flatten(2).numpy(), w.spikes[:, :16].flatten(2).numpy())
        for w in windows
    ]


@pytest.mark.parametrize("kind", ["plain", "accumulate", "chunks", "no_batch_norm"])
def test_a_snapshot_is_what_the_iteration_was(kind, monkeypatch, tmp_path):
    spy = Spy(monkeypatch)
    changes = KINDS[kind] | {"network__dropout": 0.0, "snapshots__count": 3}
    folder = train_tiny(tmp_path / "run", **changes).folder
    recording = Recording.open(folder.path)
    probe = recording.probe
    total = 6 if kind == "accumulate" else 9
    assert recording.iterations == tuple(planned_iterations(total, total // 3, 3))
    for snapshot in recording:
        before, after, input, steps, loss = spy.first(snapshot.iteration)
        assert snapshot.epoch == snapshot.iteration // (total // 3)
        assert snapshot.loss == pytest.approx(loss, rel=1e-6)
        with evaluating(after):
            neurons = [layer.neurons for layer in probe.layers]
            traces = record(after, torch.from_numpy(probe.inputs), steps, neurons)
        moving = kind == "no_batch_norm"
        batch = by_hand(before, input, steps)
        for index, (layer, trace, (membranes, spikes)) in enumerate(
            zip(snapshot.layers, traces, batch, strict=True)
        ):
            assert np.array_equal(layer.trace.membranes, trace.membranes)
            assert np.array_equal(layer.trace.spikes, trace.spikes)
            assert np.array_equal(layer.trace.neurons, trace.neurons)
            schedule = THETA_0[index], THETA_INF[index], ALPHA[index]
            theta = threshold_at(snapshot.iteration, *schedule)
            assert layer.trace.threshold == pytest.approx(theta, rel=1e-6)
            centre = theta if moving else THETA_0[index]
            assert layer.trace.centre == pytest.approx(centre, rel=1e-6)
            assert layer.rates == pytest.approx(spikes.mean((0, 1)), abs=1e-3)
            assert layer.dead_share == pytest.approx((spikes.sum((0, 1)) == 0).mean())
            values = membranes.flatten().tolist()
            mass = [fast_sigmoid_derivative(u, centre, SLOPE) for u in values]
            assert layer.surrogate_mass == pytest.approx(math.fsum(mass) / len(mass), rel=1e-4)
            low, high = layer.edges[[0, -1]]
            expected, _ = np.histogram(np.clip(membranes, low, high), layer.edges)
            assert np.abs(layer.histogram - expected).sum() <= 4  # values at an edge
            assert layer.histogram.sum() == membranes.size
            inside = [
                THETA_0[index],
                THETA_INF[index],
                theta,
                *np.quantile(membranes, [0.01, 0.99]),
            ]
            assert all(low < value < high for value in inside)


def test_the_probe_says_what_is_recorded(tmp_path):
    folder = train_tiny(tmp_path / "run", snapshots__count=1, snapshots__neurons=5).folder
    probe = Recording.open(folder.path).probe
    config = tiny()
    assert (probe.dataset, probe.split, probe.static) == ("digits", "validation", True)
    assert (probe.num_steps, probe.step_ms) == (STEPS, None)
    assert (probe.planned_iterations, probe.epoch_iterations) == (9, 3)
    assert (probe.surrogate, probe.surrogate_centre) == ("fast_sigmoid", "clamped")
    assert probe.class_names == tuple("0123456789")
    dataset = Session.prepare(config, MACHINE).dataset
    images, labels = dataset.validation[probe.samples.tolist()]
    assert np.array_equal(probe.inputs, images.numpy())
    assert np.array_equal(probe.targets, labels.numpy())
    assert len(set(probe.targets.tolist())) == 4
    first, last = probe.layers
    assert (first.name, first.shape, len(first.neurons)) == ("4C3", (4, 3, 3), 5)
    assert (last.name, last.shape, last.neurons.tolist()) == ("10", (10,), list(range(10)))
    for index, layer in enumerate(probe.layers):
        settings = layer.slope, layer.theta_0, layer.theta_inf, layer.alpha
        expected = SLOPE, THETA_0[index], THETA_INF[index], ALPHA[index]
        assert settings == pytest.approx(expected)
        assert layer.rate_neurons.tolist() == list(range(math.prod(layer.shape)))


def test_events_are_recorded_as_frames(events, tmp_path):
    machine, config = events
    config = config.with_changes({"snapshots.samples": 3})
    folder = run(config, tmp_path / "run", **machine)
    recording = Recording.open(folder.path)
    probe = recording.probe
    assert (probe.dataset, probe.split, probe.static) == ("spoken-digits", "training", False)
    assert (probe.num_steps, probe.step_ms, probe.class_names) == (9, 3.0, ())
    assert (probe.inputs.shape, probe.inputs.dtype) == ((9, 3, 700), np.uint8)
    assert probe.inputs.any()
    assert len(set(probe.targets.tolist())) == 3
    assert recording[0].layers[1].trace.membranes.shape == (9, 3, 8)  # more than 16 outputs
    assert recording.iterations == (0, 1, 2, 3)
    again = run(config, tmp_path / "again", **machine)
    assert_same_run(folder, again)
    assert [layer.time_steps for layer in read_activity(folder.path)] == [9, 9]


def test_one_pattern_is_recorded_once(tmp_path):
    folder = run(TEMPORAL, tmp_path / "run")
    probe = Recording.open(folder.path).probe
    assert (probe.inputs.shape, probe.inputs.dtype) == ((20, 1, 12), np.uint8)
    assert (probe.targets.shape, probe.split) == ((20, 1, 1), "training")
    assert probe.targets.max() == pytest.approx(3.3)
    layers = Recording.open(folder.path)[0].layers
    assert [layer.trace.membranes.shape for layer in layers] == [(20, 1, 8), (20, 1, 1)]
    assert folder.recording.exists()


def dataset_of(targets, validation=None):
    def split(labels):
        inputs = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1)
        return None if labels is None else TensorSplit(inputs, torch.tensor(labels))

    held_out = None if validation is None else split(validation)
    return Dataset("x", (1,), 10, True, split(targets), held_out, None, "")


@pytest.mark.parametrize(
    ("targets", "count", "expected"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 4, [0, 2, 5, 7]),
        ([1, 1, 0, 0], 2, [0, 1]),
        ([1, 1, 0, 0], 3, [0, 1, 0]),
        ([1, 1, 0, 0], 9, [0, 1, 0, 1]),
        ([7], 4, [7]),
    ],
    ids=str,
)
def test_samples_of_the_probe_are_of_different_classes(targets, count, expected):
    state = torch.get_rng_state()
    probe = take_probe(dataset_of(targets), count)
    assert probe.targets.tolist() == expected
    assert len(set(probe.samples)) == len(probe.samples)
    assert probe.inputs.flatten().tolist() == probe.samples
    assert torch.equal(torch.get_rng_state(), state)


class Drawn(TensorSplit):
    """Samples that are drawn when they are taken, as windows that start at random are."""

    def __getitem__(self, indices):
        return torch.rand(len(indices), 1), self.targets[indices]


def test_the_probe_is_the_same_whatever_was_drawn_before():
    dataset = replace(dataset_of([0]), train=Drawn(torch.zeros(3, 1), torch.tensor([0, 1, 2])))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = take_probe(dataset, 2).inputs
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(take_probe(dataset, 2).inputs, first)


def test_the_probe_is_of_the_validation_split_if_there_is_one():
    probe = take_probe(dataset_of([0] * 5, validation=[1, 2]), 4)
    assert (probe.split, probe.targets.tolist()) == ("validation", [1, 2])


# When they are taken


@pytest.mark.parametrize("epoch", [1, 3, 7, 21, 1000])
@pytest.mark.parametrize("epochs", [1, 2, 25])
@pytest.mark.parametrize("count", [1, 2, 7, 50, 3000])
def test_snapshots_are_spread_over_the_run_and_its_epochs(epoch, epochs, count):
    total = epoch * epochs
    plan = planned_iterations(total, epoch, count)
    assert plan == sorted(set(plan))
    assert plan[0] == 0
    assert plan[-1] == total - 1 or (count == 1 and epochs == 1)
    assert {iteration // epoch for iteration in plan} == set(range(epochs))
    assert min(count, total) <= len(plan) <= min(count, total) + epochs
    if count > 1:
        gaps = np.diff(plan)
        assert max(gaps, default=0) <= math.ceil((total - 1) / (count - 1)) + 1


def test_a_run_that_stops_early_has_a_snapshot_of_each_epoch(tmp_path):
    changes = {"training__epochs": 9, "training__patience": 2, "snapshots__count": 2}
    fixed = {"threshold__theta_inf": None, "threshold__alpha": None, "optimizer__lr": 1e-12}
    folder = train_tiny(tmp_path / "run", **changes, **fixed, network__norm="none").folder
    assert [snapshot.epoch for snapshot in Recording.open(folder.path)] == [0, 1, 2]


def test_none_are_taken_if_none_are_asked_for(tmp_path):
    folder = train_tiny(tmp_path / "run", snapshots__count=0).folder
    assert not folder.snapshots.exists()


def test_training_without_a_run_folder_writes_nothing(monkeypatch, tmp_path):
    """As the trials of studies do."""
    monkeypatch.chdir(tmp_path)
    Session.prepare(tiny(snapshots__count=4), MACHINE).fit()
    assert names(tmp_path) == []


@pytest.mark.parametrize("key", ["count", "samples", "neurons"])
@pytest.mark.parametrize("value", [-1, 1.5, "3", True])
def test_settings_that_cannot_be_are_refused(key, value):
    with pytest.raises(InvalidValueError) as refusal:
        tiny(**{f"snapshots__{key}": value})
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith(f"snapshots.{key} must be ")
    assert str(refusal.value).endswith(f", but got {value!r}")


def test_a_misspelt_setting_is_refused():
    with pytest.raises(InvalidValueError, match="did you mean 'samples'"):
        tiny(snapshots__sample=3)


# Going on


EVERYTHING = {"network__dropout": 0.3, "training__accumulate": 2, "snapshots__count": 6}
needs_fork = pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="cannot fork here")


@needs_fork
@pytest.mark.parametrize("changes", [EVERYTHING, {"snapshots__count": 7}], ids=["all", "plain"])
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_resumed_run_writes_the_same_files(epoch, changes, tmp_path):
    expected = train_tiny(tmp_path / "whole", **changes).folder
    path = tmp_path / "run"
    stop = at_call(SpikingModule, "training_step", epoch * PER_EPOCH + 3)
    assert killed(lambda: train_tiny(path, **changes), stop)
    half = path / "snapshots" / ".iteration-000000002.npz.12345.tmp"
    half.write_bytes(b"half")
    folder = resume(path, machine=MACHINE, verbose=False).folder
    assert names(folder.path) == WITH_SNAPSHOTS
    assert_same_run(folder, expected)
    for file in folder.snapshots.iterdir():
        assert file.read_bytes() == (expected.snapshots / file.name).read_bytes()


def test_a_longer_run_keeps_what_it_has(tmp_path):
    folder = train_tiny(tmp_path / "run", snapshots__count=4).folder
    before = set(Recording.open(folder.path).iterations)
    resume(folder.path, epochs=5, machine=MACHINE, verbose=False)
    recording = Recording.open(folder.path)
    new = {i for i in planned_iterations(15, PER_EPOCH, 4) if i >= 9}
    assert set(recording.iterations) == before | new
    assert recording.probe.planned_iterations == 15
    expected = train_tiny(tmp_path / "five", training__epochs=5, snapshots__count=100).folder
    for iteration in before | new:
        assert_same_arrays(folder.snapshot(iteration), expected.snapshot(iteration))


def test_a_run_can_be_read_while_it_is_trained(monkeypatch, tmp_path):
    seen, original = [], SpikingModule.training_step

    def step(module, batch, index):
        recording = Recording.open(tmp_path / "run")
        seen.append([snapshot.iteration for snapshot in recording])
        return original(module, batch, index)

    monkeypatch.setattr(SpikingModule, "training_step", step)
    train_tiny(tmp_path / "run", snapshots__count=100, training__epochs=1)
    assert seen == [[], [0], [0, 1]]


@pytest.mark.parametrize("action", ["interrupt", "nan"])
def test_a_run_that_ends_badly_leaves_the_network_alone(action, monkeypatch, tmp_path):
    modules, original = [], SpikingModule.training_step

    def step(module, batch, index):
        modules.append(module)
        return original(module, batch, index)

    monkeypatch.setattr(SpikingModule, "training_step", step)
    fail_after(monkeypatch, 4, interrupt if action == "interrupt" else lambda loss: loss * math.nan)
    with pytest.raises(BaseException, match=r"interrupted|finite"):
        train_tiny(tmp_path / "run", snapshots__count=100)
    for layer in modules[0].network.layers:
        assert not layer.show_membranes
        assert not layer._forward_hooks
    assert Recording.open(tmp_path / "run").iterations == (0, 1, 2, 3)


def test_an_older_run_folder_is_still_one(done, tmp_path):
    """Its configuration says nothing of snapshots."""
    folder = shutil.copytree(done.folder.path, tmp_path / "run")
    text = (folder / "config.toml").read_text()
    head, _, tail = text.partition("[snapshots]")
    assert tail
    (folder / "config.toml").write_text(head)
    result = resume(folder, epochs=4, machine=MACHINE, verbose=False)
    assert Recording.open(folder).probe.planned_iterations == 12
    assert result.summary["epochs"] == 4


def test_a_study_from_before_there_were_snapshots_goes_on():
    config = tiny(snapshots__count=50)
    old, new = (
        Plan(text, (), ("accuracy",))
        for text in (config.to_toml().partition("[snapshots]")[0], config.to_toml())
    )
    assert old.config != new.config
    assert old.differences(new) == new.differences(old) == []
    other = Plan(config.with_changes({"neuron.beta": 0.5}).to_toml(), (), ("accuracy",))
    assert old.differences(other) == ["neuron.beta = 0.9 (asked for 0.5)"]


# Histograms


@pytest.mark.parametrize(
    "values",
    [
        torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * 7,
        torch.cat([torch.randn(5000), torch.tensor([1e30, -1e30, 5e4])]),
        torch.zeros(100),
        torch.full((100,), 16_777_217.0),
        torch.tensor([0.1, 0.1, math.nan, math.inf]),
        torch.full((5,), math.nan),
    ],
    ids=["normal", "outliers", "silent", "large", "nan", "nothing"],
)
def test_histograms_count_every_finite_value(values):
    finite = values[torch.isfinite(values)]
    counts, edges = membrane_histogram(values, [1.0, 2.0])
    assert counts.sum() == len(finite)
    assert (counts.dtype, edges.dtype) == (np.int64, np.float32)
    assert len(counts) == snapshots_module.BINS == len(edges) - 1
    assert (np.diff(edges) >= 0).all()
    assert edges[0] < 1.0 and edges[-1] > 2.0
    if len(finite) > 1000:
        low, high = np.quantile(finite, [0.01, 0.99])
        assert edges[0] < low and high < edges[-1]
        assert edges[-1] - edges[0] < 10 * (high - low)
        beyond = ((finite < edges[0]) | (finite > edges[-1])).sum()
        assert beyond > 0 and counts[0] + counts[-1] >= beyond


def test_large_layers_are_sampled_evenly(monkeypatch, tmp_path):
    exact = train_tiny(tmp_path / "exact", snapshots__count=1, data__num_steps=40).folder
    monkeypatch.setattr(snapshots_module, "MEMBRANES", 3000)
    for name, changes in (("whole", {}), ("chunks", {"training__chunk_steps": 7})):
        folder = train_tiny(
            tmp_path / name, snapshots__count=1, data__num_steps=40, **changes
        ).folder
        one, other = (Recording.open(f.path)[0].layers[0] for f in (exact, folder))
        assert one.histogram.sum() == 40 * 16 * 36
        assert other.histogram.sum() == 3000
        assert other.surrogate_mass == pytest.approx(one.surrogate_mass, rel=0.05)
        assert np.array_equal(other.rates, one.rates)  # of all neurons and samples
        assert other.dead_share == one.dead_share
