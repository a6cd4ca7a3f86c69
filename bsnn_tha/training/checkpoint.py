"""Checkpoints: reading them with clear errors, and writing one on Ctrl-C."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from bsnn_tha.errors import RunError
from bsnn_tha.training.files import replace_atomically


def load_weights(module: LightningModule, path: Path) -> None:
    """Load a checkpoint's weights, schedules and thresholds into a module.

    Raises:
        RunError: the file is missing, damaged, or of another architecture.
    """
    if not path.is_file():
        raise RunError(f"there is no checkpoint {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever a damaged or foreign file makes the unpickler raise
        content = None
    weights = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(
        isinstance(tensor, torch.Tensor) for tensor in weights.values()
    ):
        raise RunError(f"{path} is not a readable checkpoint; use another one")
    if mismatch := _mismatch(module, weights):
        raise RunError(f"checkpoint {path} is of another architecture: {mismatch}")
    module.load_state_dict(weights, assign=True)  # in the precision they were trained in


def _mismatch(module: LightningModule, weights: dict[str, torch.Tensor]) -> str:
    """The first difference in names or shapes, or an empty string."""
    own = module.state_dict()
    for name, tensor in own.items():
        if name not in weights:
            return f"it has no {name}"
        if weights[name].shape != tensor.shape:
            return f"{name} has shape {list(weights[name].shape)}, this run's {list(tensor.shape)}"
    extra = next((name for name in weights if name not in own), None)
    return f"it has {extra}, which this run's network lacks" if extra else ""


class SaveOnInterrupt(Callback):
    """On Ctrl-C, write the weights as they are, so that they can be used.

    Args:
        path: the run's ``last.ckpt``, replaced atomically.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if isinstance(exception, KeyboardInterrupt) and trainer.global_step > 0:
            with replace_atomically(self.path) as temporary:
                trainer.save_checkpoint(temporary)
