"""The machine a run happens on: devices, threads, signals; not the experiment."""

from __future__ import annotations

import logging
import platform
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import snntorch
import torch

import bsnn_tha
from bsnn_tha.errors import InvalidValueError

DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Machine:
    """Where a run happens; nothing here belongs to the experiment.

    Args:
        data_root: folder with the data files; None for the default.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        threads: CPU threads, or None for torch's choice.
    """

    data_root: Path | None = None
    device: str = "auto"
    threads: int | None = None

    def trainer_options(self) -> dict[str, Any]:
        """Keywords for ``lightning.Trainer``; sets the number of threads.

        Raises:
            InvalidValueError: an unknown or absent device, or no threads.
        """
        if self.device not in DEVICES:
            raise InvalidValueError(
                f"device must be {', '.join(DEVICES[:-1])} or {DEVICES[-1]}, "
                f"but got {self.device!r}"
            )
        for device, backend in (("cuda", torch.cuda), ("mps", torch.backends.mps)):
            if self.device == device and not backend.is_available():
                raise InvalidValueError(
                    f"device {device!r} was asked for, but torch finds none; use auto or cpu"
                )
        if self.threads is not None:
            if self.threads < 1:
                raise InvalidValueError(f"threads must be at least 1, but got {self.threads}")
            torch.set_num_threads(self.threads)
        return {
            "accelerator": self.device,
            "devices": 1,
            "logger": False,
            "enable_model_summary": False,
            "enable_progress_bar": False,
        }


THIS_MACHINE = Machine()
"""The defaults: the usual data root, the best device there is, torch's threads."""


def machine_facts(device: torch.device) -> dict[str, Any]:
    """What a result should be read with: device, threads and versions."""
    return {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "snntorch": snntorch.__version__,
        "lightning": lightning.__version__,
        "bsnn_tha": bsnn_tha.__version__,
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning's advice (workers, hardware lists) is not for this tool's users."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def interruptible(kept: Path) -> Iterator[None]:
    """Ctrl-C leaves as KeyboardInterrupt; Lightning would end the process itself.

    The exception's message says whether the file ``kept`` is there to go on with.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as exit_request:
        if isinstance(exit_request.__context__, KeyboardInterrupt):
            what = f"{kept} is usable" if kept.exists() else "no iteration had finished"
            raise KeyboardInterrupt(f"interrupted: {what}") from None
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, handler)
