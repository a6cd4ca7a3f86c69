"""The C program is the integer reference: compiled, sanitized, on an emulated Cortex-M."""

from __future__ import annotations

import dataclasses
import re
import shutil

import numpy as np
import pytest
from exported_c import CASES, exported, make, needs_board, needs_compiler, random_case

from benchmarks.deploy import c_program
from benchmarks.deploy.compiled import CompiledNetwork, same_spikes
from benchmarks.deploy.networks import exported as exported_of_zoo
from bsnn_tha import zoo
from bsnn_tha.deploy.c.layout import spike_words, weights_for_values, weights_for_words
from bsnn_tha.deploy.c.linked import linked
from bsnn_tha.deploy.c.translate import program
from bsnn_tha.deploy.reference import run
from bsnn_tha.errors import DataError, InvalidValueError

EQUAL = "3 samples, every time step: all spikes equal the reference\n"


@needs_compiler
@pytest.mark.parametrize("name", CASES)
def test_every_spike_is_the_references(name, tmp_path):
    deployment = CASES[name].deployment()
    exported(deployment, tmp_path)
    compiled = CompiledNetwork(program(deployment.whole), tmp_path)
    samples = deployment.samples
    assert same_spikes(compiled, samples.inputs, samples.num_steps) == 3
    spikes = [compiled.spikes(i) for i in range(len(deployment.whole.layers))]
    assert all(0 < layer.mean() < 1 for layer in spikes[:-1])  # or the test would say nothing


@needs_compiler
@pytest.mark.parametrize("name", ["dense", "held", "maximum", "residual", "recurrent, held"])
def test_the_self_test_is_clean_under_the_sanitizers(name, tmp_path):
    exported(CASES[name].deployment(), tmp_path)
    made = make(tmp_path, "sanitize")
    assert (made.returncode, made.stdout) == (0, EQUAL), made.stderr


@needs_board
@pytest.mark.parametrize("name", ["synaptic", "convolution", "recurrent"])
def test_on_an_emulated_cortex_m(name, tmp_path):
    deployment = CASES[name].deployment()
    report = exported(deployment, tmp_path)
    made = make(tmp_path, "emulate")
    assert (made.returncode, made.stdout) == (0, EQUAL), made.stderr
    # What the linker placed is what the report says, array by array.
    network = linked(tmp_path / "board.map", "network.arm.o")
    assert network.rodata == report["tables"]
    assert sum(network.rodata.values()) == report["constant_bytes"]
    assert network.flash == report["constant_bytes"] + sum(network.text.values())
    assert not network.data and not network.bss  # nothing but what the caller owns
    assert linked(tmp_path / "board.map", "selftest.arm.o").bss == {"state": report["state_bytes"]}


@needs_board
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (r"(weights_2\[\d+\] = \{\s+)0x[0-9a-f]+", r"\g<1>0x0"),
        (r"offset_1\[channel\]", "offset_1[0]"),
        (r"before >= threshold \? threshold", "before >= threshold ? threshold / 2"),
    ],
)
def test_the_self_test_fails_on_the_board_where_the_program_is_wrong(right, wrong, tmp_path):
    exported(CASES["convolution"].deployment(), tmp_path)
    source = tmp_path / "network.c"
    text, changes = re.subn(right, wrong, source.read_text(), count=1)
    assert changes == 1
    source.write_text(text)
    made = make(tmp_path, "emulate")
    assert made.returncode != 0
    assert "FAILED: sample 0, time step" in made.stdout


@needs_compiler
def test_a_window_goes_on_where_it_stopped(tmp_path):
    # Streaming: another sample's events before it change nothing after a reset.
    deployment = CASES["synaptic"].deployment(samples=2, steps=6)
    exported(deployment, tmp_path)
    compiled = CompiledNetwork(program(deployment.whole), tmp_path)
    inputs = deployment.samples.inputs
    for frame in inputs[:, 1]:
        compiled.step(frame)
    assert compiled.scores().any()
    same_spikes(compiled, inputs, None)


@needs_compiler
@pytest.mark.parametrize("name", ["signed", "held"])
def test_values_out_of_range_are_held_at_the_bounds(name, tmp_path):
    deployment = CASES[name].deployment()
    exported(deployment, tmp_path)
    made = program(deployment.whole)
    sanitized = ("-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all")
    compiled = CompiledNetwork(made, tmp_path, flags=sanitized)
    coding, steps = deployment.whole.input, deployment.samples.num_steps
    ends = np.iinfo(made.input_type.removesuffix("_t"))
    wild = np.where(deployment.samples.inputs % 2, ends.max, ends.min)
    expected = run(deployment.whole, wild.clip(coding.low, coding.high), steps)
    compiled.reset()
    if steps is not None:
        compiled.show(wild[0])
    for step in range(5):
        compiled.step(wild[step, 0] if steps is None else None)
    assert compiled.scores().tolist() == expected.scores[0].tolist()
    assert np.array_equal(compiled.membranes(1), expected.membranes[-1, 0])


@needs_compiler
def test_names_in_c_are_a_choice(tmp_path):
    report = exported(CASES["dense"].deployment(prefix="digits", samples=2), tmp_path)
    assert report["golden_samples"] == 2
    assert {"digits.h", "digits.c", "digits_golden.c"} <= {path.name for path in tmp_path.iterdir()}
    assert "network_" not in (tmp_path / "digits.c").read_text()
    assert make(tmp_path, "test").stdout == EQUAL.replace("3", "2")


def test_the_same_network_gives_the_same_files(tmp_path):
    for folder in ("one", "two"):
        exported(CASES["residual"].deployment(), tmp_path / folder)
    for path in (tmp_path / "one").rglob("*.*"):
        assert (
            path.read_bytes()
            == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
        )


def test_no_floats_and_no_memory_of_its_own(tmp_path):
    exported(CASES["blocks"].deployment(), tmp_path)
    code = (tmp_path / "network.c").read_text()
    assert not re.search(r"\b(float|double|malloc|calloc|free)\b", code)
    assert re.findall(r"#include (\S+)", code) == ['"network.h"']
    header = (tmp_path / "network.h").read_text()
    assert re.findall(r"#include (\S+)", header) == ["<stdint.h>"]
    for variable in re.findall(r"^static .*\[\d+\] = \{", code, re.MULTILINE):
        assert variable.startswith("static const ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefx": "a"}, "no option 'prefx'; did you mean 'prefix'?"),
        ({"colour": 1}, "the target c has no option 'colour'; known are prefix, samples"),
        (
            {"prefix": "My-Net"},
            "prefix must be a name in C of small letters, digits and _, but got 'My-Net'",
        ),
        ({"samples": 0}, "samples must be at least 1, but got 0"),
        ({"samples": True}, "samples must be at least 1, but got True"),
    ],
)
def test_options_are_refused_in_one_line(options, message, tmp_path):
    deployment = CASES["dense"].deployment()
    with pytest.raises(InvalidValueError, match=re.escape(message) + "$") as refused:
        exported(dataclasses.replace(deployment, options=options), tmp_path)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_floating_point_is_refused(tmp_path):
    deployment = CASES["dense"].deployment()
    floating = dataclasses.replace(deployment, whole=deployment.folded)
    with pytest.raises(InvalidValueError, match="needs a network in whole numbers"):
        exported(floating, tmp_path)
    assert not list(tmp_path.iterdir())


def test_maps_as_output_are_refused(tmp_path):
    deployment = CASES["convolution"].deployment()
    layers = deployment.whole.layers[:-1]
    cut = dataclasses.replace(deployment.whole, layers=layers)
    with pytest.raises(InvalidValueError, match="ends in a fully connected layer"):
        program(cut)


def test_another_file_is_no_map(tmp_path):
    (tmp_path / "board.map").write_text("nothing")
    with pytest.raises(DataError, match="is no map of GNU ld"):
        linked(tmp_path / "board.map", "network.arm.o")


@pytest.mark.parametrize("channels", [2, 10, 33, 70])
def test_layouts_bit_by_bit(channels):
    generator = np.random.default_rng(channels)
    spikes = generator.integers(0, 2, (channels, 3, 4))
    words = spike_words(spikes, spikes.shape)
    bits = 8 * words.dtype.itemsize
    per_place = len(words) // 12
    for channel, y, x in np.ndindex(spikes.shape):
        word = int(words[(y * 4 + x) * per_place + channel // bits])
        assert word >> (channel % bits) & 1 == spikes[channel, y, x]
    weights = generator.choice([-1, 1], (5, channels, 2, 3)).astype(np.int8)
    by_words, by_values = weights_for_words(weights), weights_for_values(weights)
    for out, channel, y, x in np.ndindex(weights.shape):
        bit = weights[out, channel, y, x] > 0
        assert int(by_words[y * 3 + x, channel // bits, out]) >> (channel % bits) & 1 == bit
        assert int(by_values[y * 3 + x, channel, out // 8]) >> (out % 8) & 1 == bit


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("seed", range(40))
def test_random_networks(seed, tmp_path):
    deployment = random_case(seed).deployment(samples=2, steps=4)
    exported(deployment, tmp_path)
    compilers = [name for name in ("cc", "clang") if shutil.which(name)]
    flags = ("-O2",), ("-O3",), ("-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all")
    compiler = compilers[seed % len(compilers)]
    # clang's runtime of the sanitizers is a package of its own.
    chosen = flags[seed % 3 if compiler == "cc" else seed % 2]
    compiled = CompiledNetwork(program(deployment.whole), tmp_path, compiler, chosen)
    same_spikes(compiled, deployment.samples.inputs, deployment.samples.num_steps)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("name", zoo.names())
def test_a_thousand_samples_of_the_zoo(name, tmp_path):
    try:
        deployment = exported_of_zoo(name, samples=1000).deployment
    except DataError as missing:
        pytest.skip(str(missing))
    measured = c_program.measured(deployment, tmp_path)
    assert measured["equal_samples"] == len(deployment.samples.targets) >= 300
    assert measured["board"] is None or measured["board"]["passed"]
