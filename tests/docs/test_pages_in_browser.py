"""Pages in a browser, on a phone and on a desk, light and dark.

Nothing is wider than the screen, every picture is there, and text stands out from what is behind
it.
"""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import threading

import pytest
from page_faults import faults
from places import ROOT
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

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
    assert "bright in the dark" not in found
    page.write_text("<!doctype html><style>body { background: #eee }</style><p>glaring</p>")
    assert "\n".join(faults(browser, page.as_uri())).count("dark: bright in the dark") == 2


def test_the_page_of_a_run(browser, done, tmp_path):
    page = write_report(done.folder.path, tmp_path / "report.html", film=False)
    assert faults(browser, page.as_uri()) == []


def test_the_pages_of_studies(browser):
    pages = [*(ROOT / "docs" / "studies").glob("*/report.html")]
    assert pages
    assert [fault for page in pages for fault in faults(browser, page.as_uri())] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built strictly."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", folder]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    return folder


@pytest.mark.slow
def test_every_page_of_the_site(browser, site):
    others = {"report.html", "404.html"}  # looked at above; of a server, whose styles it takes
    pages = [path for path in sorted(site.rglob("*.html")) if path.name not in others]
    assert len(pages) > 50
    assert [fault for page in pages for fault in faults(browser, page.as_uri())] == []


@pytest.mark.slow
def test_the_search_finds_and_the_toggle_darkens(browser, site):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.get(f"http://127.0.0.1:{server.server_port}/index.html?q=annealed")
        results = (By.CSS_SELECTOR, ".md-search-result__item a")
        found = WebDriverWait(browser, 60).until(lambda b: b.find_elements(*results))
        assert any(".html" in link.get_attribute("href") for link in found)
        browser.get(f"http://127.0.0.1:{server.server_port}/index.html")
        before = browser.execute_script(BACKGROUND)
        for step in ("light", "dark"):  # from the system's, which is light here
            browser.execute_script(
                f"document.querySelector('label[title=\"To {step} mode\"]').click()"
            )
        WebDriverWait(browser, 20).until(lambda b: b.execute_script(BACKGROUND) != before)
        browser.refresh()  # and it is kept
        assert browser.execute_script(BACKGROUND) != before
        server.shutdown()


BACKGROUND = "return getComputedStyle(document.body).backgroundColor"
