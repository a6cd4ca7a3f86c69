"""A training loop of one's own, with the C library's allocator as it is and told to keep memory.

    python -m benchmarks.own_loop --threads 2

The command line calls :func:`bsnn_tha.keep_freed_memory`; a program that uses the neurons or
:class:`~bsnn_tha.SpikingNetwork` in its own loop has to. Each row is a process of its own, in
turns: median seconds of a training step of the papers' networks, and its peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

WAYS = ("as it is", "keep_freed_memory()")


def measured(network: str, way: str, threads: int, steps: int) -> dict[str, float]:
    """In this process."""
    import torch

    import bsnn_tha
    from benchmarks.steps import NETWORKS, training_step

    if way != WAYS[0]:
        bsnn_tha.keep_freed_memory()
    torch.set_num_threads(threads)
    step = training_step(NETWORKS[network])
    step()
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": statistics.median(seconds), "mib": peak}


def main() -> None:
    """A Markdown table."""
    parser = argparse.ArgumentParser(description="A loop of one's own: default and kept memory.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", nargs="*", default=["MNIST", "SHD", "DVS"])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        network, way = options.one
        print(json.dumps(measured(network, way, options.threads, options.steps)))
        return
    load = os.getloadavg()[0]
    print(f"{options.threads} threads; load {load:.1f} on {os.cpu_count()} cores\n")
    print("| network | allocator | s a step | peak, MiB |\n|---|---|---:|---:|")
    told = ["--threads", str(options.threads), "--steps", str(options.steps)]
    for network in options.networks:
        found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(options.rounds):
            for way in WAYS:
                command = [sys.executable, "-m", "benchmarks.own_loop", *told]
                printed = subprocess.run(
                    [*command, "--one", network, way], check=True, capture_output=True, text=True
                ).stdout
                found[way].append(json.loads(printed))
        for way, rows in found.items():
            seconds = statistics.median(row["seconds"] for row in rows)
            peak = max(row["mib"] for row in rows)
            print(f"| {network} | {way} | {seconds:.3f} | {peak:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
