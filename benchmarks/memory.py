"""Memory and time of a training step for a long window, whole and in chunks of time.

The SHD network of the paper on spikes as dense as in SHD, batch 32, 333 time
steps. Each case has a process of its own, which runs a few training steps
(forward, loss, backward, Adam) after a first one; the table gives its peak
resident memory above that of the idle process with its imports, and the median
seconds per step after the first:

    python -m benchmarks.memory --threads 2

Twice each: with freed memory handed back to the system, as a program does that
uses the library alone, and with freed memory kept, as `bsnn-tha train` does.
What is kept is faster to get again, but the gaps in it count as well.
Linux only: the peak is read from /proc.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from bsnn_tha import SpikingNetwork, spike_count_loss
from bsnn_tha.freed_memory import keep_freed_memory

STEPS, BATCH, RATE = 333, 32, 0.024
CHUNKS = (None, 111, 37, 10)


def measure(chunk_steps: int | None, iterations: int) -> tuple[float, float]:
    """Peak resident memory above idle in MiB, and seconds per training step."""
    train(SpikingNetwork("2-20", (700,), beta=0.95), None, 1)  # loads what is loaded on first use
    idle = _status("VmRSS")
    network = SpikingNetwork(
        "3000-20",
        (700,),
        beta=0.95,
        slope=0.257,
        theta_0=[13.504, 11.2],
        theta_inf=[45.271, 51.12],
        alpha=[2.78e-5, 1.36e-5],
        dropout=[0.186, 0.0176],
    )
    seconds = train(network, chunk_steps, 1 + iterations)
    return (_status("VmHWM") - idle) / 1024, statistics.median(seconds[1:])


def train(network: SpikingNetwork, chunk_steps: int | None, iterations: int) -> list[float]:
    """Seconds of each training step."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    input = torch.empty(STEPS, BATCH, 700).bernoulli_(RATE)
    targets = torch.randint(0, 20, (BATCH,))
    seconds = []
    for _ in range(iterations):
        start = time.perf_counter()
        loss = spike_count_loss(network(input, chunk_steps=chunk_steps).spikes, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return seconds


def _status(name: str) -> int:
    """A line of this process's status, in KiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    """Measure every case in a fresh process and print a Markdown table."""
    parser = argparse.ArgumentParser(description="Memory of a training step, by chunk_steps.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=3, help="steps after the first")
    parser.add_argument("--case", help=argparse.SUPPRESS)  # one case, in a process of its own
    options = parser.parse_args()
    if options.case is not None:
        chunk_steps, keep = json.loads(options.case)
        torch.set_num_threads(options.threads)
        if keep:
            keep_freed_memory()
        print(json.dumps(measure(chunk_steps, options.iterations)))
        return
    print(f"{STEPS} steps, batch {BATCH}, torch {torch.__version__}, threads: {options.threads}\n")
    print("| chunk_steps | peak, MiB | s per step | peak, MiB (kept) | s per step (kept) |")
    print("|---:|---:|---:|---:|---:|")
    for chunk_steps in CHUNKS:
        row = str(chunk_steps or "none")
        for keep in (False, True):
            command = [sys.executable, "-m", "benchmarks.memory", *sys.argv[1:]]
            command += ["--case", json.dumps([chunk_steps, keep])]
            finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            peak, seconds = json.loads(finished.stdout)
            row += f" | {peak:.0f} | {seconds:.2f}"
        print(f"| {row} |", flush=True)


if __name__ == "__main__":
    main()
