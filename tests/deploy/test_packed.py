"""Packed files: what was written comes back, without torch; what was not is refused in a line."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from deployed import behaviour, events, image, look_trained, random_input
from hypothesis import given, settings
from hypothesis import strategies as st

from bsnn_tha import SpikingNetwork
from bsnn_tha.config import RunConfig
from bsnn_tha.deploy import packed as packed_file
from bsnn_tha.deploy.fold import fold
from bsnn_tha.deploy.integer import Precision, integer_network
from bsnn_tha.deploy.packed import Packed, parsed, read, serialised, write
from bsnn_tha.deploy.reference import run
from bsnn_tha.deploy.restore import spiking_network
from bsnn_tha.deploy.trained import trained_parameters
from bsnn_tha.errors import DeployError
from bsnn_tha.presets import load_preset

NETWORKS: dict[str, dict[str, Any]] = {
    "6C3P-MP2-8R-8RS2-10": {"norm": "tdbn"},
    "6C3-2DB3-T-GAP-10": {"reset_mechanism": "zero"},
    "6C3P-8DWS2-AP2-10": {},
    "9-5": {"model": "synaptic", "synaptic_decay": 0.5, "rule": "learned", "per": "neuron"},
    "9-6": {"beta": [torch.linspace(0.1, 0.9, 9), 0.99]},
    "Rec9-12-Rec5": {"norm": "per-step"},
}


def _packed(notation: str = "6C3P-MP2-8R-8RS2-10", precision: Precision | None = None) -> Packed:
    torch.manual_seed(2)
    shape = (2, 12, 12) if "C" in notation else (20,)
    settings = {"beta": 0.8, "theta_0": 1.5, **NETWORKS[notation]}
    network = look_trained(SpikingNetwork(notation, shape, **settings))
    whole = integer_network(fold(network, events(shape), "spike_count", 8), precision)
    return Packed(whole, {"labels": ["a", "ü"], "accuracy": 0.5})


def _equal(one: Any, other: Any) -> None:
    """Dataclasses with arrays in them."""
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            _equal(a, b)
    elif hasattr(one, "__dataclass_fields__"):
        for name in one.__dataclass_fields__:
            _equal(getattr(one, name), getattr(other, name))
    else:
        assert one == other


@pytest.mark.parametrize("notation", NETWORKS)
@pytest.mark.parametrize("state_bits", [16, 32])
def test_what_is_written_is_read(notation: str, state_bits: int, tmp_path: Path) -> None:
    packed = _packed(notation, Precision(state_bits=state_bits))
    path = tmp_path / "n.safetensors"
    sizes = write(packed, path)
    again = read(path)
    _equal(again.network, packed.network)
    assert again.facts == packed.facts
    assert sizes["total"] == path.stat().st_size == sum(sizes.values()) - sizes["total"]
    weights = [t.weights for layer in packed.network.layers for t in layer.terms]
    rows = [w.reshape(len(w), -1).shape for w in weights if w is not None]
    assert sizes["weights"] == sum(out * -(-fan_in // 8) for out, fan_in in rows)
    assert serialised(packed) == serialised(again), "the same network is the same bytes"


def test_it_is_read_and_run_without_torch(tmp_path: Path) -> None:
    packed = _packed()
    path = tmp_path / "n.safetensors"
    write(packed, path)
    inputs = random_input(packed.network.input, 6, 3)
    np.save(tmp_path / "inputs.npy", inputs)
    program = (
        "import sys, numpy as np; from pathlib import Path;"
        "from bsnn_tha.deploy.packed import read; from bsnn_tha.deploy.reference import run;"
        "folder = Path(sys.argv[1]); packed = read(folder / 'n.safetensors');"
        "window = run(packed.network, np.load(folder / 'inputs.npy'));"
        "np.save(folder / 'spikes.npy', window.spikes); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    np.testing.assert_array_equal(
        np.load(tmp_path / "spikes.npy"), run(packed.network, inputs).spikes
    )


def _of_preset(config: RunConfig, shape: tuple[int, ...]) -> tuple[SpikingNetwork, Packed]:
    network = look_trained(config.build_network(shape)).float()
    encoding = image(shape) if len(shape) == 3 else events(shape)
    whole = integer_network(fold(network, encoding, "spike_count", 5))
    return network, Packed(whole, {}, config.to_toml(), trained_parameters(network, config))


@pytest.mark.parametrize(
    ("data", "changes", "shape"),
    [
        ("digits", {}, (1, 8, 8)),
        ("digits", {"network.notation": "6C3P-MP2-8R-8RS2-10", "network.norm": "tdbn"}, (1, 8, 8)),
        ("digits", {"threshold.rule": "learned", "threshold.per": "neuron",
                    "threshold.theta_inf": None, "threshold.alpha": None}, (1, 8, 8)),
        ("spoken-digits", {"neuron.learn_beta": True}, (700,)),
    ],
)  # fmt: skip
def test_the_trained_network_comes_back(
    data: str, changes: dict[str, Any], shape: tuple[int, ...]
) -> None:
    if "network.notation" in changes:
        changes |= {"threshold.theta_0": 1.0, "threshold.theta_inf": 2.0, "threshold.alpha": 0.1}
    network, packed = _of_preset(load_preset(data, "tha").with_changes(changes), shape)
    again = spiking_network(parsed(serialised(packed)[0], "it"))
    for layer in again.layers:
        layer.route = "reference"
    inputs = torch.rand(3, *shape)
    (spikes, membranes), (expected, potentials) = (
        behaviour(each, inputs, 5) for each in (again, network)
    )
    for found, wanted in zip(spikes, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(membranes, potentials)
    assert any(layer.any() for layer in spikes)


def test_a_configuration_of_another_network_is_refused_before_it_is_built() -> None:
    _, packed = _of_preset(load_preset("digits", "tha"), (1, 8, 8))
    assert packed.config is not None
    for text in (packed.config.replace("64C3", "64000000C3"), "no toml = ", 'variant = "x"'):
        with pytest.raises(DeployError) as refused:
            spiking_network(Packed(packed.network, {}, text, packed.trained))
        assert "\n" not in str(refused.value)
    with pytest.raises(DeployError, match="no configuration"):
        spiking_network(Packed(packed.network))


# --- bad files -----------------------------------------------------------------------------

SMALL, _ = serialised(_packed("9-5"))
RECURRENT, _ = serialised(_packed("Rec9-12-Rec5"))


def _refused(content: bytes, match: str | None = None) -> None:
    with pytest.raises(DeployError, match=match) as refused:
        parsed(content, "n.safetensors")
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


def _changed(
    change: Callable[[dict[str, Any]], None], honest: bool = True, content: bytes = SMALL
) -> bytes:
    """A file with another manifest, and, if honest, its sum."""
    tensors = dict(sorted(safetensors.numpy.load(content).items()))
    manifest = packed_file._manifest(content, "")
    change(manifest)
    if honest:
        manifest["sha256"] = packed_file._digest(manifest, tensors)
    return safetensors.numpy.save(tensors, {"bsnn_tha": json.dumps(manifest)})


def _recurring(changes: dict[str, Any], layer: int = 0) -> bytes:
    """The recurrent file with other words about a layer's recurrent weights."""
    return _changed(lambda m: m["layers"][layer]["terms"][1].update(changes), content=RECURRENT)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "no packed network.*--to packed"),
        (b"\x80\x05pickle", "no packed network"),
        ((2**40).to_bytes(8, "little") + b"{}", "no packed network"),
        (SMALL[:-1], "damaged"),
        (SMALL[: len(SMALL) // 2], "no packed network|damaged"),
        (SMALL[:-3] + bytes([SMALL[-3] ^ 1]) + SMALL[-2:], "sha256 differ"),
        (_changed(lambda m: m.update(version=2)), "version 2.*up to 1; update"),
        (_changed(lambda m: m.update(decay_bits=19), honest=False), "sha256 differ"),
        (_changed(lambda m: m.update(decay_bits=19)), "decay must be 0 to|widths"),
        (_changed(lambda m: m.update(state_bits=16)), "widths"),
        (_changed(lambda m: m.update(spare=1)), "spare"),
        (_changed(lambda m: m["layers"][1]["terms"][0].update(reads=[1])), "before it"),
        (_recurring({"reads": [1]}), "before it"),
        (_recurring({"reads": [2, 0]}, layer=2), "before it"),
        (_recurring({"kind": "spikes"}), "before it"),
        (_changed(lambda m: m["layers"][0].update(output_shape=[2**20])), "must be uint8"),
        (_changed(lambda m: m["layers"][0]["widths"].update(current=[0, 1])), "widths"),
        (_changed(lambda m: m["input"].update(shape=[2**20, 2**20, 2**20])), "16,777,216 values"),
        (safetensors.numpy.save({"a": np.zeros(3)}), "no packed network"),
    ],
)  # fmt: skip
def test_what_is_no_whole_file_is_refused(content: bytes, match: str) -> None:
    _refused(content, match)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="cannot read .*nothing: No such file"):
        read(tmp_path / "nothing")


@given(
    st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(1, 255)), max_size=4),
    st.integers(0, len(SMALL)),
)
@settings(max_examples=300)
def test_any_change_of_bytes_is_refused_in_a_line(flips: list[tuple[int, int]], end: int) -> None:
    content = bytearray(SMALL)
    for place, by in flips:
        content[place] ^= by
    if bytes(content[:end]) != SMALL:
        _refused(bytes(content[:end]))


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else ()
    children = enumerate(value) if isinstance(value, list) else children
    return [path, *(p for key, child in children for p in _places(child, (*path, key)))]


PLACES = [p for p in _places(packed_file._manifest(SMALL, "")) if p and p[0] != "facts"]
ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.integers(1, 2**21), st.lists(st.integers(0, 2**31), max_size=4),
    st.sampled_from(["tensor", "conv", "spikes", "max", "zero"]),
)  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(PLACES), ANYTHING), min_size=1, max_size=3))
@settings(max_examples=300)
def test_any_manifest_is_read_or_refused_in_a_line_and_in_little_memory(
    changes: list[tuple[tuple[Any, ...], Any]],
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        for path, value in changes:
            at: Any = manifest
            try:
                for key in path[:-1]:
                    at = at[key]
                at[path[-1]] = value
            except (TypeError, IndexError, KeyError):
                pass  # an earlier change left nothing there

    content = _changed(change)
    tracemalloc.start()
    try:
        parsed(content, "n.safetensors")
    except DeployError as error:
        assert "\n" not in str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 1_000_000 + 100 * len(content)
