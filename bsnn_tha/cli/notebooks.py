"""``bsnn-tha notebooks``: copies of the five notebooks, to run and to change."""

from __future__ import annotations

import importlib.util
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from bsnn_tha.errors import RunError
from bsnn_tha.run_folder import replace_atomically


def notebooks(
    folder: Annotated[Path, typer.Argument(help="Where to; made if it is not there.")] = Path(
        "notebooks"
    ),
) -> None:
    """Copy five notebooks to a folder; files that are there already are left alone.

    They run on a CPU, each in under three minutes, with what is installed and jupyter
    (pip install jupyter).
    """
    for source in sorted(resources.files("bsnn_tha.notebooks").iterdir(), key=lambda f: f.name):
        if not source.name.endswith(".ipynb"):
            continue
        path = folder / source.name
        if path.exists():
            print(f"{path} is there already: left as it is")
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with replace_atomically(path) as temporary:
                temporary.write_bytes(source.read_bytes())
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror or error}") from None
        print(path)
    missing = importlib.util.find_spec("jupyterlab") is None
    print(f"now: {'pip install jupyter; ' if missing else ''}jupyter lab {folder}")
