"""Compiled loops that are kept on disk follow their sources."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bsnn_tha
from bsnn_tha.kernels.cpu import compiled

PACKAGE = Path(bsnn_tha.__file__).parent
# One small loop, the forward scan, and where it came from.
SCRIPT = """
import torch
from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.surrogate import FastSigmoid
from bsnn_tha.kernels.cpu import compiled, lif
one = torch.ones(1)
dynamics = Dynamics(one, one, one, FastSigmoid(), "none")
_, membranes, _ = lif.forward(torch.full((1, 1), 3.0), one, dynamics, [0, 1], True)
(loop,) = compiled._loops.values()
print(membranes.item(), sum(loop.stats.cache_hits.values()), sum(loop.stats.cache_misses.values()))
"""


def test_a_changed_helper_leaves_no_stale_loop(tmp_path):
    """``git pull`` on an editable install: the loop's own file has not changed, its helper has."""
    package = tmp_path / "bsnn_tha"
    for room in ("equations", "kernels"):
        shutil.copytree(
            PACKAGE / room, package / room, ignore=shutil.ignore_patterns("__pycache__")
        )
    for file in ("errors.py", "idle_threads.py"):
        shutil.copy(PACKAGE / file, package)
    (package / "__init__.py").touch()  # without the rest of the package, which takes longer
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}

    def run() -> list[float]:
        result = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            cwd=tmp_path,
            env=environment | {"PYTHONPATH": str(tmp_path)},
            check=True,
            capture_output=True,
            text=True,
        )
        return [float(word) for word in result.stdout.split()]

    assert run() == [4.0, 0, 1]
    helper = package / "kernels" / "cpu" / "bfloat16.py"
    text, same = helper.read_text(), "    return lambda value: value\n"
    assert text.count(same) == 1
    helper.write_text(text.replace(same, "    return lambda value: value + value\n"))
    assert run() == [7.0, 0, 1]
    assert run() == [7.0, 1, 0]


def test_a_loop_that_no_other_process_would_find_on_disk_is_refused():
    def made(value):
        return value

    def make():
        helper = made

        def loop(first, last):
            helper(first)

        return loop

    with pytest.raises(TypeError, match="close over numbers and functions of modules, but helper"):
        compiled.run(make, (), (), 1, 1)


LATE = """
import {first}
import {then}
from bsnn_tha.kernels.cpu import compiled
torch.set_num_threads(2)
def make():
    def loop(first, last):
        pass
    return loop
for _ in range(2):
    compiled.run(make, (), (), 2, 2)
"""


@pytest.mark.parametrize(
    ("first", "decided"),
    [("bsnn_tha", {}), ("torch", {}), ("torch", {"OMP_WAIT_POLICY": "active"})],
)
def test_idle_threads_that_spin_are_mentioned_once(first, decided):
    then = {"torch": "bsnn_tha", "bsnn_tha": "torch"}[first]
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    result = subprocess.run(
        [sys.executable, "-c", LATE.format(first=first, then=then)],
        env=environment | decided,
        check=True,
        capture_output=True,
        text=True,
    )
    late = first == "torch" and not decided
    assert result.stderr.count("import bsnn_tha first, or set OMP_WAIT_POLICY=passive") == late
