"""Pages in a browser, on a phone and on a desk, light and dark.

Nothing is wider than the screen, every picture is there, and text stands out from what is behind
it.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from page_faults import faults
from places import ROOT

from animations.report.page import write_report

pytest_plugins = ["browser"]


def test_what_is_wrong_would_be_found(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        '<!doctype html><meta name="viewport" content="width=device-width">'
        "<style>:root { color-scheme: light dark } p { color: #999 }</style>"
        '<p>pale</p><div style="width: 900px">wide</div><img src="none.png">'
    )
    found = "\n".join(faults(browser, page.as_uri()))
    assert found.count("pixels wide") == 2 and found.count("at 1400, light") == 2
    assert found.count("no picture") == 4
    assert found.count("light: contrast 2.8: pale") == 2 and "dark: contrast" not in found


def test_the_page_of_a_run(browser, done, tmp_path):
    page = write_report(done.folder.path, tmp_path / "report.html", film=False)
    assert faults(browser, page.as_uri()) == []


def test_the_pages_of_studies(browser):
    pages = [*(ROOT / "docs" / "studies").glob("*/report.html")]
    assert pages
    assert [fault for page in pages for fault in faults(browser, page.as_uri())] == []


@pytest.mark.slow
def test_every_page_of_the_site(browser, tmp_path):
    pytest.importorskip("mkdocs")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", tmp_path / "s"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    pages = [
        path for path in sorted((tmp_path / "s").rglob("*.html")) if path.name != "report.html"
    ]
    assert len(pages) > 50
    assert [fault for page in pages for fault in faults(browser, page.as_uri())] == []
