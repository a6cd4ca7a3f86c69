"""What trials that pause, or whose worker is killed, need to go on: a checkpoint each.

    runs/studies/digits-tha/checkpoints/trial-12.ckpt

A file is there from a trial's first pause (or a minute of training, whichever is earlier) to
its end, and is removed then. All workers that reach the place go on with each other's trials:
on one computer any folder will do, on several a shared one, or an address that fsspec knows
(``s3://bucket/studies``). A trial whose checkpoint a worker does not have is trained again.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from bsnn_tha.run_folder import folder_name
from studies.errors import StudyError

EVERY = 60.0
"""Seconds of training that a killed worker may lose, if epochs are shorter."""
_NAME, _SUFFIX = "trial-", ".ckpt"


class Checkpoints:
    """The checkpoints of a study's trials in a folder.

    Args:
        folder: of this study alone; made when the first file is written.

    Files are named by a trial's first try, which later ones go on from.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def at(place: str, study: str) -> Checkpoints:
        """Those of a study below a folder or an address.

        Raises:
            StudyError: an address that fsspec does not know, or whose package is missing.
        """
        if "://" in place:
            return _RemoteCheckpoints(f"{place.rstrip('/')}/{folder_name(study)}")
        return Checkpoints(Path(place) / folder_name(study))

    def file(self, root: int) -> Path:
        """Where this process writes the checkpoint of a trial."""
        return self.folder / f"{_NAME}{root}{_SUFFIX}"

    def has(self, root: int) -> bool:
        """Whether there is a checkpoint of a trial."""
        return self.file(root).is_file()

    def fetch(self, root: int) -> Path | None:
        """A trial's checkpoint; None if there is none to be had."""
        return self.file(root) if self.has(root) else None

    def publish(self, root: int) -> None:
        """Make a written checkpoint known to others."""

    def discard(self, root: int) -> None:
        """Remove a trial's checkpoint, if there is one."""
        self.file(root).unlink(missing_ok=True)

    def sweep(self, ended: Container[int]) -> None:
        """Remove what killed workers left of trials that have ended, and half-written files."""
        for root in self._roots():
            if root in ended:
                self.discard(root)
        hour_ago = time.time() - 3600
        for stale in self.folder.glob(f".{_NAME}*.tmp"):
            with contextlib.suppress(OSError):
                if stale.stat().st_mtime < hour_ago:
                    stale.unlink()
        with contextlib.suppress(OSError):  # not there, or not empty
            self.folder.rmdir()

    def _roots(self) -> list[int]:
        return _roots(path.name for path in self.folder.glob(f"{_NAME}*{_SUFFIX}"))


class _RemoteCheckpoints(Checkpoints):
    """Checkpoints in an object store, through a temporary folder here."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        try:
            self.files, self.place = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise StudyError(f"checkpoints cannot be kept at {url}: {error}") from None
        super().__init__(Path(tempfile.mkdtemp(prefix="bsnn-tha-")))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def has(self, root: int) -> bool:
        return bool(self.files.exists(f"{self.place}/{self.file(root).name}"))

    def fetch(self, root: int) -> Path | None:
        path = self.file(root)
        try:  # Another worker may have gone on with it meanwhile: never from memory.
            self.files.get_file(f"{self.place}/{path.name}", str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return None
        return path

    def publish(self, root: int) -> None:
        path = self.file(root)
        self.files.makedirs(self.place, exist_ok=True)
        self.files.put_file(str(path), f"{self.place}/.{path.name}.tmp")
        self.files.mv(f"{self.place}/.{path.name}.tmp", f"{self.place}/{path.name}")

    def discard(self, root: int) -> None:
        super().discard(root)
        with contextlib.suppress(FileNotFoundError):
            self.files.rm_file(f"{self.place}/{self.file(root).name}")

    def _roots(self) -> list[int]:
        with contextlib.suppress(FileNotFoundError):
            return _roots(Path(name).name for name in self.files.ls(self.place, detail=False))
        return []


def _roots(names: Any) -> list[int]:
    numbers = (name.removeprefix(_NAME).removesuffix(_SUFFIX) for name in names)
    return [int(number) for number in numbers if number.isdigit()]


class TrialCheckpoint(Checkpoint):
    """Keeps a trial's checkpoint: when it pauses, and now and then before.

    Args:
        path: of the file.
        config: the trial's, as TOML: only a training of the same goes on from it.
        written: called after each writing.
    """

    def __init__(self, path: Path, config: str, written: Callable[[], None]) -> None:
        self.path, self.config, self.written = path, config, written
        self._latest = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        ended = trainer.current_epoch + 1 == trainer.max_epochs
        due = trainer.should_stop or time.monotonic() - self._latest >= EVERY
        if ended or not due:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        trainer.save_checkpoint(self.path)
        self.written()
        self._latest = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"config": self.config}


def epochs_in(path: Path, config: str) -> int | None:
    """Epochs that a checkpoint has behind it; None if it is damaged or of another training."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        own = content["callbacks"][TrialCheckpoint.__qualname__]["config"] == config
        return int(content["epoch"]) + 1 if own else None
    except Exception:  # whatever a damaged file makes the unpickler raise
        return None
