"""Commands of the documents run, page by page and in the page's order, with very little to do.

What a page takes for granted (a run that an earlier page trained, a folder of one's own images)
is made first. What is left out is in ``LEFT_OUT``, with the reason; so are commands on data sets
that are not on this machine. With every test the pages run that a newcomer reads; the others with
``make test-slow``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from documents import DOCS, PAGES, ROOT, Command, blocks, commands
from film_runs import SHORT, command
from PIL import Image

from bsnn_tha.data.inventory import inventory
from bsnn_tha.presets import preset_names

pytestmark = pytest.mark.filterwarnings("ignore")

NEWCOMERS = [DOCS / "index.md", DOCS / "tutorials/first.md"]
LEFT_OUT = {
    "postgresql": "a database: tests/studies",
    "grpc://": "a proxy: tests/studies",
    "--warm-start": "needs a study of a colleague: tests/studies",
    "study report digits-tha --every": "until the study has ended: tests/studies",
    "study series appendix-d --only": "hours: tests/studies",
    "study series appendix-d-small": "hours: tests/studies",
    "study series annealing": "two hours: tests/studies",
    "hub:": "fetches another project's code: tests/studies",
    "tonic:": "downloads: tests/data reads what tonic gives",
    "python -m benchmarks": "minutes to hours on an idle machine: docs/speed.md and beside it",
    "python digits-norse": "needs the reader's environment: tests/deploy/test_nir.py",
    "bsnn_tha.campaigns.temporal_coding": "half an hour: tests/campaigns",
}
ONLY_HERE = ("bsnn-tha", "make -C")
"""What can run in a folder of a test: the rest is about a checkout or a system."""
BOXES = {"data.options.clips": "[3,2,2]", "data.batch_size": "2", "snapshots.count": "2"}
EVENTS = ("spoken-digits", "saccade-digits")
"""Whose windows must see their events."""
FILMED = [f"runs/temporal-coding-film/{v}" for v in ("flt32", "bsnn-unit", "bsnn", "solved")]
"""What ``animate temporal-coding`` shows."""
FEWER = {
    "--epochs": "1",
    "--seeds": "2",
    "--retrain": "2",
    "--workers": "1",
    "--jobs": "1",
    "--subset": "48",
    "--steps": "4",
    "--theta-0": "1",
}
"""Values of options in place of the page's."""


def of(page: Path) -> list[Command]:
    """A page's commands that can run here, in its order."""
    found = [c for c in commands() if c.page == page and c.shown]
    lines = [(c, " ".join(c.words)) for c in found]
    return [
        c
        for c, line in lines
        if line.startswith(ONLY_HERE) and not any(part in line for part in LEFT_OUT)
    ]


RUN = [page for page in PAGES if page.suffix == ".md" and of(page)]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            p, id=str(p.relative_to(ROOT)), marks=[] if p in NEWCOMERS else [pytest.mark.slow]
        )
        for p in RUN
    ],
)
def test_commands_of_a_page_run(page, shared_data, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("BSNN_THA_DATA", str(shared_data))
    monkeypatch.setenv("BSNN_THA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    missing = {e.name for e in inventory(shared_data) if e.presence in ("missing", "in part")}
    took = 0
    with monkeypatch.context() as folder:
        folder.chdir(tmp_path)
        prepare(page)
    for each in of(page):
        words = [word for part in each.words for word in braces(part)]
        if any(word.startswith((name, f"runs/{name}-")) for name in missing for word in words):
            continue
        if words[0] == "make":
            if shutil.which("cc") and (words[-1] != "emulate" or shutil.which("qemu-system-arm")):
                subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
                took += 1
            continue
        for run in runs_named(words, tmp_path):
            train(run, tmp_path, monkeypatch, capfd)
        status, said, complained = command(small(words), tmp_path, monkeypatch, capfd)
        assert status == 0, f"{each}\n{' '.join(small(words))}\n{said[-2000:]}{complained}"
        assert said, each
        took += 1
    assert took


def test_only_these_are_left_out():
    shown = [c for c in commands() if c.shown and c.page.suffix == ".md"]
    lines = [" ".join(c.words) for c in shown if c not in of(c.page)]
    ours = [line for line in lines if line.startswith("bsnn-tha")]
    assert [line for line in ours if not any(part in line for part in LEFT_OUT)] == []
    for part in LEFT_OUT:
        assert any(part in line for line in lines), f"nothing has {part}"


def braces(word: str) -> list[str]:
    """``a/{b,c}`` as a shell hands it on."""
    found = re.fullmatch(r"(.*)\{(.+)\}(.*)", word)
    return [f"{found[1]}{part}{found[3]}" for part in found[2].split(",")] if found else [word]


def small(words: list[str]) -> list[str]:
    """The arguments of a command, with little to do."""
    _, first, *rest = words
    given: list[str] = []
    for before, word in zip(["", *rest], rest, strict=False):
        given.append(FEWER.get(before, word))
    if first == "train" and "--resume" not in rest:
        given += [f"--set={key}={value}" for key, value in few(rest).items()]
        given += [] if {"--epochs", "temporal-coding"} & {*rest} else ["--epochs=1"]
    elif first == "study" and rest[0] in preset_names():
        given = [g if b != "--trials" else "2" for b, g in zip(["", *given], given, strict=False)]
        given += ["--trials=2"] if "--trials" not in given else []
        # What an option gives, a setting does not.
        own = {"data.subset": "--subset", "data.num_steps": "--steps"}
        sets = {key: value for key, value in few(rest).items() if own.get(key) not in given}
        given += [f"--set={key}={value}" for key, value in sets.items()]
        given += [] if {"--epochs", "temporal-coding"} & {*rest} else ["--epochs=1"]
    elif first == "compare":
        given += ["--epochs=1", "--seeds=1"]
        given += [f"--set={key}={value}" for key, value in few(rest).items()]
    elif first == "animate":
        given += ["--dpi=20", "--frames=2"]
        if rest[0] == "temporal-coding" and not any(w.startswith("runs/") for w in rest):
            given += FILMED  # small ones: without names it trains its four in full
    elif first == "reproduce" and rest and "--dry-run" not in rest:
        given += ["--dry-run"]
    return [first, *given]


def few(words: list[str]) -> dict[str, str]:
    """Settings with which what a command trains takes a moment."""
    if "temporal-coding" in words:
        return {key: str(value) for key, value in SHORT.items()}
    if "moving-boxes" in words:
        return BOXES
    found = {"data.subset": "48", "data.num_steps": "4", "snapshots.count": "2"}
    if set(EVENTS) & set(words):
        del found["data.num_steps"]
    if "--config" in words:  # of as many samples as there are
        del found["data.subset"]
    return found


def runs_named(words: list[str], folder: Path) -> list[str]:
    """Run folders that a command reads and that are not there yet."""
    if words[1] == "train" and "--resume" not in words and "--config" not in words:
        return []
    named = [re.match(r"runs/[\w.-]+(?:/[\w.-]+)?", word) for word in words]
    found = [name[0] for name in named if name and "studies" not in name[0]]
    if words[1:3] == ["animate", "temporal-coding"] and not found:
        found = [*FILMED]
    found = [name.removesuffix("/config.toml") for name in found]
    return [name for name in found if not (folder / name / "config.toml").is_file()]


def train(run: str, folder: Path, monkeypatch, capfd) -> None:
    """Make a run that a page takes for granted, by its name."""
    if run.startswith("runs/temporal-coding"):
        dataset, variant = "temporal-coding", Path(run).name
    else:
        name = Path(run).name.rpartition("-")[0]
        dataset = max((d for d in preset_names() if name.startswith(d)), key=len)
        variant = name.removeprefix(f"{dataset}-")
    words = ["bsnn-tha", "train", dataset, "--variant", variant, "--output", run]
    status, _, complained = command(small(words), folder, monkeypatch, capfd)
    assert status == 0, complained


def prepare(page: Path) -> None:
    """What a reader has before: files that the page's own blocks show or write, and pets."""
    for kind in ("cat", "dog"):
        for index in range(12):
            path = Path("pets") / kind / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(index).integers(0, 255, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels // (2 if kind == "cat" else 1)).save(path)
    for block in blocks(page):
        if name := block.file_name():
            Path(name).write_text(block.text, encoding="utf-8")
        elif page.parent.name == "own-data" and block.language == "python":
            exec(compile(block.text, str(block), "exec"), {"__name__": "block"})
