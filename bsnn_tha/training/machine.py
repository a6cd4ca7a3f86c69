"""The machine a run happens on: devices, threads, signals; not the experiment."""

from __future__ import annotations

import logging
import platform
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import snntorch
import torch
from lightning.pytorch.utilities import rank_zero_only

import bsnn_tha
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.training.unprofiled import Unprofiled

DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Machine:
    """Where a run happens; nothing here belongs to the experiment.

    Args:
        data_root: folder with the data files; None for the default.
        cache_root: folder for binned events; None for the default.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        threads: CPU threads of each process, or None for torch's choice.
        devices: GPUs (or CPU processes) per node that train together.
        nodes: computers that train together, each started by torchrun or SLURM.
    """

    data_root: Path | None = None
    cache_root: Path | None = None
    device: str = "auto"
    threads: int | None = None
    devices: int = 1
    nodes: int = 1

    @property
    def leads(self) -> bool:
        """True in the one process that writes files and talks to the user."""
        return getattr(rank_zero_only, "rank", 0) == 0

    def make_ready(self) -> None:
        """Make this process compute as asked: takes the number of threads.

        Raises:
            InvalidValueError: an unknown or absent device, or a count below 1.
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
        for name in ("threads", "devices", "nodes"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise InvalidValueError(f"{name} must be at least 1, but got {count}")
        if self.threads is not None:
            torch.set_num_threads(self.threads)

    def check_precision(self, precision: str) -> None:
        """Raise where Lightning would compute in another precision than was asked for.

        Raises:
            InvalidValueError: float16 on a processor, which has no kernels for it.
        """
        on_cpu = self.device == "cpu" or (self.device == "auto" and not _accelerated())
        if precision == "16-mixed" and on_cpu:
            raise InvalidValueError(
                "training.precision = '16-mixed' needs a GPU, but this runs on the CPU; choose "
                "'bf16-mixed' or leave it out"
            )

    def trainer_options(self, together: bool = True) -> dict[str, Any]:
        """Keywords for ``lightning.Trainer``.

        Args:
            together: on all devices and nodes; otherwise on one device.
        """
        several = together and self.devices * self.nodes > 1
        return {
            "accelerator": self.device,
            "devices": self.devices if together else 1,
            "num_nodes": self.nodes if together else 1,
            "strategy": "ddp" if several else "auto",
            # Batches are shared out by their own sampler.
            "use_distributed_sampler": False,
            "enable_model_summary": False,
            "enable_progress_bar": False,
            "profiler": Unprofiled(),
        }


THIS_MACHINE = Machine()
"""The defaults: the usual data root, the best device there is, torch's threads."""


def _accelerated() -> bool:
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def processor() -> str:
    """The processor's model, as Linux calls it; elsewhere what Python knows of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor()


def machine_facts(device: torch.device) -> dict[str, Any]:
    """What a result should be read with: device, threads and versions."""
    return {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "snntorch": snntorch.__version__,
        "lightning": lightning.__version__,
        "bsnn_tha": bsnn_tha.__version__,
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning's advice (workers, hardware lists) is not for this tool's users."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def interruptible(message: Callable[[], str] = lambda: "interrupted") -> Iterator[None]:
    """Ctrl-C leaves as KeyboardInterrupt; Lightning would end the process itself.

    Args:
        message: gives that of the exception when it comes, e.g. how to go on.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as exit_request:
        if isinstance(exit_request.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt(message()) from None
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, handler)
