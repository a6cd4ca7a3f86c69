"""Blocks and commands of every page: of Markdown, of notebooks' texts, and of ``--help``."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from functools import cache
from pathlib import Path
from typing import NamedTuple

from places import ROOT

DOCS = ROOT / "docs"
NOTEBOOKS = sorted((ROOT / "bsnn_tha" / "notebooks").glob("*.ipynb"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")), *NOTEBOOKS]
HELP = sorted((ROOT / "bsnn_tha" / "cli").glob("*.py"))
"""Whose docstrings are what ``--help`` prints."""
SHELLS = ("sh", "bash")
FENCE = re.compile(
    r"(?:<!-- not run: (?P<why>.*?) -->\n)?"
    r"^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def file_name(self) -> str | None:
        """Of the file that the block shows, if its first line names one."""
        found = re.match(r"# (\w+\.py)\n", self.text)
        return found and found[1]


class Command(NamedTuple):
    """One command of a page, its words; ``shown`` in a block, or within the text."""

    page: Path
    words: tuple[str, ...]
    shown: bool

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {' '.join(self.words)}"


@cache
def text_of(page: Path) -> str:
    """A page's Markdown; of a notebook that of its texts, whose code is run elsewhere."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def blocks(page: Path) -> list[Block]:
    text = text_of(page)
    return [
        Block(
            page,
            text.count("\n", 0, found.start("language")) + 1,
            found["language"],
            textwrap.dedent(found["text"]),
            found["why"],
        )
        for found in FENCE.finditer(text)
    ]


def prose(page: Path) -> str:
    """A page without its blocks."""
    return FENCE.sub("", text_of(page))


def commands() -> list[Command]:
    """Of shell blocks, between backquotes or indented in the text, and of ``--help``."""
    found = {}
    for page, text, shown in _lines():
        words = shlex.split(text, comments=True)
        if words[:1] == ["srun"]:
            words = words[1:]
        if words and words[0].startswith(".venv/bin/"):
            words[0] = Path(words[0]).name
        words = [word for word in words if word not in ("...", "…") and not word.endswith("=…")]
        if "|" in words:  # into a shell
            words = words[: words.index("|")]
        if words and "COMMAND" not in words:  # which stands for any of them
            command = Command(page, tuple(_without_open_options(words)), shown)
            found.setdefault(command[:2], command)
    return list(found.values())


def _lines():
    for page in PAGES:
        for block in blocks(page):
            if block.language in SHELLS:
                for line in block.text.replace("\\\n", " ").splitlines():
                    yield page, line, True
        rest = prose(page)
        for text in re.findall(r"`((?:bsnn-tha|python -m|make) [^`]+)`", rest):
            yield page, re.sub(r"\s+", " ", text), False
        for text in re.findall(r"^    (bsnn-tha .+)$", rest, re.MULTILINE):
            yield page, text, True
    for page in HELP:
        # What follows several spaces says what the command is for.
        for text in re.findall(r"^ +(bsnn-tha .+)$", page.read_text("utf-8"), re.MULTILINE):
            yield page, re.split(r" {2,}", text)[0], False


def _without_open_options(words: list[str]) -> list[str]:
    """Without a ``--set`` or ``--config`` whose value was left open."""
    return [
        word
        for word, after in zip(words, [*words[1:], "--end"], strict=True)
        if word not in ("--set", "--config") or not after.startswith("--")
    ]
