"""What is there of the known data sets, and how to get what is missing. Reads no data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bsnn_tha.data import LOADERS, OWN
from bsnn_tha.data.cifar import find_cifar10
from bsnn_tha.data.event_set import EventSet
from bsnn_tha.data.gen1 import GEN1, PARTS
from bsnn_tha.data.images import FASHION_MNIST, MNIST

Presence = Literal["built in", "here", "in part", "missing"]


@dataclass(frozen=True)
class Entry:
    """One of the known data sets below a data root."""

    name: str
    presence: Presence
    path: Path | None
    """Where its files are, or are looked for; None for a set without files."""
    obtain: str
    """How to get what is missing; empty if nothing is."""


def inventory(root: Path) -> list[Entry]:
    """Every data set that has a name, in their order on the command line.

    Example:
        >>> entries = inventory(Path("nowhere"))
        >>> [(entry.name, entry.presence) for entry in entries][:2]
        [('digits', 'built in'), ('mnist', 'missing')]
    """
    return [_entry(name, root) for name in LOADERS if name not in OWN]


def _entry(name: str, root: Path) -> Entry:
    downloaded = f"bsnn-tha data check {name} downloads it"
    for files in (MNIST, FASHION_MNIST):
        if name == files.name:
            found = [files.find(root, part) for part in files.checksums()]
            return _from(name, found, root / files.title, downloaded)
    if name == "cifar10":
        return _from(name, [find_cifar10(root)], root / "CIFAR10", downloaded)
    if name == GEN1.name:
        folders = [root / GEN1.title / part for part in PARTS]
        parts = [folder if folder.is_dir() else None for folder in folders]
        return _from(name, parts, root / GEN1.title, "place Prophesee's files there")
    events = getattr(LOADERS.find(name), "__self__", None)
    if not isinstance(events, EventSet):
        return Entry(name, "built in", None, "")
    found = [events.find(root, part) for part in range(len(events.parts))]
    obtain = downloaded if events.tonic else events.obtain
    return _from(name, found, root / events.title, obtain)


def _from(name: str, found: list[Path | None], folder: Path, obtain: str) -> Entry:
    there = [path for path in found if path]
    presence: Presence = "here" if len(there) == len(found) else "in part" if there else "missing"
    path = there[0] if len(there) == len(found) == 1 else folder
    return Entry(name, presence, path, "" if presence == "here" else obtain)
