"""What counts as public, and so must be in the reference.

Every name that a package's ``__all__`` offers; every choice that a configuration can name; every
name that the documents or the notebooks import.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ("bsnn_tha", "studies", "animations")
INTERNAL = ("bsnn_tha.kernels", "bsnn_tha.cli", "studies.optuna_internals")
"""Rooms whose names are for the room above them."""
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def public_names() -> dict[str, str]:
    """Where each public thing is defined (``module.name``), and where it is offered."""
    found: dict[str, str] = {}
    for module, name in [*_offered(), *_choices(), *_imported()]:
        thing = _get(module, name)
        if isinstance(thing, type(ast)):
            continue  # a module: its names are public by themselves
        home = f"{getattr(thing, '__module__', module)}.{getattr(thing, '__qualname__', name)}"
        if isinstance(thing, type) or callable(thing):
            if home.split(".")[0] not in PACKAGES:
                continue  # of a library
        elif home.split(".")[0] not in PACKAGES:  # a value: it is called what it is called here
            home = f"{module}.{name}"
        found.setdefault(home, f"{module}.{name}")
    return found


def _get(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError:
        return importlib.import_module(f"{module}.{name}")


def _sources() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            if not module.startswith(INTERNAL):
                text = path.read_text(encoding="utf-8")
                yield module.removesuffix(".__init__"), ast.parse(text)


def _offered() -> Iterator[tuple[str, str]]:
    for module, tree in _sources():
        for node in tree.body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
                yield from ((module, name) for name in ast.literal_eval(node.value))


def _choices() -> Iterator[tuple[str, str]]:
    """What the tables of :class:`bsnn_tha.choices.Axis` stand for."""
    from bsnn_tha.choices import Axis, load

    for module, tree in _sources():
        for node in tree.body:
            target = getattr(node, "target", None) or (getattr(node, "targets", None) or [None])[0]
            made = getattr(getattr(node, "value", None), "func", None)
            if getattr(made, "id", "") != "Axis":
                continue
            for choice in _get(module, target.id).values():
                thing = load(choice) if isinstance(choice, str) else choice
                if hasattr(thing, "__qualname__") and "." not in thing.__qualname__:
                    yield thing.__module__, thing.__qualname__
    assert Axis


def _imported() -> Iterator[tuple[str, str]]:
    """Of the blocks of pages and the cells of notebooks."""
    texts = [block for page in _pages() for block in BLOCK.findall(page.read_text("utf-8"))]
    for path in sorted((ROOT / "bsnn_tha" / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts += ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    for text in texts:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
                yield from ((node.module or "", alias.name) for alias in node.names)


def _pages() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
