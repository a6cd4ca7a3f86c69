"""What the site is made of: docstrings that read well, every public name, pages that are there."""

from __future__ import annotations

import doctest
import importlib.util
import re

import pytest
from places import ROOT

import bsnn_tha

SITE = ROOT / "docs" / "_site"


def _module(name):
    spec = importlib.util.spec_from_file_location(name, SITE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_docstrings_become_markdown():
    pytest.importorskip("griffe")
    tested = doctest.testmod(_module("docstrings"))
    assert tested.attempted >= 2 and not tested.failed


def test_the_reference_has_every_public_name():
    text = "".join(path.read_text("utf-8") for path in (ROOT / "docs/reference").glob("*.md"))
    listed = set(re.findall(r"^::: bsnn_tha\.(\w+)$", text, re.MULTILINE))
    assert set(bsnn_tha.__all__) <= listed


def test_what_is_described_is_there():
    """``::: module.name`` leads to a module, or to a name in one."""
    for path in (ROOT / "docs/reference").glob("*.md"):
        for name in re.findall(r"^::: ([\w.]+)$", path.read_text("utf-8"), re.MULTILINE):
            parent, _, last = name.rpartition(".")
            package = importlib.util.find_spec(parent).submodule_search_locations
            if package is None or importlib.util.find_spec(name) is None:
                assert hasattr(importlib.import_module(parent), last), name


def test_pages_of_the_navigation_are_there():
    text = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    pages = re.findall(r"([\w/-]+\.md)$", text, re.MULTILINE)
    made = {"contributing.md", "changelog.md"}  # of the root's
    assert len(pages) > 25
    assert [
        page for page in pages if page not in made and not (ROOT / "docs" / page).is_file()
    ] == []
