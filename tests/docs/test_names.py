"""What sentences call by its name is there: options, settings, files, variables.

Whole commands are held by ``test_commands``, blocks by ``test_documents``.
"""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from documents import PAGES, prose, text_of
from places import ROOT

from bsnn_tha.choices import parameters
from bsnn_tha.cli import app
from bsnn_tha.config import RunConfig
from bsnn_tha.losses import LOSSES

PACKAGE = ROOT / "bsnn_tha"
PAST = "CHANGELOG.md"
"""Tells of what was."""
NAMES = {
    (page, name)
    for page in PAGES
    if page.name != PAST
    for name in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose(page))
}
CODE = {
    path: path.read_text(encoding="utf-8")
    for folder in ("bsnn_tha", "studies", "animations", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def _named(pattern: str) -> list[Any]:
    found = [(page, name) for page, name in sorted(NAMES) if re.match(pattern, name)]
    assert len(found) > 20
    return [pytest.param(name, id=f"{page.relative_to(ROOT)}: {name}") for page, name in found]


@cache
def known_options() -> set[str]:
    """Of ``bsnn-tha`` and all its commands, and of modules that read their own."""
    return _options(typer.main.get_command(app)) | set(
        re.findall(r'"(--[\w-]+)"', "".join(CODE.values()))
    )


def _options(command: Any) -> set[str]:
    own = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    below = getattr(command, "commands", {}).values()
    return own.union({"--help"}, *map(_options, below))


@pytest.mark.parametrize("name", _named("--"))
def test_options_are_known(name):
    options = {word.partition("=")[0] for word in shlex.split(name) if word.startswith("--")}
    assert options - {"--signal"} <= known_options()  # that one is sbatch's


SECTIONS = RunConfig.model_fields
PYTHON = ("neuron.rule.alpha",)
"""What reads like a setting, and is an attribute."""


@pytest.mark.parametrize("name", _named(rf"({'|'.join(SECTIONS)})\.\w+(\.\w+)*( = .*)?$"))
def test_settings_are_those_of_a_configuration(name):
    section, key, *_ = name.split(" ")[0].split(".")
    if name in PYTHON or key in ("c", "h", "nir"):  # files of exported networks
        return
    known = set(SECTIONS[section].annotation.model_fields)
    if section == "loss":
        known |= {field for name in LOSSES for field in parameters(LOSSES.find(name))}
    assert key in known


ROOMS = {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {"data"}
"""Which pages about the code name without the package; ``data/`` is also a folder of data."""
TOPS = ("bsnn_tha", "studies", "animations", "benchmarks", "tests", "docs")


@pytest.mark.parametrize("name", _named(rf"(.* )?({'|'.join((*TOPS, *ROOMS))})/"))
def test_files_are_there(name):
    for word in name.split():
        first = word.partition("/")[0]
        if "/" in word and first in (*TOPS, *ROOMS):
            place = (ROOT if first in TOPS else PACKAGE) / word
            assert any(place.parent.glob(place.name)) or _in_code(place), word


def _in_code(place: Path) -> bool:
    """``functional/lif`` and ``functional/lif.lif_window``: a module, or what is in it."""
    module, _, attribute = place.name.partition(".")
    files = place.with_name(f"{module}.py"), place.with_name(module) / "__init__.py"
    if not attribute or attribute == "py":
        return files[0] in CODE
    texts = "".join(CODE.get(file, "") for file in files)
    return re.search(rf"\b{attribute}\b", texts) is not None


def test_variables_are_read():
    named = {v for page in PAGES for v in re.findall(r"BSNN_THA_[A-Z_]+", text_of(page))}
    read = set(re.findall(r"BSNN_THA_[A-Z_]+", "".join(CODE.values())))
    assert len(named) >= 4 and named <= read
