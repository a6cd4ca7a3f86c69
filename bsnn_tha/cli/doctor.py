"""``bsnn-tha doctor``: what this machine has for the package, and what is wrong.

One :class:`Finding` a line. What costs something is tried, not assumed: a compiled loop runs
and is compared with the equations, and folders are written to.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from bsnn_tha.cli.options import CacheRoot, DataRoot
from bsnn_tha.cores import usable_cores
from bsnn_tha.words import counted, size

Status = Literal["ok", "note", "wrong"]
MARKS: dict[Status, str] = {"ok": " ", "note": "-", "wrong": "!"}

EXTRAS = {
    "tensorboard": ("tensorboard", "metrics in TensorBoard", "tensorboard"),
    "imageio_ffmpeg": ("imageio-ffmpeg", "films as MP4 and WebM", "bsnn-tha[video]"),
    "psycopg": ("psycopg", "studies in PostgreSQL", "bsnn-tha[postgresql]"),
    "grpc": ("grpcio", "studies through a proxy", "bsnn-tha[proxy]"),
    "optuna_dashboard": ("optuna-dashboard", "studies in a browser", "bsnn-tha[dashboard]"),
    "aedat": ("aedat", "DVS-CIFAR10's .aedat4 files", "bsnn-tha[dvs-cifar10]"),
}
"""Module: distribution, what it is for, what to install."""


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    topic: str
    status: Status
    text: str


def doctor(
    json_: Annotated[bool, typer.Option("--json", help="The same for programs.")] = False,
    data_root: DataRoot = None,
    cache_root: CacheRoot = None,
) -> None:
    """Say what this machine has: versions, devices, routes, data, caches, and what is wrong.

    Lines with "!" name what is wrong and the way out; the exit status is then 1. Lines with "-"
    are worth knowing.
    """
    findings = []
    for finding in examine(data_root, cache_root):
        findings.append(finding)
        if not json_:
            print(f"{MARKS[finding.status]} {finding.topic:9} {finding.text}", flush=True)
    if json_:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    wrong = sum(finding.status == "wrong" for finding in findings)
    if not json_:
        print(f"{wrong} wrong" if wrong else "nothing is wrong")
    if wrong:
        raise typer.Exit(1)


def examine(data_root: Path | None = None, cache_root: Path | None = None) -> Iterator[Finding]:
    """Look at everything, cheapest first."""
    yield from _versions()
    yield from _devices()
    yield from _routes()
    yield from _data(data_root)
    yield from _caches(data_root, cache_root)


def _versions() -> Iterator[Finding]:
    import bsnn_tha

    place = Path(bsnn_tha.__file__).parent
    python = f"Python {platform.python_version()} at {sys.executable}"
    yield Finding("package", "ok", f"bsnn-tha {bsnn_tha.__version__} in {place}; {python}")
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(text) for text in importlib.metadata.requires("bsnn-tha") or []]
    except importlib.metadata.PackageNotFoundError:
        yield Finding("package", "note", "not installed, run from a folder of its source")
        return
    found = []
    for requirement in requirements:
        if requirement.marker is not None:  # of an extra
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            text = f"{requirement.name} is missing; pip install '{requirement}'"
            yield Finding("package", "wrong", text)
            continue
        found.append(f"{requirement.name} {version}")
        if not requirement.specifier.contains(version, prereleases=True):
            text = f"{requirement} is needed, but {version} is here; pip install '{requirement}'"
            yield Finding("package", "wrong", text)
    yield Finding("versions", "ok", ", ".join(found))
    for module, (name, purpose, install) in EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            yield Finding("optional", "note", f"no {name}: for {purpose}, pip install '{install}'")


def _devices() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(index)
            memory = facts.total_memory / 2**30
            yield Finding("device", "ok", f"cuda:{index} {facts.name}, {memory:.0f} GiB")
    elif shutil.which("nvidia-smi"):
        text = f"there is a GPU's driver, but torch {torch.__version__} finds no GPU: is it the "
        yield Finding("device", "note", text + "CPU build? pytorch.org has the others")
    if torch.backends.mps.is_available():
        yield Finding("device", "ok", "mps")
    cores = usable_cores()
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "NUMBA_CACHE_DIR")
    set_ = ", ".join(f"{name}={os.environ[name]}" for name in variables if name in os.environ)
    threads = torch.get_num_threads()
    core = counted(cores, "core")
    text = f"cpu {platform.machine()}, {core}, {counted(threads, 'thread')}"
    yield Finding("device", "ok", text + (f" ({set_})" if set_ else ""))
    if threads > cores:
        text = f"{threads} threads share {core}, which is slow; --threads {cores}"
        yield Finding("device", "wrong", text)


def _routes() -> Iterator[Finding]:
    yield Finding("route", "ok", "reference: PyTorch's own operations, on any device")
    yield _route("numba", "cpu", "loops compiled for the CPU")
    import torch

    if torch.cuda.is_available():
        yield _route("triton", "cuda", "kernels compiled for the GPU")


def _route(backend: Literal["numba", "triton"], device: str, words: str) -> Finding:
    """Run a small window by it and compare its bits with the equations'."""
    import torch

    from bsnn_tha import lif_sequence
    from bsnn_tha.equations.surrogate import FastSigmoid

    current = torch.rand(20, 4, 64, generator=torch.Generator().manual_seed(0)).to(device)
    try:
        spikes = [
            lif_sequence(current, 0.9, 1.5, 1.5, FastSigmoid(), backend=b).spikes
            for b in (backend, "reference")
        ]
    except Exception as error:  # whatever a compiler that does not work may raise
        reason = " ".join(str(error).split())[:160]
        return Finding("route", "wrong", f"{backend} ({words}) fails: {reason}")
    if not torch.equal(*spikes):
        text = f"{backend} ({words}) gives other spikes than the equations; --set "
        return Finding("route", "wrong", text + "network.route=reference avoids it")
    return Finding("route", "ok", f"{backend}: {words}, spikes equal the equations' to the bit")


def _data(root: Path | None) -> Iterator[Finding]:
    from bsnn_tha.data.inventory import inventory
    from bsnn_tha.data.root import data_root

    entries = inventory(data_root(root))
    here = ", ".join(e.name for e in entries if e.presence in ("here", "built in"))
    yield Finding("data", "ok", f"in {data_root(root)}: {here}")
    for entry in entries:
        if entry.presence == "in part":
            text = f"{entry.name} is there in part, in {entry.path}; {entry.obtain}"
            yield Finding("data", "wrong", text)
    missing = ", ".join(e.name for e in entries if e.presence == "missing")
    if missing:
        yield Finding("data", "ok", f"not there: {missing} (bsnn-tha data list says how to get)")


def _caches(data: Path | None, cache: Path | None) -> Iterator[Finding]:
    import pooch

    from bsnn_tha.data.root import cache_root, data_root
    from bsnn_tha.kernels.cpu.kept import kept_in

    places: list[tuple[str, Path | None, str]] = [
        ("data", data_root(data), "*"),
        ("binned events and own data", cache_root(cache), "*"),
        ("compiled loops", kept_in(), "*.nb[ic]"),
        ("runs allowed to name code", Path(pooch.os_cache("bsnn-tha")) / "allowed-code", "*"),
    ]
    for what, folder, pattern in places:
        if folder is None:
            text = f"{what}: no folder can be written, so they are compiled anew in every process"
            yield Finding("cache", "wrong", text + "; NUMBA_CACHE_DIR names another")
            continue
        held = sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())
        yield Finding("cache", "ok", f"{what}: {size(held)} in {folder}")
        if not _writable(folder):
            yield Finding("cache", "wrong", f"{folder} cannot be written; choose another folder")
    if not _writable(Path.cwd()):
        yield Finding("cache", "wrong", f"{Path.cwd()} cannot be written; runs need --output")


def _writable(folder: Path) -> bool:
    """Whether a file can be made in it, or in the nearest folder above that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
