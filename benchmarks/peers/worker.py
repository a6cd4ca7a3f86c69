"""One peer in a process of its own, told what to do line by line.

    python -m benchmarks.peers.worker spikingjelly

Requests and replies are JSON, one per line on standard input and output; what
libraries print goes to standard error instead. A reply has ``"ok"``, else
``"skip"`` with the reason (the peer cannot run here) or ``"error"``. Requests:

=============  ==========================================================
``load``       build the network from ``workload`` (JSON) and ``arrays``
               (a npz file)
``outputs``    spike counts and gradients without dropout, to the file ``to``;
               of deep networks in float64
``train``      one training step from the given weights
``infer``      one window without gradients
``memory``     peak memory above the idle process over ``times`` training
               steps; a process of its own
=============  ==========================================================

A process runs in the environment of its peer: here and in the module of the
peer only PyTorch, numpy and the peer may be imported.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import platform
import re
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# Ours before PyTorch, as a program would: it sets what OpenMP reads when PyTorch is loaded.
if sys.argv[1:2] and sys.argv[1].startswith("ours"):
    import bsnn_tha  # noqa: F401

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.workload import TURN_SECONDS, Arrays, Workload, draw

CLASSES = {
    "ours": "ours:Network",
    "ours-bf16": "ours:MixedNetwork",
    "reference": "reference:Network",
    "reference-decayed": "reference:DecayedResetNetwork",
    "published": "step_loop:Network",
    "snntorch-compiled": "step_loop:CompiledNetwork",
    "spikingjelly": "spikingjelly:Network",
    "norse": "norse:Network",
    "sinabs": "sinabs:Network",
}
_PACKAGES = ("torch", "numpy", "numba", "triton", "snntorch", "spikingjelly", "norse", "sinabs")


class Peer:
    """A network with its weights, its input and its optimizer, on one device.

    In PyTorch's default dtype, which stays what it is as long as the peer is used.
    """

    def __init__(self, name: str, workload: Workload, arrays: Arrays, device: str = "cpu") -> None:
        self.name, self.workload, self.arrays, self.device = name, workload, arrays, device
        module, _, attribute = CLASSES[name].partition(":")
        network_class = getattr(
            importlib.import_module(f"benchmarks.peers.models.{module}"), attribute
        )
        self.notes: str = network_class.notes
        self.decayed_reset: bool = network_class.decayed_reset
        self.network = network_class(workload).to(device, torch.get_default_dtype())
        self.parameters = self.network.parameter_names()
        weights = {name: array for name, array in arrays.items() if name[0].isdigit()}
        if sorted(weights) != sorted(self.parameters):
            raise ValueError(f"{name} has other parameters than the workload")
        with torch.no_grad():
            for key, parameter in self.parameters.items():
                parameter.copy_(torch.from_numpy(weights[key]))
        input = torch.from_numpy(arrays["input"]).to(device, torch.get_default_dtype())
        self.input = self.network.prepare(input)
        self.targets = torch.from_numpy(arrays["targets"]).to(device)
        # The same for everybody, and not what is compared: the fastest that PyTorch has.
        self.optimizer = torch.optim.Adam(
            self.parameters.values(), lr=workload.lr, betas=workload.betas, fused=True
        )
        self.given = {key: value.clone() for key, value in self._restored().items()}

    def _restored(self) -> dict[str, Tensor]:
        """What a training step changes and a repetition starts from again."""
        running = {k: b for k, b in self.network.named_buffers() if "running_" in k}
        return dict(self.network.named_parameters()) | running

    def restore(self) -> None:
        """Weights and running statistics as given, so that every repetition is the same work."""
        with torch.no_grad():
            for key, value in self._restored().items():
                value.copy_(self.given[key])

    def backward(self) -> Tensor:
        """Forward and backward pass; spikes of the output neurons."""
        self.network.train()
        spikes = self.network(self.input)
        loss = self.network.loss(spikes, self.targets)
        self.optimizer.zero_grad()
        loss.backward()
        return spikes

    def train(self) -> None:
        self.backward()
        self.optimizer.step()

    def infer(self) -> Tensor:
        """The class with the most spikes, for each sample."""
        self.network.eval()
        with torch.no_grad():
            return self.network(self.input).sum(0).argmax(1)

    def outputs(self) -> Arrays:
        """Spike counts of a training and an evaluation window, and all gradients."""
        found = {"train": self.backward().sum(0).detach().float()}
        self.network.eval()
        with torch.no_grad():
            found["eval"] = self.network(self.input).sum(0).float()
        for key, parameter in self.parameters.items():
            if parameter.grad is None:
                raise ValueError(f"{key} got no gradient")
            found[f"gradient {key}"] = parameter.grad
        return {key: value.cpu().numpy() for key, value in found.items()}


class Worker:
    """Answers requests about one peer."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.peer: Peer | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply to one request."""
        action = request["do"]
        if action == "load":
            return self.load(request)
        assert self.peer is not None, "load comes first"
        if action == "outputs":
            return self.outputs(request["to"])
        if action == "memory":
            return self.memory(request["times"])
        if action in ("train", "infer"):
            return self.timed(action)
        raise ValueError(f"unknown request {action!r}")

    def load(self, request: dict[str, Any]) -> dict[str, Any]:
        workload = Workload.from_json(request["workload"])
        with np.load(request["arrays"]) as arrays:
            self.peer = Peer(self.name, workload, dict(arrays))
        return {
            "notes": self.peer.notes,
            "decayed_reset": self.peer.decayed_reset,
            "threads": torch.get_num_threads(),
            "versions": versions(),
        }

    def outputs(self, to: str) -> dict[str, Any]:
        assert self.peer is not None
        workload, usual = self.peer.workload.without_dropout(), torch.get_default_dtype()
        torch.set_default_dtype(getattr(torch, workload.compared_in))
        try:
            outputs = Peer(self.name, workload, self.peer.arrays).outputs()
        finally:
            torch.set_default_dtype(usual)
        np.savez(to, **outputs)  # type: ignore[arg-type]
        return {}

    def timed(self, action: str) -> dict[str, Any]:
        """Wall and CPU seconds of one repetition.

        Other peers have had the processor in the meantime. A short repetition is made again,
        until caches and clock are as in a training run, and the last ones' median counts.
        """
        assert self.peer is not None
        run = self.peer.train if action == "train" else self.peer.infer
        found: list[tuple[float, float]] = []
        while sum(seconds for seconds, _ in found) < TURN_SECONDS:
            self.peer.restore()
            start, cpu = time.perf_counter(), time.process_time()
            run()
            found.append((time.perf_counter() - start, time.process_time() - cpu))
        later = sorted(found[len(found) // 2 :])
        seconds, cpu = later[len(later) // 2]
        return {"seconds": seconds, "cpu": cpu}

    def memory(self, times: int) -> dict[str, Any]:
        """MiB that training adds to a process that has imported and first used everything."""
        assert self.peer is not None
        workload, arrays = self.peer.workload, self.peer.arrays
        tiny = workload.shrunk(2, 1)
        Peer(self.name, tiny, draw(tiny)).train()
        self.peer, idle = None, _status("VmRSS")
        # The peak so far, of imports and loading, is forgotten where the kernel allows it.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        peer = Peer(self.name, workload, arrays)
        for _ in range(times):
            peer.train()
        return {"mib": (_status("VmHWM") - idle) / 1024}


def versions() -> dict[str, str]:
    """Of Python and of the packages that matter and are here."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _status(name: str) -> int:
    """A line of this process's status, in KiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def keep_freed_memory() -> None:
    """As ``bsnn-tha train``, for every peer alike (:mod:`bsnn_tha.freed_memory`)."""
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(-3, 1 << 30)
    mallopt(-1, (1 << 31) - 1)
    mallopt(-2, 256 << 20)


def reply_to(worker: Worker, line: str) -> dict[str, Any]:
    """The reply to a line: whatever goes wrong is the parent's to judge."""
    try:
        return {"ok": True, **worker.answer(json.loads(line))}
    except (ImportError, NotImplementedError) as error:
        return {"skip": f"{error}"}
    except Exception as error:
        first = re.sub(r"\s+", " ", str(error))[:300]
        return {"error": f"{type(error).__name__}: {first}"}


def main() -> None:
    """Serve requests until standard input ends."""
    name, threads, keep = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "kept"
    # Replies have the real standard output to themselves.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    torch.set_num_threads(threads)
    if keep:
        keep_freed_memory()
    worker = Worker(name)
    for line in sys.stdin:
        print(json.dumps(reply_to(worker, line)), file=replies, flush=True)


if __name__ == "__main__":
    main()
