"""Fetch one file into a folder, from the first mirror that has it intact.

A file that is already there is used as it is: no connection and no checksum,
so that files may be placed by hand, re-compressed or cut down. A download is
written under a temporary name in the same folder and renamed once its checksum
is right, so the final name never holds half a file, also with several
processes at once.
"""

from __future__ import annotations

import contextlib
import gzip
import logging
import shutil
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bsnn_tha.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be downloaded.

    Args:
        name: of the file in the folder.
        md5: checksum of the whole file, 32 hexadecimal digits.
        urls: its http or https addresses, in the order in which they are tried.
    """

    name: str
    md5: str
    urls: tuple[str, ...]


def fetch(file: RemoteFile, folder: Path) -> Path:
    """Path of the file in the folder, downloaded if it is not there yet.

    Args:
        file: what to fetch and from where.
        folder: where to look and to store; created for a download.

    Raises:
        DataError: the folder cannot be written, or no mirror sent the file
            with the right checksum. Nothing is left under the file's name.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.gz").write_bytes(b"placed by hand")
        ...     fetch(RemoteFile("a.gz", "", ()), Path(folder)).name
        'a.gz'
    """
    path = folder.absolute() / file.name
    if path.exists():
        return path
    missing = [place for place in (path.parent, *path.parent.parents) if not place.exists()]
    _check_writable(path)
    reason = "no address is known"
    for url in file.urls:
        logger.info("downloading %s to %s", url, path)
        try:
            _download(url, file.md5, path)
            return path
        # requests' exceptions are OSErrors; a wrong checksum is a ValueError.
        except (OSError, ValueError) as error:
            reason = _reason(error)
            logger.info("%s failed: %s", url, reason)
    for place in missing:  # nothing came into them
        with contextlib.suppress(OSError):
            place.rmdir()
    raise DataError(
        f"could not download {file.name} from {' or '.join(file.urls) or 'anywhere'}"
        f" (last failure: {reason}); try again later, or place the file by hand at {path}"
    )


def fetch_unpacked(file: RemoteFile, folder: Path, member: str) -> Path:
    """Path of a file or folder that comes in an archive, fetched if it is not there yet.

    Args:
        file: the archive (zip or tar). One that lies in the folder is used.
        folder: where to look and to unpack.
        member: what is wanted from it, a name at the archive's top.

    Raises:
        DataError: as :func:`fetch`, or the archive is damaged or holds no such
            member. Nothing is left under the member's name.
    """
    path = folder.absolute() / member
    if path.exists():
        return path
    try:
        archive = fetch(file, folder)
    except DataError as error:
        raise DataError(f"{error}; or place its content at {path}") from error
    logger.info("unpacking %s", archive)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{member}.") as temporary:
            _unpack(archive, temporary)
            unpacked = Path(temporary) / member
            if unpacked.is_symlink():  # it would point elsewhere once it is moved
                raise DataError(f"{member} is a link")
            try:
                unpacked.rename(path)
            except OSError:
                # A folder cannot replace one that another process put there meanwhile.
                if not (unpacked.exists() and path.exists()):
                    raise
    # Damaged archives raise whatever their readers raise, down to zlib.error.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{archive} must be an archive that holds {member}, but unpacking it failed"
            f" ({reason}); delete it so that it is downloaded again, or place {member} at {path}"
        ) from error
    return path


def unpack_beside(path: Path) -> bool:
    """Whether ``path`` is there now because ``path.gz`` lay beside it.

    Raises:
        DataError: that file is damaged, or the folder cannot be written. Nothing is left
            under the name of ``path``.
    """
    packed = path.with_name(f"{path.name}.gz")
    if not packed.is_file():
        return False
    logger.info("unpacking %s", packed)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as temporary:
            unpacked = Path(temporary) / path.name
            with gzip.open(packed) as source, unpacked.open("wb") as target:
                shutil.copyfileobj(source, target)
            if not unpacked.stat().st_size:
                raise EOFError("it is empty")
            unpacked.replace(path)
    except (OSError, EOFError, zlib.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{packed} must be an intact gzip file in a folder that can be written, but unpacking "
            f"it failed ({reason}); replace it, or place {path.name} beside it"
        ) from error
    return True


def _unpack(archive: Path, folder: str) -> None:
    """Unpack into a folder, and nowhere else: tar files may name other paths, zip files cannot."""
    if not tarfile.is_tarfile(archive):
        shutil.unpack_archive(archive, folder)
    elif hasattr(tarfile, "data_filter"):
        shutil.unpack_archive(archive, folder, filter="data")
    else:  # Python 3.11.0 to 3.11.3
        with tarfile.open(archive) as opened:
            for member in opened.getmembers():
                path = Path(member.name)
                if (
                    path.is_absolute()
                    or ".." in path.parts
                    or not (member.isreg() or member.isdir())
                ):
                    raise DataError(f"{member.name!r} is outside its folder, or no file")
            opened.extractall(folder)


def _reason(error: BaseException) -> str:
    """What went wrong in the end, without the layers that passed it on."""
    while True:
        inner = getattr(error, "reason", None) or (error.args[0] if error.args else None)
        if not isinstance(inner, BaseException):
            return " ".join(str(error).split()) or type(error).__name__
        error = inner


def _check_writable(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise DataError(
            f"cannot download {path.name}: the folder {path.parent} must be writable, but got"
            f" {error.strerror or error}; choose another data folder, for example with the"
            f" environment variable BSNN_THA_DATA, or place the file by hand at {path}"
        ) from error


def _download(url: str, md5: str, path: Path) -> None:
    """Let pooch download to a temporary file, check the sum, and rename."""
    import pooch

    with _quiet(pooch.get_logger()), _progress(path.name) as progress:
        http = pooch.HTTPDownloader(progressbar=progress, chunk_size=1 << 16)

        def download(url: str, output: str, owner: Any) -> None:
            http(url, output, owner)
            if not Path(output).stat().st_size:
                raise ValueError("the server sent an empty file")
            # Temporary files are private; let those read it who can read the folder.
            with contextlib.suppress(OSError):
                Path(output).chmod(0o600 | path.parent.stat().st_mode & 0o044)

        pooch.retrieve(
            url, known_hash=f"md5:{md5}", fname=path.name, path=path.parent, downloader=download
        )


@contextlib.contextmanager
def _quiet(pooch_logger: logging.Logger) -> Iterator[None]:
    level = pooch_logger.level
    pooch_logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        pooch_logger.setLevel(level)


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Any]:
    """A bar for pooch on a terminal where tqdm is installed, else False."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield False
        return
    try:
        from tqdm import tqdm
    except ImportError:
        yield False
        return
    # pooch sets the total; a bar with total 0 would count as False until then.
    with tqdm(total=1, desc=name, unit="B", unit_scale=True, leave=False) as bar:
        yield bar
