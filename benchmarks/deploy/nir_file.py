"""What readers make of a network as a NIR file."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.peers.environments import interpreter
from bsnn_tha.deploy import nir
from bsnn_tha.deploy.deployment import Deployment
from bsnn_tha.deploy.nir.profiles import PROFILES
from bsnn_tha.errors import InvalidValueError

_ENVIRONMENT = {"snntorch": "published"}
"""Where it is not called as the reader."""
_SAMPLES = 100
"""That readers are compared on."""


def measured(deployment: Deployment, folder: Path, cache: Path) -> dict[str, dict[str, Any]]:
    """For each reader the exact file, and the plain one.

    Args:
        deployment: the network.
        folder: empty.
        cache: of the readers' environments.
    """
    found: dict[str, dict[str, Any]] = {}
    for reader in PROFILES:
        python = interpreter(_ENVIRONMENT.get(reader, reader), cache)
        found[reader] = {}
        for plain in (False, True):
            name = "plain" if plain else "exact"
            here = folder / f"{reader}-{name}"
            here.mkdir()
            options = {"reader": reader, "plain": plain, "inexact": plain, "samples": _SAMPLES}
            try:
                report = nir.write(dataclasses.replace(deployment, options=options), here)
                found[reader][name] = {**report, "read": _read(python, here)}
            except InvalidValueError as refused:
                found[reader][name] = {"refused": str(refused)}
    return found


def _read(python: Path, folder: Path) -> dict[str, Any]:
    """The self-check's figures, in the reader's environment."""
    theirs = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(python), str(folder / "check.py"), "--json"],
        capture_output=True, text=True, env=theirs, cwd=folder,
    )  # fmt: skip
    if done.returncode not in (0, 1) or not done.stdout.strip():
        raise RuntimeError(f"{python} {folder}/check.py: {done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures
