"""The command: see :mod:`benchmarks.deployed`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.deployed import c_program, nir_file
from benchmarks.deployed.networks import deployed
from benchmarks.deployed.tables import c_table, nir_table
from bsnn_tha import zoo

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results.json"
DOCUMENTS = ROOT / "docs" / "deploy"
_START, _END = "<!-- table -->", "<!-- end of table -->"


def main() -> None:
    """Measure, write the results and the tables."""
    parser = argparse.ArgumentParser(description="Deployed networks in C and as NIR.")
    parser.add_argument("runs", nargs="*", help="zoo:NAME or run folders; default: the zoo")
    parser.add_argument("--samples", type=int, default=1000, help="compared in C (1000)")
    parser.add_argument("--nir-samples", type=int, default=100, help="compared by readers (100)")
    parser.add_argument("--cache", type=Path, default=ROOT / ".bench", help="of environments")
    options = parser.parse_args()
    runs = options.runs or [f"{zoo.PREFIX}{name}" for name in zoo.names()]
    networks: dict[str, Any] = {}
    if RESULTS.exists():  # of networks that are not measured again
        networks = json.loads(RESULTS.read_text(encoding="utf-8"))["networks"]
    for run in runs:
        deployment = deployed(run, options.samples)
        samples = len(deployment.samples.targets)
        found: dict[str, Any] = {"samples": samples, "steps": deployment.whole.num_steps}
        with tempfile.TemporaryDirectory() as folder:
            for part in ("c", "nir"):
                (Path(folder) / part).mkdir()
            found["c"] = c_program.measured(deployment, Path(folder) / "c")
            print(c_table({run: found}), file=sys.stderr, flush=True)
            found["nir"] = nir_file.measured(
                deployment, Path(folder) / "nir", options.cache, options.nir_samples
            )
            print(nir_table({run: found}), file=sys.stderr, flush=True)
        networks[deployment.name] = found
        _keep(dict(sorted(networks.items())))


def _keep(networks: dict[str, Any]) -> None:
    """What there is so far: the figures, and the tables of the documents."""
    RESULTS.write_text(json.dumps({"networks": networks}, indent=1) + "\n", encoding="utf-8")
    for name, table in (("c", c_table(networks)), ("nir", nir_table(networks))):
        _put(DOCUMENTS / f"{name}.md", table)


def _put(document: Path, table: str) -> None:
    """A table between its marks."""
    text = document.read_text(encoding="utf-8")
    before, start, rest = text.partition(_START)
    _, end, after = rest.partition(_END)
    if not (start and end):
        raise SystemExit(f"{document} has no place for the table: {_START} ... {_END}")
    document.write_text(f"{before}{start}\n{table}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
