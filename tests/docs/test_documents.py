"""What the documents say is true of the code: Python runs, TOML is taken, links lead
somewhere, and figures are those of the files they come from.

Every fenced block has a language, and every language something that holds it: what is to be
typed is in ``test_commands``. A Python block that cannot run says why in a comment before it:
``<!-- not run: reason -->``.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import tomllib
import types
from pathlib import Path
from typing import Any

import pytest
from documents import DOCS, PAGES, blocks, prose, text_of
from exported_c import CASES, exported
from input_shapes import INPUT_SHAPES
from places import ROOT

from bsnn_tha.campaigns.comparison.plan import Comparison
from bsnn_tha.config import RunConfig
from bsnn_tha.presets import load_preset

BLOCKS = [block for page in PAGES for block in blocks(page)]

CHECKED = {
    "python": "it runs: test_python",
    "toml": "it is a configuration's: test_toml_is_settings",
    "sh": "its commands are taken, and run: test_commands, test_commands_run",
    "bash": "likewise",
    "c": "its names are those of exported headers: test_c_has_names_of_the_header",
    "bibtex": "it is what CITATION.cff says: test_the_citation_is_the_papers",
    "text": "files and what programs print: nothing to run",
}
"""Languages of blocks, and what is made sure of each."""


def test_every_block_says_what_it_is():
    assert [str(block) for block in BLOCKS if block.language not in CHECKED] == []


def _of(*languages: str) -> list[Any]:
    return [pytest.param(b, id=str(b)) for b in BLOCKS if b.language in languages]


# --- Python


@pytest.mark.parametrize("block", _of("python"))
def test_python(block, tmp_path, monkeypatch):
    if block.not_run:
        pytest.skip(block.not_run)
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("block")  # dataclasses look theirs up
    monkeypatch.setitem(sys.modules, "block", module)
    scope = vars(module)
    exec(compile("\n" * block.line + block.text, block.page.name, "exec"), scope)
    if "accuracy" in scope:
        assert scope["accuracy"] > 0.8


# --- TOML


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys, as ``--set`` takes them."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        inner = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{key}.") if inner else {prefix + key: value}
    return flat


def _build(config: RunConfig) -> None:
    """All that is checked of a configuration before it trains."""
    own = INPUT_SHAPES["digits"]  # which a page's own data set has as well
    network = config.build_network(INPUT_SHAPES.get(config.data.name, own))
    config.build_loss(network)


@pytest.mark.parametrize("block", _of("toml"))
def test_toml_is_settings(block):
    _build(load_preset("digits", "bsnn").with_changes(_flat(tomllib.loads(block.text))))


@pytest.mark.parametrize(
    "path", sorted(DOCS.rglob("*.toml")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_toml_files_are_configurations_of_today(path, caplog):
    with caplog.at_level("INFO", "bsnn_tha"):
        if path.name == "comparison.toml":
            comparison = Comparison.load(path.parent)
            for cell in comparison.cells():
                comparison.config(cell, 0)
        else:
            _build(RunConfig.from_file(path))
    assert not caplog.messages  # no key of an earlier version


# --- C and citation


def test_c_has_the_names_of_the_headers(tmp_path):
    for case in ("dense", "held"):  # takes an image, takes events
        exported(CASES[case].deployment(), tmp_path / case)
    headers = [path.read_text(encoding="utf-8") for path in tmp_path.glob("*/network.h")]
    found = [block for block in BLOCKS if block.language == "c"]
    assert len(headers) == len(found) == 2
    for block in found:
        names = set(re.findall(r"\b(?:network|NETWORK)_\w+", block.text))
        assert names and any(all(name in header for name in names) for header in headers)


def test_the_citation_is_the_papers():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    (block,) = (b for b in BLOCKS if b.language == "bibtex")
    for field in ("title", "year"):
        assert re.search(rf"{field} *= \{{(.*)\}}", block.text)[1] in citation


# --- links


def _anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page}: {target}"
        assert ROOT in Path(os.path.normpath(file)).parents or file == ROOT, target
        if anchor:
            assert anchor in _anchors(file), f"{page}: {target}"


# --- figures


@pytest.fixture(scope="module")
def figures():
    """``docs/figures.py``, which is no package."""
    spec = importlib.util.spec_from_file_location("figures", DOCS / "figures.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_figures_are_those_of_the_files(figures):
    known, seen = figures.all_figures(), 0
    for page in PAGES:
        for name, written in figures.MARKED.findall(text_of(page)):
            seen += 1
            assert name in known, f"{page}: no figure is called {name}; see docs/figures.py"
            assert written == known[name], (
                f"{page}: {name}; python docs/figures.py --write mends it"
            )
    assert seen > 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_figure_begins_a_line(page):
    """There its comment begins a block of HTML, which ends paragraphs, lists and emphasis."""
    lines = text_of(page).splitlines()
    assert [line for line in lines if line.lstrip("> -*").startswith("<!--=")] == []


def test_a_figure_that_differs_is_put_right(figures):
    page = "a loss of <!--=a.loss-->0.41<!--/--> in <!--=a.first-->3<!--/--> steps"
    mended = figures.rewritten(page, {"a.loss": "0.405", "a.first": "3"})
    assert mended == page.replace("0.41", "0.405")
