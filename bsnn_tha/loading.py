"""A trained network in one line, of a run or one that comes with this package."""

from __future__ import annotations

from pathlib import Path

from bsnn_tha import zoo
from bsnn_tha.training import trained
from bsnn_tha.training.trained import Trained


def load(
    run: str | Path,
    *,
    checkpoint: str | Path = "best",
    data_root: Path | None = None,
    allow_code: bool = False,
) -> Trained:
    """The trained network of a run folder, or ``zoo:NAME``, with what was measured of it.

    Args:
        run: the folder, or the name of one of :mod:`bsnn_tha.zoo`.
        checkpoint, data_root, allow_code: of a run, as for
            :func:`bsnn_tha.training.trained.load`.

    Raises:
        RunError: no such run or checkpoint, or one of another architecture.
        InvalidValueError: no such network of this package.

    Example:
        >>> import torch
        >>> trained = load("zoo:digits")  # or "runs/digits-tha-1"
        >>> trained
        <Trained zoo:digits: digits, variant best, 32C3-64C3-AP2-10, binary weights>
        >>> trained.predict(torch.rand(2, 1, 8, 8)).shape  # classes, of pixels from 0 to 1
        torch.Size([2])
        >>> trained.network.training  # an nn.Module
        False
    """
    name = str(run)
    if zoo.named(name):
        return zoo.load(zoo.name_of(name, str(checkpoint)))
    return trained.load(run, checkpoint=checkpoint, data_root=data_root, allow_code=allow_code)
