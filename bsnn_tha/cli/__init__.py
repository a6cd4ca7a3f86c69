"""The command line, ``bsnn-tha``: a file for each command or family of them.

Thin: each command reads its options, calls one function of the library and
prints what came back (:mod:`~bsnn_tha.cli.show`). Errors are one line on standard error:
those that the user can mend with exit status 2, faults of the program with 1; ``--debug``
shows before it where they came from. Ctrl-C is 130. What only a command needs is imported when it
runs, so that ``--help`` does not wait for it.
"""

from __future__ import annotations

import errno
import logging
import sys
import traceback
from typing import Annotated

import typer

from bsnn_tha.cli import (
    animate,
    compare,
    completion,
    data,
    doctor,
    evaluate,
    export,
    notebooks,
    presets,
    report,
    reproduce,
    study,
    train,
)
from bsnn_tha.cli.welcome import WELCOME
from bsnn_tha.errors import BsnnThaError

app = typer.Typer(
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        import bsnn_tha

        print(f"bsnn-tha {bsnn_tha.__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Also say by which route each layer is computed.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where in the code an error came from.")
    ] = False,
) -> None:
    """Binarized spiking neural networks with threshold annealing."""
    global _debug
    _debug = debug
    if context.invoked_subcommand is None:
        print(WELCOME, end="")
    if verbose:
        logging.getLogger("bsnn_tha").setLevel(logging.DEBUG)


app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("export")(export.export)
app.add_typer(study.app, name="study")
app.command("compare")(compare.compare)
app.command("reproduce")(reproduce.reproduce)
app.add_typer(animate.app, name="animate")
app.command("figure")(animate.figure)
app.command("report")(report.report)
app.add_typer(data.app, name="data")
app.command("presets")(presets.presets)
app.command("doctor")(doctor.doctor)
app.command("notebooks")(notebooks.notebooks)
app.command("completion")(completion.completion)


def main() -> None:
    """Entry point: run a command, and turn errors into one line."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("bsnn_tha").setLevel(logging.INFO)
    try:
        app()
    except Exception as error:
        if _debug:
            traceback.print_exc()
        expected = str(error) if isinstance(error, BsnnThaError) else _of_the_machine(error)
        print(f"error: {expected or _fault(error)}", file=sys.stderr)
        sys.exit(2 if expected else 1)


_LACKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def _of_the_machine(error: Exception) -> str | None:
    """What the machine lacks, whichever line met it first: memory, or a place to write."""
    if isinstance(error, OSError) and error.errno in _LACKS:
        where = f" at {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}; make room, or choose another place, and go on from there"
    # PyTorch's allocator of the CPU has no class of its own.
    if isinstance(error, MemoryError) or any(
        words in str(error) for words in ("can't allocate memory", "out of memory")
    ):
        return (
            "there is not enough memory; take a smaller data.batch_size, fewer data.num_steps, or "
            f"training.chunk_steps ({' '.join(str(error).split()) or 'MemoryError'})"
        )
    return None


def _fault(error: Exception) -> str:
    """What is no user's doing, in one line."""
    message = " ".join(str(error).split())
    return (
        f"{type(error).__name__}{f': {message}' if message else ''}; this is a fault of bsnn-tha, "
        "please report it with what this prints: bsnn-tha --debug "
        + " ".join(word for word in sys.argv[1:] if word != "--debug")
    )


_debug = False
"""Whether errors keep their tracebacks."""
