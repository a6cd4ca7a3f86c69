"""tdBN and neurons in one pass: batch norm and neurons one by one, whatever settings."""

from __future__ import annotations

import pytest
import torch
from compiled_choices import one_of
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from bsnn_tha import SpikingNetwork
from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.lif import RESETS, lif_sequence_reference
from bsnn_tha.equations.surrogate import SURROGATES, Triangle
from bsnn_tha.equations.threshold_gradient import SHARED, WINDOWS, ThresholdGradient
from bsnn_tha.functional.batch_norm import batch_norm_steps
from bsnn_tha.functional.lif import lif_window
from bsnn_tha.functional.norm_lif import Given, NeuronsBehindNorm, Norm
from bsnn_tha.functional.running import Refused, running
from bsnn_tha.functional.sums import Sums
from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu import norm_lif as loops

EPS = 1e-3


def told(dynamics, threshold):
    """With a threshold that is learned, if there is one."""
    beta, fixed, centre = dynamics.tensors
    return dynamics.with_tensors(beta, fixed if threshold is None else threshold, centre)


def one_pass(
    current, weight, bias, start, threshold, dynamics, steps, record, per_step=False, sums=None
):
    dynamics = told(dynamics, threshold)
    norm = Norm(weight, bias, EPS, per_step)
    route = NeuronsBehindNorm.accepts(norm, dynamics, current.shape, steps, start, record)
    assert not isinstance(route, Refused), route
    found = route.window(current if sums is None else sums)
    assert not isinstance(found, Refused), found
    return found


def reference(current, weight, bias, start, threshold, dynamics, steps, record, per_step=False):
    """The equation of batch norm, and the plain time loop; autograd through both."""
    dynamics = told(dynamics, threshold)
    # Not the library's: its gradient is wrong for maps with places of one row and one sample.
    over = (1, 3, 4) if per_step else (0, 1, 3, 4)
    mean = current.mean(over, keepdim=True)
    variance = current.var(over, correction=0, keepdim=True)
    count = current.numel() // mean.numel()
    normed = (current - mean) / (variance + EPS).sqrt()
    maps = normed * weight.view(-1, 1, 1) + bias.view(-1, 1, 1)
    mean, variance = (its.flatten(1) if per_step else its.flatten() for its in (mean, variance))
    window = lif_sequence_reference(
        maps.expand(steps, *current.shape[1:]), *dynamics.tensors, dynamics.surrogate,
        dynamics.reset, start, dynamics.threshold_gradient,
    )  # fmt: skip
    return window, mean, variance * count / (count - 1)


def parts(current, weight, bias, start, threshold, dynamics, steps, record, per_step=False):
    """The compiled loops of both, one after the other."""
    dynamics = told(dynamics, threshold)
    samples = current if per_step else current.flatten(0, 1)[None]
    maps, mean, variance = batch_norm_steps(samples, weight, bias, EPS)
    maps = maps.reshape(current.shape).expand(steps, *current.shape[1:])
    if not per_step:
        mean, variance = mean[0], variance[0]
    return lif_window(maps, dynamics, start, record), mean, variance


def run(function, leaves, dynamics, steps, record, threshold=None, **how):
    """Results and gradients: of membranes as well, if they are recorded; of θ, if it is given."""
    leaves = *leaves, threshold
    leaves = [None if leaf is None else leaf.detach().clone().requires_grad_() for leaf in leaves]
    window, mean, variance = function(*leaves, dynamics, steps, record, **how)
    results = [window.spikes, window.membrane, *([window.membranes] if record else [])]
    generator = torch.Generator().manual_seed(0)
    upstream = [
        torch.randn(its.shape, generator=generator, dtype=torch.float64).to(its.dtype)
        for its in results
    ]
    gradients = torch.autograd.grad(
        results, [leaf for leaf in leaves if leaf is not None], upstream
    )
    return [its.detach() for its in (*results, mean, variance)], gradients


def draw(steps, batch, channels, size, constant, started, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    seen = 1 if constant else steps
    start = normal(batch, channels, *size) if started else None
    return 3 + 2 * normal(seen, batch, channels, *size), normal(channels), normal(channels), start


def draw_threshold(whose, channels, size, seed):
    """θ of the layer, or one for each neuron, or for each channel."""
    shape = {"layer": (), "channel": (channels, 1, 1), "neuron": (channels, *size)}[whose]
    generator = torch.Generator().manual_seed(seed)
    return 0.5 + torch.rand(shape, generator=generator, dtype=torch.float64)


# What is compiled for itself: reset, surrogate, whether membranes are recorded; whose θ is, how it
# gets its gradient, and whether it wants one.
SEPARATE = ThresholdGradient("sigmoid", fired_only=True)
NEURONS = [
    ("subtract", "triangle", False, "layer", SHARED, False),
    ("zero", "fast_sigmoid", True, "layer", SEPARATE, True),
    ("none", "arctan", True, "neuron", ThresholdGradient("triangle"), True),
    ("subtract", "triangle", False, "channel", SHARED, True),
    ("subtract", "triangle", False, "layer", SHARED, True),
]
PATHS = [
    ThresholdGradient(window, fired_only) for window in WINDOWS for fired_only in (True, False)
]
THETAS = ["layer", "channel", "neuron"], PATHS, [True, False]


@given(
    steps=st.integers(1, 5),
    batch=st.integers(1, 5),
    channels=st.sampled_from([1, 3, 16, 64, 65, 130]),
    size=st.sampled_from([(1, 2), (3, 5), (12, 12)]),
    constant=st.booleans(),
    per_step=st.booleans(),
    started=st.booleans(),
    last=st.booleans(),
    neurons=one_of(NEURONS, RESETS, sorted(SURROGATES), [True, False], *THETAS),
    block=st.sampled_from([1, 64, 2048]),
    threads=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_it_is_batch_norm_and_the_plain_time_loop(
    steps, batch, channels, size, constant, per_step, started, last, neurons, block, threads, seed
):
    leaves = draw(steps, batch, channels, size, constant, started, seed)
    if last:
        current = leaves[0].permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
        leaves = current, *leaves[1:]
    reset, surrogate, record, whose, path, learned = neurons
    beta, centre = torch.tensor([0.7, 0.6], dtype=torch.float64)
    theta = draw_threshold(whose, channels, size, seed)
    # The centre moves with θ where there is one for each.
    centre = theta if theta.dim() else centre
    dynamics = Dynamics(beta, theta, centre, SURROGATES[surrogate](slope=1.3), reset, path)
    threshold = theta if learned else None
    with pytest.MonkeyPatch.context() as patch:
        for number, value in (("LIF_THREAD", 1), ("NORM_THREAD", 1), ("NORM_LIF_BLOCK", block)):
            patch.setattr(tuning, number, value)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        results, gradients = run(
            one_pass, leaves, dynamics, steps, record, threshold, per_step=per_step
        )
    expected, wanted = run(reference, leaves, dynamics, steps, record, threshold, per_step=per_step)
    assert torch.equal(results[0], expected[0])
    for got, its in zip((*results, *gradients), (*expected, *wanted), strict=True):
        torch.testing.assert_close(got, its, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("per_step", [False, True], ids=["tdBN", "per step"])
@pytest.mark.parametrize("constant", [True, False], ids=["constant", "window"])
def test_the_bits_of_its_parts(constant, per_step):
    leaves = draw(6, 4, 16, (12, 12), constant, True, 1, torch.float32)
    dynamics = Dynamics(*torch.tensor([0.55, 1.1, 1.1]), Triangle())
    theta = torch.tensor(1.1)
    results, gradients = run(one_pass, leaves, dynamics, 6, True, theta, per_step=per_step)
    expected, wanted = run(parts, leaves, dynamics, 6, True, theta, per_step=per_step)
    assert 0.05 < results[0].mean() < 0.95
    for got, its in zip(results, expected, strict=True):
        assert torch.equal(got, its)
    *others, g_start, g_threshold = zip(gradients, wanted, strict=True)
    for got, its in others:
        if constant:  # its sum over time is in another order
            torch.testing.assert_close(got, its, rtol=1e-4, atol=1e-4 * its.abs().max().item())
        else:
            assert torch.equal(got, its)
    assert torch.equal(*g_start)
    # A sum over all neurons and steps in another order.
    torch.testing.assert_close(*g_threshold, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("unit", [1.0, 0.25, 1 / 16])
@pytest.mark.parametrize("per_step", [False, True], ids=["tdBN", "per step"])
def test_whole_numbers_in_a_unit_are_the_same_currents_to_the_last_bit(per_step, unit):
    _, weight, bias, start = draw(5, 4, 16, (6, 7), False, True, 1, torch.float32)
    generator = torch.Generator().manual_seed(4)
    whole = torch.randint(-9000, 32768, (5, 4, 16, 6, 7), generator=generator, dtype=torch.int16)
    current = whole.float() * unit
    dynamics = Dynamics(*torch.tensor([0.55, 1.1, 1.1]), Triangle())
    expected, wanted = run(
        one_pass, (current, weight, bias, start), dynamics, 5, True, per_step=per_step
    )

    def of_sums(node, *given, **how):
        found = Sums(whole.flatten(0, 1), unit, torch.float32, node.flatten(0, 1))
        return one_pass(node, *given, **how, sums=found)

    # What stands for the currents holds nothing that is read.
    node = torch.full_like(current, torch.nan)
    results, gradients = run(
        of_sums, (node, weight, bias, start), dynamics, 5, True, per_step=per_step
    )
    assert 0.05 < results[0].mean() < 0.95
    for got, its in zip((*results, *gradients), (*expected, *wanted), strict=True):
        assert torch.equal(got, its)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("last", [True, False], ids=["channels last", "channels first"])
@pytest.mark.parametrize("channels", [3, 16, 64])
def test_running_statistics_are_the_library_s_to_the_last_bit(channels, last, dtype):
    current, weight, bias, _ = draw(4, 5, channels, (6, 7), False, False, 3, dtype)
    if last:
        current = current.movedim(2, -1).contiguous().movedim(-1, 2)
    mean, variance = torch.randn(channels).to(dtype), (0.1 + torch.rand(channels)).to(dtype)
    dynamics = Dynamics(*torch.tensor([0.55, 1.1, 1.1], dtype=dtype), Triangle())
    given = Given.of(mean, variance, weight, bias, EPS)
    route = NeuronsBehindNorm.accepts(given, dynamics, current.shape, 4, None, True)
    window, *statistics = route.window(current)
    maps = F.batch_norm(current.flatten(0, 1), mean, variance, weight, bias, eps=EPS)
    expected = lif_window(maps.unflatten(0, (4, 5)), dynamics, None, True)
    assert statistics == [None, None] and window.spikes.any()
    for got, its in zip(window, expected, strict=True):
        assert torch.equal(got, its)


def test_a_current_that_is_taken_as_it_is():
    current = draw(1, 4, 5, (3, 4), True, False, 3, torch.float32)[0].requires_grad_()
    dynamics = Dynamics(*torch.tensor([0.55, 1.1, 1.1]), Triangle())
    upstream = torch.randn(6, 4, 5, 3, 4)
    route = NeuronsBehindNorm.accepts(None, dynamics, current.shape, 6)
    spikes = route.window(current).window.spikes
    expected = lif_window(current.expand(6, -1, -1, -1, -1), dynamics).spikes
    assert torch.equal(spikes, expected) and spikes.any()
    gradients = (torch.autograd.grad(its, current, upstream)[0] for its in (spikes, expected))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("constant", [True, False], ids=["constant", "window"])
def test_under_autocast_spikes_are_bfloat16_and_nothing_else_is_rounded(constant):
    leaves = draw(6, 4, 16, (12, 12), constant, True, 1, torch.float32)
    dynamics = Dynamics(*torch.tensor([0.55, 1.1, 1.1]), Triangle())
    expected, wanted = run(one_pass, leaves, dynamics, 6, True)

    def autocast(*given):
        with torch.autocast("cpu", torch.bfloat16):
            return one_pass(*given)

    results, gradients = run(autocast, leaves, dynamics, 6, True)
    assert results[0].dtype == torch.bfloat16 and results[2].dtype == torch.float32
    assert torch.equal(results[0].float(), expected[0])
    for got, its in zip(results[1:], expected[1:], strict=True):
        assert torch.equal(got, its)
    # But for what arrives, rounded to bfloat16.
    for got, its in zip(gradients, wanted, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, its, rtol=0.01, atol=0.01 * its.abs().max().item())


@pytest.mark.parametrize("whose", ["layer", "neuron"])
def test_the_same_for_any_number_of_threads(whose, monkeypatch):
    leaves = draw(6, 9, 20, (7, 5), False, True, 2, torch.float32)
    dynamics = Dynamics(*torch.tensor([0.5, 1.0, 1.0]), Triangle())
    theta = draw_threshold(whose, 20, (7, 5), 2).float()
    found = []
    for name in ("LIF_THREAD", "NORM_THREAD"):
        monkeypatch.setattr(tuning, name, 1)
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        results, gradients = run(one_pass, leaves, dynamics, 6, False, theta)
        found.append([*results, *gradients])
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


def test_a_threshold_that_moves_before_the_backward_pass_is_the_one_that_fired():
    current, *others = draw(3, 4, 5, (4, 4), False, False, 3)
    theta = torch.tensor(0.8, dtype=torch.float64)
    dynamics = Dynamics(theta / 2, theta, theta, Triangle())
    gradients = []
    for moved in (0.0, 0.7):
        leaf = current.clone().requires_grad_()
        window, *_ = one_pass(leaf, *others, None, dynamics, 3, False)
        theta += moved
        window.spikes.sum().backward()
        gradients.append(leaf.grad)
    assert torch.equal(*gradients) and gradients[0].any()


ONE = torch.tensor(1.0)
REFUSED = {
    "β is learned": {"beta": ONE.clone().requires_grad_()},
    "β must be one number": {"beta": torch.rand(5, 4, 4)},
    "one for each neuron": {"threshold": torch.rand(3, 5, 4, 4)},
    "synaptic current": {"alpha": ONE},
    "not compiled": {"surrogate": lambda membrane, centre: membrane},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_it_says_why_not(reason):
    settings = {"beta": ONE, "threshold": ONE, "centre": ONE, "surrogate": Triangle()}
    norm = Norm(torch.ones(5), torch.zeros(5), EPS)
    dynamics = Dynamics(**(settings | REFUSED[reason]))
    refused = NeuronsBehindNorm.accepts(norm, dynamics, (2, 3, 5, 4, 4), 2)
    assert isinstance(refused, Refused) and reason in refused


def test_what_is_left_to_the_parts():
    norm = Norm(torch.ones(5), torch.zeros(5), EPS)
    dynamics, shape = Dynamics(ONE, ONE, ONE, Triangle()), (2, 3, 5, 4, 4)
    assert isinstance(NeuronsBehindNorm.accepts(norm, dynamics, (1, 1, 5, 1, 1), 2), Refused)
    each = norm._replace(per_step=True)
    assert isinstance(NeuronsBehindNorm.accepts(each, dynamics, (2, 1, 5, 1, 1), 2), Refused)
    with running("reference"):
        assert isinstance(NeuronsBehindNorm.accepts(norm, dynamics, shape, 2), Refused)
    route = NeuronsBehindNorm.accepts(norm, dynamics, shape, 2)
    for dtype in (torch.float16, torch.bfloat16):
        assert isinstance(route.window(torch.rand(shape).to(dtype)), Refused)


# In networks


def test_fully_connected_layers_behind_tdbn_go_by_parts():
    network = SpikingNetwork(
        "30Dense20-5", (30,), beta=0.5, norm={"dense": "tdbn", "output": "none"}
    )
    window = network((torch.rand(6, 4, 30) < 0.3).float())
    window.spikes.sum().backward()
    assert window.spikes.shape == (6, 4, 5)
    assert network.routes()[0] == {"training": ["linear + batch_norm_steps + cpu.lif"]}
    assert network.layers[0].norm.weight.grad is not None


def make(route="auto", **settings):
    torch.manual_seed(1)
    told = {"beta": 0.5, "theta_0": 1.0, "surrogate": "triangle", "slope": 1.0, "norm": "tdbn"}
    return SpikingNetwork("4C3-AP2-8C3-5", (1, 12, 12), route=route, **(told | settings))


LEARNED = [
    {"rule": "learned"},
    {"rule": "tanh", "surrogate_centre": "moving"},
    {"rule": "learned", "penalty_window": "sigmoid", "fired_only": True},
    {"rule": "learned", "per": "neuron", "surrogate_centre": "moving"},
    {"rule": "annealed-learned", "per": "neuron", "theta_inf": 3.0, "alpha": 0.1},
]


def step(network):
    """A training step's results, what it leaves in the network, and its gradients."""
    torch.manual_seed(2)
    window = network(torch.rand(6, 1, 12, 12), 5, record=True)
    weights = torch.linspace(-1, 1, window.membranes.numel()).view(5, 6, 5)
    (window.membranes * weights).sum().backward()
    results = window.spikes, window.membranes, *network.buffers()
    return [*(its.detach().clone() for its in results), *(p.grad for p in network.parameters())]


@pytest.mark.parametrize("settings", [{}, *LEARNED], ids=str)
def test_networks_take_it_unasked_and_compute_the_same_as_by_parts(settings):
    found = {}
    for route, way in (("auto", "norm_lif"), ("parts", "batch_norm_steps + cpu.lif")):
        network = make(route, **settings)
        found[route] = step(network)
        assert [ways["training"] for ways in network.routes()[:2]] == [[f"conv2d + {way}"]] * 2
    names = [*(n for n, _ in network.named_buffers()), *(n for n, _ in network.named_parameters())]
    assert found["auto"][0].any()
    for name, got, wanted in zip(["spikes", "membranes", *names], *found.values(), strict=True):
        if name in ("spikes", "membranes") or "running" in name:
            assert torch.equal(got, wanted), name
        else:
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", ["tdbn", "per-step"])
def test_residual_blocks_take_it_and_compute_the_same_as_by_parts(norm):
    found = {}
    for route, way in (("auto", "norm_lif"), ("parts", "batch_norm_steps + cpu.lif")):
        torch.manual_seed(1)
        network = SpikingNetwork(
            "6C3P-6R-8RS2-5", (1, 12, 12), beta=0.5, theta_0=0.6, norm=norm, route=route
        )
        found[route] = step(network)
        ways = [its["training"] for its in network.routes()[:5]]
        # The projection's norm is by itself either way.
        assert ways[2] == [f"conv2d + {way}"] and ways[4][0].endswith(way.split()[-1])
        assert ("cpu.lif" in ways[4][0]) == (route == "parts")
        with torch.no_grad():
            found[route].append(network.eval()(torch.rand(6, 1, 12, 12), 5).spikes)
    names = [*(n for n, _ in network.named_buffers()), *(n for n, _ in network.named_parameters())]
    assert found["auto"][0].any()
    named = zip(["spikes", "membranes", *names, "spikes"], *found.values(), strict=True)
    for name, got, wanted in named:
        if name in ("spikes", "membranes") or "running" in name:
            assert torch.equal(got, wanted), name
        else:
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("per_step", [False, True], ids=["tdBN", "per step"])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_what_is_added_to_the_normalised_current(half, per_step):
    current, weight, bias, start = draw(6, 4, 16, (5, 7), False, True, 1, torch.float32)
    added = torch.randint(0, 3, current.shape, generator=torch.Generator().manual_seed(3)) / 2
    added = added.bfloat16() if half else added + 0.3
    dynamics = Dynamics(*torch.tensor([0.55, 1.1, 1.1]), Triangle())
    upstream = torch.randn(current.shape, generator=torch.Generator().manual_seed(4))
    found = []
    for together in (True, False):
        leaves = [its.clone().requires_grad_() for its in (current, weight, bias, added)]
        mine, w, b, more = leaves
        if together:
            norm = Norm(w, b, EPS, per_step)
            route = NeuronsBehindNorm.accepts(norm, dynamics, mine.shape, 6, start, True)
            window = route.window(mine, more).window
        else:
            flat = mine if per_step else mine.flatten(0, 1)[None]
            normed = batch_norm_steps(flat, w, b, EPS)[0].view(mine.shape)
            window = lif_window(normed + more, dynamics, start, True)
        gradients = torch.autograd.grad(window.spikes, leaves, upstream)
        found.append([*window, *gradients])
    assert 0.05 < found[0][0].mean() < 0.95
    assert found[0][-1].dtype == added.dtype
    for got, its in zip(*found, strict=True):
        assert torch.equal(got, its)


def test_what_is_added_must_be_like_the_currents():
    current, weight, bias, _ = draw(2, 3, 4, (3, 3), False, False, 1, torch.float32)
    dynamics = Dynamics(*torch.tensor([0.55, 1.1, 1.1]), Triangle())
    norm = Norm(weight, bias, EPS)
    route = NeuronsBehindNorm.accepts(norm, dynamics, current.shape, 2)
    assert isinstance(route.window(current, current.double()), Refused)
    constant = NeuronsBehindNorm.accepts(norm, dynamics, current[:1].shape, 2)
    assert isinstance(constant.window(current[:1], current), Refused)


def watched_layers(network):
    for layer in network.layers:
        layer.register_forward_hook(lambda *_: None)
        layer.show_membranes = True


def watched_norms(network):
    for layer in network.layers[:2]:
        layer.norm.register_forward_hook(lambda *_: None)


@pytest.mark.parametrize("watch", [watched_layers, watched_norms])
def test_watching_changes_no_spike_and_no_statistic(watch):
    plain, seen = make(), make()
    watch(seen)
    first, second = step(plain), step(seen)
    gradients = len(list(plain.parameters()))
    for got, wanted in zip(first[:-gradients], second[:-gradients], strict=True):
        assert torch.equal(got, wanted)
    for got, wanted in zip(first[-gradients:], second[-gradients:], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_a_window_that_is_run_again_is_not_counted_twice():
    from bsnn_tha.nn.recompute import uncounted

    network = make()
    before = {name: its.clone() for name, its in network.state_dict().items()}
    with uncounted():
        network(torch.rand(6, 1, 12, 12), 5)
    assert all(torch.equal(before[name], its) for name, its in network.state_dict().items())


@pytest.mark.parametrize(
    "settings",
    [
        {"learn_beta": True},
        # Its resets have a gradient.
        {"rule": "learned", "emits": "membrane"},
        {"backend": "reference"},
        {"model": "synaptic", "synaptic_decay": 0.5},
    ],
    ids=str,
)
def test_other_neurons_go_their_own_way(settings, monkeypatch):
    monkeypatch.setattr(loops, "forward", lambda *_: pytest.fail("one pass"))
    assert step(make(**settings))[0].shape == (5, 6, 5)
