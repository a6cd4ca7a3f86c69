"""The command line, ``bsnn-tha``: a file for each command or family of them.

Thin: each command reads its options, calls one function of the library and
prints what came back (:mod:`~bsnn_tha.cli.show`). Errors that the user can mend
are one line on standard error and exit status 2; Ctrl-C is 130. What only a
command needs is imported when it runs, so that ``--help`` does not wait for it.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from bsnn_tha.cli import animate, compare, evaluate, presets, study, train
from bsnn_tha.errors import BsnnThaError

app = typer.Typer(
    no_args_is_help=True,
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
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Also say by which route each layer is computed.")
    ] = False,
) -> None:
    """Binarized spiking neural networks with threshold annealing."""
    if verbose:
        logging.getLogger("bsnn_tha").setLevel(logging.DEBUG)


app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(study.app, name="study")
app.command("compare")(compare.compare)
app.add_typer(animate.app, name="animate")
app.command("figure")(animate.figure)
app.command("presets")(presets.presets)


def main() -> None:
    """Entry point: run a command, and turn expected errors into one line."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("bsnn_tha").setLevel(logging.INFO)
    try:
        app()
    except BsnnThaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
