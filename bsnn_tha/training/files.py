"""Run folders: where a run's files are, and how they are written.

runs/mnist-tha-1/
  config.toml     the full configuration; ``--config`` takes it back
  metrics.csv     one row per epoch
  best.ckpt       the checkpoint with the highest validation accuracy
  last.ckpt       the checkpoint after the last finished epoch
  summary.json    accuracy, activity per layer, weight bits, seconds
  recording.npz   output of every iteration, where recording is on
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bsnn_tha.errors import RunError


@contextlib.contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place if all went well."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def best(self) -> Path:
        return self.path / "best.ckpt"

    @property
    def last(self) -> Path:
        return self.path / "last.ckpt"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def recording(self) -> Path:
        return self.path / "recording.npz"

    def checkpoint(self, which: str | Path) -> Path:
        """``"best"`` and ``"last"`` by name, anything else as a path.

        A run without a selected best has its last checkpoint only.
        """
        if which == "last" or (which == "best" and not self.best.exists()):
            return self.last
        return self.best if which == "best" else Path(which)

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Make a new folder at exactly this place.

        Raises:
            RunError: something is there already, or it cannot be written.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise RunError(
                    f"output folder {path} is not empty; results are never overwritten: "
                    "choose another --output or remove it"
                )
            probe = path / f".writable.{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise RunError(f"cannot write output folder {path}: {error.strerror}") from None
        return cls(path)

    @classmethod
    def create_numbered(cls, parent: Path, name: str) -> RunFolder:
        """Make ``parent/name-N`` with the smallest N that is free.

        Safe with several processes: making the folder is what claims it.

        Raises:
            RunError: the parent cannot be written.
        """
        try:
            parent.mkdir(parents=True, exist_ok=True)
            number = 1
            while True:
                path = parent / f"{name}-{number}"
                with contextlib.suppress(FileExistsError):
                    path.mkdir()
                    return cls(path)
                number += 1
        except OSError as error:
            raise RunError(f"cannot write output folder {parent}: {error.strerror}") from None

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run.

        Raises:
            RunError: there is no run at this path.
        """
        folder = cls(path)
        if not folder.config.is_file():
            raise RunError(f"{path} is not a run folder: it has no config.toml")
        return folder
