"""An environment for every peer, made when it is first needed.

PyTorch is large and the same for all peers: it is installed once, alone, and the
peers' environments see it through a ``.pth`` file. Nothing else is shared. The
peers are installed without their dependencies, all of which they are given by
their file in ``requirements/``: left to itself the installer would pick another
build of PyTorch, and torchvision with it, which need not fit. None of the peers'
neurons needs torchvision.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements"
ENVIRONMENTS = {
    "published": "snntorch",
    "snntorch-compiled": "snntorch",
    "spikingjelly": "spikingjelly",
    "norse": "norse",
    "sinabs": "sinabs",
    "onnxruntime": "onnxruntime",
}
"""Those not listed are ours and run in the project's own environment."""

ALONE = {"onnxruntime"}
"""What does without PyTorch and brings its own dependencies."""


def interpreter(peer: str, cache: Path) -> Path:
    """The Python of a peer, after making its environment if need be.

    Raises:
        subprocess.CalledProcessError: the installation failed.
    """
    name = ENVIRONMENTS.get(peer)
    if name is None:
        return Path(sys.executable)
    if name in ALONE:
        return _python(_environment(cache, name, shared=None))
    torch = _environment(cache, "torch", shared=None)
    return _python(_environment(cache, name, shared=_site_packages(torch)))


def available(peer: str, cache: Path) -> bool:
    """Whether the peer's environment has been made and is current."""
    name = ENVIRONMENTS.get(peer)
    return name is None or _is_current(cache.absolute() / name, name)


def _environment(cache: Path, name: str, shared: Path | None) -> Path:
    folder = cache.absolute() / name
    if _is_current(folder, name):
        return folder
    print(f"making the environment of {name}", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    install = [str(_python(folder)), "-m", "pip", "install"]
    install += ["--quiet", "--disable-pip-version-check"]
    if shared is not None:
        path = _site_packages(folder) / "shared_torch.pth"
        path.write_text(f"{shared}\n", encoding="utf-8")
        install.append("--no-deps")
    subprocess.run([*install, "-r", str(REQUIREMENTS / f"{name}.txt")], check=True)
    (folder / "made-from").write_text(_fingerprint(name), encoding="ascii")
    return folder


def _is_current(folder: Path, name: str) -> bool:
    """Made to the end, by this Python and from the requirements as they are now."""
    made_from = folder / "made-from"
    return made_from.exists() and made_from.read_text(encoding="ascii") == _fingerprint(name)


def _fingerprint(name: str) -> str:
    files = ["torch.txt"] if name == "torch" else ["torch.txt", f"{name}.txt"]
    text = b"".join((REQUIREMENTS / file).read_bytes() for file in files)
    return hashlib.sha256(text + sys.version.encode()).hexdigest()


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _site_packages(folder: Path) -> Path:
    major, minor = sys.version_info[:2]
    return folder / "lib" / f"python{major}.{minor}" / "site-packages"
