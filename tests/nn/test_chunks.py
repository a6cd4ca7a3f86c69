"""A window in chunks of time steps against the same window at once."""

from __future__ import annotations

import copy
import re
import threading

import pytest
import torch
from lightning.pytorch import Trainer
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader

from bsnn_tha import SpikingNetwork
from bsnn_tha.data.dataset import Dataset, TensorSplit
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.norms.batch_norm import BatchNormPerStep
from bsnn_tha.nn.recompute import recompute_in_backward, recomputing
from bsnn_tha.presets import load_preset
from bsnn_tha.training.module import SpikingModule

STEPS, BATCH = 7, 4

CONV = {
    "notation": "4C3-AP2-6C3-12-5",
    "input_shape": (2, 10, 9),
    "beta": [0.9, 0.8, 0.7, 0.6],
    "theta_0": [0.5, 0.6, 2.0, 1.0],
    "theta_inf": [1.5, 1.6, 5.0, 4.0],
    "alpha": [0.05, 0.1, 0.02, 0.2],
    "slope": [0.5, 0.4, 0.3, 0.2],
}
DENSE = {
    "notation": "12-5",
    "input_shape": (8,),
    "beta": 0.9,
    "theta_0": [1.0, 1.5],
    "slope": 0.5,
}
NETWORKS = {
    "conv_and_batch_norm": CONV,
    "conv": {**CONV, "norm": "none"},
    "dense": DENSE,
    "float_weights": {**DENSE, "weights": "float", "theta_0": [0.2, 0.1]},
    "recurrent": {**DENSE, "notation": "Rec12-Rec9-5", "theta_0": [2.0, 2.5, 1.5]},
    "dense_and_batch_norm": {
        **DENSE,
        "norm": {"dense": "per-step", "output": "none"},
        "theta_0": [0.7, 1.5],
    },
    "learned_recurrent": {
        **DENSE,
        "notation": "Rec12-5",
        "learn_beta": True,
        "rule": "learned",
        "per": "neuron",
    },
    "learned_neurons": {**DENSE, "learn_beta": True, "rule": "learned", "per": "neuron"},
}
networks = pytest.mark.parametrize("settings", NETWORKS.values(), ids=NETWORKS.keys())
inputs = pytest.mark.parametrize("constant", [False, True], ids=["sequence", "constant"])
modes = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make_network(settings):
    network = SpikingNetwork(**settings).double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    for layer in network.layers:
        layer.neuron.anneal(3)
    return network


def make_input(network, constant=False, steps=STEPS):
    lead = (BATCH,) if constant else (steps, BATCH)
    values = torch.rand(*lead, *network.input_shape, dtype=torch.float64)
    return values if constant else values.round()


def losses(window):
    """A gradient of its own for every number of a window."""
    generator = torch.Generator().manual_seed(1)
    tensors = [window.spikes, *window.state]
    if window.membranes is not None:
        tensors.append(window.membranes)
    return sum(
        (torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype) * tensor).sum()
        for tensor in tensors
    )


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def assert_same_buffers(actual, expected):
    expected = dict(expected.named_buffers())
    for name, buffer in actual.named_buffers():
        torch.testing.assert_close(buffer, expected[name], rtol=1e-10, atol=1e-12, msg=name)


# Against the window at once


@networks
@inputs
@modes
@pytest.mark.parametrize("chunk_steps", [1, 3, STEPS - 1, STEPS, STEPS + 5])
def test_equals_the_window_at_once(settings, constant, training, chunk_steps):
    network = make_network(settings).train(training)
    steps = STEPS if constant else None
    input = make_input(network, constant)
    before = network(make_input(network), record=True)  # membranes and statistics to start from
    results = []
    for chunk in (None, chunk_steps):
        twin = copy.deepcopy(network)
        leaf = input.clone().requires_grad_()
        state = [membrane.detach().requires_grad_() for membrane in before.state]
        window = twin(leaf, steps, state, record=True, chunk_steps=chunk)
        leaves = [*twin.parameters(), leaf, *state]
        results.append((twin, window, torch.autograd.grad(losses(window), leaves)))
    (twin, window, gradients), (actual_twin, actual, actual_gradients) = results

    assert 0 < window.spikes.mean() < 1
    assert torch.equal(actual.spikes, window.spikes)
    assert_close(actual.membranes, window.membranes)
    assert_close(actual.state, window.state)
    assert_same_buffers(actual_twin, twin)
    assert all(bool(gradient.any()) for gradient in gradients)
    assert_close(actual_gradients, gradients)


@networks
@inputs
@pytest.mark.parametrize("no_grad", [torch.no_grad, torch.inference_mode])
def test_equals_the_window_at_once_without_gradients(settings, constant, no_grad):
    network = make_network(settings)
    twin = copy.deepcopy(network)
    input, steps = make_input(network, constant), STEPS if constant else None
    with no_grad():
        expected = network(input, steps)
        actual = twin(input, steps, chunk_steps=3)
    assert torch.equal(actual.spikes, expected.spikes) and not actual.spikes.requires_grad
    assert actual.membranes is None
    assert_close(actual.state, expected.state)
    assert_same_buffers(twin, network)


def test_two_windows_before_one_backward_pass():
    network = make_network(CONV)
    frames = [make_input(network) for _ in range(2)]
    expected = [torch.zeros_like(parameter) for parameter in network.parameters()]
    for sequence in frames:
        gradients = torch.autograd.grad(losses(network(sequence)), [*network.parameters()])
        expected = [a + b for a, b in zip(expected, gradients, strict=True)]
    loss = sum(losses(network(sequence, chunk_steps=3)) for sequence in frames)
    assert_close([*torch.autograd.grad(loss, [*network.parameters()])], expected)


def test_a_kept_graph_goes_backward_twice():
    network = make_network(CONV)
    loss = losses(network(make_input(network), chunk_steps=3))
    statistics = copy.deepcopy(network)
    first = torch.autograd.grad(loss, [*network.parameters()], retain_graph=True)
    second = torch.autograd.grad(loss, [*network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert_same_buffers(network, statistics)


def test_autocast_reaches_the_second_run():
    network = make_network(DENSE).float()
    sequence = make_input(network).float()
    gradients = []
    for chunk_steps in (None, 3):
        with torch.autocast("cpu", torch.bfloat16):
            loss = network(sequence, chunk_steps=chunk_steps).spikes.float().sum()
        gradients.append(torch.autograd.grad(loss, [*network.parameters()]))
    torch.testing.assert_close(*gradients, rtol=0.05, atol=0.05)


# Dropout


@inputs
def test_dropout_masks_of_the_second_run_are_those_of_the_first(constant):
    network = make_network({**DENSE, "dropout": 0.4})
    input = make_input(network, constant)

    torch.manual_seed(5)
    by_hand, state = [], None
    for start in range(0, STEPS, 3):
        stop = min(start + 3, STEPS)
        piece = (input, stop - start) if constant else (input[start:stop], None)
        by_hand.append(network(*piece, state=state, record=True))
        state = by_hand[-1].state
    spikes = torch.cat([window.spikes for window in by_hand])
    membranes = torch.cat([window.membranes for window in by_hand])
    expected = losses(by_hand[-1]._replace(spikes=spikes, membranes=membranes))

    torch.manual_seed(5)
    window = network(input, STEPS if constant else None, record=True, chunk_steps=3)
    torch.manual_seed(6)  # whatever has been drawn in between
    after = torch.get_rng_state()
    gradients = torch.autograd.grad(losses(window), [*network.parameters()])
    assert torch.equal(torch.get_rng_state(), after)
    assert torch.equal(window.spikes, spikes)
    assert_close(window.membranes, membranes)
    assert_close(gradients, torch.autograd.grad(expected, [*network.parameters()]))


# Everything is counted once


class Calls:
    """What forward hooks on all layers see: layer, time steps, whether it is a second run."""

    def __init__(self, network):
        self.seen = []
        for index, layer in enumerate(network.layers):
            layer.register_forward_hook(
                lambda module, args, window, index=index: self.seen.append(
                    (index, len(window.spikes), recomputing())
                )
            )

    def steps(self, layer, again):
        return [count for index, count, second in self.seen if (index, second) == (layer, again)]


@inputs
def test_hooks_see_every_time_step_once_outside_of_recomputation(constant):
    network = make_network(CONV)
    calls = Calls(network)
    input, steps = make_input(network, constant), STEPS if constant else None
    loss = losses(network(input, steps, chunk_steps=3))
    assert all(calls.steps(layer, again=False) == [3, 3, 1] for layer in range(4))
    assert all(calls.steps(layer, again=True) == [] for layer in range(4))
    loss.backward()
    assert all(calls.steps(layer, again=False) == [3, 3, 1] for layer in range(4))
    assert calls.steps(0, again=True) == [1, 3, 3]  # the last chunk first
    assert not recomputing()


def test_nothing_is_run_again_without_gradients():
    network = make_network(CONV)
    calls = Calls(network)
    with torch.no_grad():
        network(make_input(network), chunk_steps=3)
    network(make_input(network), chunk_steps=STEPS).spikes.sum().backward()
    assert [count for _, count, _ in calls.seen] == 4 * [3] + 4 * [3] + 4 * [1] + 4 * [STEPS]


@inputs
def test_running_statistics_are_updated_in_the_forward_pass_only(constant):
    network = make_network(CONV)
    input, steps = make_input(network, constant), STEPS if constant else None
    window = network(input, steps, chunk_steps=3)
    norms = [module for module in network.modules() if isinstance(module, BatchNormPerStep)]
    assert [norm.num_batches_tracked.item() for norm in norms] == [STEPS, STEPS]
    before = copy.deepcopy([norm.state_dict() for norm in norms])
    losses(window).backward()
    for norm, state in zip(norms, before, strict=True):
        for name, value in state.items():
            assert torch.equal(norm.state_dict()[name], value), name


def test_recomputing_ends_when_a_second_run_stops_early_or_fails():
    seen = []

    def square(x):
        seen.append(recomputing())
        y = x.square()  # saves x, the last tensor that is needed
        seen.append(recomputing())
        if fails and recomputing():
            raise ZeroDivisionError
        return y + 1

    x = torch.ones(3, requires_grad=True)
    fails = False
    recompute_in_backward(square, x).sum().backward()
    assert seen == [False, False, True]  # stopped inside of the square
    assert not recomputing()

    fails = True
    with torch.utils.checkpoint.set_checkpoint_early_stop(False):
        result = recompute_in_backward(square, x)
        with pytest.raises(ZeroDivisionError):
            result.sum().backward()
    assert not recomputing()


def in_another_thread(function):
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def test_recomputing_is_true_in_the_thread_that_goes_backward_and_in_no_other():
    network = make_network(CONV)
    seen = []
    network.layers[0].register_forward_hook(
        lambda *_: seen.append((recomputing(), in_another_thread(recomputing)))
    )
    loss = losses(network(make_input(network), chunk_steps=4))
    statistics = copy.deepcopy(network)
    in_another_thread(loss.backward)
    assert seen == [(False, False)] * 2 + [(True, False)] * 2
    assert_same_buffers(network, statistics)


# What must not change between forward and backward pass


def _train_on(network):
    network.train()(make_input(network))
    network.eval()


@torch.no_grad()
def _negate(parameter):
    parameter.neg_()


CHANGES = {
    "annealed": lambda network: network.layers[0].neuron.anneal(),
    "weights": lambda network: _negate(network.layers[2].synapse.latent_weight),
    "running_statistics": _train_on,
    "mode": lambda network: network.train(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_network_changed_before_the_backward_pass_is_an_error(change):
    network = make_network(CONV).eval()
    loss = losses(network(make_input(network), chunk_steps=3))
    change(network)
    with pytest.raises(RuntimeError, match=r"inplace operation|train\(\) or eval\(\) mode"):
        loss.backward()


# Memory


class PeakBytes(TorchDispatchMode):
    """The most bytes that tensors held at any one time, besides the input."""

    def __init__(self, input):
        super().__init__()
        self.input = input.data_ptr()
        self.live = {}
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage.data_ptr() == self.input:
                    continue  # a view
                self.live[StorageWeakRef(storage)] = storage.nbytes()
        self.live = {ref: size for ref, size in self.live.items() if not ref.expired()}
        self.peak = max(self.peak, sum(self.live.values()))
        return result


def step_bytes(settings, steps, chunk_steps, backward):
    """Peak bytes of a step, and the bytes of its output spikes and final membranes."""
    network = SpikingNetwork(**settings)
    input = torch.rand(steps, BATCH, *network.input_shape).round()
    with PeakBytes(input) as memory, torch.set_grad_enabled(backward):
        window = network(input, chunk_steps=chunk_steps)
        if backward:
            window.spikes.sum().backward()
    return memory.peak, window.spikes.nbytes, sum(membrane.nbytes for membrane in window.state)


@pytest.mark.parametrize("backward", [True, False], ids=["training_step", "forward"])
@pytest.mark.parametrize(
    "settings",
    [CONV, {**DENSE, "notation": "500-5", "dropout": 0.1}],
    ids=["conv_and_batch_norm", "dense"],
)
def test_memory_is_bounded_by_the_chunk(settings, backward):
    (short, *_), (long, *_) = (step_bytes(settings, steps, None, backward) for steps in (40, 80))
    assert long > 1.9 * short  # the measure sees what grows
    (short, output, _), (bounded, more_output, membranes) = (
        step_bytes(settings, steps, 5, backward) for steps in (40, 80)
    )
    assert bounded < 0.2 * long
    # What still grows: the output (in pieces and put together) and, for the
    # backward pass, the membranes at the ends of the 8 more chunks.
    kept = 8 * membranes if backward else 0
    assert bounded - short <= 2 * (more_output - output) + kept


# Settings


@pytest.mark.parametrize("chunk_steps", [0, -3])
def test_bad_chunk_steps(chunk_steps):
    network = make_network(DENSE)
    message = f"chunk_steps must be at least 1, but got {chunk_steps}"
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$"):
        network(make_input(network), chunk_steps=chunk_steps)
    config = load_preset("digits", "tha")
    with pytest.raises(InvalidValueError, match=r"^training\.chunk_steps must be .* 1, but got"):
        config.with_changes({"training.chunk_steps": chunk_steps})


def test_chunks_need_membranes_that_are_passed_on():
    network = make_network({**DENSE, "init_hidden": True})
    with pytest.raises(InvalidValueError, match=r"^chunk_steps needs .* init_hidden=True"):
        network(make_input(network), chunk_steps=3)


@pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning")
@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_the_setting_reaches_training_validation_and_test(stage):
    changes = {"data.num_steps": 5, "training.chunk_steps": 2}
    config = load_preset("digits", "tha").with_changes(changes)
    split = TensorSplit(torch.rand(2, 1, 8, 8), torch.tensor([0, 1]))
    dataset = Dataset("digits", (1, 8, 8), 10, True, split, None, None, source="")
    module = SpikingModule(config, dataset)
    calls = Calls(module.network)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(fast_dev_run=True, accelerator="cpu", logger=False, **quiet)
    getattr(trainer, stage)(module, DataLoader([split[[0, 1]]], batch_size=None))
    assert calls.steps(0, again=False) == [2, 2, 1]
    assert calls.steps(0, again=True) == ([1, 2, 2] if stage == "fit" else [])
