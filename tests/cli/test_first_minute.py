"""What a newcomer meets: the first words, the doctor, completion, errors without tracebacks."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys

import pytest
import typer

from bsnn_tha.cli import app, doctor, main, presets
from bsnn_tha.cli.completion import Shell, script
from bsnn_tha.cli.welcome import WELCOME


def run(monkeypatch, capsys, *words):
    """(exit status, standard output, standard error)."""
    logging.getLogger("bsnn_tha").setLevel(logging.NOTSET)
    monkeypatch.setattr(sys, "argv", ["bsnn-tha", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code, *capsys.readouterr()


def test_without_arguments_it_says_what_to_type(monkeypatch, capsys):
    status, said, complained = run(monkeypatch, capsys)
    assert (status, complained) == (0, "")
    assert said == WELCOME


def test_what_it_says_to_type_can_be_typed():
    lines = re.findall(r"^  bsnn-tha ((?:\S+ )*\S+?)(?:  |$)", WELCOME, re.MULTILINE)
    assert len(lines) >= 6
    for words in map(str.split, lines):
        command = typer.main.get_command(app)
        while hasattr(command, "commands") and words[0] != "COMMAND":
            name, *words = words if words[0] in command.commands else ["run", *words]
            command = command.commands[name]
        if words[:1] != ["COMMAND"]:
            command.make_context("bsnn-tha", words)


def test_an_output_has_its_short_name_in_every_command():
    def options(command):
        for below in getattr(command, "commands", {}).values():
            yield from options(below)
        yield from ((command.name, parameter.opts) for parameter in command.params)

    outputs = [
        (name, opts) for name, opts in options(typer.main.get_command(app)) if "--output" in opts
    ]
    assert len(outputs) > 5
    assert [name for name, opts in outputs if "-o" not in opts] == []


class TestErrors:
    @pytest.fixture
    def broken(self, monkeypatch):
        def fails():
            raise KeyError("θ0\nof a layer")

        monkeypatch.setattr(presets, "preset_names", fails)

    def test_a_fault_is_one_line_that_says_how_to_report_it(self, broken, monkeypatch, capsys):
        status, said, complained = run(monkeypatch, capsys, "presets")
        assert (status, said) == (1, "")
        assert len(complained.splitlines()) == 1
        assert "KeyError" in complained and "bsnn-tha --debug presets" in complained

    @pytest.mark.parametrize(
        ("words", "status", "kind"),
        [(["presets"], 1, "KeyError"), (["evaluate", "none"], 2, "RunError")],
    )
    def test_debug_adds_the_traceback_and_changes_nothing_else(
        self, words, status, kind, broken, monkeypatch, capsys
    ):
        plain, *_ = run(monkeypatch, capsys, *words)
        with_debug, said, complained = run(monkeypatch, capsys, "--debug", *words)
        assert plain == with_debug == status and said == ""
        assert complained.startswith("Traceback (most recent call last):")
        assert kind in complained and complained.splitlines()[-1].startswith("error: ")

    def test_what_a_user_can_mend_is_told_apart(self, monkeypatch, capsys, tmp_path):
        status, _, complained = run(monkeypatch, capsys, "evaluate", tmp_path / "none")
        assert status == 2
        assert complained.startswith("error: ") and "--debug" not in complained


def test_notebooks_are_copied_and_yours_are_left_alone(monkeypatch, capsys, tmp_path):
    (tmp_path / "02-study.ipynb").write_text("mine")
    status, said, _ = run(monkeypatch, capsys, "notebooks", tmp_path)
    assert status == 0 and "02-study.ipynb is there already" in said
    assert (tmp_path / "02-study.ipynb").read_text() == "mine"
    assert len([*tmp_path.glob("*.ipynb")]) == 5
    assert json.loads((tmp_path / "03-film.ipynb").read_text("utf-8"))["cells"]


class TestDoctor:
    @pytest.fixture
    def places(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in ("MNIST", "SaccadeDigits/Train"):
            (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data/MNIST/train-images-idx3-ubyte.gz").write_bytes(b"1234")
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache/units.bin").write_bytes(bytes(2500))
        return ["--data-root", tmp_path / "data", "--cache-root", tmp_path / "cache"]

    def test_it_finds_what_is_there_and_what_is_not(self, places, monkeypatch, capsys):
        status, said, _ = run(monkeypatch, capsys, "doctor", "--json", *places)
        findings = json.loads(said)
        texts = {finding["text"]: finding["status"] for finding in findings}
        assert any("mnist is there in part" in text for text in texts)
        assert any("saccade-digits is there in part" in text for text in texts)
        assert any(text.startswith("binned events and own data: 2.5 kB") for text in texts)
        assert any(text.startswith("numba: ") and s == "ok" for text, s in texts.items())
        assert {f["topic"] for f in findings} >= {"package", "device", "route", "data", "cache"}
        assert status == 1  # sets that are there in part

    def test_every_finding_is_one_line(self, places, monkeypatch, capsys):
        _, said, _ = run(monkeypatch, capsys, "doctor", *places)
        *lines, last = said.splitlines()
        assert all(line[:2] in ("  ", "- ", "! ") for line in lines)
        assert last == f"{sum(line[0] == '!' for line in lines)} wrong"

    def test_a_route_that_fails_or_gives_other_spikes_is_wrong(self, monkeypatch):
        import bsnn_tha

        whole = bsnn_tha.lif_sequence

        def other(current, *rest, backend):
            window = whole(current, *rest, backend="reference")
            return window if backend == "reference" else window._replace(spikes=current)

        monkeypatch.setattr(bsnn_tha, "lif_sequence", other)
        assert "other spikes" in doctor._route("numba", "cpu", "loops").text

        def fails(*_, **__):
            raise RuntimeError("no\ncompiler")

        monkeypatch.setattr(bsnn_tha, "lif_sequence", fails)
        finding = doctor._route("numba", "cpu", "loops")
        assert finding.status == "wrong" and finding.text.endswith("fails: no compiler")


class TestCompletion:
    @pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
    @pytest.mark.parametrize(
        ("words", "completed"),
        [
            ("tra", {"train"}),
            ("train fash", {"fashion-mnist"}),
            ("train mnist --variant bsnn-", {"bsnn-unit"}),
            ("train --ep", {"--epochs"}),
            ("study repo", {"report"}),
            ("study digits --warm", {"--warm-start"}),
            ("animate run --vie", {"--view"}),
        ],
    )
    def test_bash_completes(self, words, completed, tmp_path):
        path = tmp_path / "completion.sh"
        path.write_text(script(typer.main.get_command(app), Shell.bash), encoding="utf-8")
        ask = f"source {path}; COMP_WORDS=(bsnn-tha {words}); COMP_CWORD={len(words.split())}; "
        ask += "_bsnn_tha; echo ${COMPREPLY[@]}"
        done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
        assert set(done.stdout.split()) == completed

    def test_fish_and_zsh_know_the_same_words(self):
        command = typer.main.get_command(app)
        zsh, fish = script(command, Shell.zsh), script(command, Shell.fish)
        assert script(command, Shell.bash) in zsh
        assert "-n '__fish_use_subcommand' -a 'train " in fish
        assert "fashion-mnist" in fish and "-l variant -x -a 'best " in fish
