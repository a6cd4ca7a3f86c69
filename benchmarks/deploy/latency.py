"""Latency of every way on every network, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.deploy.networks import NETWORKS, TITLES, Work
from benchmarks.peers.environments import interpreter
from bsnn_tha.deploy.fold import fold
from bsnn_tha.deploy.integer import integer_network
from bsnn_tha.deploy.network import DeployedNetwork, InputEncoding
from bsnn_tha.deploy.packed import Packed, write

ROOT = Path(__file__).parents[2]
BATCHES = (1, 128)
PEERS = {
    "packed": "packed bits, this project",
    "limit": "limit: its arithmetic alone",
    "ours": "float32, this project",
    "snntorch": "snnTorch",
    "spikingjelly": "SpikingJelly",
    "onnxruntime": "ONNX Runtime",
}


Rows = list[dict[str, Any]]


def latencies(names: list[str], ways: list[str], cache: Path) -> dict[str, Rows]:
    """For each network a row of each batch and way: seconds, and the share of answers as packed's.

    Args:
        names: of networks.
        ways: beside packed.
        cache: of the peers' environments.
    """
    found: dict[str, Rows] = {}
    for name in names:
        rows = found[name] = []
        with tempfile.TemporaryDirectory() as folder:
            _write(name, NETWORKS[name](), Path(folder))
            for batch in BATCHES:
                expected: list[int] | None = None
                for way in dict.fromkeys(["packed", *ways]):
                    took = _run(way, Path(folder), batch, cache)
                    expected = took["answers"] if expected is None else expected
                    same = np.mean(np.array(took["answers"]) == np.array(expected))
                    rows.append(
                        {"batch": batch, "way": way, "seconds": took["seconds"],
                         "same_answers": float(same)}
                    )  # fmt: skip
                    print(name, rows[-1], file=sys.stderr, flush=True)
    return found


def _run(way: str, folder: Path, batch: int, cache: Path) -> dict[str, Any]:
    if way == "onnxruntime":
        _process(sys.executable, "export", folder, batch)
    return _process(str(interpreter(way, cache)), way, folder, batch)


def _process(python: str, way: str, folder: Path, batch: int) -> dict[str, Any]:
    command = [python, "-m", "benchmarks.deploy.worker", way, str(folder), str(batch)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True
    )
    values: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return values


def _write(name: str, work: Work, folder: Path) -> None:
    kind: Any = "image" if work.still else "events"
    scale = 1 / 255 if work.still else 1.0
    encoding = InputEncoding(kind, work.trained.input_shape, 8 if work.still else 3, False, scale)
    readout: Any = "spike_count" if work.counts else "membrane_sum"
    folded = fold(work.trained, encoding, readout, work.num_steps)
    write(Packed(integer_network(folded)), folder / "network.safetensors")
    np.save(folder / "inputs.npy", work.inputs.astype(np.float32))
    arrays, layers = _float_layers(folded)
    np.savez(folder / "layers.npz", **arrays)
    facts = {"name": name, "still": work.still, "num_steps": work.num_steps,
             "counts": work.counts, "layers": layers}  # fmt: skip
    (folder / "facts.json").write_text(json.dumps(facts))


def _float_layers(folded: DeployedNetwork) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The folded network for peers: batch norm in weights and biases, one θ for each layer."""
    arrays: dict[str, Any] = {}
    layers = []
    for i, layer in enumerate(folded.layers):
        term = layer.terms[0]
        assert term.weights is not None and len(layer.terms) == 1
        scale = term.gain * layer.unit / (1.0 if term.reads else folded.input.scale)
        cells = term.pool**2 if term.pooling == "sum" else 1
        shape = (-1, *(1,) * (term.weights.ndim - 1))
        arrays[f"weight{i}"] = (term.weights * (scale * cells).reshape(shape)).astype(np.float32)
        arrays[f"bias{i}"] = (layer.offset * layer.unit).astype(np.float32)
        theta = float((layer.threshold * layer.unit).max())
        fires = bool(np.isfinite(theta))
        layers.append(
            {"kind": term.kind, "stride": term.stride, "padding": term.padding, "pool": term.pool,
             "pooling": term.pooling, "beta": float(layer.decay), "fires": fires,
             "theta": theta if fires else 1e30}
        )  # fmt: skip
    return arrays, layers


def table(networks: dict[str, Rows]) -> str:
    """Markdown: milliseconds of a call, and how many times packed bits are faster."""
    lines = []
    for name, rows in networks.items():
        lines += [f"### {TITLES[name]}", "",
                  "| way | batch 1, ms | × packed | batch 128, ms | × packed | same answers |",
                  "|---|---:|---:|---:|---:|---:|"]  # fmt: skip
        mine = {row["batch"]: row["seconds"] for row in rows if row["way"] == "packed"}
        for way, title in PEERS.items():
            found = {r["batch"]: r for r in rows if r["way"] == way}
            if found:
                cells = [
                    f"{_ms(found[b]['seconds'])} | {found[b]['seconds'] / mine[b]:.1f}"
                    for b in BATCHES
                ]
                same = found[BATCHES[-1]]["same_answers"]
                lines.append(f"| {title} | {' | '.join(cells)} | {same:.1%} |")
        lines.append("")
    return "\n".join(lines)


def beside_the_limit(networks: dict[str, Rows]) -> str:
    """Markdown: milliseconds of a call with one sample, beside ONNX Runtime and the limit.

    The first ratio says how much longer ONNX Runtime takes, the second how much the limit is below.

    Example:
        >>> rows = [{"batch": 1, "way": "packed", "seconds": 2e-5},
        ...         {"batch": 1, "way": "limit", "seconds": 5e-6}]
        >>> print(beside_the_limit({"mnist": rows}).splitlines()[-1])
        | MNIST | 0.02 | – | – | 0.005 | 4.0 × |
    """
    lines = [
        "| batch 1 | packed | ONNX Runtime | | limit | |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, rows in networks.items():
        found = {row["way"]: row["seconds"] for row in rows if row["batch"] == 1}
        mine = found["packed"]
        cells = [TITLES[name].partition(",")[0], _ms(mine)]
        for way in ("onnxruntime", "limit"):
            if way in found:
                ratio = mine / found[way] if way == "limit" else found[way] / mine
                cells += [_ms(found[way]), f"{ratio:.1f} ×"]
            else:  # was not measured
                cells += ["–", "–"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g}"
