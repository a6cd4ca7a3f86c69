"""The pages of ``docs/deploy`` show what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.deploy.documents import pages, printed
from bsnn_tha import zoo

DOCS = Path(__file__).parents[2] / "docs" / "deploy"


@pytest.fixture
def results():
    return json.loads((DOCS / "results.json").read_text(encoding="utf-8"))


def test_every_page_is_what_the_results_make(results):
    for name, text in pages(results, DOCS).items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, name


def test_every_network_of_the_zoo_has_gone_through_every_export(results):
    assert all(list(results[part]) == zoo.names() for part in ("fidelity", "c", "nir"))


def test_a_part_alone_is_printed_alone(results):
    table = printed({**results, "fidelity": {}, "nir": {}, "latency": {}})
    assert table.count("| mnist |") == 1 and "emulated Cortex-M3" in table


def test_a_page_without_a_place_for_its_table_is_refused(results, tmp_path):
    for name in ("c.md", "nir.md", "README.md"):
        (tmp_path / name).write_text("# no marks\n")
    with pytest.raises(SystemExit, match=r"c\.md has no place for its table"):
        pages(results, tmp_path)
