"""Checkpoints that survive a kill at any moment, and reading them with clear errors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from bsnn_tha.errors import RunError
from bsnn_tha.run_folder import RunFolder, replace_atomically
from bsnn_tha.training.task import Task


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside the old one, then renames.

    Of ``last.ckpt`` the one before is kept as ``previous.ckpt``, so that even
    a disk that loses the latest writes leaves a run that can be resumed.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        path = Path(path)
        folder = RunFolder(path.parent)
        with replace_atomically(path) as temporary:
            super().save_checkpoint(checkpoint, temporary)
            if path == folder.last and path.exists():
                os.replace(path, folder.previous)


class MovableCheckpoint(ModelCheckpoint):
    """A ``ModelCheckpoint`` that knows its best one again in a folder that was moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        assert self.dirpath is not None
        folder = Path(self.dirpath)

        def here(path: str) -> str:
            return str(folder / Path(path).name) if path else path

        state = dict(state_dict, dirpath=self.dirpath)
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[name] = here(state[name])
        state["best_k_models"] = {here(p): score for p, score in state["best_k_models"].items()}
        super().load_state_dict(state)


def resumable_checkpoint(folder: RunFolder) -> Path | None:
    """The latest checkpoint of a run that is whole; None if it has none at all.

    Raises:
        RunError: there are checkpoints, but none can be read.
    """
    found = [path for path in (folder.last, folder.previous) if path.exists()]
    for path in found:
        if _read(path) is not None:
            return path
    if found:
        names = " and ".join(str(path) for path in found)
        whole = _whole(folder.best)
        kept = f"{whole}, or start" if whole else "start"
        raise RunError(
            f"{names} cannot be read, so the run cannot be resumed; {kept} anew with "
            f"bsnn-tha train --config {folder.config}"
        )
    return None


def _whole(path: Path) -> str | None:
    """What a whole checkpoint can be used for, as advice; None if it is missing or damaged."""
    if not path.is_file() or _read(path) is None:
        return None
    return f"{path.name} is whole: bsnn-tha evaluate {path.parent} --checkpoint {path.stem}"


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a checkpoint's weights, schedules and thresholds into a module.

    Raises:
        RunError: the file is missing, damaged, or of another architecture.
    """
    weights = _content(path)["state_dict"]
    try:
        # In the precision they were trained in. Modules know their own earlier names.
        module.load_state_dict(weights, assign=True)
    except RuntimeError:
        mismatch = _mismatch(module, weights)
        raise RunError(f"checkpoint {path} is of another architecture: {mismatch}") from None


def read_task(path: Path) -> Task | None:
    """What a checkpoint's network was trained for; None if it is of an earlier version.

    Raises:
        RunError: the file is missing or damaged.
    """
    return Task.from_plain(_content(path).get(Task.KEY))


def _content(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise RunError(f"there is no checkpoint {path}; {_instead_of(path)}")
    content = _read(path)
    if content is None:
        folder = RunFolder(path.parent)
        others = (_whole(other) for other in (folder.best, folder.last) if other != path)
        way_out = next(filter(None, others), "use another one, or train anew")
        raise RunError(f"{path} is not a readable checkpoint; {way_out}")
    return content


def _instead_of(path: Path) -> str:
    """What to do without a checkpoint that is not there."""
    folder = RunFolder(path.parent)
    if there := [other.name for other in (folder.best, folder.last) if other.is_file()]:
        return f"{folder.path} has {' and '.join(there)}"
    if folder.config.is_file():
        run = folder.path
        return f"no epoch of {run} has ended: wait, or go on with bsnn-tha train --resume {run}"
    return "give best, last or the path of a .ckpt file"


def _read(path: Path) -> dict[str, Any] | None:
    """A checkpoint; None for a damaged or foreign file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever such a file makes the unpickler raise
        return None
    weights = content.get("state_dict") if isinstance(content, dict) else None
    if isinstance(weights, dict) and all(isinstance(w, torch.Tensor) for w in weights.values()):
        return content
    return None


def _mismatch(module: nn.Module, weights: dict[str, torch.Tensor]) -> str:
    """The first difference in names or shapes, or an empty string."""
    own = module.state_dict()
    for name, tensor in own.items():
        if name not in weights:
            return f"it has no {name}"
        if weights[name].shape != tensor.shape:
            return f"{name} has shape {list(weights[name].shape)}, this run's {list(tensor.shape)}"
    extra = next((name for name in weights if name not in own), None)
    return f"it has {extra}, which this run's network lacks" if extra else ""
