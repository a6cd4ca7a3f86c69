"""The README's Python runs, and its commands are ones the command line takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from bsnn_tha.cli import app

README = Path(__file__).parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


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
    subcommand.make_context(name, arguments)  # raises on an unknown option


def test_there_are_commands_and_code():
    assert len(COMMANDS) > 5
    assert len(blocks("python")) >= 4


def test_pictures_exist():
    for target in re.findall(r"!\[.*?\]\((.*?)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).is_file(), target
