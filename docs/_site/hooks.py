"""What makes a site of the documents as they lie in the repository.

* Pages of the repository's root, and notebooks, become pages of the site.
* Links out of ``docs`` lead to those. Where the site has no such page, as for code and for folders,
  they are left as text.
* ``FOLDER/*`` in the navigation stands for all pages of a folder that are not named elsewhere.
* A link to a folder with a study's report leads to that.
* Tables, options and pictures fit a phone: ``fit``.
* Every public name must be in the reference: one that is not is a warning, and fails the build.
"""

from __future__ import annotations

import base64
import json
import logging
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))
import fit
import public

logger = logging.getLogger("mkdocs.hooks")

ROOT = Path(__file__).parents[2]
FROM_ROOT = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages of the root, and where they are in the site; the site begins with its own start."""
NOTEBOOKS = ROOT / "bsnn_tha" / "notebooks"
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")


def on_config(config: Any) -> Any:
    """Write out what ``FOLDER/*`` stands for."""
    named = set(_named(config.nav))
    config.nav = _expanded(config.nav, named)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the root's pages and the notebooks."""
    for source, page in FROM_ROOT.items():
        if page != "index.md":
            text = (ROOT / source).read_text(encoding="utf-8")
            files.append(File.generated(config, page, content=text.replace("](docs/", "](")))
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        for name, content in _notebook(path):
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead links out of ``docs`` to pages of the site."""
    folder = posixpath.dirname(page.file.src_uri)

    def lead(found: re.Match[str]) -> str:
        text, target = found.groups()
        path, _, anchor = target.partition("#")
        if re.match(r"\w+:", target) or not path:
            return found[0]
        if page.file.src_uri in FROM_ROOT.values() and path in FROM_ROOT:
            path = f"../{path}"
        outside = posixpath.normpath(posixpath.join("docs", folder, path))
        if outside.startswith("docs/") and not (ROOT / outside).is_dir():
            return found[0]
        inside = FROM_ROOT.get(outside)
        if (ROOT / outside / "report.html").is_file():
            inside = posixpath.relpath(f"{outside}/report.html", "docs")
        if inside is None:
            return f"{text} (`{outside}`)" if outside not in text else text
        return f"[{text}]({posixpath.relpath(inside, folder or '.')}{anchor and '#' + anchor})"

    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.DOTALL | re.MULTILINE)
    return "".join(p if p.startswith("```") else LINK.sub(lead, p) for p in parts)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Make it fit for a phone."""
    return fit.fit(html)


def on_post_build(config: Any) -> None:
    """Hold the reference against the names that are public."""
    references = config.plugins["autorefs"]
    known = {*references._primary_url_map, *references._secondary_url_map}
    for home, offered in public.public_names().items():
        if not {home, offered} & known:
            logger.warning("the reference lacks %s", offered)


def _named(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    items = nav.values() if isinstance(nav, dict) else nav
    return [name for item in items for name in _named(item)]


def _expanded(nav: Any, named: set[str]) -> Any:
    if isinstance(nav, dict):
        return {title: _expanded(below, named) for title, below in nav.items()}
    if not isinstance(nav, list):
        return nav
    result: list[Any] = []
    for item in nav:
        if isinstance(item, str) and item.endswith("/*"):
            result += [_titled(page) for page in _pages(item[:-2]) if page not in named]
        else:
            below = _expanded(item, named)
            if below not in ([], {}) and not (isinstance(below, dict) and [] in below.values()):
                result.append(below)
    return result


def _titled(page: str) -> Any:
    """Tables have the same heading in every folder."""
    folder, _, name = page.rpartition("/")
    return {f"Table: {folder.rpartition('/')[2]}": page} if name == "table.md" else page


def _pages(folder: str) -> list[str]:
    if folder == "notebooks":
        return [f"notebooks/{path.stem}.md" for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
    docs = ROOT / "docs"
    pages = [path.relative_to(docs).as_posix() for path in sorted((docs / folder).rglob("*.md"))]
    return sorted(pages, key=lambda page: (not page.endswith(("README.md", "index.md")), page))


def _notebook(path: Path) -> list[tuple[str, str | bytes]]:
    """A notebook as a page and the pictures in it."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts, pictures = [], []
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}-{len(pictures) + 1}.png"
                pictures.append((name, base64.b64decode(data["image/png"])))
                parts.append(f"![output]({name})")
            elif text := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
                parts.append(f"```text\n{text}\n```")
    note = f"*This page is a notebook: `bsnn-tha notebooks` copies `{path.name}` to your folder.*"
    title, _, rest = "\n\n".join(parts).partition("\n")
    return [(f"{path.stem}.md", f"{title}\n\n{note}\n{rest}"), *pictures]
