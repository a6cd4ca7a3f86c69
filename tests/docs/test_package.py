"""The distribution as a stranger gets it: built, installed outside the checkout, used, removed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
from places import ROOT

import bsnn_tha

PACKAGES = ("bsnn_tha", "studies", "animations")


def _run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """What a command prints; nothing of this checkout is on its path."""
    away = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "BSNN_THA_DATA", "BSNN_THA_CACHE")
    environment = {k: v for k, v in os.environ.items() if k not in away} | variables
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _tracked() -> list[str]:
    return subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()


def test_the_citation_has_the_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [bsnn_tha.__version__]


slow = [pytest.mark.slow, pytest.mark.package]


@pytest.fixture(scope="module")
def distribution(tmp_path_factory) -> tuple[Path, Path]:
    """The sdist, and the wheel made from it, of the tracked files alone."""
    pytest.importorskip("build")
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in _tracked():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, source, cwd=dist)
    return next(dist.glob("*.tar.gz")), next(dist.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(distribution, tmp_path_factory) -> Path:
    """An environment with the wheel; what it depends on is lent by this one.

    A line in a ``.pth`` file puts our ``site-packages`` last on its path. The checkout's
    own entry there, a ``.pth`` as well, is not followed from a folder named like this.
    """
    place = tmp_path_factory.mktemp("elsewhere") / "env"
    venv.create(place, with_pip=False)
    packages = next(place.glob("lib/python*/site-packages"))
    (packages / "zz-lent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    _pip(place, "install", "--no-deps", "--no-index", distribution[1])
    return place


def _pip(place: Path, *words: str | Path) -> None:
    python = place / "bin" / "python"
    command = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    _run(*command, *words, cwd=place)


class TestContent:
    pytestmark = slow

    def test_the_wheel_has_every_tracked_file_of_the_packages_and_no_other(self, distribution):
        with zipfile.ZipFile(distribution[1]) as wheel:
            inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
        expected = {
            name
            for name in _tracked()
            if name.split("/")[0] in PACKAGES and (ROOT / name).is_file()
        }
        assert inside == expected

    def test_the_sdist_has_what_a_reader_of_it_needs(self, distribution):
        with tarfile.open(distribution[0]) as sdist:
            inside = {name.partition("/")[2] for name in sdist.getnames()}
        assert {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"} <= inside

    def test_the_metadata_says_what_it_is(self, distribution):
        with zipfile.ZipFile(distribution[1]) as wheel:
            name = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
            metadata = message_from_string(wheel.read(name).decode())
        assert metadata["Version"] == bsnn_tha.__version__
        assert metadata["Author"] and metadata["Keywords"]
        assert "MIT" in (metadata["License-Expression"], metadata["License"])
        assert metadata["Requires-Python"] == ">=3.11"
        for minor in (11, 12, 13):
            assert f"Programming Language :: Python :: 3.{minor}" in metadata.get_all("Classifier")


class TestInstalled:
    pytestmark = slow

    def test_the_code_that_runs_is_the_installed(self, installed, tmp_path):
        where = "import bsnn_tha, studies, animations as a; print(bsnn_tha.__file__, a.__file__)"
        for path in _run(installed / "bin/python", "-c", where, cwd=tmp_path).split():
            assert installed in Path(path).parents

    def test_a_run_and_its_page_from_any_folder(self, installed, tmp_path):
        command = installed / "bin/bsnn-tha"
        assert bsnn_tha.__version__ in _run(command, "--version", cwd=tmp_path)
        assert "temporal-coding" in _run(command, "presets", cwd=tmp_path)
        small = ("--epochs", "1", "--set", "data.subset=96", "--set", "snapshots.count=3")
        cache = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
        _run(command, "train", "digits", *small, cwd=tmp_path, **cache)
        assert [*tmp_path.glob("cache/**/*.nbi")]  # compiled loops, in the user's folder
        run = tmp_path / "runs/digits-tha-1"
        _run(command, "report", run, cwd=tmp_path, **cache)
        assert "<iframe" in (run / "report.html").read_text(encoding="utf-8")
        _run(command, "notebooks", cwd=tmp_path)
        assert len([*tmp_path.glob("notebooks/*.ipynb")]) == 5

    def test_it_uninstalls_without_a_trace(self, installed):
        _pip(installed, "uninstall", "--yes", "bsnn-tha")
        packages = next(installed.glob("lib/python*/site-packages"))
        assert not [path for path in packages.iterdir() if path.name.startswith(PACKAGES)]
        assert not (installed / "bin/bsnn-tha").exists()
