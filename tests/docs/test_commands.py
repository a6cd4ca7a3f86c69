"""Commands of the documents, of notebooks and of ``--help`` are taken by the code of today."""

from __future__ import annotations

import ast
import importlib.util
import re
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import typer
from documents import PAGES, blocks, commands, text_of
from input_shapes import INPUT_SHAPES
from places import ROOT

from bsnn_tha.cli import app
from bsnn_tha.cli.options import settings
from bsnn_tha.presets import DEFAULT_DATASET, DEFAULT_VARIANT, load_preset

COMMANDS = commands()
PROGRAMS = {
    "bsnn-tha": "parsed, and its settings build a network: test_commands_are_taken",
    "make": "the target is there: test_make_has_the_targets",
    "python": "the module has the options, the file is one that is written: below",
    "pip": "the extras are there: test_what_pip_installs_is_there",
    "pipx": "not run: uploads",
    "sudo": "not run: installs packages of the system",
    "ssh": "not run: another computer",
    "optuna-dashboard": "not run: a server of another project",
    "export": "not run: places of a cluster",
    "git": "not run: signs a tag",
}
"""What a line of a shell block may begin with, and what is made sure of it."""
WRITTEN = {"digits-norse/check.py": "tests/deploy/test_nir.py runs it"}
KEYS = {
    "epochs": "training.epochs",
    "protocol": "training.protocol",
    "seed": "training.seed",
    "surrogate_centre": "neuron.surrogate_centre",
}
"""Options that are settings, and whose values are words or numbers of a page."""


def _named(program: str) -> list[Any]:
    return [pytest.param(c, id=str(c)) for c in COMMANDS if c.words[0] == program]


def test_no_line_of_a_shell_block_is_passed_over():
    assert [str(c) for c in COMMANDS if c.shown and c.words[0] not in PROGRAMS] == []
    assert len(COMMANDS) > 150
    assert {c.words[0] for c in COMMANDS} <= set(PROGRAMS)


def _parsed(words: list[str]) -> Any:
    """The context of a ``bsnn-tha`` command; raises on an option it does not have."""
    command: Any = typer.main.get_command(app)
    arguments = words[1:]
    while hasattr(command, "commands"):  # study DATASET is short for study run DATASET
        if not arguments:
            return command.make_context(words[-1], [], resilient_parsing=True)
        if arguments[0].startswith("-"):
            return command.make_context(words[0], arguments, resilient_parsing=True)
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


@pytest.mark.parametrize("command", _named("bsnn-tha"))
def test_commands_are_taken(command, tmp_path, monkeypatch):
    """Options are known; data set, variant and settings build what they say."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for block in blocks(command.page) if command.page in PAGES else ():
        if name := block.file_name():
            (tmp_path / name).write_text(block.text, encoding="utf-8")
    try:
        params = _parsed(list(command.words)).params
    except Exception as error:  # within a sentence a command may go by its name alone
        if command.shown or type(error).__name__ != "MissingParameter":
            raise
        return
    # What `data` takes with --set are options of a data set.
    if {"set_", "dataset"} - set(params) or params.get("config") or params.get("resume"):
        return
    dataset = params.get("dataset") or DEFAULT_DATASET
    variant = params.get("variant") or DEFAULT_VARIANT
    given = {key: params[name] for name, key in KEYS.items() if name in params}
    asked = settings(given, params["set_"]) | settings({}, params.get("begin"))
    config = load_preset(dataset, variant).with_changes(asked)
    network = config.build_network(INPUT_SHAPES.get(config.data.name, INPUT_SHAPES["digits"]))
    config.build_loss(network)


@pytest.mark.parametrize("command", _named("python"))
def test_modules_have_the_options(command):
    """``python -m MODULE``: the module is there and names each option."""
    if command.words[1] != "-m":
        assert command.words[1] in WRITTEN
        return
    module = command.words[2]
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


def test_what_pip_installs_is_there():
    """``pip install "bsnn-tha[EXTRA]"``, wherever it stands, in errors too."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = set(setup["options.extras_require"])
    code = [*ROOT.glob("bsnn_tha/**/*.py"), *ROOT.glob("studies/**/*.py")]
    texts = [text_of(page) for page in PAGES] + [path.read_text("utf-8") for path in code]
    named = re.findall(r"(?:bsnn-tha|install [\"']?\.)\[([\w-]+)\]", "".join(texts))
    assert len(named) > 5 and set(named) <= extras
