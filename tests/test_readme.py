"""The Python in README and guides runs, and their commands are ones the command line takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from bsnn_tha.cli import app

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
GUIDES = ("studies", "events", "gallery", "networks")
PAGES = [README, *(ROOT / "docs" / page / "README.md" for page in GUIDES)]


def blocks(language: str) -> list[str]:
    return [
        block
        for page in PAGES
        for block in re.findall(
            rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL
        )
    ]


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.strip().splitlines()[-1])
def test_python(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(compile(code, "README.md", "exec"), scope)
    if "accuracy" in scope:
        assert scope["accuracy"] > 0.8


COMMANDS = [
    line.split("#")[0].strip()
    for block in blocks("sh")
    for line in block.splitlines()
    if line.startswith("bsnn-tha")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command):
    _, name, *arguments = shlex.split(command)
    subcommand = typer.main.get_command(app).commands[name]
    while hasattr(subcommand, "commands"):  # study DATASET is short for study run DATASET
        if arguments[0] not in subcommand.commands:
            arguments = ["run", *arguments]
        name, *arguments = arguments
        subcommand = subcommand.commands[name]
    subcommand.make_context(name, arguments)  # raises on an unknown option


def test_there_are_commands_and_code():
    assert len(COMMANDS) > 5
    assert len(blocks("python")) >= 4


def test_pictures_exist():
    for page in [README, *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"!\[.*?\]\((.*?)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).is_file(), f"{page}: {target}"
