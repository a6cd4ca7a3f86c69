"""``bsnn-tha export``: a trained network as packed bits, C or NIR, measured on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bsnn_tha.cli.options import (
    AllowCode,
    CacheRoot,
    DataRoot,
    Threads,
    machine,
    one_line_at_ctrl_c,
    settings,
)


def export(
    run: Annotated[str, typer.Argument(help="Run folder, or zoo:NAME for one of this package.")],
    to: Annotated[str, typer.Option("--to", help="packed, c or nir.")] = "packed",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="New folder. Default: the run's name and the target."),
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="best, last or a path.")] = "best",
    state_bits: Annotated[int, typer.Option(help="Of membrane potentials: 16 or 32.")] = 32,
    fraction_bits: Annotated[int, typer.Option(help="Of them, after the point, at most.")] = 16,
    decay_bits: Annotated[
        int | None, typer.Option(help="Of decays. Default: 20, or 15 with 16-bit states.")
    ] = None,
    input_bits: Annotated[int, typer.Option(help="Of an input value, at most.")] = 8,
    samples: Annotated[
        int | None, typer.Option(help="Measure on the first so many test samples only.")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A target's own option; repeatable."),
    ] = None,
    allow_code: AllowCode = False,
    data_root: DataRoot = None,
    cache_root: CacheRoot = None,
    threads: Threads = None,
) -> None:
    """Deploy a trained network: packed bits, C99 or NIR, and a report of what it needs.

    The network is written in whole numbers, and both are run on the test set: the report
    says how many answers and spikes differ.

    \b
    bsnn-tha export runs/digits-tha-1 --to packed
    bsnn-tha export runs/digits-tha-1 --to c --state-bits 16
    bsnn-tha export zoo:mnist --to c -o mnist-c
    """
    from bsnn_tha import zoo
    from bsnn_tha.deploy import export as library
    from bsnn_tha.deploy.integer import Precision
    from bsnn_tha.loading import load
    from bsnn_tha.run_folder import make_writable
    from bsnn_tha.training.evaluation import load_data

    precision = Precision(state_bits, fraction_bits, decay_bits)
    options = settings({}, sets)
    library.check_target(to, options)
    place = machine(data_root, cache_root, "cpu", threads)
    place.make_ready()
    if zoo.named(run):
        name = zoo.name_of(run, checkpoint)
        folder = Path(f"{name}-{to}")
    else:
        name = Path(run).resolve().name
        folder = Path(run) / to
    trained = load(run, checkpoint=checkpoint, data_root=data_root, allow_code=allow_code)
    folder = output or folder
    library.check_free(folder)
    make_writable(folder.parent)
    with one_line_at_ctrl_c():
        exported = library.deploy(
            trained,
            load_data(trained.config, place),
            name=name,
            precision=precision,
            input_bits=input_bits,
            samples=samples,
            options=options,
        )
        figures = library.write(exported, to, folder)
    print((folder / "report.md").read_text(encoding="utf-8"))
    if figures["same_answers"] < _ALIKE:
        print(
            f"note: {1 - figures['same_answers']:.1%} of the answers are others than the trained "
            "network's; more --state-bits or --decay-bits may keep them"
        )
    print(f"written to {folder} ({figures['target']})")
    if to == "c":
        print(f"to compile it and compare it with the network: make -C {folder} test")


_ALIKE = 0.98
"""Share of answers that a deployed network keeps, below which a note says so."""
