"""A folded network fires as the trained one does, spike for spike; what cannot is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from deployed import behaviour, events, image, look_trained, random_input
from input_shapes import INPUT_SHAPES
from torch.nn.utils import prune

from bsnn_tha import SpikingNetwork
from bsnn_tha.config import RunConfig
from bsnn_tha.deploy.fold import fold
from bsnn_tha.deploy.network import InputEncoding
from bsnn_tha.deploy.reference import run
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.presets import load_preset, preset_names

STILL = {"digits", "mnist", "fashion-mnist", "cifar10"}
LARGE = ("vgg", "resnet", "densenet", "mobilenet", "yolo")


def _binary_presets() -> dict[str, tuple[RunConfig, tuple[int, ...]]]:
    """The networks of all presets, with binary weights; of equal ones the first."""
    found: dict[tuple[Any, ...], tuple[str, RunConfig, tuple[int, ...]]] = {}
    for data, variant in ((data, each) for data, names in preset_names().items() for each in names):
        config = load_preset(data, variant)
        if config.network.weights != "binary":
            config = config.with_changes({"network.weights": "binary", "network.weight_bits": None})
        neuron, threshold = config.neuron, config.threshold
        shape = INPUT_SHAPES[data]
        key = (
            shape, config.network.notation, str(config.network.norm), neuron.model,
            str(neuron.emits), str(neuron.lateral_width), neuron.reset_mechanism,
            threshold.rule, threshold.per,
        )  # fmt: skip
        found.setdefault(key, (f"{data}-{variant}", config, shape))
    return {name: (config, shape) for name, config, shape in found.values()}


PRESETS = _binary_presets()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.slow
            if any(large in config.network.notation for large in LARGE)
            else (),
        )
        for name, (config, _) in PRESETS.items()
    ],
)
def test_every_preset_network_is_folded_without_changing_a_spike(name: str) -> None:
    config, shape = PRESETS[name]
    torch.manual_seed(1)
    network = look_trained(config.build_network(shape))
    still = config.data.name in STILL
    encoding = image(shape) if still else events(shape)
    if any(layer.neuron.emits == "membrane" for layer in network.layers[:-1]):
        with pytest.raises(InvalidValueError, match="membrane potentials|lateral"):
            fold(network, encoding, "spike_count", 4)
        return
    folded = fold(network, encoding, "membrane_sum", 4)
    # Features without maps are few: several events of each bring them to their thresholds.
    inputs = random_input(encoding, 4, 2)
    if len(shape) == 1:
        inputs = encoding.high * random_input(encoding, 15, 2, rate=0.8)
    trained = torch.from_numpy(inputs).double() * encoding.scale
    spikes, membranes = behaviour(network, trained, 4 if still else None)
    window = run(folded, inputs, 4 if still else None)
    for expected, found in zip(spikes, window.layers, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert any(layer.any() for layer in spikes), "a silent network proves nothing"
    last = folded.layers[-1]
    unit = last.unit.reshape(-1, *(1,) * (len(last.output_shape) - 1))
    np.testing.assert_allclose(window.membranes * unit, membranes, rtol=1e-9, atol=1e-9)


BLOCKS = (
    "6C3P-8R-8RS2-10",  # both shortcuts: spikes as they are, and weights
    "6C3-2DB3-T-GAP-10",  # several layers read at once; means
    "6C3P-8DWS2-MP2-10",  # depthwise, maximum pooling
    "8C3-MP2-5C3P-AP2-7-10",  # rows that pooling leaves over
)


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("notation", BLOCKS)
@pytest.mark.parametrize("norm", ["per-step", "tdbn", "none"])
def test_blocks_norms_and_resets_change_no_spike(notation: str, reset: Any, norm: str) -> None:
    torch.manual_seed(2)
    network = look_trained(
        SpikingNetwork(
            notation, (2, 12, 12), beta=0.8, theta_0=1.5, norm=norm, reset_mechanism=reset
        ),
        seed=3,
    )
    encoding = events((2, 12, 12))
    inputs = random_input(encoding, 8, 3)
    spikes, _ = behaviour(network, torch.from_numpy(inputs).double(), None)
    window = run(fold(network, encoding, "spike_count", 8), inputs)
    for expected, found in zip(spikes, window.layers, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert all(layer.any() and not layer.all() for layer in spikes)


@pytest.mark.parametrize("kind", ["per-step", "tdbn"])
def test_batch_norm_of_dense_layers_changes_no_spike(kind: str) -> None:
    torch.manual_seed(2)
    network = look_trained(
        SpikingNetwork("12-9-5", (10,), beta=0.8, theta_0=1.5, norm={"default": kind}), seed=3
    )
    encoding = events((10,))
    inputs = random_input(encoding, 8, 3)
    spikes, _ = behaviour(network, torch.from_numpy(inputs).double(), None)
    window = run(fold(network, encoding, "spike_count", 8), inputs)
    for expected, found in zip(spikes, window.layers, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert all(layer.any() and not layer.all() for layer in spikes)


@pytest.mark.parametrize("per", ["layer", "neuron"])
@pytest.mark.parametrize("rule", ["fixed", "annealed", "learned", "tanh", "annealed-learned"])
def test_threshold_rules_and_synaptic_neurons(rule: str, per: Any) -> None:
    torch.manual_seed(4)
    if per == "neuron" and rule in ("fixed", "annealed"):
        per = "layer"
    schedule = {"theta_inf": 4.0, "alpha": 0.1} if "annealed" in rule else {}
    network = SpikingNetwork(
        "12-9-5", (20,), beta=[0.9, torch.linspace(0.5, 1.0, 9), 1.0], model="synaptic",
        synaptic_decay=0.5, theta_0=2.0, rule=rule, per=per, **schedule,
    )  # fmt: skip
    for parameter in (p for layer in network.layers for p in layer.neuron.rule.parameters()):
        parameter.data += torch.rand(parameter.shape) * 0.5
    network = look_trained(network)
    inputs = random_input(events((20,)), 15, 4)
    spikes, _ = behaviour(network, torch.from_numpy(inputs).double(), None)
    folded = fold(network, events((20,)), "spike_count", 15)
    for expected, found in zip(spikes, run(folded, inputs).layers, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert folded.layers[1].decay.shape == (9,)


@pytest.mark.parametrize("notation", ["6C3-5", "Rec12-Rec5"])
def test_a_window_continues_where_the_last_one_ended(notation: str) -> None:
    network = look_trained(SpikingNetwork(notation, (2, 6, 6), beta=0.9, theta_0=1.0))
    encoding = events((2, 6, 6))
    folded, inputs = fold(network, encoding, "spike_count", 9), random_input(encoding, 9, 2)
    whole = run(folded, inputs)
    first = run(folded, inputs[:4])
    rest = run(folded, inputs[4:], state=first.state)
    np.testing.assert_array_equal(np.concatenate([first.spikes, rest.spikes]), whole.spikes)


def test_signs_go_into_weights_and_maxima_keep_theirs() -> None:
    for pool, negative in (("AP2", False), ("MP2", True)):
        network = look_trained(SpikingNetwork(f"6C3-{pool}-5", (1, 8, 8), beta=0.9, theta_0=1.0))
        gain = fold(network, image((1, 8, 8)), "spike_count", 3).layers[0].terms[0].gain
        assert (gain < 0).any() == negative
        assert set(np.abs(gain)) == {0.0, 1.0}


def _built(**settings: Any) -> SpikingNetwork:
    return SpikingNetwork("6C3-7-5", (1, 6, 6), **{"beta": 0.9, "theta_0": 2.0, **settings})


def _pruned() -> SpikingNetwork:
    network = _built()
    prune.random_unstructured(network.layers[0].synapse, "latent_weight", 0.5)
    return network


def _unfinished() -> SpikingNetwork:
    network = _built()
    network.layers[0].norm.weight.data[0] = torch.nan
    return network


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda: _built(weights="float"), "full-precision weights.*network.weights = 'binary'"),
        (lambda: _built(weights="sawb", weight_bits=3), "weights of 3 bits.*'binary'"),
        (lambda: _built(lateral_width=[0, 3, 0]), "lateral.*neuron.lateral_width = 0"),
        (lambda: _built(emits={"default": "spikes", "dense": "membrane"}), "neuron.emits"),
        (lambda: _built(norm="torch.nn:BatchNorm2d"), "norm BatchNorm2d.*'tdbn'"),
        (_pruned, "pruned"),
        (_unfinished, "not finite"),
    ],
)
def test_what_cannot_be_folded_is_refused_with_a_way_out(network: Any, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message) as refused:
        fold(network(), image((1, 6, 6)), "spike_count", 5)
    assert "\n" not in str(refused.value)


def test_encoding_holds_what_does_not_fit_at_the_bound() -> None:
    encoding = InputEncoding("image", (3,), 4, True, 0.5)
    assert encoding.encode(np.array([-9.0, 0.26, 9.0])).tolist() == [-7, 1, 7]
