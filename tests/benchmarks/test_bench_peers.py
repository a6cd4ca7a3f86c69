"""The harness that compares with other libraries: that it compares the same work, fairly."""

from __future__ import annotations

import copy
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from places import ROOT

from benchmarks.peers import __main__ as command
from benchmarks.peers import environments, worker
from benchmarks.peers.agreement import compare
from benchmarks.peers.client import Client, WorkerFailedError
from benchmarks.peers.rounds import interleave, quartiles, summary
from benchmarks.peers.tables import comparable, markdown, regressions
from benchmarks.peers.worker import Peer, Worker, reply_to
from benchmarks.peers.workload import SHORT, SOURCES, Layer, Source, Workload, draw, from_preset

BETA, SLOPE = 0.9, 3.0
NOTATION = "6C3P-6C3P-AP2-6R-8RS2-GAP-7-5"


def small(static: bool = False, theta: float = 1.1, window_norm: bool = False) -> Workload:
    """Convolution, pooling and batch norm, then two fully connected layers."""
    settings = {
        "beta": BETA,
        "slope": SLOPE,
        "theta_0": theta,
        "theta_inf": theta + 1,
        "alpha": 0.1,
    }
    return Workload(
        name="dvs",  # for the rate of its input
        steps=12,
        batch=3,
        static=static,
        input_shape=(2, 8, 8),
        layers=(
            Layer(2, 4, 3, 2, False, norm=True, theta=theta, dropout=0.0, window_norm=window_norm),
            Layer(36, 8, kernel=0, pool=1, bias=True, norm=False, theta=theta, dropout=0.3),
            Layer(8, 5, kernel=0, pool=1, bias=True, norm=False, theta=theta, dropout=0.0),
        ),
        beta=BETA,
        slope=SLOPE,
        lr=1e-3,
        betas=(0.9, 0.999),
        correct_rate=0.8,
        incorrect_rate=0.2,
        settings={
            "notation": "4C3-AP2-8-5",
            "dropout": [0.3, 0.0],
            "norm": "tdbn" if window_norm else "per-step",
            **settings,
        },
    )


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> Workload:
    """Padded convolutions, residual blocks with both kinds of shortcut, means of maps."""
    changes = {"data.num_steps": 5, "data.batch_size": 3, "network.notation": NOTATION}
    source = Source("mnist", (2, 8, 8), 1.0, variant="bsnn-unit", changes=SHORT | changes)
    monkeypatch.setitem(SOURCES, "blocks", source)
    return from_preset("blocks")


def without_ties(workload: Workload) -> dict[str, np.ndarray]:
    """Odd biases keep membranes off θ, where > and ≥ differ."""
    arrays = draw(workload)
    random = np.random.default_rng(1)
    for name, array in arrays.items():
        if name.endswith("bias"):
            array += random.normal(0.3, 0.1, array.shape)
    return arrays


PEERS = pytest.mark.parametrize(
    ("peer", "package"),
    [
        ("ours", "bsnn_tha"),
        ("published", "snntorch"),
        ("spikingjelly", "spikingjelly"),
        ("norse", "norse"),
        ("sinabs", "sinabs"),
    ],
)


@pytest.mark.parametrize("window_norm", [False, True], ids=["per step", "tdBN"])
@pytest.mark.parametrize("static", [False, True], ids=["frames", "static"])
@PEERS
def test_every_peer_computes_the_reference(
    peer: str, package: str, static: bool, window_norm: bool
) -> None:
    pytest.importorskip(package)
    # tdBN is on the scale of the threshold, which only ours is told.
    workload = small(static, 1.0 if window_norm else 1.1, window_norm).without_dropout()
    arrays = without_ties(workload)
    found = Peer(peer, workload, arrays)
    reference = "reference-decayed" if found.decayed_reset else "reference"
    wanted = Peer(reference, workload, arrays).outputs()
    agreement = compare(found.outputs(), wanted)
    assert agreement.mean_count > 1
    assert agreement.equal == 1
    assert agreement.cosine > 0.9999


@PEERS
def test_every_peer_computes_residual_blocks(peer: str, package: str, blocks: Workload) -> None:
    pytest.importorskip(package)
    if peer == "norse":
        with pytest.raises(NotImplementedError, match="do not add up"):
            Peer(peer, blocks, draw(blocks))
        return
    arrays = without_ties(blocks)
    found = Peer(peer, blocks, arrays)
    wanted = Peer("reference-decayed" if found.decayed_reset else "reference", blocks, arrays)
    agreement = compare(found.outputs(), wanted.outputs())
    assert agreement.mean_count > 1
    assert agreement.equal == 1
    assert agreement.cosine > 0.9999


def test_shortcuts_and_sizes_are_those_of_the_notation(blocks: Workload) -> None:
    first, pooled, *_ = blocks.layers
    assert (first.padding, first.pool, pooled.pool) == (1, 1, 2)
    identity, projecting = (its for its in blocks.layers if its.shortcut is not None)
    assert identity.shortcut is not None and projecting.shortcut is not None
    assert (identity.shortcut.reads, identity.shortcut.weights) == (1, None)
    assert projecting.shortcut.reads == 3
    assert projecting.shortcut.weights is not None
    assert projecting.shortcut.weights.shape == (8, 6, 1, 1)
    assert projecting.shortcut.weights.stride == blocks.layers[4].stride == 2
    scales = [layer.norm_scale for layer in blocks.layers if layer.norm]
    assert scales == pytest.approx([1, 1, 1, 0.5**0.5, 1, 0.5**0.5])
    assert [layer.of_means for layer in blocks.layers if not layer.kernel] == [True, False]
    assert Workload.from_json(blocks.to_json()) == blocks


@pytest.mark.parametrize("notation", ["4C3P-2DB2-5", "4C3-Rec5", "4C3-MP2-5", "4C3-4DW-5"])
def test_networks_that_the_peers_have_not_are_refused(
    notation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = SHORT | {"network.notation": notation}
    source = Source("mnist", (2, 8, 8), 1.0, variant="bsnn-unit", changes=changes)
    monkeypatch.setitem(SOURCES, "others", source)
    with pytest.raises(ValueError, match="the peers'"):
        from_preset("others")


def test_deep_networks_are_compared_in_float64(blocks: Workload, tmp_path: Path) -> None:
    """In float32 of another rounding one spike differs, and then many."""
    deep = dataclasses.replace(blocks, name="mnist")
    assert (deep.compared_in, small().compared_in) == ("float64", "float32")
    np.savez(tmp_path / "arrays.npz", **without_ties(deep))
    request = {"workload": deep.to_json(), "arrays": f"{tmp_path}/arrays.npz"}
    for name in ("ours", "reference"):
        peer = Worker(name)
        peer.load(request)
        peer.outputs(f"{tmp_path}/{name}.npz")
        assert peer.peer is not None
        assert peer.peer.input.dtype == torch.get_default_dtype() == torch.float32
    outputs = []
    for name in ("ours", "reference"):
        with np.load(tmp_path / f"{name}.npz") as found:
            outputs.append(dict(found))
    assert outputs[0]["gradient 0.weight"].dtype == np.float64
    assert compare(*outputs).cosine == pytest.approx(1, abs=1e-9)


def test_the_published_way_equals_ours_in_spikes_gradients_and_statistics() -> None:
    workload = small().without_dropout()
    arrays = without_ties(workload)
    ours, published = Peer("ours", workload, arrays), Peer("published", workload, arrays)
    for key, gradient in ours.outputs().items():
        np.testing.assert_allclose(
            published.outputs()[key] if key.startswith("gradient") else gradient,
            gradient,
            rtol=1e-3,
            atol=1e-5,
        )
    assert torch.equal(ours.infer(), published.infer())


def test_at_a_tie_the_published_way_stays_silent() -> None:
    """What the table's note on > and ≥ is about."""
    layer = Layer(1, 1, kernel=0, pool=1, bias=True, norm=False, theta=1.0, dropout=0.0)
    workload = Workload(
        **{**vars(small()), "layers": (layer,), "input_shape": (1,), "steps": 1, "batch": 1}
    )
    arrays = {
        "0.weight": np.ones((1, 1), np.float32),
        "0.bias": np.zeros(1, np.float32),
        "input": np.ones((1, 1, 1), np.float32),
        "targets": np.zeros(1, np.int64),
    }
    counts = {
        name: Peer(name, workload, arrays).outputs()["eval"].item()
        for name in ("reference", "published")
    }
    assert counts == {"reference": 1, "published": 0}


def test_dropout_is_drawn_in_training_and_left_out_of_outputs() -> None:
    workload = small()
    peer = Peer("published", workload, without_ties(workload))
    assert not torch.equal(peer.backward(), peer.backward())
    plain = Peer("published", workload.without_dropout(), peer.arrays)
    assert torch.equal(plain.backward(), plain.backward())


def test_every_repetition_starts_from_the_given_weights() -> None:
    workload = small()
    peer = Peer("ours", workload, without_ties(workload))
    peer.train()
    changed = [not torch.equal(value, peer.given[key]) for key, value in peer._restored().items()]
    assert all(changed)
    peer.restore()
    for key, value in peer._restored().items():
        assert torch.equal(value, peer.given[key])


@pytest.mark.parametrize("name", list(SOURCES))
def test_workloads_are_the_presets_and_survive_json(name: str) -> None:
    workload = from_preset(name)
    assert Workload.from_json(workload.to_json()) == workload
    assert (workload.batch, workload.steps) == {
        "mnist": (128, 100),
        "shd": (32, 333),
        "dvs": (8, 100),
        "mnist-t4": (128, 4),
        "mnist-t6": (128, 6),
        "vgg9": (16, 4),
        "resnet19": (2, 4),
    }[name]
    tiny = workload.shrunk(3, 2)
    first, second = draw(tiny), draw(tiny)
    assert all(np.array_equal(first[key], second[key]) for key in first)
    assert first["input"].shape[: 1 if tiny.static else 2] == ((2,) if tiny.static else (3, 2))
    assert Peer("ours", tiny, first).infer().shape == (2,)


class TestAgreement:
    wanted = {  # noqa: RUF012
        "train": np.full((4, 5), 10.0),
        "eval": np.full((4, 5), 10.0),
        "gradient 0.weight": np.arange(6.0),
    }

    def test_equal_outputs_agree(self) -> None:
        agreement = compare(self.wanted, self.wanted)
        assert agreement.holds
        assert (agreement.equal, agreement.largest) == (1, 0)
        assert agreement.cosine == pytest.approx(1)

    def test_a_spike_more_is_shown_and_forgiven(self) -> None:
        found = copy.deepcopy(self.wanted)
        found["eval"][0, 0] += 1
        agreement = compare(found, self.wanted)
        assert agreement.holds
        assert agreement.equal == 39 / 40
        assert agreement.largest == 1

    @pytest.mark.parametrize(
        "change",
        [
            lambda arrays: arrays["train"].__iadd__(1),
            lambda arrays: arrays["gradient 0.weight"].__imul__([1, 1, 1, 1, -1, 1]),
            lambda arrays: arrays["gradient 0.weight"].fill(0),
        ],
        ids=["counts", "gradient", "no gradient"],
    )
    def test_other_outputs_do_not(self, change: Any) -> None:
        found = copy.deepcopy(self.wanted)
        change(found)
        assert not compare(found, self.wanted).holds

    def test_a_gradient_in_other_units_agrees(self) -> None:
        found = self.wanted | {"gradient 0.weight": 7 * self.wanted["gradient 0.weight"]}
        assert compare(found, self.wanted).holds

    def test_silence_proves_nothing(self) -> None:
        silent = self.wanted | {"train": np.zeros((4, 5)), "eval": np.zeros((4, 5))}
        assert not compare(silent, silent).holds

    def test_other_arrays_are_an_error(self) -> None:
        with pytest.raises(ValueError, match="different networks"):
            compare({"train": np.zeros(1)}, self.wanted)


def test_peers_take_turns_and_each_begins_a_round() -> None:
    order: list[str] = []

    def repetition(peer: str) -> float:
        order.append(peer)
        return float(len(order))

    seconds = interleave(["a", "b", "c"], 4, repetition, pause=0)
    assert "".join(order) == "abc" + "bca" + "cab" + "abc"
    assert seconds["a"] == [1, 6, 8, 10]


def test_ratios_are_taken_within_a_round() -> None:
    # A machine that becomes ten times slower changes no ratio.
    found = summary({"ours": [1.0, 10.0, 1.0], "other": [2.0, 30.0, 4.0]})
    assert found["other"]["seconds"] == [3.0, 4.0, 17.0]
    assert found["other"]["ratio"] == [2.5, 3.0, 3.5]
    assert found["ours"]["ratio"] == [1, 1, 1]
    assert "ratio" not in summary({"other": [1.0]})["other"]
    assert quartiles([4.0, 1.0, 2.0, 3.0, 5.0]) == [2, 3, 4]


def measured(ratio: float, memory: float = 3.0) -> dict[str, Any]:
    timing = {"all": [ratio], "cpu": [ratio], "seconds": [ratio] * 3, "ratio": [ratio] * 3}
    return {
        "notes": "a note",
        "decayed_reset": False,
        "versions": {"torch": "2"},
        "first_step": 1.0,
        "agreement": compare(TestAgreement.wanted, TestAgreement.wanted).as_dict(),
        "train": timing,
        "infer": timing,
        "memory": {"mib": 100.0 * memory, "ratio": memory},
    }


def results(**peers: Any) -> dict[str, Any]:
    return {
        "machine": {
            "cpu": "A CPU",
            "cores": 2,
            "load_before": 0.1,
            "load_after": 2.0,
            "date": "2026-01-01",
        },
        "settings": {
            "command": "python -m benchmarks.peers",
            "threads": 2,
            "repeats": 9,
            "allocator": "kept",
            "memory_steps": 2,
        },
        "networks": {
            "mnist": {
                "workload": dataclasses.asdict(from_preset("mnist")),
                "peers": {"ours": measured(1), **peers},
            }
        },
    }


class TestCheck:
    old = results(published=measured(10.0), norse={"skipped": "no network"})

    @pytest.mark.parametrize("ratio", [8.6, 10.0, 20.0])
    def test_within_tolerance_or_better(self, ratio: float) -> None:
        assert regressions(results(published=measured(ratio)), self.old, 0.15) == []

    def test_worse(self) -> None:
        found = regressions(results(published=measured(8.4, memory=2.0)), self.old, 0.15)
        assert found == [
            "mnist, training step: published was 10.00× ours, now 8.40×",
            "mnist, inference: published was 10.00× ours, now 8.40×",
            "mnist, peak memory of training: published was 3.00× ours, now 2.00×",
        ]

    @pytest.mark.parametrize(("ratio", "worse"), [(0.3, False), (0.55, False), (0.65, True)])
    def test_variants_of_ours_are_worse_where_they_take_longer(
        self, ratio: float, worse: bool
    ) -> None:
        old = results(**{"ours-bf16": measured(0.5, memory=0.5)})
        new = results(**{"ours-bf16": measured(ratio, memory=0.5)})
        assert bool(regressions(new, old, 0.15)) == worse

    def test_a_peer_that_cannot_run_any_more_is_not_passed_over(self) -> None:
        found = regressions(results(published={"skipped": "no compiler"}), self.old, 0.15)
        assert found == ["mnist, published: measured before, now not (no compiler)"]

    def test_peers_that_were_not_asked_for_or_are_new_are(self) -> None:
        assert regressions(results(), self.old, 0.15) == []
        assert regressions(results(norse=measured(1.0), other=measured(1.0)), self.old, 0.15) == []

    def test_other_conditions_are_named(self) -> None:
        new = copy.deepcopy(self.old)
        new["machine"]["cpu"], new["settings"]["threads"] = "Another", 4
        assert comparable(new, self.old) == [
            "CPU: A CPU then, Another now",
            "threads: 2 then, 4 now",
        ]
        assert comparable(self.old, self.old) == []

    @pytest.mark.parametrize(("ratio", "status"), [(9.5, 0), (5.0, 1)])
    def test_the_exit_status(
        self,
        ratio: float,
        status: int,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(command, "committed", lambda: self.old)
        monkeypatch.setattr(command.Bench, "run", lambda self: results(published=measured(ratio)))
        before = sorted(Path(command.__file__).parent.glob("results.*"))
        assert command.main(["--check"]) == status
        assert ("worse: mnist" in capsys.readouterr().err) == bool(status)
        assert sorted(Path(command.__file__).parent.glob("results.*")) == before

    def test_nothing_to_compare_with(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(command, "committed", lambda: None)
        assert command.main(["--check"]) == 2
        assert "no results are committed" in capsys.readouterr().err


def test_ratios_cannot_be_checked_without_ours(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.parse(["--check", "--peers", "norse"])
    assert "--check compares ratios to ours" in capsys.readouterr().err


def test_only_a_whole_run_replaces_the_results(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(command.Bench, "run", lambda self: results(published=measured(2)))
    for part in (["--networks", "mnist"], ["--peers", "ours,norse"], ["--tiny"]):
        assert command.main(part) == 0
    assert not list(tmp_path.iterdir())
    assert command.main(["--quick", "--cache", str(tmp_path / "cache")]) == 0
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["networks"]
    assert "| published |" in (tmp_path / "results.md").read_text(encoding="utf-8")
    told = command.parse(["--quick", "--threads", "2", "--cache", str(tmp_path)]).command
    assert told == "python -m benchmarks.peers --repeats 3 --threads 2 --allocator kept"


def test_the_table_says_what_was_not_measured_and_whether_the_machine_was_idle() -> None:
    found = results(published=measured(10.0), norse={"skipped": "no network"})
    text = markdown(found)
    assert "| published | 10.000 | **10.00** (10.00 to 10.00) |" in text
    assert "- **norse** was not measured: no network." in text
    assert "| mnist, training step, fp32 / bf16 | 10.00× / – | – / – |" in text
    assert "busy" not in text
    assert "peers see the image anew" in text
    found["machine"]["load_before"] = 3.0
    assert "The machine was busy" in markdown(found)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("peers")
    np.savez(folder / "arrays.npz", **without_ties(small()))
    return folder


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client("reference", Path(sys.executable), 1, "plain") as client:
        yield client
    assert client.process.returncode == 0


class TestWorker:
    def test_a_process_serves_one_request_after_the_other(
        self, client: Client, files: Path
    ) -> None:
        facts = client.load(small(), files / "arrays.npz")
        assert facts["threads"] == 1
        assert facts["versions"]["torch"] == torch.__version__
        client.ask("outputs", to=str(files / "outputs.npz"))
        with np.load(files / "outputs.npz") as outputs:
            wanted = Peer("reference", small().without_dropout(), without_ties(small())).outputs()
            assert compare(dict(outputs), wanted).equal == 1
        for action in ("train", "infer"):
            assert client.ask(action)["seconds"] > 0
        with pytest.raises(WorkerFailedError, match="unknown request 'dance'"):
            client.ask("dance")
        assert client.ask("train")["cpu"] > 0  # an error is no end

    @pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux only")
    def test_memory_counts_what_training_adds(self, client: Client, files: Path) -> None:
        client.load(small(), files / "arrays.npz")
        assert 0 <= client.ask("memory", times=1)["mib"] < 500

    def test_a_process_that_dies_is_an_error(self, tmp_path: Path) -> None:
        python = tmp_path / "python"
        python.write_text("#!/bin/sh\nexit 3\n", encoding="ascii")
        python.chmod(0o700)
        with Client("ours", python, 1, "plain") as client:
            client.process.wait()
            with pytest.raises(WorkerFailedError, match="ended with 3 at 'train'"):
                client.ask("train")

    def test_a_peer_that_is_not_there_is_skipped(
        self, files: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(worker.CLASSES, "absent", "absent:Network")
        request = {"do": "load", "workload": small().to_json(), "arrays": f"{files}/arrays.npz"}
        assert "absent" in reply_to(Worker("absent"), json.dumps(request))["skip"]

    def test_compiling_without_a_compiler_is_skipped(
        self, files: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CXX", "no-such-compiler")
        request = {"do": "load", "workload": small().to_json(), "arrays": f"{files}/arrays.npz"}
        reply = reply_to(Worker("snntorch-compiled"), json.dumps(request))
        assert "needs a C++ compiler" in reply["skip"]

    def test_other_parameters_are_an_error(self, tmp_path: Path) -> None:
        arrays = without_ties(small())
        del arrays["2.bias"]
        np.savez(tmp_path / "arrays.npz", **arrays)
        request = {"do": "load", "workload": small().to_json(), "arrays": f"{tmp_path}/arrays.npz"}
        assert "other parameters" in reply_to(Worker("ours"), json.dumps(request))["error"]


class TestEnvironments:
    @pytest.fixture
    def commands(self, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        ran: list[list[str]] = []

        def run(arguments: list[str], check: bool) -> None:
            assert check
            ran.append(arguments)
            if "venv" in arguments:
                environments._site_packages(Path(arguments[-1])).mkdir(parents=True, exist_ok=True)

        monkeypatch.setattr(subprocess, "run", run)
        return ran

    def test_torch_comes_alone_and_peers_without_dependencies(
        self, commands: list[list[str]], tmp_path: Path
    ) -> None:
        assert not environments.available("norse", tmp_path)
        python = environments.interpreter("norse", tmp_path)
        assert python == tmp_path / "norse" / "bin" / "python"
        made, torch_alone, _, peer = commands
        assert made[-1] == str(tmp_path / "torch")
        assert "--no-deps" not in torch_alone
        assert torch_alone[-1].endswith("torch.txt")
        assert "--no-deps" in peer
        shared = environments._site_packages(tmp_path / "norse") / "shared_torch.pth"
        assert Path(shared.read_text().strip()) == environments._site_packages(tmp_path / "torch")
        assert environments.available("norse", tmp_path)
        commands.clear()
        environments.interpreter("norse", tmp_path)
        assert commands == []
        environments.interpreter("sinabs", tmp_path)
        assert len(commands) == 2  # torch is there

    def test_one_that_was_not_finished_or_has_other_requirements_is_made_anew(
        self, commands: list[list[str]], tmp_path: Path
    ) -> None:
        environments.interpreter("norse", tmp_path)
        commands.clear()
        (tmp_path / "norse" / "made-from").write_text("something else")
        environments.interpreter("norse", tmp_path)
        assert len(commands) == 2

    def test_ours_run_in_the_projects_own(self, tmp_path: Path) -> None:
        assert environments.interpreter("ours", tmp_path) == Path(sys.executable)
        assert environments.available("ours", tmp_path)

    def test_requirements_are_pinned_and_agree_with_the_projects(self) -> None:
        constraints = ROOT / "constraints.txt"
        ours = set(constraints.read_text(encoding="utf-8").splitlines())
        for file in environments.REQUIREMENTS.glob("*.txt"):
            lines = file.read_text(encoding="utf-8").splitlines()
            pins = [line for line in lines if line and not line.startswith("#")]
            assert all("==" in pin for pin in pins)
            assert file.name == "torch.txt" or not any("torchvision" in pin for pin in pins)
            if file.name in ("torch.txt", "snntorch.txt"):
                assert ours.issuperset(pins)
