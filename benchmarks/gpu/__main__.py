"""The command: stages one after the other within a time; see :mod:`benchmarks.gpu`."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.setting import Setting
from benchmarks.gpu.stage import STAGES, save, write
from benchmarks.gpu.tables import markdown

ROOT = Path(__file__).parents[2]
LIMITS = {"kernels": 0.3, "bandwidth": 0.12, "steps": 0.4, "training": 0.6, "campaign": 1.0}
"""The largest share of the time then left that a stage may take."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description="Correctness, bandwidth, training steps and accuracy on a GPU, in that order.",
    )
    parser.add_argument("--seconds", type=float, default=540, help="for all stages (540)")
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), help="new or empty folder")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--data-root", type=Path, help="folder of the data sets, with MNIST")
    parser.add_argument("--dry-run", action="store_true", help="without a GPU, tiny, interpreted")
    return parser.parse_args(arguments)


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    found: dict[str, Any] = {"python": platform.python_version(), "torch": torch.__version__}
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": card.name,
            "GiB": round(card.total_memory / 2**30),
            "cuda": torch.version.cuda,
        }
    return {**found, "cores": os.cpu_count(), "date": datetime.date.today().isoformat()}


def stage(name: str, setting: Setting, out: Path) -> dict[str, Any]:
    """Run a stage's process to its end or to its limit, and read what it left."""
    told, result = out / "setting.json", out / f"{name}.json"
    save(setting, told)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if setting.tiny:
        environment["TRITON_INTERPRET"] = "1"
    command = [sys.executable, "-m", "benchmarks.gpu.stage", name, str(told), str(result)]
    limit = LIMITS[name] * setting.seconds_left
    print(f"{name}: at most {limit:.0f} s", file=sys.stderr, flush=True)
    process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
    try:
        process.wait(timeout=limit)
    except subprocess.TimeoutExpired:
        print(f"{name}: its time was over", file=sys.stderr, flush=True)
        # With whatever it has started: the card belongs to the next stage.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if not result.exists():
        return {"stage": name, "finished": False, "rows": []}
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found


def main(arguments: list[str]) -> int:
    """1 if a kernel computes something else, 2 if there is no GPU or no room for the results."""
    options = parse(arguments)
    if not options.dry_run and not torch.cuda.is_available():
        print("error: torch finds no GPU; --dry-run tries the command without one", file=sys.stderr)
        return 2
    out = options.out.absolute()
    if out.exists() and any(out.iterdir()):
        print(f"error: {options.out} is not empty; name another folder by --out", file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    setting = Setting(
        device="cpu" if options.dry_run else "cuda",
        tiny=options.dry_run,
        data_root=options.data_root and options.data_root.absolute(),
        folder=out / "runs",
        deadline=time.time() + options.seconds,
    )
    results: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "benchmarks.gpu", *told(options)]),
        "dry_run": options.dry_run,
        "machine": machine(),
        "stages": [],
    }
    for name in options.stages:
        results["stages"].append(stage(name, setting, out))
        write(out / "results.json", results)
        (out / "results.md").write_text(markdown(results), encoding="utf-8")
    print(markdown(results))
    rows = [row for each in results["stages"] for row in each["rows"]]
    return 0 if all(row.get("holds", True) for row in rows) else 1


def told(options: argparse.Namespace) -> list[str]:
    """What decides about the figures, without this machine's folders."""
    words = ["--seconds", f"{options.seconds:g}"]
    if options.stages != list(STAGES):
        words += ["--stages", *options.stages]
    return [*words, "--dry-run"] if options.dry_run else words


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
