"""Threshold rules: each equation, how θ learns, its bounds, and rules from outside."""

from __future__ import annotations

import copy
import csv
import math
import re

import pytest
import torch
from commands import Command
from places import ROOT
from reference import threshold_recurrence

from bsnn_tha import Leaky, SpikingNetwork, ThresholdRule, thresholds
from bsnn_tha.equations.surrogate import SURROGATES
from bsnn_tha.equations.threshold_gradient import ThresholdGradient
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.thresholds import RULES, make_rule
from bsnn_tha.training.callbacks import anneal
from bsnn_tha.training.optimizers import parameter_groups

ALL = {
    "fixed": {},
    "annealed": {"theta_inf": 1.9, "alpha": 0.1},
    "learned": {},
    "tanh": {},
    "annealed-learned": {"theta_inf": 1.9, "alpha": 0.1},
}
every_rule = pytest.mark.parametrize("name", ALL)
PER_NEURON = [name for name in ALL if name not in ("fixed", "annealed")]


def rule_of(name, shape=(), **settings):
    return make_rule(name, shape, theta_0=0.7, **ALL[name], rule_options=settings)


def test_every_rule_is_tested():
    assert ALL.keys() == RULES.keys()


@every_rule
def test_starts_at_theta_0(name):
    assert rule_of(name)().item() == pytest.approx(0.7, rel=1e-6)


@pytest.mark.parametrize("name", PER_NEURON)
def test_one_threshold_for_each_neuron(name):
    rule = rule_of(name, (2, 3))
    assert rule().shape == (2, 3)
    assert rule().detach().unique().tolist() == pytest.approx([0.7])


@pytest.mark.parametrize("name", ["annealed", "annealed-learned"])
def test_a_schedule_follows_equation_4(name):
    rule = rule_of(name)
    assert rule.annealed
    for theta in threshold_recurrence(20, 0.7, 1.9, 0.1):
        assert rule().item() == pytest.approx(theta, rel=1e-6)
        rule.advance()
    assert rule.final().item() == pytest.approx(1.9)


@pytest.mark.parametrize("name", ["fixed", "learned", "tanh"])
def test_others_do_not_move_by_themselves(name):
    rule = rule_of(name)
    before = rule().detach().clone()
    rule.advance(50)
    assert rule.iteration.item() == 50 and not rule.annealed
    assert torch.equal(rule(), before) and torch.equal(rule.final(), before)


def test_tanh_is_ltmds_equation_8():
    """∂L/∂k = ∂L/∂M sech²(k), M = tanh(k), k = 0.5 at first."""
    rule = make_rule("tanh", theta_0=math.tanh(0.5), rule_options={"scale": 1.0})
    assert rule.k.item() == pytest.approx(0.5)
    rule().backward(torch.tensor(3.0))
    assert rule.k.grad.item() == pytest.approx(3.0 / math.cosh(0.5) ** 2)
    assert thresholds.Tanh()().item() == pytest.approx(math.tanh(0.5))
    # The scale of another θ0 leaves k at 0.5, so that the gradient keeps its shape.
    assert thresholds.Tanh(theta_0=12.0).k.item() == pytest.approx(0.5)


def test_tanh_keeps_its_bound_whatever_the_gradient():
    rule = make_rule("tanh", theta_0=0.4, rule_options={"scale": 1.0})
    optimizer = torch.optim.SGD(rule.parameters(), lr=1e3)
    for sign in (-1.0, 1.0):
        for _ in range(5):
            optimizer.zero_grad()
            (sign * rule()).backward()
            optimizer.step()
            rule.advance()
            assert -1 <= rule().item() <= 1


@pytest.mark.parametrize("name", ["learned", "annealed-learned"])
@pytest.mark.parametrize("shape", [(), (3,)], ids=["layer", "neuron"])
def test_learned_thresholds_are_held_at_their_minimum(name, shape):
    rule = rule_of(name, shape, minimum=0.25)
    parameter = next(rule.parameters())
    with torch.no_grad():
        parameter -= 5.0
    assert rule().max() < 0  # not yet
    rule.advance()
    assert rule().detach().flatten().tolist() == pytest.approx([0.25] * rule().numel())
    with torch.no_grad():
        parameter += 1.0
    rule.advance()
    assert rule().min().item() > 1.0


def test_annealed_plus_learned_is_their_sum():
    rule = rule_of("annealed-learned")
    with torch.no_grad():
        rule.offset += 0.3
    rule.advance(7)
    expected = threshold_recurrence(7, 0.7, 1.9, 0.1)[-1] + 0.3
    assert rule().item() == pytest.approx(expected, rel=1e-6)
    assert rule.final().item() == pytest.approx(2.2)
    rule().backward()
    assert rule.offset.grad.item() == 1.0


# Gradients of θ through a layer, against loops written from the papers


def loop_gradients(current, gz, beta, theta, surrogate, weigh):
    """∂(Σ gz z)/∂θ of one neuron with reset to zero: only the spikes' own derivative.

    Rouser Eq. 3, LTMD Eq. 7, LT-SNN Eq. 9 and 11: Σ_t gz[t] ∂z[t]/∂θ.
    """
    u, total = 0.0, 0.0
    for t, step in enumerate(current):
        u = beta * (0.0 if u >= theta and t else u) + step
        total -= gz[t] * surrogate(u - theta) * weigh(u - theta)
    return total


PAPERS = {
    "rouser": (
        {"surrogate": "exponential", "slope": 1 / 3.75, "surrogate_scale": 1.5},
        ThresholdGradient(),
        lambda x: 1.5 / 3.75 * math.exp(-abs(x) / 3.75),
        lambda x: 1.0,
    ),
    "ltmd": (
        {"surrogate": "rectangle", "slope": 1.0},
        ThresholdGradient(),
        lambda x: 1.0 if abs(x) < 0.5 else 0.0,
        lambda x: 1.0,
    ),
    "lt-snn": (
        {"surrogate": "triangle", "slope": 1.0},
        ThresholdGradient("sigmoid", fired_only=True),
        lambda x: max(0.0, 1.0 - abs(x)),
        lambda x: (1.0 / (1.0 + math.exp(-x))) if x >= 0 else 0.0,
    ),
}


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("per_neuron", [False, True], ids=["layer", "neuron"])
@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_gradients_of_thresholds_are_the_papers(paper, per_neuron, backend):
    settings, path, surrogate, weigh = PAPERS[paper]
    torch.manual_seed(3)
    steps, batch, neurons, theta, beta = 12, 3, 4, 0.9, 0.8
    current, gz = torch.rand(2, steps, batch, neurons, dtype=torch.float64)
    rule = thresholds.Learned(theta, (neurons,) if per_neuron else ()).double()
    lif = Leaky(
        beta,
        rule,
        surrogate_centre="moving",
        reset_mechanism="zero",
        threshold_gradient=path,
        backend=backend,
        **settings,
    )
    spikes, _ = lif.sequence(current)
    assert 0.05 < spikes.mean() < 0.95
    (gz * spikes).sum().backward()
    theta = rule.threshold.detach().flatten()[0].item()
    expected = torch.tensor(
        [
            sum(
                loop_gradients(
                    current[:, i, j].tolist(), gz[:, i, j].tolist(), lif.beta.item(), theta,
                    surrogate, weigh,
                )
                for i in range(batch)
            )
            for j in range(neurons)
        ],
        dtype=torch.float64,
    )  # fmt: skip
    if not per_neuron:
        expected = expected.sum()
    torch.testing.assert_close(rule.threshold.grad, expected, rtol=1e-6, atol=1e-9)


def test_a_shared_threshold_gets_a_gradient_through_the_whole_network():
    # In toolkits that assign parameters afterwards, learned thresholds silently get none.
    for name in PER_NEURON:
        for per in ("layer", "neuron"):
            network = SpikingNetwork(
                "4C3-AP2-6-5", (1, 8, 8), beta=0.9, rule=name, per=per, theta_0=0.7, **ALL[name]
            )
            network(torch.rand(6, 3, 1, 8, 8)).spikes.sum().backward()
            for layer in network.layers:
                parameters = list(layer.neuron.rule.parameters())
                assert len(parameters) == 1 and parameters[0].grad.abs().sum() > 0
                shape = layer.output_shape if per == "neuron" else ()
                assert layer.neuron.threshold.shape == shape


# In a network's life


@every_rule
def test_copies_go_on_alike(name):
    rule = rule_of(name)
    rule.advance(11)
    twin = copy.deepcopy(rule)
    fresh = rule_of(name)
    fresh.load_state_dict(rule.state_dict())
    rule.advance(5)
    for other in (twin, fresh):
        assert other.iteration.item() == 11
        other.advance(5)
        assert torch.equal(other(), rule())


def test_half_precision_leaves_schedules_exact():
    network = SpikingNetwork(
        "4-3", (5,), beta=0.9, rule="annealed", theta_0=1.0, theta_inf=3.0, alpha=1e-4
    ).half()
    for _ in range(10):
        anneal(network)
    theta = threshold_recurrence(10, 1.0, 3.0, 1e-4)[-1]
    assert network.layers[0].neuron.threshold.item() == pytest.approx(theta, rel=1e-6)


def test_one_iteration_advances_every_rule():
    network = SpikingNetwork(
        "4-3", (5,), beta=0.9, rule="learned", theta_0=1.0, rule_options={"minimum": 0.5}
    )
    with torch.no_grad():
        for theta in network.thresholds():
            theta.fill_(0.1)
    anneal(network)
    assert [theta.item() for theta in network.thresholds()] == [0.5, 0.5]


@every_rule
def test_learned_thresholds_have_an_optimizer_group_of_their_own(name):
    network = SpikingNetwork(
        "4-3", (5,), beta=0.9, rule=name, theta_0=0.7, learn_beta=True, **ALL[name]
    )
    groups = parameter_groups(network, 1e-3, 0.0)
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    learned = [p for layer in network.layers for p in layer.neuron.rule.parameters()]
    if learned:
        assert groups[1]["lr"] == 0.0
        assert [id(p) for p in groups[1]["params"]] == [id(p) for p in learned]
    else:
        assert len(groups) == 1
    assert groups[0]["lr"] == 1e-3


@pytest.mark.parametrize("setting", ["per", "emits"])
def test_a_choice_that_there_is_not_is_refused_and_not_taken_for_the_default(setting):
    with pytest.raises(InvalidValueError, match=f"{setting} must be one of .*'dense layer'"):
        SpikingNetwork("4-3", (5,), beta=0.9, rule="learned", **{setting: "dense layer"})


def test_a_learning_rate_of_zero_is_the_ablation():
    """Rouser, Fig. 6: with lr_Th = 0 thresholds stay, weights learn."""
    network = SpikingNetwork("4-3", (5,), beta=0.9, rule="learned", per="neuron", theta_0=0.7)
    optimizer = torch.optim.Adam(parameter_groups(network, 1e-2, 0.0))
    weights = network.layers[0].synapse.latent_weight.detach().clone()
    network(torch.rand(5, 4, 5)).spikes.sum().backward()
    optimizer.step()
    assert network.layers[0].neuron.threshold.unique().tolist() == pytest.approx([0.7])
    assert not torch.equal(network.layers[0].synapse.latent_weight, weights)


def test_a_threshold_moves_against_its_gradient():
    network = SpikingNetwork("3", (5,), beta=0.9, rule="learned", theta_0=0.7)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-2)
    network(torch.rand(5, 4, 5)).spikes.sum().backward()  # fewer spikes: θ must rise
    optimizer.step()
    assert network.layers[0].neuron.threshold.item() > 0.7


# Settings


REFUSED = {
    "unknown threshold rule 'leanred'; did you mean 'learned'?": ("leanred", {}),
    "threshold rule 'fixed' has no setting 'theta_inf'": ("fixed", {"theta_inf": 2.0}),
    "threshold rule 'annealed' needs theta_inf": ("annealed", {"alpha": 0.5}),
    "threshold rule 'fixed' has one threshold per layer": ("fixed", {"shape": (3,)}),
    "theta_0 must be a finite number above 0": ("learned", {"theta_0": 0.0}),
    "minimum must be above 0 and at most theta_0=1": (
        "learned",
        {"rule_options": {"minimum": 2.0}},
    ),
    "scale must be greater than theta_0=1, but got scale=1": (
        "tanh",
        {"rule_options": {"scale": 1.0}},
    ),
    "theta_inf must be greater than theta_0=1": (
        "annealed-learned",
        {"theta_inf": 0.5, "alpha": 0.5},
    ),
    "threshold rule 'nowhere_at_all:Rule' cannot be imported": ("nowhere_at_all:Rule", {}),
    "threshold rule 'math:pi' must be a class derived from": ("math:pi", {}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_broken_rules_are_named(message):
    name, settings = REFUSED[message]
    with pytest.raises(InvalidValueError) as refusal:
        make_rule(name, **{"theta_0": 1.0, **settings})
    assert str(refusal.value).startswith(message) and "\n" not in str(refusal.value)


def test_time_does_not_go_back():
    with pytest.raises(InvalidValueError, match="iterations must be at least 0, but got -1"):
        thresholds.Fixed(1.0).advance(-1)


def test_without_a_name_the_numbers_decide():
    assert type(make_rule(None, theta_0=1.0)) is thresholds.Fixed
    assert type(make_rule(None, theta_0=1.0, theta_inf=2.0, alpha=0.1)) is thresholds.Annealed


def test_an_error_inside_a_rule_is_not_taken_for_a_missing_threshold():
    class Broken(ThresholdRule):
        def forward(self):
            return self.no_such_thing

    with pytest.raises(RuntimeError, match=r"^threshold rule Broken: .*no_such_thing"):
        Leaky(0.9, Broken(1.0)).sequence(torch.ones(2, 1))


DOCS = ROOT / "docs" / "thresholds" / "README.md"


def documented_rule():
    """The rule that the documentation shows, as it stands there."""
    (code,) = re.findall(r"```python\n(# my_rules\.py\n.*?)```", DOCS.read_text("utf-8"), re.S)
    return code


def test_the_documented_rule_is_short():
    assert len(documented_rule().splitlines()) < 30


def test_a_rule_from_outside_the_package(tmp_path, monkeypatch):
    (tmp_path / "my_rules.py").write_text(documented_rule(), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    network = SpikingNetwork(
        "4-3",
        (5,),
        beta=0.9,
        rule="my_rules:Rising",
        per="neuron",
        theta_0=1.0,
        rule_options={"period": [2, 4]},
    )
    for _ in range(4):
        anneal(network)
    thetas = network.thresholds()
    assert [theta.shape for theta in thetas] == [(4,), (3,)]
    rise = math.log(2.0)  # softplus(0)
    assert [theta[0].item() for theta in thetas] == pytest.approx([1 + 2 * rise, 1 + rise])
    network(torch.rand(6, 3, 5) * 4).spikes.sum().backward()
    for layer in network.layers:
        assert layer.neuron.rule.r.grad.abs().sum() > 0
    assert len(parameter_groups(network, 1e-3, None)[1]["params"]) == 2


def test_it_trains_from_the_command_line_and_goes_on(tmp_path):
    """From a folder outside the package, by a process that knows of it only by its name."""
    (tmp_path / "my_rules.py").write_text(documented_rule(), encoding="utf-8")
    options = [
        "threshold.rule=my_rules:Rising", "threshold.period=20", "threshold.theta_inf=none",
        "threshold.alpha=none", "threshold.theta_0=0.5", "network.notation=8-10", "data.subset=64",
        "data.num_steps=4", "snapshots.count=0",
    ]  # fmt: skip
    first = ["train", "digits", "--epochs", "1", "--threads", "1", "--output", "run"]
    for option in options:
        first += ["--set", option]
    second = ["train", "--resume", "run", "--epochs", "2", "--threads", "1"]
    for arguments in (first, second):
        command = Command(*arguments, cwd=tmp_path)
        assert command.wait() == 0, command.complained
    with (tmp_path / "run" / "metrics.csv").open(encoding="utf-8") as file:
        thetas = [float(row["threshold_1"]) for row in csv.DictReader(file)]
    assert len(thetas) == 2 and 0.5 < thetas[0] < thetas[1]


def test_surrogates_of_the_papers_are_there():
    assert {"fast_sigmoid", "exponential", "rectangle", "triangle", "arctan", "sigmoid"} <= {
        *SURROGATES
    }
