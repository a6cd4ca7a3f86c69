"""Event data on its way into training: how fast, how large, against tonic's own way.

For each data set: its binned cache is built and opened, an epoch's batches are
taken from it (compact, and turned into dense frames), and a few training steps
of the preset's network run on them. tonic's way reads the same files, applies
`ToFrame` to every sample anew and stacks frames in a `DataLoader`:

    python -m benchmarks.data_pipeline --data-root ../shared/data --threads 1

DVS Gesture is stood in for by random events of its layout, rate and length.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bsnn_tha import spike_count_loss
from bsnn_tha.data import load_dataset
from bsnn_tha.data.binning import bin_recording
from bsnn_tha.data.event_split import EventSplit
from bsnn_tha.data.recordings import RawEvents
from bsnn_tha.freed_memory import keep_freed_memory
from bsnn_tha.presets import load_preset


@dataclass(frozen=True)
class Case:
    """One data set: its window, and tonic's class for its layout."""

    name: str
    title: str
    tonic: str
    batch: int
    steps: int
    bin_ms: float
    downsample: int = 1


CASES = (
    Case("spoken-digits", "SpokenDigits", "SHD", 32, 333, 3.0),
    Case("saccade-digits", "SaccadeDigits", "NMNIST", 32, 300, 1.0),
    Case("dvs-gesture", "DVSGesture", "DVSGesture", 8, 100, 5.0, 4),
)
GESTURES, EVENTS, MILLISECONDS = 40, 400_000, 6000


def write_gestures(root: Path) -> None:
    """Random events in DVS Gesture's layout; a tenth of them for the test part."""
    rng = np.random.default_rng(0)
    for part, count in (("Train", GESTURES), ("Test", GESTURES // 10)):
        for sample in range(count):
            columns = [rng.integers(0, n, EVENTS) for n in (128, 128, 2, MILLISECONDS)]
            columns[3].sort()
            folder = root / "DVSGesture" / f"ibmGesture{part}" / f"user{sample // 11:02d}_led"
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{sample % 11}.npy", np.stack(columns, 1).astype(np.float64))


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def batches(split: EventSplit, size: int) -> Iterator[Any]:
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0)).tolist()
    for start in range(0, len(order) - size + 1, size):
        yield split[order[start : start + size]]


def tonic_loader(case: Case, root: Path) -> Any:
    """Its data set, transforms and frames; a batch is `[time, batch, ...]`, float32."""
    from tonic import datasets, transforms

    layout = getattr(datasets, case.tonic)
    # tonic finds files by the name of the class, and wants archives beside them.
    local = type(case.title, (layout,), {"_check_exists": lambda self: True})
    width, height, polarities = layout.sensor_size
    small = (width // case.downsample, max(1, height // case.downsample), polarities)
    window = int(case.bin_ms * 1000)
    steps = [
        transforms.ToFrame(
            sensor_size=small, time_window=window, start_time=0, end_time=window * case.steps
        )
    ]
    if case.downsample > 1:
        factor = 1 / case.downsample
        steps.insert(0, transforms.Downsample(spatial_factor=factor))
    return torch.utils.data.DataLoader(
        local(str(root), train=True, transform=transforms.Compose(steps)),
        batch_size=case.batch,
        shuffle=True,
        collate_fn=lambda samples: torch.from_numpy(
            np.stack([frames for frames, _ in samples], axis=1)
        ).float(),
    )


def training_step(case: Case, split: EventSplit, iterations: int) -> float:
    """Seconds of a step of the preset's network, without the data; the median after the first."""
    config = load_preset(case.name, "tha")
    network = config.build_network(split.store.shape)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    taken = []
    for _, (events, targets) in zip(
        range(iterations + 1), batches(split, case.batch), strict=False
    ):
        frames = events.dense()

        def step(frames: torch.Tensor = frames, targets: torch.Tensor = targets) -> None:
            loss = spike_count_loss(network(frames).spikes, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        taken.append(seconds(step))
    return statistics.median(taken[1:])


def measure(case: Case, root: Path, cache: Path, iterations: int) -> dict[str, str]:
    """One column of the table."""

    def load() -> EventSplit:
        # The few made-up gestures of the test part lack some classes.
        options = {"bin_ms": case.bin_ms, "downsample": case.downsample, "partial": True}
        common: Any = {"root": root, "cache": cache, "seed": 0, "validation": 0.0}
        data = load_dataset(case.name, num_steps=case.steps, options=options, **common)
        assert isinstance(data.train, EventSplit) and isinstance(data.test, EventSplit)
        samples.append(len(data.train) + len(data.test))
        return data.train

    samples: list[int] = []
    build = seconds(load)
    open_time = statistics.median(seconds(load) for _ in range(3))
    split = load()
    store = split.store
    list(batches(split, case.batch))  # into the page cache
    count = len(split) // case.batch
    compact = seconds(lambda: _consume(batches(split, case.batch))) / count
    dense = seconds(lambda: _consume(b.dense() for b, _ in batches(split, case.batch))) / count
    loader = tonic_loader(case, root)
    some = min(count, max(1, 320 // case.batch))
    tonic = seconds(lambda: _consume(itertools.islice(loader, some))) / some
    step = training_step(case, split, iterations)
    bins = np.mean([store.bins(i) for i in range(len(store))])
    frame = 4 * prod(store.shape)
    return {
        "recordings": f"{samples[0]:,}",
        "batch × steps": f"{case.batch} × {case.steps}",
        "first use: recordings binned per s": f"{samples[0] / build:,.0f}",
        "later uses: s to open": f"{open_time:.3f}",
        "bytes per recording on disk": f"{store.bytes_per_sample:,.0f}",
        "… dense float32, whole recording": f"{frame * bins:,.0f}",
        "… dense float32, window": f"{frame * case.steps:,.0f}",
        "compact batches, samples per s": f"{case.batch / compact:,.0f}",
        "dense batches, samples per s": f"{case.batch / dense:,.0f}",
        "tonic's batches, samples per s": f"{case.batch / tonic:,.0f}",
        "ms per dense batch": f"{1000 * dense:.1f}",
        "ms per tonic batch": f"{1000 * tonic:.1f}",
        "ms per training step": f"{1000 * step:,.0f}",
        "dense batch, share of a step": f"{dense / step:.1%}",
        "tonic batch, share of a step": f"{tonic / step:.1%}",
    }


def _consume(values: Any) -> None:
    for _ in values:
        pass


def million_events() -> float:
    """Seconds to bin a million events of a camera, downsampled by four; the best of five."""
    rng = np.random.default_rng(0)
    times = np.sort(rng.integers(0, 6_000_000, 1_000_000))
    places = tuple(rng.integers(0, n, 1_000_000) for n in (2, 128, 128))
    events = RawEvents(times, places)
    return min(
        seconds(lambda: bin_recording(events, (2, 128, 128), 1.0, bin_us=5000, downsample=4))
        for _ in range(5)
    )


def main() -> None:
    """Measure every data set and print a Markdown table."""
    parser = argparse.ArgumentParser(description="Speed and size of the event data pipeline.")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=3, help="training steps after the first")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    columns = {}
    with tempfile.TemporaryDirectory() as folder:
        write_gestures(Path(folder))
        for case in CASES:
            root = Path(folder) if case.name == "dvs-gesture" else options.data_root
            columns[case.name] = measure(case, root, Path(folder) / "cache", options.iterations)
    print(f"torch {torch.__version__}, threads: {options.threads}; ", end="")
    print(f"a million events are binned in {1000 * million_events():.0f} ms\n")
    print(f"|  | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    for row in next(iter(columns.values())):
        print(f"| {row} | {' | '.join(column[row] for column in columns.values())} |")


if __name__ == "__main__":
    main()
