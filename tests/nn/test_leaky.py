"""AnnealedLeaky: the schedule it holds, and how it differs from snntorch.Leaky."""

from __future__ import annotations

import copy
import gc
import io
import math
import pickle
import re
import weakref

import pytest
import snntorch as snn
import torch
from reference import lif_backward, threshold_recurrence
from snntorch import surrogate as snn_surrogate
from torch import nn

from bsnn_tha import AnnealedLeaky, reset, threshold_at
from bsnn_tha.equations.surrogate import ArcTan, FastSigmoid, FromSnnTorch, Sigmoid
from bsnn_tha.errors import InvalidValueError

SCHEDULE = {"theta_0": 0.7, "theta_inf": 1.9, "alpha": 0.1}
RESETS = ("subtract", "zero", "none")
resets = pytest.mark.parametrize("reset_mechanism", RESETS)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def step_through(neuron, current, mem=None):
    """Spikes and membranes of a step-by-step loop."""
    mem = torch.zeros_like(current[0]) if mem is None else mem
    spikes, membranes = [], []
    for step in current:
        spk, mem = neuron(step, mem)
        spikes.append(spk)
        membranes.append(mem)
    return torch.stack(spikes), torch.stack(membranes)


def save_and_load(thing):
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def by_state_dict(neuron):
    twin = AnnealedLeaky(0.1, theta_0=2.0, theta_inf=3.0, alpha=0.5)
    twin.load_state_dict(save_and_load(neuron.state_dict()))
    return twin


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda neuron: pickle.loads(pickle.dumps(neuron)),
    "torch_save": save_and_load,
    "state_dict": by_state_dict,
}
copies = pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES.keys())


# Beside snntorch.Leaky


def beside_snntorch(reset_mechanism, **learn):
    """An annealed neuron and an snntorch.Leaky at the same threshold."""
    spike_grad = snn_surrogate.fast_sigmoid(slope=3.0)
    schedule = {} if learn else SCHEDULE
    ours = AnnealedLeaky(
        0.8,
        **(schedule or {"theta_0": 1.3}),
        spike_grad=spike_grad,
        surrogate_centre="moving",
        reset_mechanism=reset_mechanism,
        **learn,
    )
    ours.anneal(6)
    theirs = snn.Leaky(
        0.8,
        threshold=ours.threshold.item(),
        spike_grad=spike_grad,
        reset_mechanism=reset_mechanism,
        **learn,
    )
    return ours, theirs


@resets
def test_agrees_with_snntorch_away_from_ties(reset_mechanism):
    ours, theirs = beside_snntorch(reset_mechanism)
    current, start = 0.4 + torch.randn(20, 4, 6), torch.randn(4, 6)
    expected = step_through(theirs, current, start)
    actual = step_through(ours, current, start)
    assert 0.1 < expected[0].mean() < 0.9
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])


@resets
def test_gradients_agree_with_snntorch_for_a_moving_centre(reset_mechanism):
    current, gz, gm = 0.4 + torch.randn(20, 4, 6), torch.randn(20, 4, 6), torch.randn(20, 4, 6)
    gradients = []
    for neuron in beside_snntorch(reset_mechanism, learn_beta=True, learn_threshold=True):
        leaf = current.clone().requires_grad_()
        spikes, membranes = step_through(neuron, leaf)
        loss = (gz * spikes + gm * membranes).sum()
        gradients.append(torch.autograd.grad(loss, (leaf, neuron.beta, neuron.threshold)))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@resets
def test_differs_from_snntorch_exactly_at_ties(reset_mechanism):
    # Integer currents, θ = 2 and β = 1: u = θ is common.
    ours = AnnealedLeaky(1.0, 2.0, reset_mechanism=reset_mechanism)
    theirs = snn.Leaky(1.0, threshold=2.0, reset_mechanism=reset_mechanism)
    start = torch.arange(-4.0, 8.0)
    current = torch.ones(12)
    spk, mem = ours(current, start)
    snn_spk, snn_mem = theirs(current, start)
    # The membrane differs where u was at θ before, the spike where it is now.
    at_tie = start == 2
    assert torch.equal((spk != snn_spk)[~at_tie], (mem == 2)[~at_tie])
    assert torch.equal(mem[~at_tie], snn_mem[~at_tie])
    if reset_mechanism != "none":
        assert mem[at_tie].tolist() == [1.0] and snn_mem[at_tie].tolist() == [3.0]
    assert torch.equal(spk, (mem >= 2).float())
    assert torch.equal(snn_spk, (snn_mem > 2).float())
    assert bool((mem == 2).any())


def test_one_positive_input_fires_a_threshold_of_1():
    # Fig. 1(a)(iii).
    one = torch.ones(1, 1)
    assert AnnealedLeaky(0.9, 1.0)(one)[0].item() == 1
    assert AnnealedLeaky(0.9, 1.0).sequence(one[None])[0].item() == 1
    assert snn.Leaky(0.9, threshold=1.0)(one)[0].item() == 0


def test_inherited_helpers_fire_at_the_threshold_too():
    lif = AnnealedLeaky(0.9, 1.0)
    at_threshold = torch.tensor([0.5, 1.0, 1.5])
    assert lif.fire(at_threshold).tolist() == [0, 1, 1]
    assert lif.mem_reset(at_threshold).tolist() == [0, 1, 1]


def test_is_an_snntorch_neuron_with_its_calling_convention():
    lif = AnnealedLeaky(0.9, 1.0)
    assert isinstance(lif, snn.Leaky)
    current = torch.rand(3, 4)
    spk, mem = lif(current, lif.init_leaky())
    assert spk.shape == mem.shape == current.shape
    assert all(torch.equal(a, b) for a, b in zip(lif(current), (spk, mem), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(lif(current, None), (spk, mem), strict=True))


# Hidden state


def sequential(**settings):
    return nn.Sequential(
        nn.Linear(6, 5),
        AnnealedLeaky(0.9, **SCHEDULE, init_hidden=True),
        nn.Linear(5, 4),
        AnnealedLeaky(0.8, 0.2, init_hidden=True, **settings),
    )


def test_init_hidden_in_sequential():
    network = sequential(output=True)
    window = torch.randn(7, 3, 6) * 2
    results = [network(step) for step in window]

    hidden, _ = step_through(AnnealedLeaky(0.9, **SCHEDULE), network[0](window))
    spikes, membranes = step_through(AnnealedLeaky(0.8, 0.2), network[2](hidden))
    assert 0 < spikes.mean() < 1
    assert torch.equal(torch.stack([spk for spk, _ in results]), spikes)
    torch.testing.assert_close(torch.stack([mem for _, mem in results]), membranes)


def test_init_hidden_returns_spikes_alone_unless_output():
    assert isinstance(sequential()(torch.randn(3, 6)), torch.Tensor)
    spk, mem = sequential(output=True)(torch.randn(3, 6))
    assert spk.shape == mem.shape == (3, 4)


def test_init_hidden_starts_afresh_with_another_batch_size():
    lif = AnnealedLeaky(1.0, 5.0, init_hidden=True)
    lif(torch.ones(4, 2))
    lif(torch.ones(4, 2))
    lif(torch.ones(3, 2))
    assert torch.equal(lif.mem, torch.ones(3, 2))


@pytest.mark.parametrize("call", ["forward", "sequence"])
def test_init_hidden_refuses_a_membrane(call):
    lif = AnnealedLeaky(0.9, init_hidden=True)
    with pytest.raises(TypeError, match=r"^mem should not be passed while init_hidden=True$"):
        getattr(lif, call)(torch.ones(3, 2, 2), torch.zeros(2, 2))


def test_init_hidden_is_kept_between_windows_and_steps():
    current = 0.4 + torch.randn(9, 3, 4)
    lif = AnnealedLeaky(0.9, 1.0, init_hidden=True)
    pieces = [lif.sequence(current[:4])[0], lif(current[4])[None], lif.sequence(current[5:])[0]]
    expected, membranes = step_through(AnnealedLeaky(0.9, 1.0), current)
    assert torch.equal(torch.cat(pieces), expected)
    assert torch.equal(lif.mem, membranes[-1])


def test_a_membrane_of_another_shape():
    message = "mem must have the shape of the input, [3, 4], but got [3, 5]"
    lif = AnnealedLeaky(0.9)
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$"):
        lif(torch.ones(3, 4), torch.zeros(3, 5))
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$"):
        lif.sequence(torch.ones(7, 3, 4), torch.zeros(3, 5))


# Windows


@resets
@pytest.mark.parametrize("centre", ["clamped", "moving"])
def test_window_equals_steps(reset_mechanism, centre):
    lif = AnnealedLeaky(
        0.8, **SCHEDULE, slope=3.0, surrogate_centre=centre, reset_mechanism=reset_mechanism
    )
    lif.anneal(4)
    current, start = 0.4 + torch.randn(15, 3, 4), torch.randn(3, 4)
    upstream = torch.randn(15, 3, 4)
    results = []
    for run in (
        lambda leaf: lif.sequence(leaf, start, record=True),
        lambda leaf: step_through(lif, leaf, start),
    ):
        leaf = current.clone().requires_grad_()
        spikes, membranes = run(leaf)
        (gradient,) = torch.autograd.grad((upstream * spikes).sum(), leaf)
        results.append((spikes, membranes, gradient))
    (spikes, membranes, gradient), looped = results
    assert torch.equal(spikes, looped[0]) and torch.equal(membranes, looped[1])
    torch.testing.assert_close(gradient, looped[2])


def test_window_gives_the_final_membrane():
    lif = AnnealedLeaky(0.8, 1.0)
    window = lif.window(torch.randn(6, 3), record=True)
    assert torch.equal(window.membrane, window.membranes[-1])
    assert lif.window(torch.randn(6, 3)).membranes is None
    assert lif.sequence(torch.randn(6, 3))[1] is None


# The schedule


def test_follows_equation_4():
    lif = AnnealedLeaky(0.9, **SCHEDULE)
    expected = threshold_recurrence(50, *SCHEDULE.values())
    actual = [lif.threshold.item()]
    for iteration in range(1, 51):
        lif.anneal()
        assert lif.iteration.item() == iteration
        actual.append(lif.threshold.item())
    assert actual == pytest.approx(expected, rel=5e-7)
    assert actual[0] == pytest.approx(0.7) and actual[1] == pytest.approx(0.82)


def test_many_iterations_at_once_equal_one_by_one_to_the_last_bit():
    one_by_one, at_once = AnnealedLeaky(0.9, **SCHEDULE), AnnealedLeaky(0.9, **SCHEDULE)
    for _ in range(37):
        one_by_one.anneal()
    at_once.anneal(37)
    assert torch.equal(one_by_one.threshold, at_once.threshold)


def test_neither_forward_nor_training_mode_moves_the_schedule():
    lif = AnnealedLeaky(0.9, **SCHEDULE)
    lif.train()
    lif.sequence(torch.ones(5, 2))
    lif(torch.ones(2))
    lif.eval()
    assert lif.iteration.item() == 0 and lif.threshold.item() == pytest.approx(0.7)


def test_the_annealed_threshold_is_what_fires_and_resets():
    lif = AnnealedLeaky(1.0, theta_0=1.0, theta_inf=3.0, alpha=1.0)
    lif.anneal()
    spikes, membranes = lif.sequence(torch.full((4, 1), 1.5), record=True)
    assert membranes.flatten().tolist() == [1.5, 3.0, 1.5, 3.0]
    assert spikes.flatten().tolist() == [0, 1, 0, 1]


def test_a_fixed_threshold_stays_and_counts():
    lif = AnnealedLeaky(0.9, theta_0=6.4)
    lif.anneal(10)
    assert not lif.annealed and AnnealedLeaky(0.9, **SCHEDULE).annealed
    assert lif.threshold.item() == pytest.approx(6.4)
    assert lif.iteration.item() == 10


def test_int_thresholds_anneal():
    lif = AnnealedLeaky(1, theta_0=1, theta_inf=2, alpha=0.25)
    lif.anneal()
    assert lif.threshold.item() == 1.25
    assert lif.threshold.dtype == torch.float32
    assert AnnealedLeaky(0.9, theta_0=2).threshold.dtype == torch.float32


def test_two_layers_never_share_tensors():
    theta, beta = torch.tensor(1.0), torch.tensor(0.5)
    first, second = (
        AnnealedLeaky(beta, theta_0=theta, theta_inf=theta + 1, alpha=0.5, learn_beta=True)
        for _ in range(2)
    )
    first.anneal()
    with torch.no_grad():
        first.beta.fill_(0.25)
    assert first.threshold.item() == 1.5 and second.threshold.item() == 1.0
    assert second.beta.item() == 0.5
    assert theta.item() == 1.0 and beta.item() == 0.5


def test_the_schedule_is_in_the_state_dict_and_the_membrane_is_not():
    lif = AnnealedLeaky(0.9, **SCHEDULE, init_hidden=True)
    lif(torch.ones(2, 3))
    stored = set(lif.state_dict())
    schedule = ("theta_0", "theta_inf", "alpha", "threshold", "iteration")
    assert {"beta", *(f"rule.{name}" for name in schedule)} <= stored
    assert "mem" not in stored


def assert_continues(neuron, twin):
    """Both anneal alike from here on, to the last bit, and apart from each other."""
    assert twin.iteration.item() == neuron.iteration.item() == 11
    for _ in range(13):
        neuron.anneal()
    assert twin.iteration.item() == 11
    for _ in range(13):
        twin.anneal()
    uninterrupted = AnnealedLeaky(0.9, **SCHEDULE)
    uninterrupted.anneal(24)
    assert torch.equal(neuron.threshold, uninterrupted.threshold)
    assert torch.equal(twin.threshold, uninterrupted.threshold)
    current = torch.rand(6, 2, 3)
    assert torch.equal(twin.sequence(current)[0], neuron.sequence(current)[0])


@copies
def test_copies_continue_the_schedule_exactly(duplicate):
    lif = AnnealedLeaky(0.9, **SCHEDULE)
    lif.anneal(11)
    assert_continues(lif, duplicate(lif))


@pytest.mark.parametrize("duplicate", list(COPIES.values())[:3], ids=list(COPIES)[:3])
def test_copies_can_be_taken_with_a_graph_attached(duplicate):
    lif = AnnealedLeaky(0.9, **SCHEDULE, init_hidden=True)
    lif.anneal(11)
    lif(torch.rand(2, 3, requires_grad=True) * 1)
    assert lif.mem.requires_grad
    twin = duplicate(lif)
    assert torch.equal(twin.mem, lif.mem) and not twin.mem.requires_grad
    assert lif.mem.requires_grad  # the original keeps its graph
    assert_continues(lif, twin)


@copies
@pytest.mark.parametrize(
    "surrogate",
    [FastSigmoid(3.0), Sigmoid(3.0), ArcTan(3.0)],
    ids=["fast_sigmoid", "sigmoid", "arctan"],
)
def test_copies_keep_the_surrogate(duplicate, surrogate):
    lif = AnnealedLeaky(0.9, **SCHEDULE, surrogate=surrogate)
    twin = duplicate(lif)
    if duplicate is by_state_dict:
        return  # a setting, not a state
    membrane, centre = torch.tensor([1.2]), torch.tensor(1.0)
    assert torch.equal(twin.surrogate(membrane, centre), surrogate(membrane, centre))


def test_a_surrogate_from_snntorch_survives_deepcopy():
    # A pickle cannot hold it: snnTorch's functions are closures.
    lif = AnnealedLeaky(0.9, **SCHEDULE, spike_grad=snn_surrogate.atan(3.0))
    membrane, centre = torch.tensor([1.2]), torch.tensor(1.0)
    twin = copy.deepcopy(lif)
    assert torch.equal(twin.surrogate(membrane, centre), lif.surrogate(membrane, centre))


def test_a_plain_neurons_state_dict_is_refused_by_a_schedule():
    with pytest.raises(RuntimeError, match="theta_inf"):
        AnnealedLeaky(0.9, **SCHEDULE).load_state_dict(snn.Leaky(0.9).state_dict())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_casting_keeps_the_schedule_in_full_precision(dtype):
    schedule = {"theta_0": 11.2, "theta_inf": 51.12, "alpha": 1.36e-5}
    lif, plain = AnnealedLeaky(0.9, **schedule), AnnealedLeaky(0.9, **schedule)
    network = nn.Sequential(nn.Linear(4, 3), lif).to(dtype)
    assert lif.beta.dtype == dtype
    for _ in range(200):
        lif.anneal()
        plain.anneal()
    assert lif.threshold.item() == pytest.approx(plain.threshold.item(), rel=2e-7)
    assert lif.threshold.item() > 11.3  # one step of bfloat16 there is 0.06, one anneal 0.0005
    assert lif.rule.alpha.item() == pytest.approx(1.36e-5, rel=1e-6)
    assert network(torch.ones(2, 4, dtype=dtype))[0].dtype == dtype
    back = network.float()[1]
    assert back.theta_0.item() == plain.theta_0.item()
    assert back.threshold.item() == pytest.approx(plain.threshold.item(), rel=2e-7)


# The surrogate's centre


def test_clamped_and_moving_gradients():
    # u = 2, θ0 = 1, θ = 1.5, k = 2: 1 / (1 + 2 · 1)² = 1/9 and 1 / (1 + 2 · ½)² = 1/4.
    gradients = {}
    for centre in ("clamped", "moving"):
        lif = AnnealedLeaky(
            0.9, theta_0=1.0, theta_inf=2.0, alpha=0.5, slope=2.0, surrogate_centre=centre
        )
        lif.anneal()
        for way in ("step", "window"):
            current = torch.tensor([2.0], requires_grad=True)
            spikes = lif(current)[0] if way == "step" else lif.sequence(current[None])[0][0]
            spikes.backward()
            gradients[centre, way] = current.grad.item()
    assert gradients == {
        ("clamped", "step"): pytest.approx(1 / 9),
        ("clamped", "window"): pytest.approx(1 / 9),
        ("moving", "step"): pytest.approx(1 / 4),
        ("moving", "window"): pytest.approx(1 / 4),
    }


def test_clamped_is_the_default():
    lif = AnnealedLeaky(0.9, **SCHEDULE)
    lif.anneal(5)
    assert lif.surrogate_centre == "clamped" and torch.equal(lif.centre, lif.theta_0)
    assert lif.surrogate == FastSigmoid(25.0)


def test_the_surrogate_can_be_chosen_three_ways():
    assert AnnealedLeaky(0.9, slope=4.0).surrogate == FastSigmoid(4.0)
    assert AnnealedLeaky(0.9, surrogate=ArcTan(3.0)).surrogate == ArcTan(3.0)
    atan = snn_surrogate.atan(3.0)
    assert AnnealedLeaky(0.9, spike_grad=atan).surrogate == FromSnnTorch(atan)


# Learning β and θ


@pytest.mark.parametrize("way", ["steps", "window"])
@pytest.mark.parametrize("centre", ["clamped", "moving"])
@resets
def test_beta_and_theta_learn(way, centre, reset_mechanism):
    lif = AnnealedLeaky(
        0.8,
        1.3,
        slope=2.5,
        learn_beta=True,
        learn_threshold=True,
        surrogate_centre=centre,
        reset_mechanism=reset_mechanism,
    ).double()
    with torch.no_grad():
        lif.threshold.fill_(1.1)  # learned away from θ0 = 1.3
    generator = torch.Generator().manual_seed(7)
    current, gz, gm = (torch.randn(14, generator=generator, dtype=torch.float64) for _ in range(3))
    current = (0.4 + current).requires_grad_()
    column = current[:, None]
    spikes, membranes = (
        step_through(lif, column) if way == "steps" else lif.sequence(column, record=True)
    )
    loss = (gz * spikes[:, 0] + gm * membranes[:, 0]).sum()
    actual = torch.autograd.grad(loss, (current, lif.beta, lif.threshold))
    expected = lif_backward(
        current.tolist(),
        lif.beta.item(),
        lif.threshold.item(),
        lif.centre.item(),
        2.5,
        gz.tolist(),
        gm.tolist(),
        reset_mechanism,
    )
    assert lif.centre.item() == pytest.approx({"clamped": 1.3, "moving": 1.1}[centre])
    assert 0 < spikes.mean() < 1
    assert actual[0].tolist() == pytest.approx(expected.currents, rel=1e-9)
    assert actual[1].item() == pytest.approx(expected.beta, rel=1e-9)
    assert actual[2].item() == pytest.approx(expected.theta, rel=1e-9)


def test_learned_values_are_parameters_and_annealing_leaves_them():
    lif = AnnealedLeaky(0.8, 1.3, learn_beta=True, learn_threshold=True)
    assert set(dict(lif.named_parameters())) == {"beta", "rule.threshold"}
    lif.anneal(5)
    assert lif.threshold.item() == pytest.approx(1.3)
    assert not list(AnnealedLeaky(0.8, **SCHEDULE).parameters())


def test_an_int_beta_can_be_learned():
    lif = AnnealedLeaky(1, learn_beta=True)
    assert lif.beta.dtype == torch.float32 and lif.beta.item() == 1.0


def test_beta_per_neuron():
    betas = torch.tensor([0.0, 0.5, 1.0])
    _, membranes = AnnealedLeaky(betas, 100.0).sequence(torch.ones(3, 2, 3), record=True)
    assert membranes[-1, 0].tolist() == [1.0, 1.75, 3.0]


def test_beta_is_clamped_when_used():
    lif = AnnealedLeaky(0.9, 100.0, learn_beta=True)
    for outside, effective in ((1.5, 1.0), (-0.5, 0.0)):
        with torch.no_grad():
            lif.beta.fill_(outside)
        _, membranes = lif.sequence(torch.ones(2, 1), record=True)
        _, mem = lif(torch.ones(1), torch.ones(1))
        assert membranes[-1].item() == mem.item() == 1 + effective


# Broken rules

REFUSED = [
    (
        {"inhibition": True},
        "inhibition must be False, but got inhibition=True: "
        "Eq. 2 lets every neuron at its threshold fire; use snntorch's own",
    ),
    (
        {"state_quant": True},
        "state_quant must be False, but got state_quant=True: "
        "the membrane potential is kept in full precision; use snntorch's own",
    ),
    (
        {"reset_delay": False},
        "reset_delay must be True, but got reset_delay=False: "
        "Eq. 1 resets one step after the spike; use snntorch's own",
    ),
    (
        {"threshold": 2.0},
        "AnnealedLeaky takes its threshold as theta_0, theta_inf and alpha, but got "
        "threshold=2.0; any other one is Leaky(beta, threshold)",
    ),
    (
        {"theta_inf": 3.0},
        "theta_inf and alpha go together (or leave out both for a fixed threshold), "
        "but got theta_inf=3.0, alpha=None",
    ),
    (
        {"alpha": 0.1},
        "theta_inf and alpha go together (or leave out both for a fixed threshold), "
        "but got theta_inf=None, alpha=0.1",
    ),
    (
        {**SCHEDULE, "learn_threshold": True},
        "learn_threshold=True needs a fixed rule: a threshold that follows its schedule and its "
        "gradient is Leaky(beta, AnnealedLearned(theta_0, theta_inf, alpha))",
    ),
    (
        {"theta_0": 5.0, "theta_inf": 5.0, "alpha": 0.1},
        "theta_inf must be greater than theta_0=5, but got theta_inf=5; "
        "for a fixed threshold leave out theta_inf and alpha",
    ),
    (
        {"theta_0": 5.0, "theta_inf": 4.0, "alpha": 0.1},
        "theta_inf must be greater than theta_0=5, but got theta_inf=4; "
        "for a fixed threshold leave out theta_inf and alpha",
    ),
    ({**SCHEDULE, "alpha": 0.0}, "alpha must be in (0, 1], but got alpha=0"),
    ({**SCHEDULE, "alpha": 1.5}, "alpha must be in (0, 1], but got alpha=1.5"),
    ({**SCHEDULE, "alpha": math.nan}, "alpha must be in (0, 1], but got alpha=nan"),
    ({"theta_0": 0.0}, "theta_0 must be a finite number above 0, but got theta_0=0"),
    ({"theta_0": -1}, "theta_0 must be a finite number above 0, but got theta_0=-1"),
    ({"theta_0": math.nan}, "theta_0 must be a finite number above 0, but got theta_0=nan"),
    ({"beta": -0.1}, "beta must be in [0, 1], but got beta=-0.1"),
    ({"beta": 1.1}, "beta must be in [0, 1], but got beta=1.1"),
    ({"beta": math.nan}, "beta must be in [0, 1], but got beta=nan"),
    (
        {"beta": torch.tensor([0.5, 1.5])},
        "beta must be in [0, 1], but got beta=tensor([0.5000, 1.5000])",
    ),
    ({"slope": 0}, "slope must be a finite number above 0, but got slope=0"),
    ({"slope": math.nan}, "slope must be a finite number above 0, but got slope=nan"),
    (
        {"surrogate_centre": "fixed"},
        "surrogate_centre must be one of clamped, moving, but got 'fixed'",
    ),
    (
        {"reset_mechanism": "soft"},
        "reset_mechanism must be one of subtract, zero, none, but got 'soft'",
    ),
    (
        {"slope": 5.0, "surrogate": Sigmoid(2.0)},
        "surrogate Sigmoid(slope=2.0, scale=1.0) has its own settings; leave out slope",
    ),
]


@pytest.mark.parametrize(
    ("settings", "message"),
    REFUSED,
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_broken_rules_are_named(settings, message):
    before = living()
    with pytest.raises(InvalidValueError, match=f"^{re.escape(message)}$"):
        AnnealedLeaky(**{"beta": 0.9, **settings})
    assert living() == before


def living():
    """How many neurons snnTorch's list reaches."""
    gc.collect()
    return sum(isinstance(entry, snn.SpikingNeuron) for entry in snn.SpikingNeuron.instances)


def test_snntorchs_other_keywords_pass_at_the_values_that_fit():
    AnnealedLeaky(
        0.9,
        surrogate_disable=False,
        inhibition=False,
        state_quant=False,
        graded_spikes_factor=1.0,
        learn_graded_spikes_factor=False,
        reset_delay=True,
    )


def test_an_unknown_keyword():
    message = "AnnealedLeaky() got an unexpected keyword argument 'tetha_inf'"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        AnnealedLeaky(0.9, tetha_inf=3.0)


# Lifetime and reset


def test_dropped_neurons_leave_no_instance_alive():
    registered = len(snn.SpikingNeuron.instances) + 3  # `lif` and its copies
    references = []
    for _ in range(2000):
        lif = AnnealedLeaky(0.9, **SCHEDULE, init_hidden=True)
        references.append(weakref.ref(lif))
    lif(torch.ones(2, requires_grad=True) * 1)
    copies = [copy.deepcopy(lif), pickle.loads(pickle.dumps(lif))]
    references += [weakref.ref(twin) for twin in copies]
    assert len(snn.SpikingNeuron.instances) <= registered
    del lif, copies
    gc.collect()
    assert sum(reference() is not None for reference in references) == 0


def test_a_failed_construction_leaves_no_instance_alive(monkeypatch):
    def fail(neuron):
        raise MemoryError

    registered = len(snn.SpikingNeuron.instances)
    monkeypatch.setattr(snn.Leaky, "_init_mem", fail)
    with pytest.raises(MemoryError):
        AnnealedLeaky(0.9)
    assert len(snn.SpikingNeuron.instances) == registered


def test_other_neurons_stay_registered():
    plain = snn.Leaky(0.9, init_hidden=True)
    AnnealedLeaky(0.9)
    assert any(neuron is plain for neuron in snn.SpikingNeuron.instances)


def test_reset_clears_one_network_and_no_other():
    def network():
        return nn.Sequential(
            nn.Linear(6, 5),
            snn.Leaky(0.9, init_hidden=True),
            nn.Sequential(nn.Linear(5, 4), AnnealedLeaky(0.9, init_hidden=True)),
        )

    mine, other = network(), network()
    for net in (mine, other):
        net(torch.randn(3, 6))
    kept = other[1].mem.clone(), other[2][1].mem.clone()
    assert mine[1].mem.any() and mine[2][1].mem.any()
    reset(mine)
    assert not mine[1].mem.any() and not mine[2][1].mem.any()
    assert not mine[2][1].mem.requires_grad
    assert torch.equal(other[1].mem, kept[0]) and torch.equal(other[2][1].mem, kept[1])
    assert kept[0].any() and kept[1].any()


def test_reset_takes_a_neuron_and_leaves_the_schedule():
    lif = AnnealedLeaky(0.9, **SCHEDULE, init_hidden=True)
    lif.anneal(3)
    lif(torch.ones(2))
    theta = lif.threshold.clone()
    reset(lif)
    assert not lif.mem.any() and torch.equal(lif.threshold, theta)


def test_shows_its_settings():
    lif = AnnealedLeaky(0.9, **SCHEDULE, slope=3.0)
    lif.anneal()
    theta = threshold_at(1, *SCHEDULE.values())
    assert repr(lif) == (
        "AnnealedLeaky(\n"
        "  beta=0.9, surrogate=FastSigmoid(slope=3.0, scale=1.0) clamped, reset=subtract\n"
        f"  (rule): Annealed(theta={theta:.4g}, theta_0=0.7, theta_inf=1.9, alpha=0.1, "
        "iteration=1)\n)"
    )
    assert repr(AnnealedLeaky(torch.ones(3), 2.0)).startswith(
        "AnnealedLeaky(\n  beta per neuron, surrogate=FastSigmoid(slope=25.0, scale=1.0) clamped, "
        "reset=subtract\n  (rule): Fixed(theta=2)"
    )
