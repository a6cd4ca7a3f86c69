"""``bsnn-tha compare``: threshold rules on one network and data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bsnn_tha.cli.options import (
    CacheRoot,
    DataRoot,
    Device,
    Sets,
    Threads,
    machine,
    one_line_at_ctrl_c,
    settings,
)
from bsnn_tha.errors import InvalidValueError
from studies.comparison.recipes import RECIPES

_RULES = "fixed,annealed,rouser,ltmd,lt-snn"


def compare(
    dataset: Annotated[str, typer.Option(help="As for bsnn-tha train.")] = "digits",
    rules: Annotated[
        str,
        typer.Option(help=f"Some of {', '.join(RECIPES)}, separated by commas."),
    ] = _RULES,
    weights: Annotated[str, typer.Option(help="binary, float, or both.")] = "binary,float",
    seeds: Annotated[int, typer.Option(help="Runs of each rule, from training.seed on.")] = 3,
    theta_0: Annotated[
        str,
        typer.Option(help="Factors of the initial thresholds to sweep, e.g. 0.25,1,4."),
    ] = "1",
    only_thresholds: Annotated[
        bool,
        typer.Option(
            "--only-thresholds",
            help="Keep surrogate and reset of the presets; compare thresholds alone.",
        ),
    ] = False,
    reach: Annotated[
        float | None,
        typer.Option(
            help="Validation accuracy whose first epoch is reported. Default: 95% of the best "
            "rule's."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Runs at a time, each in one process.")] = 1,
    epochs: Annotated[int | None, typer.Option(help="training.epochs")] = None,
    set_: Sets = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder. One that has a comparison goes on with it, whatever else is given. "
            "Default: runs/compare-DATASET-N."
        ),
    ] = None,
    data_root: DataRoot = None,
    cache_root: CacheRoot = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Compare threshold rules: accuracy, speed of learning, dead neurons, spikes.

    Every rule starts from the same network, data, θ0, loss and optimizer,
    those of the data set's presets; a rule brings what its paper says of the
    neurons: threshold, surrogate, reset. Widths of surrogates are measured in
    thresholds. With --only-thresholds a rule brings its threshold only.

    \b
    bsnn-tha compare                             five rules on the bundled digits
    bsnn-tha compare --dataset mnist --epochs 1 --jobs 2
    bsnn-tha compare --rules fixed,ltmd --theta-0 0.25,0.5,1,2,4
    bsnn-tha compare --output runs/compare-digits-1   go on, or report again
    """
    from bsnn_tha.run_folder import RunFolder
    from studies.comparison import results, tables
    from studies.comparison.plan import Comparison, bases_of
    from studies.comparison.runner import run_all

    if output is not None and (output / "comparison.toml").exists():
        comparison, folder = Comparison.load(output), output
    else:
        changes = settings({"training.epochs": epochs}, set_)
        comparison = Comparison(
            bases_of(dataset, _list(weights), changes),
            tuple(_list(rules)),
            seeds,
            tuple(_numbers(theta_0)),
            only_thresholds,
        )
        folder = (
            RunFolder.create(output)
            if output
            else RunFolder.create_numbered(Path("runs"), f"compare-{dataset}")
        ).path
    here = machine(data_root, cache_root, device, threads)
    with one_line_at_ctrl_c():
        try:
            run_all(comparison, folder, machine=here, jobs=jobs, tell=_say)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted; go on with: bsnn-tha compare --output {folder}"
            ) from None
    rows = results.read(comparison, folder, reach)
    tables.write(rows, folder)
    print(tables.table(rows))
    print(f"written to {folder}")


def _say(line: str) -> None:
    print(line, flush=True)


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in _list(text)]
    except ValueError:
        raise InvalidValueError(
            f"--theta-0 takes numbers separated by commas, but got {text!r}"
        ) from None
