"""What the commands of ``bsnn-tha`` have in common: options, settings, the machine, Ctrl-C."""

from __future__ import annotations

import os
import shlex
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bsnn_tha.errors import InvalidValueError

if TYPE_CHECKING:
    from bsnn_tha.training.machine import Machine

DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        envvar="BSNN_THA_DATA",
        help="Folder with the data files; missing ones are downloaded into it. "
        "Default: a cache folder of the user.",
        rich_help_panel="Machine",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.", rich_help_panel="Machine")]
Threads = Annotated[
    int | None, typer.Option(help="CPU threads. Default: torch's.", rich_help_panel="Machine")
]
CacheRoot = Annotated[
    Path | None,
    typer.Option(
        "--cache-root",
        envvar="BSNN_THA_CACHE",
        help="Folder for binned events. Default: a cache folder of the user.",
        rich_help_panel="Machine",
    ),
]
AllowCode = Annotated[
    bool,
    typer.Option(
        "--allow-code",
        help="Run code outside this package that a configuration names as module:Class. Look "
        "at it first. Not needed for runs trained here, from this folder.",
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any other setting, e.g. --set neuron.beta=0.9 "
        "--set threshold.theta_0=[5,8]; repeatable. KEY=none removes one.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and what it is likely to cost.")
]

DEFAULT_STORAGE, _STORAGE = "runs/studies", "BSNN_THA_STORAGE"
Storage = Annotated[
    str,
    typer.Option(
        envvar=_STORAGE,
        help="A folder, postgresql+psycopg://user:password@host/database or grpc://host:port.",
    ),
]


def with_storage(command: str, storage: str) -> str:
    """A command to type next, with the storage of studies where it would not find it.

    Example:
        >>> with_storage("bsnn-tha study report mine", "elsewhere")
        'bsnn-tha study report mine --storage elsewhere'
    """
    from studies.storage import shown

    if storage == os.environ.get(_STORAGE, DEFAULT_STORAGE):
        return command
    return f"{command} --storage {shlex.quote(shown(storage))}"


def listed(text: str | None) -> list[str]:
    """The parts of an option that takes several, separated by commas.

    Example:
        >>> listed("mnist-tha, mnist-bsnn"), listed(None)
        (['mnist-tha', 'mnist-bsnn'], [])
    """
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def check_nothing_asked(context: typer.Context, of: str) -> None:
    """Refuse options of something that is not named: a list of names would hide that they are lost.

    Args:
        context: of a command that lists names if it is given none.
        of: what is named, in a word.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if source is not None and source.name == "COMMANDLINE":
            raise InvalidValueError(
                f"{parameter.opts[0]} is of a {of}, and none is named; "
                f"{context.command_path} lists them"
            )


def check_seeds(option: str, seeds: int | None) -> None:
    """Refuse a number of seeds below 1, before anything is written."""
    if seeds is not None and seeds < 1:
        raise InvalidValueError(f"{option} must be at least 1, but got {seeds}")


def settings(options: dict[str, Any], assignments: list[str] | None) -> dict[str, Any]:
    """Changes to a configuration, from options that were given and from ``--set``.

    Example:
        >>> settings({"training.epochs": 3, "training.seed": None}, ["neuron.beta=0.9"])
        {'training.epochs': 3, 'neuron.beta': 0.9}
    """
    given = {key: value for key, value in options.items() if value is not None}
    return given | dict(_assignment(text) for text in assignments or [])


@contextmanager
def one_line_at_ctrl_c() -> Iterator[None]:
    """Ctrl-C ends a command with one line and status 130; typer would say "Aborted"."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        print(interrupt if interrupt.args else "interrupted", file=sys.stderr)
        raise typer.Exit(130) from None


def machine(
    data_root: Path | None,
    cache_root: Path | None,
    device: str,
    threads: int | None,
    devices: int = 1,
    nodes: int = 1,
) -> Machine:
    """Where a command computes; this process keeps the memory it frees for the next iteration."""
    from bsnn_tha.freed_memory import keep_freed_memory
    from bsnn_tha.training.machine import Machine

    keep_freed_memory()
    return Machine(data_root, cache_root, device, threads, devices, nodes)


def _assignment(text: str) -> tuple[str, Any]:
    """``KEY=VALUE`` with a TOML value; a bare word is taken as a string."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InvalidValueError(f"--set takes KEY=VALUE, but got {text!r}")
    if value.strip().lower() == "none":
        from bsnn_tha.config.leaving_out import none_read

        return key.strip(), none_read(key.strip(), "none")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()
