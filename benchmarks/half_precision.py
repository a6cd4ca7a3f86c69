"""bfloat16 autocast beside float32: is it the same network, how fast, in how much memory?

    OMP_NUM_THREADS=1 python -m benchmarks.half_precision --threads 1

The networks of :mod:`benchmarks.peers.workload`, with random weights and input, without dropout:
the share of spike counts that agree, and the cosine of the gradients. Then a training step and a
window without gradients, as ``training.precision = "bf16-mixed"`` computes them and in float32, in
turns within one process: the fewest CPU seconds. Memory is the peak of a training step above the
process before it, each in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from benchmarks.peers.agreement import Agreement, compare
from benchmarks.peers.worker import Peer, Worker
from benchmarks.peers.workload import SOURCES, Workload, draw, from_preset
from bsnn_tha.freed_memory import keep_freed_memory

PRECISIONS = {"float32": "ours", "bfloat16": "ours-bf16"}
"""And the peers that compute in them."""


def agreement(workload: Workload) -> Agreement:
    """Of bfloat16's outputs with float32's."""
    plain = workload.without_dropout()
    arrays = draw(plain)
    wanted, found = (Peer(name, plain, arrays).outputs() for name in PRECISIONS.values())
    return compare(found, wanted)


def fewest_seconds(workload: Workload, turns: int) -> dict[tuple[str, str], float]:
    """CPU seconds by precision and by ``train`` or ``infer``; the first turn does not count."""
    arrays = draw(workload)
    peers = {precision: Peer(name, workload, arrays) for precision, name in PRECISIONS.items()}
    found: dict[tuple[str, str], float] = {}
    for turn in range(1 + turns):
        for precision, peer in peers.items():
            runs: dict[str, Callable[[], object]] = {"train": peer.train, "infer": peer.infer}
            for action, run in runs.items():
                peer.restore()
                begin = time.process_time()
                run()
                seconds = time.process_time() - begin
                key = precision, action
                if turn:
                    found[key] = min(found.get(key, seconds), seconds)
    return found


def memory(name: str, precision: str) -> float:
    """MiB of two training steps, in this process."""
    workload = from_preset(name)
    worker = Worker(PRECISIONS[precision])
    worker.peer = Peer(worker.name, workload, draw(workload))
    return float(worker.memory(2)["mib"])


def memory_apart(name: str, precision: str, threads: int) -> float:
    """:func:`memory` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.half_precision", "--threads", str(threads)]
    command += ["--memory", name, precision]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    """A Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--networks", nargs="*", choices=list(SOURCES), default=list(SOURCES))
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as `bsnn-tha train`
    if options.memory:
        print(memory(*options.memory))
        return
    load = os.getloadavg()[0]
    print(f"{options.threads} threads; load {load:.1f} on {os.cpu_count()} cores\n")
    print("| network | counts equal | cosine | training, ms | inference, ms | memory, MiB |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in options.networks:
        workload = from_preset(name)
        same, seconds = agreement(workload), fewest_seconds(workload, options.turns)
        cells = [name, f"{same.equal:.2%}", f"{same.cosine:.4f}"]
        for action in ("train", "infer"):
            both = (1e3 * seconds[precision, action] for precision in PRECISIONS)
            cells.append(" / ".join(f"{its:.1f}" for its in both))
        both = (memory_apart(name, precision, options.threads) for precision in PRECISIONS)
        cells.append(" / ".join(f"{its:.0f}" for its in both))
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
