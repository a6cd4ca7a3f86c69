"""What the site is made of: docstrings that read well, every public name, pages that are there."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import re
import sys

import pytest
from places import ROOT

import bsnn_tha

SITE = ROOT / "docs" / "_site"


def _module(name):
    spec = importlib.util.spec_from_file_location(name, SITE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PUBLIC = _module("public")


@pytest.mark.parametrize("name", ["docstrings", "fit"])
def test_what_makes_pages_does_what_it_says(name):
    pytest.importorskip("griffe")
    tested = doctest.testmod(_module(name))
    assert tested.attempted >= 2 and not tested.failed


REFERENCE = "".join(path.read_text("utf-8") for path in (ROOT / "docs/reference").glob("*.md"))
DESCRIBED = set(re.findall(r"^::: ([\w.]+)$", REFERENCE, re.MULTILINE))


def test_the_reference_has_every_public_name():
    assert {f"bsnn_tha.{name}" for name in bsnn_tha.__all__} <= DESCRIBED
    names = PUBLIC.public_names()
    assert len(names) > 120
    places = {"bsnn_tha.nn.thresholds": "bsnn_tha.thresholds"}  # by its short name
    for home, offered in names.items():
        modules = [name.rpartition(".")[0] for name in (home, offered)]
        described = {home, offered, *modules, *(places.get(module, "") for module in modules)}
        assert described & DESCRIBED, f"the reference lacks {offered}, of {home}"


def test_what_is_described_states_its_equation():
    """Of everything that computes: the choices of each axis that has mathematics."""
    axes = ("neurons", "thresholds", "surrogate", "quantizers", "norms", "losses")
    found = 0
    for module, name in PUBLIC._choices():
        if any(part in axes for part in module.split(".")):
            thing = getattr(importlib.import_module(module), name)
            told = [inspect.getdoc(thing) or "", sys.modules[module].__doc__ or ""]
            for other in re.findall(r":func:`(\w+)`", told[0]):  # beside it on the page
                told.append(inspect.getdoc(getattr(sys.modules[module], other)) or "")
            stated = re.search(r"Eq\. |[^=:]=[^=]|←|≥|Σ", "\n".join(told))
            assert stated, f"{module}.{name} has no equation"
            found += 1
    assert found >= 20


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
