"""What the documents say is true of the code: Python runs, commands and TOML are taken,
links lead somewhere, and figures are those of the files they come from.

A Python block that cannot run says why in a comment before it: ``<!-- not run: reason -->``.
One whose first line is a file's name, ``# my_rules.py``, lies there for its page's commands.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import sys
import tomllib
import types
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from input_shapes import INPUT_SHAPES
from places import ROOT
from typer.testing import CliRunner

from bsnn_tha.cli import app
from bsnn_tha.cli.options import settings
from bsnn_tha.config import RunConfig
from bsnn_tha.presets import DEFAULT_DATASET, DEFAULT_VARIANT, load_preset
from studies.comparison.plan import Comparison

DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]


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


def _blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    fence = r"(?:<!-- not run: (.*?) -->\n)?^```(\w+)\n(.*?)^```$"
    return [
        Block(page, text.count("\n", 0, found.start(2)) + 1, found[2], found[3], found[1])
        for found in re.finditer(fence, text, re.DOTALL | re.MULTILINE)
    ]


BLOCKS = [block for page in PAGES for block in _blocks(page)]


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


# --- commands


class Command(NamedTuple):
    """One command of a page, its words."""

    page: Path
    words: list[str]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {' '.join(self.words)}"


def _commands() -> list[Command]:
    """Of shell blocks, and in the running text between backquotes; each once."""
    texts = [
        (block.page, line)
        for block in BLOCKS
        if block.language in ("sh", "bash")
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    for page in PAGES:
        prose = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.M)
        inline = re.findall(r"`((?:bsnn-tha|python -m|make) [^`]+)`", prose)
        texts += [(page, re.sub(r"\s+", " ", text)) for text in inline]
    found = {}
    for page, text in texts:
        words = shlex.split(text, comments=True)
        if words[:1] == ["srun"]:
            words = words[1:]
        words = [word for word in words if word not in ("...", "…") and not word.endswith("=…")]
        if words[:1] in (["bsnn-tha"], ["make"]) or words[:2] == ["python", "-m"]:
            found[page, *words] = Command(page, _without_dangling_set(words))
    return list(found.values())


def _without_dangling_set(words: list[str]) -> list[str]:
    """Without a ``--set`` whose value was left open."""
    return [
        word
        for word, after in zip(words, [*words[1:], "--end"], strict=True)
        if word != "--set" or not after.startswith("--")
    ]


COMMANDS = _commands()


def _named(program: str) -> list[Any]:
    return [pytest.param(c, id=str(c)) for c in COMMANDS if c.words[0] == program]


def _parsed(words: list[str]) -> Any:
    """The context of a ``bsnn-tha`` command; raises on an option it does not have."""
    command: Any = typer.main.get_command(app)
    arguments = words[1:]
    while hasattr(command, "commands"):  # study DATASET is short for study run DATASET
        if not arguments:
            return command.make_context(words[-1], [], resilient_parsing=True)
        if arguments[0] not in command.commands:
            arguments = ["run", *arguments]
        name, *arguments = arguments
        command = command.commands[name]
    return command.make_context(name, arguments)


@pytest.mark.parametrize(
    "line", ["bsnn-tha train --epoch 3", "bsnn-tha study digits --trails 50", "bsnn-tha trian"]
)
def test_a_misspelt_command_would_fail(line):
    with pytest.raises((Exception, SystemExit)):
        _parsed(line.split())


KEYS = {
    "epochs": "training.epochs",
    "protocol": "training.protocol",
    "seed": "training.seed",
    "surrogate_centre": "neuron.surrogate_centre",
}
"""Options that are settings, and whose values are words or numbers of a page."""


@pytest.mark.parametrize("command", _named("bsnn-tha"))
def test_commands_are_taken(command, tmp_path, monkeypatch):
    """Options are known; data set, variant and settings build what they say."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for block in BLOCKS:
        if block.page == command.page and (name := block.file_name()):
            (tmp_path / name).write_text(block.text, encoding="utf-8")
    params = _parsed(command.words).params
    # What `data` takes with --set are options of a data set.
    if {"set_", "dataset"} - set(params) or params.get("config") or params.get("resume"):
        return
    dataset = params.get("dataset") or DEFAULT_DATASET
    variant = params.get("variant") or DEFAULT_VARIANT
    given = {key: params[name] for name, key in KEYS.items() if name in params}
    _build(load_preset(dataset, variant).with_changes(settings(given, params["set_"])))


@pytest.mark.parametrize("command", _named("python"))
def test_modules_have_the_options(command):
    """``python -m MODULE``: the module is there and names each option."""
    module = command.words[2]
    if module.split(".")[0] not in ("benchmarks", "studies", "animations", "bsnn_tha"):
        return
    spec = importlib.util.find_spec(module)
    assert spec and spec.origin, module
    path = Path(spec.origin)
    sources = path.parent.glob("*.py") if path.name == "__init__.py" else [path]
    names = {
        node.value if isinstance(node, ast.Constant) else f"--{node.arg.replace('_', '-')}"
        for source in sources
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.arg)
        or (isinstance(node, ast.Constant) and isinstance(node.value, str))
    }
    for word in command.words[3:]:
        if word.startswith("--"):
            assert word in names, f"{module} has no {word}"


@pytest.mark.parametrize("command", _named("make"))
def test_make_has_the_targets(command):
    files, words = [ROOT / "Makefile"], command.words[1:]
    if command.page.parent.name == "deploy":  # of an exported folder
        files.append(ROOT / "bsnn_tha" / "deploy" / "c" / "templates" / "Makefile.jinja")
    if words[0] == "-C":
        words, files = words[2:], files[1:]
    targets = [
        target
        for file in files
        for target in re.findall(r"^([\w-]+):", file.read_text("utf-8"), re.MULTILINE)
    ]
    for word in words:
        assert word in targets or "=" in word, word


def test_the_shortest_command_runs():
    result = CliRunner().invoke(app, ["presets"])
    assert result.exit_code == 0, result.output
    assert "Table" in result.output


def test_there_are_commands_and_code():
    assert len(COMMANDS) > 50
    assert len(_of("python")) >= 8
    assert len(_of("toml")) >= 1


# --- links


def _anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`\n]*`", "", text)
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
        for name, written in figures.MARKED.findall(page.read_text(encoding="utf-8")):
            seen += 1
            assert name in known, f"{page}: no figure is called {name}; see docs/figures.py"
            assert written == known[name], (
                f"{page}: {name}; python docs/figures.py --write mends it"
            )
    assert seen > 150


def test_a_figure_that_differs_is_put_right(figures):
    page = "a loss of <!--=a.loss-->0.41<!--/--> in <!--=a.first-->3<!--/--> steps"
    mended = figures.rewritten(page, {"a.loss": "0.405", "a.first": "3"})
    assert mended == page.replace("0.41", "0.405")
