"""An output layer that integrates and does not fire: ``output = "membrane"``."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from animations.figures import FIGURES
from animations.runs import surrogate_film, training_film, window_film
from bsnn_tha import Leaky, SpikingNetwork
from bsnn_tha.config import RunConfig
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.losses import LOSSES
from bsnn_tha.nn.thresholds import Never
from bsnn_tha.observe.recording import Recording
from bsnn_tha.presets import load_preset
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.run import train

DOCS = Path(__file__).parents[2] / "docs"


def network_of(**settings):
    torch.manual_seed(1)
    given = {"beta": 0.5, "theta_0": 1.0, "norm": "none", "output": "membrane"} | settings
    return SpikingNetwork("6C3-AP2-8-5", (1, 6, 6), **given)


@pytest.mark.parametrize("route", ["auto", "parts", "reference"])
@pytest.mark.parametrize("backend", ["auto", "numba", "reference"])
@pytest.mark.parametrize("steps", [None, 4])
def test_integrates_and_never_fires(route, backend, steps):
    network = network_of(route=route, backend=backend, beta=[0.5, 0.5, 0.75])
    input = torch.rand(*([] if steps else [4]), 3, 1, 6, 6)
    currents = []
    network.layers[-1].dropout.register_forward_hook(lambda *seen: currents.append(seen[-1]))
    window = network(input, steps)
    expected, u = [], torch.zeros(3, 5)
    for current in currents[0]:  # u[t+1] = β u[t] + I[t+1], nothing subtracted
        u = 0.75 * u + current
        expected.append(u)
    torch.testing.assert_close(window.membranes, torch.stack(expected))
    assert window.spikes.shape == (4, 3, 5) and not window.spikes.any()
    # Whole windows, chunks and a window that is continued are the same.
    chunks = network(input, steps, chunk_steps=3)
    torch.testing.assert_close(chunks.membranes, window.membranes)
    if not steps:
        first = network(input[:3])
        rest = network(input[3:], state=first.state)
        torch.testing.assert_close(rest.membranes, window.membranes[3:])


def test_is_a_threshold_out_of_reach_to_the_last_bit():
    def gradients(**settings):
        network = network_of(beta=0.7, slope=2.0, **settings)
        torch.manual_seed(2)
        window = network(torch.rand(3, 1, 6, 6), 5, record=True)
        window.membranes.mean(0).log_softmax(-1)[:, 0].sum().backward()
        return window.membranes, [parameter.grad for parameter in network.parameters()]

    membranes, found = gradients()
    far, expected = gradients(output="spikes", theta_0=[1.0, 1.0, 10000.0])
    assert torch.equal(membranes, far)
    assert len(found) == len(expected) > 0
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_neurons_with_a_synaptic_current_integrate_as_well():
    network = network_of(model="synaptic", synaptic_decay=0.5, reset_mechanism="zero")
    window = network(100 * torch.rand(3, 1, 6, 6), 6)
    assert not window.spikes.any() and window.membranes.abs().max() > 1
    assert network.layers[0].neuron._reset_mechanism == "zero"
    assert network.layers[-1].neuron._reset_mechanism == "none"


def test_neurons_without_threshold_take_no_reset():
    with pytest.raises(InvalidValueError, match="reset_mechanism must be 'none', but got 'zero'"):
        Leaky(0.5, Never(), reset_mechanism="zero")


def test_lists_of_thresholds_have_no_value_for_it():
    network = network_of(theta_0=[1.0, 2.0], theta_inf=[2.0, 3.0], alpha=0.1, slope=[3.0, 4.0])
    assert [rule.item() for rule in network.thresholds()] == [1.0, 2.0, np.inf]
    assert [layer.neuron.fires for layer in network.layers] == [True, True, False]
    network.layers[-1].neuron.anneal(5)
    assert network.thresholds()[-1] == np.inf
    with pytest.raises(InvalidValueError, match=r"one for each layer that fires \(2\), but got 3"):
        network_of(theta_0=[1.0, 2.0, 3.0])
    with pytest.raises(InvalidValueError, match="theta_0 has no kind of layer 'output'"):
        network_of(theta_0={"default": 1.0, "output": 3.0})
    with pytest.raises(InvalidValueError, match="output must be one of spikes, membrane"):
        network_of(output="membranes")


def test_its_checkpoint_holds_finite_numbers_and_loads():
    network, other = network_of(), network_of(weights="float")
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())
    again = network_of()
    again.load_state_dict(network.state_dict())
    assert not again.layers[-1].neuron.fires
    assert not other.layers[-1].neuron.fires


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("spike_count", {}),
        ("tet", {}),
        ("cross_entropy", {"readout": "spike_rate"}),
    ],
)
def test_what_reads_spikes_is_refused(loss, options):
    made = LOSSES.make(loss, options, given={"mean_threshold": lambda: torch.tensor(1.0)})
    window = network_of()(torch.rand(3, 1, 6, 6), 2)
    for read in (made.scores, lambda window: made(window, torch.tensor([0, 1, 2]))):
        with pytest.raises(InvalidValueError, match="does not fire"):
            read(window)
    changes = {"loss.name": loss} | {f"loss.{key}": value for key, value in options.items()}
    config = load_preset("digits", "best").with_changes(changes)
    with pytest.raises(InvalidValueError, match=r"loss\.\w+ = '\w+' reads output spikes"):
        config.build_loss(config.build_network((1, 8, 8)))


def test_configurations_with_a_threshold_out_of_reach_still_load():
    config = RunConfig.from_file(DOCS / "runs/mnist-best/config.toml")
    network = config.build_network((1, 28, 28))
    assert network.output == "spikes" and network.thresholds()[-1] == 10000
    assert config.build_loss(network).needs_membranes


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = load_preset("digits", "best").with_changes(
        {
            "network.notation": "4C3-AP2-10",
            "training.epochs": 2,
            "data.subset": 200,
            "snapshots.count": 3,
        }
    )
    folder = tmp_path_factory.mktemp("membrane") / "run"
    train(config, output=folder, machine=Machine(threads=1), verbose=False)
    return folder


def test_its_neurons_are_not_counted_as_dead(run):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    text = (run / "summary.json").read_text(encoding="utf-8")
    hidden, output = json.loads(text, parse_constant=refuse)["layers"]
    assert output["threshold"] is output["dead_share"] is output["firing_rate"] is None
    assert output["spikes_per_sample"] == 0 and output["effective_acs"] > 0
    head, *rows = (run / "metrics.csv").read_text(encoding="utf-8").splitlines()
    columns = dict(zip(head.split(","), rows[-1].split(","), strict=True))
    assert columns["dead"] == columns["dead_1"]
    assert "threshold_1" in columns and "threshold_2" not in columns
    workload = json.loads(text)["workload"]
    assert workload["activation_sparsity"] == pytest.approx(1 - hidden["firing_rate"])


def test_films_show_its_membranes_without_threshold(run):
    recording = Recording.open(run)
    for film in (training_film(recording), window_film(recording), surrogate_film(recording)):
        for frame in range(film.frames):
            film.still(frame)
        drawn = {
            axes.get_title(loc="center"): [
                line for line in axes.lines if line.get_visible() and "θ" in str(line.get_label())
            ]
            for axes in film.figure.axes
        }
        output = [lines for title, lines in drawn.items() if title.startswith("layer 2")]
        hidden = [lines for title, lines in drawn.items() if title.startswith("layer 1")]
        assert all(not lines for lines in output) and all(hidden)
        assert "inf" not in " ".join(drawn)
    film = window_film(recording)
    means = recording[-1].layers[-1].trace.membranes[:, 0].mean(0)
    film.still(-1)
    panel = next(a for a in film.figure.axes if a.get_title() == "mean output membrane so far")
    assert [bar.get_height() for bar in panel.patches] == pytest.approx(means.tolist(), abs=1e-5)
    with pytest.raises(InvalidValueError, match="layer 2 does not fire and has no surrogate"):
        surrogate_film(recording, layers=[2])


@pytest.mark.parametrize("name", ["activity", "activity-at-start", "loss", "dead", "rates"])
def test_figures_leave_it_out(run, name):
    figure = FIGURES[name]([run])
    titles = [axes.get_title() for axes in figure.axes]
    assert "layer 2" not in titles
