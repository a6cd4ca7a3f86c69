"""The command line is a room of its own: the libraries below it know nothing of a terminal."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import animations
import bsnn_tha
import studies

TERMINAL = {"typer", "click", "rich.progress", "rich.live", "rich.prompt"}
SPEAKS = {
    "bsnn_tha/training/callbacks/progress.py",  # a run's lines, and its bar
    "bsnn_tha/data/event_cache.py",  # a bar while a data set is binned for the first time
    "studies/trials_table.py",  # scripts: their last lines print
    "bsnn_tha/campaigns/temporal_coding/__main__.py",
    "studies/worker_process.py",  # a process that talks to the one that started it
}
"""What may print outside of the command line."""


def modules():
    for package in (bsnn_tha, studies, animations):
        folder = Path(package.__file__).parent
        for path in sorted(folder.rglob("*.py")):
            name = str(path.relative_to(folder.parent))
            if not name.startswith("bsnn_tha/cli/") and name != "bsnn_tha/__main__.py":
                yield name, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def prints(tree):
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        for node in ast.walk(tree)
    )


def test_no_library_knows_a_terminal():
    for name, tree in modules():
        names = set(imported(tree))
        assert not any(n == "bsnn_tha.cli" or n.startswith("bsnn_tha.cli.") for n in names), name
        if name not in SPEAKS:
            assert not prints(tree), f"{name} prints"
            assert not names & TERMINAL, name


def test_everything_that_may_print_does():
    speak = {name for name, tree in modules() if prints(tree) or set(imported(tree)) & TERMINAL}
    assert speak == SPEAKS


def test_the_command_line_is_a_module_as_well():
    asked = [sys.executable, "-m", "bsnn_tha", "--version"]
    result = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert result.stdout == f"bsnn-tha {bsnn_tha.__version__}\n"
