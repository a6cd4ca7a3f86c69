"""A stage in a process of its own: a fault on the device ends one stage, not the command.

    python -m benchmarks.gpu.stage kernels settings.json kernels.json

The second file is written anew after every row, to a temporary name and renamed, so that it is
whole whenever the process is killed.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu.setting import Row, Setting

STAGES = ("kernels", "bandwidth", "steps", "training", "campaign")
"""In the order of what they are worth; each is a module of this package with ``rows``."""


def write(path: Path, content: dict[str, Any]) -> None:
    """JSON, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def save(setting: Setting, path: Path) -> None:
    """For a stage's process to read."""
    content = asdict(setting)
    for name in ("folder", "data_root"):
        content[name] = None if content[name] is None else str(content[name])
    write(path, content)


def load(path: Path) -> Setting:
    """What :func:`save` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    root = content["data_root"]
    content |= {"folder": Path(content["folder"]), "data_root": root and Path(root)}
    return Setting(**content)


def run(name: str, setting: Setting, to: Path) -> None:
    """All rows of a stage; an error ends it and is written beside the rows it had."""
    found: list[Row] = []
    content: dict[str, Any] = {"stage": name, "finished": False, "rows": found}
    try:
        for row in importlib.import_module(f"benchmarks.gpu.{name}").rows(setting):
            found.append(row)
            write(to, content)
        content["finished"] = True
    except Exception as error:
        traceback.print_exc()
        content["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
    write(to, content)


if __name__ == "__main__":
    run(sys.argv[1], load(Path(sys.argv[2])), Path(sys.argv[3]))
