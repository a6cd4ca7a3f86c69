"""Where the time of a training step goes, against what the machine can do.

    python -m benchmarks.profile --threads 2

For each of three networks, or those of :mod:`benchmarks.peers` that are asked for, the share of a
step's time in matrix products (the library's, and our own of the input's gradient), in gradients by
Winograd's algorithm, in layers that are one pass, in sparse convolutions, in lists of spikes, in
neurons, and in the rest; the rates of both kinds of products (GFLOP/s) and of the neurons (GB/s
that have to be moved at least). Next to them the ceilings, measured in the same run: a large matrix
product, and a copy from memory to memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

# Before torch: idle threads of OpenMP are to sleep.
import bsnn_tha  # noqa: F401

# isort: split
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.peers.worker import Peer
from benchmarks.peers.workload import SOURCES, draw, from_preset
from benchmarks.steps import NETWORKS
from bsnn_tha.freed_memory import keep_freed_memory

# Of 4 bytes: 1.6 GB.
_SPARE = 3 << 27
OWN_PRODUCTS = "cpu.input_gradient._input_gradient_loop"
KINDS = {
    "products": (OWN_PRODUCTS, "aten::mm", "aten::addmm", "aten::bmm", "convolution", "qconv"),
    "Winograd": ("cpu.winograd.", "cpu.input_gradient._taps_loop"),
    "one pass": ("cpu.sparse_lif", "cpu.sparse_conv_lif."),
    "sparse convolutions": ("cpu.sparse_conv.", "cpu.weight_gradient."),
    "spikes listed": ("cpu.events.",),
    "neurons": ("cpu.lif_scans.", "cpu.norm_lif."),
    "patches": ("cpu.spike_conv.",),
    "batch norm": ("cpu.batch_norm.",),
    "optimizer": ("adam",),
}
"""What operators are counted as, by parts of their names; the first that fits."""


def kind_of(name: str) -> str:
    """What an operator is counted as."""
    for kind, names in KINDS.items():
        if any(part in name for part in names):
            return kind
    return "rest"


def ceilings() -> tuple[float, float]:
    """GFLOP/s of a matrix product, GB/s of a copy (read and written)."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    source = torch.ones(1 << 26)
    target = torch.empty_like(source)
    product = shortest(lambda: torch.mm(a, b))
    copy = shortest(lambda: target.copy_(source))
    return 2e-9 * 2048**3 / product, 2e-9 * source.numel() * source.itemsize / copy


def shortest(function: Callable[[], object]) -> float:
    seconds = []
    for _ in range(7):
        begin = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def row(name: str, turns: int, half: bool) -> str:
    """A line of the table."""
    workload = from_preset(name.lower())
    step = Peer("ours-bf16" if half else "ours", workload, draw(workload)).train
    for _ in range(2):
        step()
    seconds = []
    for _ in range(turns):
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        # What the profiler keeps lies between the windows, whose memory cannot be used again as in
        # training: there must be enough that has been touched.
        torch.ones(_SPARE)
        for _ in range(turns):
            step()
    times: dict[str, float] = {}
    flops = flop_time = own_time = 0.0
    for event in found.key_averages(group_by_input_shape=True):
        if event.key in ("aten::ones", "aten::fill_"):
            continue  # see above
        kind = kind_of(event.key)
        microseconds = event.self_cpu_time_total
        times[kind] = times.get(kind, 0.0) + microseconds
        own_time += microseconds if OWN_PRODUCTS in event.key else 0
        if event.key in ("aten::mm", "aten::addmm", "aten::addmm_") and event.input_shapes:
            shapes = [shape for shape in event.input_shapes if len(shape) == 2][-2:]
            if len(shapes) == 2:
                flops += 2.0 * shapes[0][0] * shapes[0][1] * shapes[1][1] * event.count
                flop_time += microseconds
    total = sum(times.values())
    shares = [f"{times.get(kind, 0) / total:.0%}" for kind in (*KINDS, "rest")]
    sizes = NETWORKS.get(name)
    # Where layers are one pass, those of the output alone are counted as neurons.
    moved = 0 if sizes is None or times.get("one pass") else sizes.neurons_bytes(half) * turns
    rates = [
        _rate(0 if sizes is None else 2 * sizes.deep_multiplications * turns, own_time),
        _rate(flops, flop_time),
        _rate(moved, times.get("neurons", 0), digits=1),
    ]
    cells = name, "bfloat16" if half else "float32", f"{1e3 * statistics.median(seconds):.0f}"
    return f"| {' | '.join((*cells, *shares, *rates))} |"


def _rate(amount: float, microseconds: float, digits: int = 0) -> str:
    return f"{amount / microseconds / 1e3:.{digits}f}" if amount and microseconds else "–"


def main() -> None:
    """Profile every network and print a Markdown table."""
    parser = argparse.ArgumentParser(description="Where the time of a training step goes.")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--turns", type=int, default=5)
    networks = [*NETWORKS, *(name for name in SOURCES if name.upper() not in NETWORKS)]
    parser.add_argument("--networks", nargs="*", choices=networks, default=list(NETWORKS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as `bsnn-tha train`
    gflops, gbs = ceilings()
    print(
        f"torch {torch.__version__}, {options.threads} threads; load of the machine "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; ceilings: {gflops:.0f} GFLOP/s "
        f"(float32), {gbs:.1f} GB/s\n"
    )
    columns = *KINDS, "rest", "own products, GFLOP/s", "library's, GFLOP/s", "neurons, GB/s"
    print(f"| network | | ms per step | {' | '.join(columns)} |")
    print("|---|---|---:|" + "---:|" * len(columns))
    for name in options.networks:
        for half in (False, True):
            print(row(name, options.turns, half), flush=True)


if __name__ == "__main__":
    main()
