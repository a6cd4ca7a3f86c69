"""The parent's end of a worker: a process, and a request at a time."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.peers.workload import Workload

ROOT = Path(__file__).parents[2]


class WorkerFailedError(RuntimeError):
    """A worker replied with an error, or died."""


class WorkerSkippedError(RuntimeError):
    """A worker cannot run here; the message is the reason."""


class Client:
    """A worker process of one peer; ends with its ``with`` block.

    Args:
        peer: its name.
        python: the interpreter of its environment.
        threads: for PyTorch and whatever else counts cores.
        allocator: ``"kept"`` or ``"plain"``.
    """

    def __init__(self, peer: str, python: Path, threads: int, allocator: str) -> None:
        self.peer = peer
        command = [str(python), "-m", "benchmarks.peers.worker", peer, str(threads), allocator]
        # Settings of the caller's shell would decide for some peers and not for others.
        theirs = "PYTHON", "MALLOC_", "OMP_", "GOMP_"
        environment = {k: v for k, v in os.environ.items() if not k.startswith(theirs)}
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
            environment[name] = str(threads)
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, action: str, **details: Any) -> dict[str, Any]:
        """Send a request and wait for the reply.

        Raises:
            WorkerSkippedError: the peer cannot run here.
            WorkerFailedError: it failed, or the process ended.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": action, **details}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = self.process.wait()
            raise WorkerFailedError(f"{self.peer}: the process ended with {status} at {action!r}")
        reply: dict[str, Any] = json.loads(line)
        if "skip" in reply:
            raise WorkerSkippedError(reply["skip"])
        if "error" in reply:
            raise WorkerFailedError(f"{self.peer}: {reply['error']}")
        return reply

    def load(self, workload: Workload, arrays: Path) -> dict[str, Any]:
        """Give it the network, its weights and its input."""
        return self.ask("load", workload=workload.to_json(), arrays=str(arrays))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.process.kill()
        self.process.communicate()  # closes its input, at which it ends
