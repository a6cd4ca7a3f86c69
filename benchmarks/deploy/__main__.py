"""The command of :mod:`benchmarks.deploy`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path

from benchmarks.deploy import fidelity, latency
from benchmarks.deploy.networks import NETWORKS
from bsnn_tha import zoo
from bsnn_tha.training.machine import Machine

DOCS = Path(__file__).parents[2] / "docs" / "deploy"
CACHE = Path(os.environ.get("BSNN_THA_BENCH", ".bench"))


def main() -> None:
    """Measure, and print or write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deploy")
    parser.add_argument("--write", action="store_true", help="into docs/deploy")
    parser.add_argument("--zoo", nargs="*", default=zoo.names(), help="networks to export")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), help="to be timed")
    parser.add_argument("--ways", nargs="*", default=list(latency.PEERS), help="packed first")
    options = parser.parse_args()
    data = os.environ.get("BSNN_THA_DATA")
    # First, while this process has started no threads of its own.
    times = latency.latencies(options.networks, options.ways, CACHE)
    with tempfile.TemporaryDirectory() as cache:
        rows = fidelity.fidelity(options.zoo, Machine(Path(data) if data else None, Path(cache)))
    fidelity.checked(rows)
    processor = platform.processor() or platform.machine()
    text = "\n".join(
        [
            "# Deployment, measured",
            "",
            "Made by `python -m benchmarks.deploy --write`; what the columns mean is in "
            "[the walk](README.md).",
            "",
            fidelity.tables(rows),
            "## Latency",
            "",
            f"One thread of a shared machine ({processor}, {os.cpu_count()} cores, load "
            f"{os.getloadavg()[0]:.1f} at the end): medians of processor time of calls over at "
            "least a second. A call is a whole window.",
            "",
            latency.table(times),
        ]
    )
    if options.write:
        (DOCS / "results.md").write_text(text, encoding="utf-8")
        content = json.dumps({"fidelity": rows, "latency": times}, indent=1, ensure_ascii=False)
        (DOCS / "results.json").write_text(content + "\n", encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
