"""A NIR file is the exported network to whoever it was written for, or says beforehand that not."""

from __future__ import annotations

import dataclasses
import json
import re
import runpy
import sys

import numpy as np
import pytest
from exported_c import CASES, Case

from bsnn_tha.deploy import nir as target
from bsnn_tha.deploy.network import InputEncoding
from bsnn_tha.errors import InvalidValueError

nir = pytest.importorskip("nir")

from nir_walk import walk  # noqa: E402 (it needs nir)

IMAGE = InputEncoding("image", (12,), 8, False, 1 / 128)
EVENTS = InputEncoding("events", (40,), 1, False, 1.0)
KINDS = {
    **CASES,
    "to zero": Case("20-10", IMAGE, {"theta_0": 0.5, "reset_mechanism": "zero"}),
    "synaptic to zero": Case(
        "20-10", EVENTS, {"model": "synaptic", "synaptic_decay": 0.7, "reset_mechanism": "zero"}
    ),
    "per neuron": Case("20-10", IMAGE, {"rule": "learned", "per": "neuron"}),
    "recurrent to zero": Case("Rec20-10", EVENTS, {"reset_mechanism": "zero"}),
    "recurrent, no reset": Case("Rec20-10", EVENTS, {"theta_0": 5.0, "reset_mechanism": "none"}),
    "recurrent, normalised": Case("Rec20-10", EVENTS, {"norm": {"dense": "tdbn"}}),
}
RECURRENT = ["recurrent", "recurrent to zero", "recurrent, no reset", "recurrent, normalised"]
EXACT = {
    "snntorch": ["dense", "convolution", "residual", "blocks", "separable", "to zero",
                 "synaptic to zero", "held", *RECURRENT],
    "spikingjelly": ["dense", "convolution", "residual", "blocks", "to zero", "synaptic to zero",
                     *RECURRENT],
    "norse": ["dense", "convolution", "separable", "to zero", "per neuron", *RECURRENT],
    "sinabs": ["dense", "convolution", "held", "synaptic", "recurrent", "recurrent, no reset",
               "recurrent, normalised"],
}  # fmt: skip


def written(folder, case, steps=12, **options):
    deployment = KINDS[case].deployment(samples=4, steps=steps)
    return target.write(dataclasses.replace(deployment, options=options), folder)


def golden(folder):
    return np.load(folder / "golden.npz")


def share_when_walked(folder, reader):
    """Of equal spikes, when the file is walked by the reader's equations."""
    expected = golden(folder)
    steps = int(expected["num_steps"])
    seen = walk(folder / "network.nir", reader, expected["inputs"], steps)
    layers = sorted(name for name in expected if name.startswith("spikes_"))
    same = total = 0
    for name in layers:
        spikes = seen[name.replace("spikes", "neurons")]
        same += int((spikes.reshape(expected[name].shape) == expected[name]).sum())
        total += expected[name].size
        assert expected[name].any() or name == layers[-1]  # or the test would say nothing
    return same / total


@pytest.mark.parametrize(
    ("reader", "case"), [(reader, case) for reader, cases in EXACT.items() for case in cases]
)
def test_by_the_readers_equations_every_spike_is_equal(reader, case, tmp_path):
    report = written(tmp_path, case, reader=reader)
    assert report["exact"]
    # But for ties within rounding: the file has 32 bits, and what is exported 64.
    assert report["equal_spikes"] > 0.9999
    assert share_when_walked(tmp_path, reader) > 0.9999


@pytest.mark.parametrize("case", ["dense", "convolution", "residual", "to zero", *RECURRENT])
def test_snntorch_itself_reads_every_spike(case, tmp_path, monkeypatch, capsys):
    pytest.importorskip("nirtorch")
    written(tmp_path, case, reader="snntorch")
    monkeypatch.setattr(sys, "argv", ["check.py", "--json"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(tmp_path / "check.py"), run_name="__main__")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["spikes"] == result["answers"] == 1
    assert ended.value.code == 0


def test_a_file_of_another_network_is_noticed(tmp_path, monkeypatch, capsys):
    pytest.importorskip("nirtorch")
    written(tmp_path, "dense", reader="snntorch")
    graph = nir.read(tmp_path / "network.nir")
    graph.nodes["weights_1"].weight[0] *= -1
    nir.write(tmp_path / "network.nir", graph)
    monkeypatch.setattr(sys, "argv", ["check.py"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(tmp_path / "check.py"), run_name="__main__")
    assert ended.value.code == 1
    assert re.search(r"9\d\.\d{4}% of [\d,]+ spikes are equal", capsys.readouterr().out)


@pytest.mark.parametrize("reader", ["snntorch", "spikingjelly", "norse", "sinabs"])
@pytest.mark.parametrize("case", ["dense", "convolution", "recurrent"])
def test_a_plain_lif_says_beforehand_how_much_it_is_another(reader, case, tmp_path):
    with pytest.raises(InvalidValueError, match=r"[\d.]+% of hand-made's spikes") as refused:
        written(tmp_path, case, reader=reader, plain=True)
    assert not list(tmp_path.iterdir())
    stated = float(re.search(r"([\d.]+)%", str(refused.value))[1]) / 100
    report = written(tmp_path, case, reader=reader, plain=True, inexact=True)
    assert not report["exact"]
    assert report["equal_spikes"] == pytest.approx(stated, abs=5e-5)
    assert stated < 0.99
    assert share_when_walked(tmp_path, reader) == pytest.approx(stated, abs=1e-4)


@pytest.mark.parametrize("reader", ["snntorch", "spikingjelly", "norse"])
def test_a_plain_lif_that_resets_to_zero_is_the_same_network(reader, tmp_path):
    assert written(tmp_path, "to zero", reader=reader, plain=True)["exact"]
    assert {type(node).__name__ for node in nir.read(tmp_path / "network.nir").nodes.values()} == {
        "Input", "Affine", "LIF", "Output",
    }  # fmt: skip
    assert share_when_walked(tmp_path, reader) == 1


def test_weights_are_signs_where_the_reader_has_a_threshold_per_channel(tmp_path):
    written(tmp_path, "convolution", reader="norse")
    graph = nir.read(tmp_path / "network.nir")
    assert set(np.unique(graph.nodes["weights_1"].weight)) <= {-1, 0, 1}
    assert np.unique(graph.nodes["neurons_1"].v_threshold).size > 1


@pytest.mark.parametrize(
    ("case", "options", "message"),
    [
        ("maximum", {"reader": "norse"}, "maximum pooling, for which NIR has no node"),
        ("residual", {"reader": "norse"}, "norse takes all but one a time step late"),
        ("synaptic", {"reader": "snntorch"}, "choose reader=sinabs, or train with"),
        ("to zero", {"reader": "sinabs"}, "resets to zero, which sinabs cannot read"),
        ("separable", {"reader": "norse", "plain": True, "inexact": 2}, "inexact must be true"),
        ("dense", {"reader": "brian"}, "reader must be one of snntorch, spikingjelly, norse"),
        ("dense", {"readr": "norse"}, "no option 'readr'; did you mean 'reader'?"),
        ("dense", {"samples": 0}, "samples must be at least 1, but got 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(case, options, message, tmp_path):
    with pytest.raises(InvalidValueError, match=re.escape(message)) as refused:
        written(tmp_path, case, **options)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())
