"""Notebooks run: small, cell by cell, with every test run; as they are, with ``make test-slow``."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import matplotlib
import pytest

import bsnn_tha.notebooks

FOLDER = Path(bsnn_tha.notebooks.__file__).parent
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SMALL = {
    "ITERATIONS": 11,
    "STEPS": 4,
    "HIDDEN": 20,
    "TRIALS": 2,
    "EPOCHS": 1,
    "SAMPLES": 128,
    "SNAPSHOTS": 2,
    "IMAGES": 200,
}
"""What cells tagged ``parameters`` set, so small that nothing is learned."""
LARGEST = 250_000
"""Bytes of a notebook with its outputs."""


def _cells(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(path, tmp_path, monkeypatch):
    pytest.importorskip("IPython")
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    module = types.ModuleType("notebook")
    monkeypatch.setitem(sys.modules, "notebook", module)
    scope = vars(module)
    for number, cell in enumerate(_cells(path), start=1):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), scope)
        if "parameters" in cell["metadata"].get("tags", []):
            scope.update({name: SMALL[name] for name in SMALL if name in scope})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_there_small_and_without_errors(path):
    assert path.stat().st_size < LARGEST
    code = [cell for cell in _cells(path) if cell["cell_type"] == "code"]
    assert any(cell["outputs"] for cell in code)
    for cell in code:
        kinds = {output["output_type"] for output in cell["outputs"]}
        assert "error" not in kinds
        assert "/tmp/" not in json.dumps(cell["outputs"])  # of whoever ran it


def test_there_are_five():
    assert len(NOTEBOOKS) == 5


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_as_they_are_in_a_kernel(path, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(path, 4)
    nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
