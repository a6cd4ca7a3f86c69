"""Recording the output of every training iteration, for films and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from bsnn_tha.nn.thresholds import ThresholdRule
from bsnn_tha.observe.metrics import spike_timing
from bsnn_tha.run_folder import replace_atomically

TOLERANCE = 2
"""Time steps by which a spike may miss the target's peak."""
LAST = 300
"""Iterations at the end of training over which hits are counted."""


_RECORDED = ("membranes", "spikes", "thresholds", "loss", "target")


class OutputRecorder(Callback):
    """Output membrane, spikes, thresholds and loss of every training iteration.

    Kept in memory (T · batch · outputs numbers per iteration, meant for small
    networks) and written as ``recording.npz`` when training ends, however it
    ends; before that after 1, 2, 4, 8, ... iterations and after each epoch, so
    that a running training can be looked at. Arrays: ``membranes`` and
    ``spikes`` ``[iterations, time, batch, outputs]``, ``thresholds``
    ``[iterations, layers]``, ``loss`` ``[iterations]``, ``target`` of the last
    iteration as the data set has it: ``[time, batch, outputs]``, or of classes ``[batch]``.

    Args:
        path: of the file; None keeps the arrays in memory only.

    Place it before :class:`~bsnn_tha.training.callbacks.ThresholdAnnealing`,
    so that it sees the thresholds the iteration ran with.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.membranes: list[Tensor] = []
        self.spikes: list[Tensor] = []
        self.thresholds: list[Tensor] = []
        self.loss: list[float] = []
        self.target: Tensor | None = None
        self._writes = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._writes = trainer.is_global_zero

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        window = outputs["window"]
        if window.membranes is not None:
            self.membranes.append(window.membranes.detach().cpu())
        self.spikes.append(window.spikes.detach().to(torch.uint8).cpu())
        self.loss.append(float(outputs["loss"]))
        self.target = batch[1]
        rules = (m for m in pl_module.modules() if isinstance(m, ThresholdRule))
        self.thresholds.append(torch.stack([rule().detach().mean() for rule in rules]).cpu())
        # All of it each time: by doubling, in twice the time of writing it once.
        if len(self.loss) & (len(self.loss) - 1) == 0:
            self._write()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write()

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _RECORDED}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in _RECORDED:
            setattr(self, name, state_dict[name])

    def timing(self) -> dict[str, Any] | None:
        """How the first output fires about the target's peak.

        None without a trace or a θ, and where targets are classes, which have no peak.
        """
        fires = bool(self.thresholds) and bool(torch.isfinite(self.thresholds[-1][-1]))
        traced = self.target is not None and self.target.dim() == 3
        if self.target is None or not traced or not self.membranes or not fires:
            return None
        spikes = torch.stack(self.spikes)[:, :, 0, 0]
        target_step = int(self.target[:, 0, 0].argmax())
        share, first = spike_timing(spikes, target_step, TOLERANCE, LAST)
        return {
            "target_step": target_step,
            "tolerance": TOLERANCE,
            "last": min(LAST, len(spikes)),
            "share": share,
            "first": first,
        }

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._write()

    def _write(self) -> None:
        if self.path is None or not self.spikes or not self._writes:
            return
        arrays: dict[str, Any] = {
            "spikes": torch.stack(self.spikes).numpy(),
            "thresholds": torch.stack(self.thresholds).numpy(),
            "loss": np.array(self.loss, dtype=np.float32),
        }
        if self.membranes:
            arrays["membranes"] = torch.stack(self.membranes).numpy()
        if self.target is not None:
            arrays["target"] = self.target.cpu().numpy()
        with replace_atomically(self.path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
