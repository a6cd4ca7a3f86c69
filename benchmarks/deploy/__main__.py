"""The command of :mod:`benchmarks.deploy`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path

from benchmarks.deploy import c_program, fidelity, latency, nir_file
from benchmarks.deploy.documents import Results, pages, printed
from benchmarks.deploy.networks import COMPARED, NETWORKS, exported
from bsnn_tha import zoo

DOCS = Path(__file__).parents[2] / "docs" / "deploy"
CACHE = Path(os.environ.get("BSNN_THA_BENCH", ".bench"))
PARTS = ("latency", "fidelity", "c", "nir")


def main() -> None:
    """Measure, and print the tables or write them."""
    known, timed, ways = zoo.names(), list(NETWORKS), list(latency.PEERS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deploy")
    parser.add_argument("--write", action="store_true", help="into docs/deploy")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts")
    parser.add_argument("--zoo", nargs="+", choices=known, default=known, help="to be exported")
    parser.add_argument("--networks", nargs="+", choices=timed, default=timed, help="to be timed")
    parser.add_argument("--ways", nargs="+", choices=ways, default=ways, help="beside packed")
    options = parser.parse_args()
    results: Results = {"fidelity": {}, "c": {}, "nir": {}, "machine": "", "latency": {}}
    if options.write:  # what is not measured again
        results = json.loads((DOCS / "results.json").read_text(encoding="utf-8"))
    if "latency" in options.only:
        # First, while this process has started no threads of its own.
        results["latency"] |= latency.latencies(options.networks, options.ways, CACHE)
        processor = platform.processor() or platform.machine()
        load = f"load {os.getloadavg()[0]:.1f} at the end"
        results["machine"] = f"{processor}, {os.cpu_count()} cores, {load}"
        _keep(results, options.write)
    for name in options.zoo if {*options.only} - {"latency"} else ():
        _measure(name, options.only, results)
        _keep(results, options.write)
    if not options.write:
        print(printed(results))


def _measure(name: str, parts: list[str], results: Results) -> None:
    """A network of the zoo: what was asked for, into the results."""
    made = exported(name, None if "fidelity" in parts else COMPARED)
    if "fidelity" in parts:
        results["fidelity"][name] = fidelity.fidelity(name, made)
    with tempfile.TemporaryDirectory() as c, tempfile.TemporaryDirectory() as nir:
        if "c" in parts:
            results["c"][name] = c_program.measured(made.deployment, Path(c))
        if "nir" in parts:
            results["nir"][name] = nir_file.measured(made.deployment, Path(nir), CACHE)


def _keep(results: Results, write: bool) -> None:
    """What there is so far: the figures, and the pages with their tables."""
    if write:
        content = json.dumps(results, indent=1, ensure_ascii=False)
        (DOCS / "results.json").write_text(content + "\n", encoding="utf-8")
        for name, text in pages(results, DOCS).items():
            (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
