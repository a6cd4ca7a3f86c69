"""Where the time of a training step goes, against what the machine can do.

    python -m benchmarks.profile --threads 2

For each network of :mod:`benchmarks.steps` the share of a step's operator time in
matrix products, in neurons, in layers that are both in one pass, and in the rest;
the rate of the float32 matrix products (GFLOP/s) and of the neurons (GB/s that
have to be moved at least). Next to them the ceilings, measured in the same run: a
large matrix product, and a copy from memory to memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.steps import NETWORKS, training_step
from bsnn_tha.training.memory import keep_freed_memory

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "convolution", "qconv2d", "qconv_prepack")
NEURONS = ("bsnn_tha::lif", "bsnn_tha_lif_default")
ONE_PASS = ("bsnn_tha::sparse_lif", "bsnn_tha_sparse_lif")
LOOPS = {
    "patches": ("bsnn_tha::spike_conv",),
    "batch norm": ("batch_norm",),
    "optimizer": ("adam",),
}


def kind_of(name: str) -> str:
    """What an operator is counted as."""
    for kind, names in (("one pass", ONE_PASS), ("neurons", NEURONS), *LOOPS.items()):
        if any(part in name for part in names):
            return kind
    return "products" if any(part in name for part in PRODUCTS) else "rest"


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
    step = training_step(NETWORKS[name], half)
    for _ in range(2):
        step()
    seconds = []
    for _ in range(turns):
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True, with_flops=True) as found:
        for _ in range(turns):
            step()
    times: dict[str, float] = {}
    flops = flop_time = moved = 0.0
    for event in found.key_averages(group_by_input_shape=True):
        kind = kind_of(event.key)
        microseconds = event.self_cpu_time_total
        times[kind] = times.get(kind, 0.0) + microseconds
        if event.key in ("aten::mm", "aten::addmm", "aten::addmm_") and event.input_shapes:
            shapes = [shape for shape in event.input_shapes if len(shape) == 2][-2:]
            if len(shapes) == 2:
                flops += 2.0 * shapes[0][0] * shapes[0][1] * shapes[1][1] * event.count
                flop_time += microseconds
        if kind == "neurons" and event.input_shapes:
            largest = max(
                (torch.Size(shape).numel() for shape in event.input_shapes if shape), default=0
            )
            # Three windows read or written each way, two bytes or four.
            own = "::" in event.key or "Backward" not in event.key
            moved += 3 * (2 if half else 4) * largest * event.count if own and microseconds else 0
    total = sum(times.values())
    shares = " | ".join(
        f"{times.get(kind, 0) / total:.0%}"
        for kind in ("products", "one pass", "neurons", *LOOPS, "rest")
    )
    rate = f"{flops / flop_time / 1e3:.0f}" if flop_time else "–"
    bandwidth = f"{moved / times['neurons'] / 1e3:.1f}" if times.get("neurons") else "–"
    dtype = "bfloat16" if half else "float32"
    middle = 1e3 * statistics.median(seconds)
    return f"| {name} | {dtype} | {middle:.0f} | {shares} | {rate} | {bandwidth} |"


def main() -> None:
    """Profile every network and print a Markdown table."""
    parser = argparse.ArgumentParser(description="Where the time of a training step goes.")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--networks", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as `bsnn-tha train`
    gflops, gbs = ceilings()
    print(
        f"torch {torch.__version__}, {options.threads} threads; load of the machine "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; ceilings: {gflops:.0f} GFLOP/s "
        f"(float32), {gbs:.1f} GB/s\n"
    )
    kinds = ("products", "one pass", "neurons", *LOOPS, "rest")
    print(f"| network | | ms per step | {' | '.join(kinds)} | GFLOP/s | GB/s |")
    print("|---|---|---:|" + "---:|" * (len(kinds) + 2))
    for name in options.networks:
        for half in (False, True):
            print(row(name, options.turns, half), flush=True)


if __name__ == "__main__":
    main()
