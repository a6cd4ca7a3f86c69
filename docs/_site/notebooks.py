"""Runs the notebooks and keeps their outputs: ``make notebooks``.

Kept is what a reader wants to see. What a machine says about itself (warnings with its paths,
times, numbers of executions) would make every run another file.
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parents[2] / "bsnn_tha" / "notebooks"


def execute(path: Path) -> float:
    """Run all cells and write their outputs back; seconds that it took."""
    notebook = nbformat.read(path, 4)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, resources=resources, record_timing=False).execute()
        seconds = time.monotonic() - begun
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = _told(cell.outputs)
    notebook.metadata.pop("language_info", None)
    nbformat.write(notebook, path)
    return seconds


def _told(outputs: list) -> list:
    """Without what went to standard error; what was printed in one piece."""
    kept: list = []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        if "image/png" in output.get("data", {}):
            output.data["image/png"] = _smaller(output.data["image/png"])
        if "execution_count" in output:
            output.execution_count = None
        if output.output_type == "stream" and kept and kept[-1].output_type == "stream":
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def _smaller(picture: str) -> str:
    """A drawing with 64 colours, which is all it has: a third of the bytes."""
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        paletted = image.convert("RGB").quantize(64)
    buffer = io.BytesIO()
    paletted.save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


if __name__ == "__main__":
    names = sys.argv[1:] or [path.stem for path in sorted(FOLDER.glob("*.ipynb"))]
    for name in names:
        print(f"{name}: {execute(FOLDER / f'{name}.ipynb'):.0f} s", flush=True)
