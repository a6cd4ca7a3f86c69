"""Which runs may name code that is not part of this package.

A ``config.toml`` is data, and naming ``my_rules:Rising`` in it makes it a program. One from
elsewhere is therefore refused until its reader says otherwise (``--allow-code``). Whoever
trained a run here has said so: that is written down, not in the run folder, which travels, but
with the user's own files; for this folder, for what it names, and for the working folder that
the names are looked up in.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from bsnn_tha.config import RunConfig
from bsnn_tha.run_folder import RunFolder, replace_atomically


def remember(folder: Path, *configs: RunConfig) -> None:
    """Allow a folder to name what configurations name, for this user and working folder."""
    names = sorted({name for config in configs for name in config.code_named()})
    if not names:
        return
    record = _record(folder)
    record.parent.mkdir(parents=True, exist_ok=True)
    content = {"folder": str(folder.resolve()), "from": str(Path.cwd()), "names": names}
    with replace_atomically(record) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def names_allowed(folder: Path) -> list[str]:
    """What a folder was allowed to name."""
    try:
        names = json.loads(_record(folder).read_text(encoding="utf-8"))["names"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [str(name) for name in names]


def run_config(folder: RunFolder, allow_code: bool = False) -> RunConfig:
    """The configuration of a run, which may name code if it was trained here.

    Args:
        folder: of the run.
        allow_code: whether it may in any case.

    Raises:
        InvalidValueError: it breaks a rule, or names code that was not allowed.
    """
    return RunConfig.from_file(folder.config, allow_code=allow_code or names_allowed(folder.path))


def _record(folder: Path) -> Path:
    import pooch

    key = hashlib.sha256(f"{folder.resolve()}\0{Path.cwd()}".encode()).hexdigest()
    # Not below BSNN_THA_CACHE: that may be a folder that others write to.
    return Path(pooch.os_cache("bsnn-tha")) / "allowed-code" / f"{key}.json"
