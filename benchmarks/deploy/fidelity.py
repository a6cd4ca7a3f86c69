"""Every network of the zoo, exported: accuracy, differing spikes, sizes, bits, energy."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.deploy.networks import COMPARED, exported
from bsnn_tha.deploy.deployment import TARGETS
from bsnn_tha.deploy.export import Exported, write
from bsnn_tha.deploy.infer import Runner
from bsnn_tha.deploy.integer import Precision
from bsnn_tha.deploy.reference import run
from bsnn_tha.errors import BsnnThaError

PRECISIONS = {
    "32, F ≤ 16": Precision(),
    "32, F ≤ 12": Precision(fraction_bits=12),
    "32, F ≤ 8": Precision(fraction_bits=8),
    "16, F ≤ 16": Precision(state_bits=16),
}


def fidelity(name: str, made: Exported) -> dict[str, Any]:
    """What exports of a network of the zoo give; bits on the first 1,000 test samples.

    Raises:
        AssertionError: packed inference differs, or accuracy is lost.
    """
    bits = {
        title: exported(name, COMPARED, precision).comparison.figures()
        for title, precision in PRECISIONS.items()
    }
    row = {**made.figures, "name": name, "written": _targets(made), "bits": bits,
           "packed_equal": _same(made)}  # fmt: skip
    _check(row)
    print(name, row["deployed_accuracy"], row["packed_equal"], file=sys.stderr, flush=True)
    return row


def _same(made: Exported) -> dict[str, int]:
    """Spikes of all layers that compiled inference and the reference do not share."""
    samples, network = made.deployment.samples, made.deployment.whole
    expected = run(network, samples.inputs, samples.num_steps)
    found = Runner(network).run(samples.inputs, samples.num_steps, record=True)
    assert found.layers is not None
    pairs = list(zip(found.layers, expected.layers, strict=True))
    return {
        "samples": len(samples.targets),
        "spikes": sum(one.size for one, _ in pairs),
        "differing": sum(int((one != other).sum()) for one, other in pairs)
        + int((found.scores != expected.scores).sum()),
    }


def _targets(made: Exported) -> dict[str, Any]:
    """What each target says of itself, or why it cannot."""
    written: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for target in TARGETS:
            try:
                written[target] = write(made, target, Path(folder) / target)["written"]
            except (BsnnThaError, ImportError) as error:
                written[target] = str(error)
    return written


def tables(networks: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    rows = list(networks.values())
    lines = [
        "## The same network?",
        "",
        "| network | test samples | as trained, % | in whole numbers, % | same answers, % "
        "| differing spikes | packed and reference: differing of 1,000 samples' spikes |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for r in rows:
        equal = r["packed_equal"]
        lines.append(
            f"| {r['name']} | {r['samples']:,} | {100 * r['trained_accuracy']:.2f} "
            f"| {100 * r['deployed_accuracy']:.2f} | {100 * r['same_answers']:.2f} "
            f"| {r['differing_spikes']:.1e} | {equal['differing']} of {equal['spikes']:,} |"
        )
    lines += ["", "## What bits cost", "",
              "State bits and fraction bits, on the first 1,000 test samples: accuracy in %, and "
              "the share of spikes that differ from the trained network's.", "",
              "| network | as trained | " + " | ".join(PRECISIONS) + " |",
              "|---|---:" + "|---:" * len(PRECISIONS) + "|"]  # fmt: skip
    for r in rows:
        cells = [
            f"{100 * bits['deployed_accuracy']:.2f}, {bits['differing_spikes']:.0e}"
            for bits in r["bits"].values()
        ]
        first = next(iter(r["bits"].values()))
        lines.append(
            f"| {r['name']} | {100 * first['trained_accuracy']:.2f} | {' | '.join(cells)} |"
        )
    lines += ["", "## Sizes, bytes", "",
              "| network | weights, bits | packed file: weights, numbers, for restoring, manifest "
              "| total | C: constants | state | stack |",
              "|---|---:|---|---:|---:|---:|---:|"]  # fmt: skip
    for r in rows:
        size, c = r["written"]["packed"]["bytes"], r["written"]["c"]
        parts = ", ".join(f"{size[k]:,}" for k in ("weights", "numbers", "trained", "manifest"))
        figures = (
            " | ".join(f"{c[k]:,}" for k in ("constant_bytes", "state_bytes", "stack_bytes"))
            if isinstance(c, dict)
            else "– | – | –"
        )
        bits = sum(layer["weight_bits"] for layer in r["layers"])
        lines.append(f"| {r['name']} | {bits:,} | {parts} | {size['total']:,} | {figures} |")
    lines += ["", "## Operations and energy of a sample", "",
              "| network | layer | firing rate | additions | of dense | updates "
              "| widest state, bits | energy, nJ | dense float32, nJ |",
              "|---|---:|---:|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    for r in rows:
        for number, layer in enumerate(r["layers"], start=1):
            lines.append(
                f"| {r['name']} | {number} | {layer['rate']:.1%} | {layer['additions']:,.0f} "
                f"| {layer['additions'] / layer['dense_additions']:.1%} | {layer['updates']:,} "
                f"| {layer['membrane_bits']} | {layer['energy_nj']:,.1f} "
                f"| {layer['float_energy_nj']:,.0f} |"
            )
    lines += ["", f"Energy from constants: {rows[0]['costs']['source']}.", ""]
    return "\n".join(lines)


def _check(row: dict[str, Any]) -> None:
    """Raise where a table would say what must not be."""
    assert row["packed_equal"]["differing"] == 0, row["name"]
    assert row["deployed_accuracy"] >= row["trained_accuracy"] - 0.001, row["name"]
    assert np.isfinite(sum(layer["energy_nj"] for layer in row["layers"]))
