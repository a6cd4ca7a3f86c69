"""What becomes of a network in C."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.deploy.compiled import CompiledNetwork, same_spikes
from bsnn_tha.deploy import c
from bsnn_tha.deploy.c.linked import linked
from bsnn_tha.deploy.c.translate import program
from bsnn_tha.deploy.deployment import Deployment

_TOGETHER = 100
"""Samples that the reference runs at once: it keeps every membrane of a window."""
_TIMED = 50


def measured(deployment: Deployment, folder: Path) -> dict[str, Any]:
    """Equality, sizes and time of a program.

    Args:
        deployment: the network, with the samples to compare on.
        folder: empty.
    """
    report = c.write(deployment, folder)
    compiled = CompiledNetwork(program(deployment.whole), folder)
    inputs, steps = deployment.samples.inputs, deployment.samples.num_steps
    equal = 0
    count = len(deployment.samples.targets)
    for first in range(0, count, _TOGETHER):
        some = slice(first, first + _TOGETHER)
        equal += same_spikes(compiled, inputs[:, some] if steps is None else inputs[some], steps)
    return {
        "samples": count,
        "steps": deployment.whole.num_steps,
        "equal_samples": equal,
        "seconds_per_sample": _time(compiled, inputs, steps),
        **{name: report[name] for name in ("constant_bytes", "state_bytes", "stack_bytes")},
        "board": _on_the_board(folder),
    }


def _time(compiled: CompiledNetwork, inputs: Any, steps: int | None) -> float:
    """Of the fastest of some samples: reset, every time step, answer."""
    fastest = float("inf")
    for sample in range(min(_TIMED, len(inputs) if steps is not None else inputs.shape[1])):
        given = compiled.frame(inputs[sample] if steps is not None else inputs[:, sample])
        start = time.perf_counter()
        compiled.classify(given)
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


def _on_the_board(folder: Path) -> dict[str, Any] | None:
    if not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")):
        return None
    made = subprocess.run(
        ["make", "--silent", "-C", str(folder), "emulate"], capture_output=True, text=True
    )
    sizes = linked(folder / "board.map", "network.arm.o")
    return {
        "passed": made.returncode == 0,
        "says": made.stdout.strip(),
        "code_bytes": sum(sizes.text.values()),
        "constant_bytes": sum(sizes.rodata.values()),
        "state_bytes": linked(folder / "board.map", "selftest.arm.o").bss["state"],
    }
