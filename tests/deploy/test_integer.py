"""Whole numbers: as the equations say, within their proven widths, and close to the trained."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from deployed import behaviour, events, image, look_trained, random_input
from hypothesis import given
from hypothesis import strategies as st

from bsnn_tha import SpikingNetwork
from bsnn_tha.deploy.bits import packed, unpacked
from bsnn_tha.deploy.bounds import Range, membrane_range
from bsnn_tha.deploy.fold import fold
from bsnn_tha.deploy.integer import Precision, integer_network
from bsnn_tha.deploy.network import DeployedNetwork, Layer
from bsnn_tha.deploy.reference import run
from bsnn_tha.errors import InvalidValueError

NOTATIONS = ("6C3P-MP2-8R-8RS2-10", "6C3-2DB3-T-GAP-10", "6C3P-8DWS2-AP2-10")


def _deployed(
    notation: str = NOTATIONS[0], precision: Precision | None = None, **settings: Any
) -> tuple[SpikingNetwork, DeployedNetwork]:
    torch.manual_seed(2)
    settings = {"beta": 0.8, "theta_0": 1.5, **settings}
    shape = (2, 12, 12) if "C" in notation else (20,)
    network = look_trained(SpikingNetwork(notation, shape, **settings), seed=3)
    folded = fold(network, events(shape), "spike_count", 8)
    return network, integer_network(folded, precision)


def _by_hand(network: DeployedNetwork, inputs: np.ndarray) -> list[list[list[int]]]:
    """Spikes of every layer and step for one sample, neuron by neuron, weight by weight."""
    state: list[dict[tuple[int, ...], tuple[int, int]]] = [{} for _ in network.layers]
    steps: list[list[list[int]]] = []
    before = [np.zeros(layer.output_shape, int) for layer in network.layers]
    for frame in inputs:
        spikes: list[np.ndarray] = []
        for index, layer in enumerate(network.layers):
            fired = np.zeros(layer.output_shape, int)
            for place in np.ndindex(layer.output_shape):
                current = int(layer.offset[place[0]])
                for term in layer.terms:
                    known = [*spikes, before[index]]  # its own spikes are a step late
                    read = np.concatenate([known[i] for i in term.reads]) if term.reads else frame
                    current += int(term.gain[place[0]]) * _sum(term, read, place)
                synapse, membrane = state[index].get(place, (0, 0))
                fired[place], synapse, membrane = _step(
                    network, layer, place, current, synapse, membrane
                )
                state[index][place] = synapse, membrane
            spikes.append(fired)
        before = spikes
        steps.append([layer.ravel().tolist() for layer in spikes])
    return steps


def _sum(term: Any, read: np.ndarray, place: tuple[int, ...]) -> int:
    channel = place[0]
    if term.weights is None:
        return int(read[place])
    if term.kind == "dense":
        values = [int(m.sum()) for m in read] if term.sums_maps else read.ravel().tolist()
        return sum(int(w) * v for w, v in zip(term.weights[channel], values, strict=True))
    cells = []
    for dy, dx in itertools.product(range(term.pool), repeat=2):
        top = (place[1] * term.pool + dy) * term.stride - term.padding
        left = (place[2] * term.pool + dx) * term.stride - term.padding
        first = channel // (len(term.weights) // term.groups) * term.weights.shape[1]
        total = 0
        for (c, y, x), weight in np.ndenumerate(term.weights[channel]):
            row, column = top + y, left + x
            if 0 <= row < read.shape[1] and 0 <= column < read.shape[2]:
                total += int(weight) * int(read[first + c, row, column])
        cells.append(total)
    return sum(cells) if term.pooling == "sum" else max(cells)


def _step(
    network: DeployedNetwork, layer: Layer, place: tuple[int, ...], current: int, i: int, v: int
) -> tuple[int, int, int]:
    def of(values: np.ndarray) -> int:
        if values.ndim == 0:
            return int(values)
        return int(values[place] if values.shape == layer.output_shape else values[place[0]])

    def leak(value: int, decay: int) -> int:  # to the nearest, halves upwards
        doubled = 2 * value * decay + (1 << network.decay_bits)
        return doubled // (2 << network.decay_bits)

    threshold = of(layer.threshold)
    fired = v >= threshold
    if layer.synaptic_decay is not None:
        i = leak(i, of(layer.synaptic_decay)) + current
        current = i
    v = 0 if fired and layer.reset == "zero" else v
    v = leak(v, of(layer.decay)) + current
    v -= threshold if fired and layer.reset == "subtract" else 0
    return int(v >= threshold), i, v


@pytest.mark.parametrize(
    ("notation", "settings"),
    [
        (NOTATIONS[0], {}),
        (NOTATIONS[1], {"reset_mechanism": "zero"}),
        (NOTATIONS[2], {"norm": "tdbn", "reset_mechanism": "none"}),
        ("9-5", {"model": "synaptic", "synaptic_decay": 0.5, "rule": "learned", "per": "neuron"}),
        ("9-5", {"beta": [torch.linspace(0.1, 0.9, 9), 0.99]}),
        ("Rec9-12-Rec5", {"norm": {"default": "tdbn"}}),
    ],
)
def test_the_reference_is_the_equations_neuron_by_neuron(
    notation: str, settings: dict[str, Any]
) -> None:
    _, network = _deployed(notation, **settings)
    inputs = random_input(network.input, 4, 1)
    found = run(network, inputs)
    expected = _by_hand(network, inputs[:, 0])
    for step, layers in enumerate(expected):
        assert layers == [layer[step, 0].ravel().tolist() for layer in found.layers]
    assert found.layers[0].any()


@given(
    decay=st.integers(0, 15),
    threshold=st.integers(1, 9),
    low=st.integers(-6, 3),
    span=st.integers(0, 8),
    reset=st.sampled_from(["subtract", "zero", "none"]),
)
def test_bounds_hold_all_that_can_be_reached(
    decay: int, threshold: int, low: int, span: int, reset: Any
) -> None:
    """Against every membrane that any sequence of currents leads to."""
    currents = range(low, low + span + 1)
    reached, new = {0}, {0}
    while new:
        following = set()
        for v in new:
            fired = v >= threshold
            kept = 0 if fired and reset == "zero" else v
            kept = (kept * decay + 8) >> 4
            kept -= threshold if fired and reset == "subtract" else 0
            following |= {kept + current for current in currents}
        new = following - reached
        reached |= new
    one = np.array([1])
    bound, proven = membrane_range(
        Range(low * one, (low + span) * one), decay * one, 4, threshold * one, reset
    )
    assert proven.all()
    assert bound.low[0] <= min(reached) and max(reached) <= bound.high[0]
    # Not a bound of straw: within rounding's reach of the extremes.
    room = 8 + 8 * max(abs(low), abs(low + span)) if decay > 8 else 12
    assert bound.high[0] <= max(reached) + room and bound.low[0] >= min(reached) - room - threshold


@pytest.mark.parametrize("state_bits", [16, 32])
@pytest.mark.parametrize("notation", [*NOTATIONS, "Rec40-Rec10"])
def test_nothing_leaves_its_width_whatever_comes_in(notation: str, state_bits: int) -> None:
    _, network = _deployed(notation, Precision(state_bits=state_bits))
    for rate in (0.0, 0.1, 0.9, 1.0):
        inputs = random_input(network.input, 30, 2, rate=rate) * network.input.high
        window = run(network, inputs)
        for layer, (_, membrane) in zip(network.layers, window.state, strict=True):
            assert layer.widths is not None and not layer.widths.saturates
            assert layer.widths.membrane.bits <= state_bits
            assert membrane.min() >= layer.widths.membrane.low
            assert membrane.max() <= layer.widths.membrane.high


def test_a_membrane_that_never_leaks_is_held_at_its_ends() -> None:
    _, network = _deployed("9-5", Precision(state_bits=16), beta=1.0, reset_mechanism="none")
    widths = network.layers[0].widths
    assert widths is not None and widths.saturates
    once = np.repeat(np.sign(network.layers[0].terms[0].weights[:1]).clip(0), 4000, 0)
    membrane = run(network, once[:, None]).state[0][1]
    assert membrane[0, 0] == widths.membrane.high == 2**15 - 2
    # The window it was made for does not get there.
    short = run(network, once[: network.num_steps, None])
    free = replace(network.layers[0], widths=replace(widths, saturates=False))
    unheld = run(replace(network, layers=(free, *network.layers[1:])), once[:8, None])
    np.testing.assert_array_equal(short.layers[0], unheld.layers[0])


def test_sixteen_fraction_bits_change_next_to_no_spike() -> None:
    trained, network = _deployed()
    inputs = random_input(network.input, 8, 20)
    spikes, _ = behaviour(trained, torch.from_numpy(inputs).double(), None)
    found = run(network, inputs).layers
    differ = sum((a != b).sum() for a, b in zip(spikes, found, strict=True))
    assert differ / sum(a.size for a in spikes) < 1e-4
    coarse = integer_network(fold(trained, network.input, "spike_count", 8), Precision(32, 1))
    found = run(coarse, inputs).layers
    assert sum((a != b).sum() for a, b in zip(spikes, found, strict=True)) > 10 * max(differ, 1)


def test_a_channel_of_tiny_scale_neither_overflows_nor_loses_its_offset() -> None:
    torch.manual_seed(2)
    network = look_trained(SpikingNetwork("6C3-5", (1, 8, 8), beta=0.9, theta_0=1.0))
    norm = network.layers[0].norm
    norm.weight.data[2] = 1e-12
    norm.bias.data[2] = 2.0  # fires at every step, whatever it sees
    folded = fold(network, image((1, 8, 8)), "spike_count", 6)
    window = run(integer_network(folded), random_input(folded.input, 6, 2), 6)
    assert window.layers[0][:, :, 2].all()


@pytest.mark.parametrize(
    "silent", [{"theta_0": [1.0, 1e4]}, {"theta_0": 1.0, "output": "membrane"}]
)
def test_outputs_whose_membranes_are_read_share_a_unit(silent: dict[str, Any]) -> None:
    torch.manual_seed(5)
    network = look_trained(SpikingNetwork("6C3-7", (1, 8, 8), beta=0.9, **silent))
    folded = fold(network, image((1, 8, 8)), "membrane_sum", 6)
    whole = integer_network(folded)
    assert len(set(whole.layers[-1].unit)) == 1 and not whole.layers[-1].fires
    inputs = random_input(folded.input, 6, 9)
    scores = run(folded, inputs, 6).scores
    np.testing.assert_allclose(run(whole, inputs, 6).scores * whole.layers[-1].unit[0], scores,
                               atol=0.1)  # fmt: skip


def test_sums_that_do_not_fit_are_refused() -> None:
    network = look_trained(SpikingNetwork("5-4", (70_000,), beta=0.9, theta_0=1.0))
    wide = replace(image((70_000,)), bits=16)
    with pytest.raises(InvalidValueError, match="sums of layer 1 need 3. bits.*fewer bits"):
        integer_network(fold(network, wide, "spike_count", 5))


@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_bits_come_back(outputs: int, fan_in: int, seed: int) -> None:
    signs = np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), (outputs, fan_in))
    bits = packed(signs)
    assert bits.shape == (outputs, -(-fan_in // 8))
    np.testing.assert_array_equal(unpacked(bits, signs.shape), signs)
    last = fan_in - 1  # the order that a program in another language relies on
    assert (bits[0, last // 8] >> (last % 8)) & 1 == (signs[0, last] > 0)
