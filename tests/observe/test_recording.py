"""Recording a network, and reading what runs have recorded."""

from __future__ import annotations

import copy
import json
import shutil
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from reference import lif_forward
from training_runs import (
    FINISHED,
    MACHINE,
    STEPS,
    at_call,
    contents,
    digits,
    killed,
    names,
    network_weights,
    tiny,
    tiny_network,
    train_tiny,
)

from animations.run_arrays import OutputRecording
from bsnn_tha import SpikingNetwork, spike_count_loss
from bsnn_tha.errors import DataError, InvalidValueError, RunError
from bsnn_tha.observe.recording import (
    Recording,
    evaluating,
    read_activity,
    read_output_recording,
    record,
    spread,
)
from bsnn_tha.presets import load_preset
from bsnn_tha.run_folder import RunFolder
from bsnn_tha.training.module import SpikingModule
from bsnn_tha.training.run import train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning")

SHAPE = (1, 6, 6)
INPUTS = {
    "image": (torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0)), STEPS),
    "frames": (torch.rand(STEPS, 3, *SHAPE, generator=torch.Generator().manual_seed(1)), None),
}


def make_network(**changes):
    torch.manual_seed(4)
    settings = {"beta": 0.9, "theta_0": [0.5, 0.9], "theta_inf": [2.5, 2.0], "alpha": 0.2}
    network = SpikingNetwork("6C2-AP2-3", SHAPE, **(settings | changes))
    for layer in network.layers:
        layer.neuron.anneal(2)
    return network


# Recording a network


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("centre", ["clamped", "moving"])
def test_traces_are_those_of_single_neurons(kind, centre):
    network = make_network(surrogate_centre=centre).eval()
    input, steps = INPUTS[kind]
    chosen = [[0, 7, 23], [2]]
    traces = record(network, input, steps, neurons=chosen)
    spikes, steps_left = input, steps
    for layer, trace, neurons in zip(network.layers, traces, chosen, strict=True):
        theta = layer.neuron.threshold.item()
        assert trace.threshold == theta > layer.neuron.theta_0.item()
        assert trace.centre == (layer.neuron.theta_0.item() if centre == "clamped" else theta)
        assert trace.neurons.tolist() == neurons
        assert (trace.membranes.dtype, trace.spikes.dtype) == (np.float32, np.uint8)
        assert trace.membranes.shape == trace.spikes.shape == (STEPS, 3, len(neurons))
        with torch.no_grad():
            current = layer.drive(spikes, steps_left).flatten(2)
            spikes, steps_left = layer(spikes, steps_left).spikes, None
        for sample in range(3):
            for place, neuron in enumerate(neurons):
                membranes, fired = lif_forward(current[:, sample, neuron].tolist(), 0.9, theta)
                assert trace.membranes[:, sample, place] == pytest.approx(membranes, abs=1e-5)
                assert trace.spikes[:, sample, place].tolist() == fired
    assert any(trace.spikes.any() for trace in traces)


def everything(network):
    """All that a forward pass could change."""
    return (
        copy.deepcopy(network.state_dict()),
        [module.training for module in network.modules()],
        [layer.show_membranes for layer in network.layers],
        torch.get_rng_state(),
    )


def same(one, other):
    state, *rest, generator = one
    state_2, *rest_2, generator_2 = other
    assert all(torch.equal(state[name], state_2[name]) for name in state)
    return rest == rest_2 and torch.equal(generator, generator_2)


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("training", [True, False])
def test_recording_changes_nothing(kind, training):
    network = make_network(dropout=0.5).train(training)
    calls = []
    network.layers[0].register_forward_hook(lambda *_: calls.append(0))
    before, (input, steps) = everything(network), INPUTS[kind]
    traces = record(network, input, steps)
    assert same(everything(network), before)
    assert not calls, "a hook that counts has counted this"
    again = record(network, input, steps)
    for one, two in zip(traces, again, strict=True):
        # In training mode too: dropout draws the same numbers anew.
        assert np.array_equal(one.membranes, two.membranes)
    with evaluating(network):
        other = record(network, input, steps)
    assert np.array_equal(other[0].membranes, traces[0].membranes) == (not training)


def test_recording_with_kept_membranes_keeps_them():
    network = make_network(init_hidden=True)
    network(INPUTS["image"][0], STEPS)
    kept = [layer.neuron.mem.clone() for layer in network.layers]
    record(network, *INPUTS["image"])
    for layer, before in zip(network.layers, kept, strict=True):
        assert torch.equal(layer.neuron.mem, before)


@pytest.mark.parametrize("chunk_steps", [None, 2])
@pytest.mark.parametrize("mode", [evaluating, nullcontext])
def test_recording_between_forward_and_backward_changes_no_gradient(mode, chunk_steps):
    gradients = []
    for recorded in (False, True):
        network = make_network(dropout=0.5)
        torch.manual_seed(1)
        window = network(*INPUTS["image"], chunk_steps=chunk_steps)
        loss = spike_count_loss(window.spikes, torch.tensor([0, 1, 2]))
        if recorded:
            with mode(network):
                record(network, *INPUTS["image"])
        loss.backward()
        gradients.append([p.grad for p in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    ("neurons", "expected"),
    [
        (2, [spread(24, 2).tolist(), spread(3, 2).tolist()]),
        (100, [list(range(24)), [0, 1, 2]]),
        ([2, 0], [[2, 0], [2, 0]]),
        (np.array([1]), [[1], [1]]),
        ([[5], [0, 1]], [[5], [0, 1]]),
        ([np.array([5, 4]), range(3)], [[5, 4], [0, 1, 2]]),
        ([[], [1]], [[], [1]]),
    ],
    ids=str,
)
def test_neurons_are_chosen_by_number_or_by_index(neurons, expected):
    traces = record(make_network(), *INPUTS["image"], neurons=neurons)
    assert [trace.neurons.tolist() for trace in traces] == expected


@pytest.mark.parametrize(
    ("neurons", "message"),
    [
        (0, "neurons must be at least 1, but got 0"),
        ([3], "neurons of layer 2 must be from 0 to 2, but got 3"),
        ([[24], [0]], "neurons of layer 1 must be from 0 to 23, but got 24"),
        ([[0], [-1]], "neurons of layer 2 must be from 0 to 2, but got -1"),
        ([[0], [0], [0]], "neurons needs indices for each of the 2 layers, but got 3"),
    ],
    ids=str,
)
def test_a_neuron_that_is_not_there_is_named(neurons, message):
    with pytest.raises(InvalidValueError) as refusal:
        record(make_network(), *INPUTS["image"], neurons=neurons)
    assert str(refusal.value) == message


def test_an_input_of_another_shape_is_refused():
    with pytest.raises(InvalidValueError, match="input must be"):
        record(make_network(), INPUTS["image"][0])


def test_modes_come_back_after_an_error():
    network = make_network(dropout=0.5)
    network.layers[1].eval()
    modes = [module.training for module in network.modules()]
    with pytest.raises(ZeroDivisionError), evaluating(network):
        assert not any(module.training for module in network.modules())
        raise ZeroDivisionError
    assert [module.training for module in network.modules()] == modes


@pytest.mark.parametrize("size", [1, 2, 9, 10, 17, 2304, 65_536])
@pytest.mark.parametrize("count", [1, 2, 8, 10, 4096])
def test_neurons_are_spread_evenly(size, count):
    indices = spread(size, count)
    count = min(size, count)
    assert len(indices) == count
    blocks = [i * size // count for i in range(count + 1)]
    assert all(a <= i < b for i, a, b in zip(indices, blocks, blocks[1:], strict=False))


def test_neurons_of_a_convolution_are_at_different_pixels():
    pixels = spread(16 * 144, 8) % 144
    assert len(set(pixels.tolist())) == 8


# Reading runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with four snapshots, that also recorded its output."""
    output = tmp_path_factory.mktemp("finished") / "run"
    changes = {"data__subset": 64, "training__record_output": True, "snapshots__count": 4}
    return train_tiny(output, **changes).folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy that may be damaged."""
    return RunFolder(shutil.copytree(finished.path, tmp_path / "run"))


def test_snapshots_come_in_order_and_are_read_one_by_one(run):
    recording = Recording.open(run.path)
    assert recording.iterations == (0, 2, 3, 5)
    assert [snapshot.iteration for snapshot in recording] == [0, 2, 3, 5]
    assert [snapshot.iteration for snapshot in recording[1:3]] == [2, 3]
    assert len(recording) == 4 and recording[-1].iteration == 5
    with pytest.raises(IndexError):
        recording[4]
    run.snapshot(3).write_bytes(b"")
    run.snapshot(5).unlink()
    recording = Recording.open(run.path)
    snapshots = iter(recording)
    assert [next(snapshots).iteration for _ in range(2)] == [0, 2]  # those before can be read
    with pytest.raises(DataError):
        next(snapshots)


def test_iterations_beyond_nine_digits_stay_in_order(run):
    for iteration in (999_999_999, 1_234_567_890):
        shutil.copy(run.snapshot(5), run.snapshot(iteration))
    assert Recording.open(run.path).iterations == (0, 2, 3, 5, 999_999_999, 1_234_567_890)


def test_half_written_files_are_not_seen(run):
    for name in (
        ".iteration-000000004.npz.123.tmp",
        "iteration-000000004.npz.tmp",
        "iteration-x.npz",
    ):
        (run.snapshots / name).write_bytes(b"half")
    assert Recording.open(run.path).iterations == (0, 2, 3, 5)


DAMAGE = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "other_bytes": lambda content: bytes(range(256)) * 20,
    "flipped": lambda content: content[:2000] + bytes(64) + content[2064:],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("name", ["snapshot", "probe", "activity", "output"])
def test_a_damaged_file_is_named(name, damage, run):
    path, read = {
        "snapshot": (run.snapshot(3), lambda: Recording.open(run.path)[2]),
        "probe": (run.probe, lambda: Recording.open(run.path).probe),
        "activity": (run.activity, lambda: read_activity(run.path)),
        "output": (run.recording, lambda: read_output_recording(run.path)),
    }[name]
    read()
    content = path.read_bytes()
    damaged = damage(content)
    if damage is DAMAGE["flipped"] and len(content) < 2100:
        damaged = content[:200] + bytes(64) + content[264:]
    path.write_bytes(damaged)
    with pytest.raises(DataError) as refusal:
        read()
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith(f"{path} is not a readable recording (")
    assert str(refusal.value).endswith("); remove it or record anew")


def test_arrays_that_are_missing_are_damage(run):
    np.savez(run.snapshot(3), iteration=3)
    with pytest.raises(DataError, match="is not a readable recording"):
        Recording.open(run.path)[2]


def test_a_snapshot_that_is_gone_is_named(run):
    recording = Recording.open(run.path)
    run.snapshot(3).unlink()
    with pytest.raises(DataError) as refusal:
        recording[2]
    assert str(refusal.value) == f"{run.snapshot(3)} is gone; open the recording again"
    assert Recording.open(run.path).iterations == (0, 2, 5)


READERS = {
    "snapshots": (Recording.open, "--set snapshots.count=50"),
    "output": (read_output_recording, "--set training.record_output=true"),
    "activity": (read_activity, "activity.npz"),
}


@pytest.mark.parametrize(("read", "way"), READERS.values(), ids=READERS.keys())
def test_a_run_without_a_recording_says_how_to_make_one(read, way, run, tmp_path):
    shutil.rmtree(run.snapshots)
    run.recording.unlink()
    run.activity.unlink()
    with pytest.raises(RunError) as refusal:
        read(run.path)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith(f"{run.path} has no ")
    assert way in str(refusal.value)
    with pytest.raises(RunError, match="is not a run folder"):
        read(tmp_path / "absent")


def test_reading_writes_nothing(run):
    before = contents(run.path)
    list(Recording.open(run.path))
    read_activity(run.path)
    read_output_recording(run.path)
    assert contents(run.path) == before


# The output of every iteration


def test_the_output_of_every_iteration_is_read(finished):
    arrays = read_output_recording(finished.path)
    assert arrays["spikes"].shape == (6, STEPS, 32, 10)
    assert arrays["thresholds"].shape == (6, 2)
    assert arrays["thresholds"][:, 0] == pytest.approx(sorted(arrays["thresholds"][:, 0]))
    assert set(arrays) == {"spikes", "thresholds", "loss", "target"}


def test_the_output_of_a_run_that_was_killed_can_be_read(tmp_path):
    config = load_preset("temporal-coding", "tha").with_changes(
        {
            "network.notation": "12Dense9Dense1",
            "data.num_steps": 20,
            "data.options": {"inputs": 12, "iterations": 7, "target_step": 15, "peak": 3.3},
            "threshold.theta_0": 1.5,
            "threshold.theta_inf": 2.5,
            "threshold.alpha": 0.1,
            "training.epochs": 2,
        }
    )
    for iteration, kept in ((2, 1), (3, 2), (5, 4), (7, 4), (8, 7), (9, 8)):
        path = tmp_path / f"{iteration}"
        stop = at_call(SpikingModule, "training_step", iteration)
        assert killed(lambda path=path: train(config, output=path, machine=MACHINE), stop)
        arrays = read_output_recording(path)
        assert len(arrays["membranes"]) == len(arrays["loss"]) == kept
        assert arrays["target"].shape == (20, 1, 1)


# The test set


def test_activity_is_that_of_every_neuron_over_the_test_set(finished):
    test = digits().test
    network = tiny_network().eval()
    network.load_state_dict(network_weights(finished.best))
    counts = [torch.zeros(layer.output_shape, dtype=torch.float64) for layer in network.layers]
    with torch.no_grad():
        for sample in range(len(test)):
            spikes = test[[sample]][0].expand(STEPS, 1, 1, 8, 8)
            for layer, count in zip(network.layers, counts, strict=True):
                spikes = layer(spikes).spikes
                count += spikes.sum((0, 1))
    activity = read_activity(finished.path)
    summary = json.loads(finished.summary.read_text())
    assert [layer.name for layer in activity] == ["4C3", "10"]
    for layer, count, row, module in zip(
        activity, counts, summary["layers"], network.layers, strict=True
    ):
        assert layer.mean_counts.dtype == np.float32
        assert layer.mean_counts.shape == module.output_shape
        assert layer.mean_counts == pytest.approx(count.numpy() / len(test), rel=1e-6)
        assert (layer.samples, layer.time_steps) == (len(test), STEPS)
        assert layer.threshold == pytest.approx(row["threshold"], rel=1e-7)
        assert layer.dead_share == row["dead_share"]
        assert layer.mean_counts.sum() == pytest.approx(row["spikes_per_sample"], rel=1e-5)


def test_activity_and_summary_agree_on_dead_neurons(tmp_path):
    result = train_tiny(tmp_path / "run", threshold__theta_0=3.0, threshold__theta_inf=[9.0, 12.0])
    dead = [row["dead_share"] for row in result.summary["layers"]]
    assert max(dead) > 0
    assert [layer.dead_share for layer in read_activity(tmp_path / "run")] == dead


def test_without_a_test_set_there_is_no_activity(tmp_path):
    config = load_preset("temporal-coding", "tha").with_changes(
        {"data.options.iterations": 2, "network.notation": "100Dense5Dense1", "snapshots.count": 0}
    )
    folder = train(config, output=tmp_path / "run", machine=MACHINE, verbose=False).folder
    assert "activity.npz" in FINISHED
    assert "activity.npz" not in names(folder.path)


def test_evaluating_a_run_writes_nothing(finished):
    from bsnn_tha.training.evaluation import evaluate

    before = contents(finished.path)
    evaluate(finished.path, machine=MACHINE)
    assert contents(finished.path) == before


def test_tiny_runs_take_no_snapshots_unless_asked(done):
    assert tiny().snapshots.count == 0
    assert not done.folder.snapshots.exists()


def test_recorded_membranes_of_classes_are_kept_and_have_no_timing(tmp_path):
    changes = {"loss__name": "cross_entropy", "loss__readout": "mean_membrane"}
    result = train_tiny(tmp_path / "run", training__record_output=True, data__subset=64, **changes)
    assert "timing" not in result.summary
    with np.load(result.folder.recording) as recorded:
        assert recorded["membranes"].shape[-1] == 10 and recorded["target"].shape == (32,)
    with pytest.raises(RunError, match="learned classes, which give a membrane no target trace"):
        OutputRecording.of_run(result.folder.path)
