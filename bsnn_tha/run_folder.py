"""Run folders: where a run's files are, and how they are written.

runs/mnist-tha-1/
  config.toml     the full configuration; ``--config`` takes it back
  metrics.csv     one row per epoch
  best.ckpt       the checkpoint with the highest validation accuracy
  last.ckpt       the checkpoint after the last finished epoch
  previous.ckpt   the one before it, while the run is not finished
  summary.json    accuracy, activity per layer, weight bits, seconds; written
                  last: a run that has it is finished
  activity.npz    spikes of every neuron over the test set
  snapshots/      traces of a few neurons, membranes and firing rates of some
                  iterations, where snapshots are on
  recording.npz   output of every iteration, where recording is on
  tensorboard/    the metrics for TensorBoard, where it is installed
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bsnn_tha.errors import RunError


@contextlib.contextmanager
def replace_atomically(path: Path, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place if all went well.

    The content is on disk before the name is: losing power leaves the old file
    or the new one.

    Args:
        path: of the file.
        durable: wait for the disk. Otherwise losing power, though not being
            killed, may leave a damaged file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def make_writable(folder: Path) -> None:
    """Make a folder where there is none, and make sure that files can be written into it.

    Raises:
        RunError: they cannot.
    """
    probe = folder / f".writable.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RunError(f"cannot write output folder {folder}: {error.strerror}") from None


def folder_name(name: str) -> str:
    """A name as one folder's: nothing in it leads into another folder.

    Names of variants and data sets are free; ``/`` and what other systems do not
    take in a file's name become ``-``.

    Example:
        >>> folder_name("digits-mine/v2"), folder_name("shd-../tha"), folder_name("mnist-tha")
        ('digits-mine-v2', 'shd-..-tha', 'mnist-tha')
    """
    return _NOT_IN_NAMES.sub("-", name)[:_LONGEST_NAME].strip(" .") or "unnamed"


_NOT_IN_NAMES = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]+')
_LONGEST_NAME = 80
"""Characters; a file system takes 255 bytes, and some of them are for a number."""


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
    def previous(self) -> Path:
        return self.path / "previous.ckpt"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def recording(self) -> Path:
        return self.path / "recording.npz"

    @property
    def activity(self) -> Path:
        return self.path / "activity.npz"

    @property
    def snapshots(self) -> Path:
        return self.path / "snapshots"

    @property
    def probe(self) -> Path:
        return self.snapshots / "probe.npz"

    def snapshot(self, iteration: int) -> Path:
        return self.snapshots / f"iteration-{iteration:09d}.npz"

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other processes from training in this folder; a killed one lets go.

        Raises:
            RunError: another process trains in it now.
        """
        from filelock import FileLock, Timeout

        path = self.path / ".lock"
        try:
            with FileLock(path, blocking=False):
                for folder in (self.path, self.snapshots):
                    for stale in folder.glob(".*.tmp"):  # of a killed process
                        stale.unlink(missing_ok=True)
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
        except Timeout:
            raise RunError(f"another process is training in {self.path}; wait for it") from None

    def checkpoint(self, which: str | Path) -> Path:
        """``"best"`` and ``"last"`` by name, anything else as a path.

        A run without a selected best has its last checkpoint only.
        """
        if which == "best" and self.best.exists():
            return self.best
        return self.last if which in ("best", "last") else Path(which)

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Make a new folder at exactly this place.

        Raises:
            RunError: something is there already, or it cannot be written.
        """
        try:
            make_writable(path)
            # A process killed before it wrote anything leaves its claim, or half a file.
            if any(not file.match(".lock") and not file.match(".*.tmp") for file in path.iterdir()):
                raise RunError(
                    f"output folder {path} is not empty; results are never overwritten: "
                    "choose another --output or remove it"
                )
        except OSError as error:
            raise RunError(f"cannot write output folder {path}: {error.strerror}") from None
        return cls(path)

    @classmethod
    def create_numbered(cls, parent: Path, name: str) -> RunFolder:
        """Make ``parent/name-N`` with the smallest N that is free.

        Safe with several processes: making the folder is what claims it.

        Args:
            parent: of the new folder.
            name: as it comes; :func:`folder_name` spells it.

        Raises:
            RunError: the parent cannot be written.
        """
        try:
            parent.mkdir(parents=True, exist_ok=True)
            name = folder_name(name)
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
        if path.is_file():
            raise RunError(f"{path} is not a run folder but a file; the run's is {path.parent}")
        if not path.exists():
            raise RunError(f"{path} is not a run folder: there is nothing of that name")
        if not folder.config.is_file():
            inside = sorted(file.parent for pattern in _RUNS_BELOW for file in path.glob(pattern))
            raise RunError(
                f"{path} is not a run folder: it has no config.toml"
                + (f"; it holds {len(inside)} runs, give one: {inside[0]}" if inside else "")
            )
        return folder


_RUNS_BELOW = ("*/config.toml", "runs/*/*/config.toml")
"""Where a folder of trials and one of a comparison have their runs."""
