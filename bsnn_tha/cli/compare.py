"""``bsnn-tha compare``: threshold rules on one network and data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bsnn_tha.campaigns.comparison.recipes import RECIPES
from bsnn_tha.cli.options import (
    AllowCode,
    CacheRoot,
    DataRoot,
    Device,
    Sets,
    Threads,
    listed,
    machine,
    one_line_at_ctrl_c,
    settings,
)
from bsnn_tha.errors import InvalidValueError

if TYPE_CHECKING:
    from bsnn_tha.campaigns.comparison.plan import Comparison
    from bsnn_tha.training.machine import Machine

_RULES = "fixed,annealed,rouser,ltmd,lt-snn"

Dataset = Annotated[str, typer.Option(help="As for bsnn-tha train.")]
Rules = Annotated[str, typer.Option(help=f"Some of {', '.join(RECIPES)}, separated by commas.")]
Weights = Annotated[str, typer.Option(help="binary, float, or both.")]
Seeds = Annotated[int, typer.Option(help="Runs of each rule, from training.seed on.")]
Theta0 = Annotated[
    str, typer.Option(help="Factors of the initial thresholds to sweep, e.g. 0.25,1,4.")
]
OnlyThresholds = Annotated[
    bool,
    typer.Option(
        "--only-thresholds",
        help="Keep surrogate and reset of the presets; compare thresholds alone.",
    ),
]
Reach = Annotated[
    float | None,
    typer.Option(
        help="Validation accuracy whose first epoch is reported. Default: 95% of the best rule's."
    ),
]
Jobs = Annotated[int, typer.Option(help="Runs at a time, each in one process.")]
Epochs = Annotated[int | None, typer.Option(help="training.epochs")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Folder. One that has a comparison goes on with it, whatever else is given. "
        "Default: runs/compare-DATASET-N.",
    ),
]


def compare(
    dataset: Dataset = "digits",
    rules: Rules = _RULES,
    weights: Weights = "binary,float",
    seeds: Seeds = 3,
    theta_0: Theta0 = "1",
    only_thresholds: OnlyThresholds = False,
    reach: Reach = None,
    jobs: Jobs = 1,
    epochs: Epochs = None,
    set_: Sets = None,
    output: Output = None,
    allow_code: AllowCode = False,
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
    from bsnn_tha.campaigns.comparison.plan import Comparison, bases_of
    from bsnn_tha.campaigns.comparison.results import check_reach

    check_reach(reach)
    if output is not None and (output / "comparison.toml").exists():
        comparison, folder = Comparison.load(output, allow_code=allow_code), output
    else:
        bases = bases_of(dataset, listed(weights), settings({"training.epochs": epochs}, set_))
        factors = tuple(_numbers(theta_0))
        comparison = Comparison(bases, tuple(listed(rules)), seeds, factors, only_thresholds)
        folder = _new_folder(output, dataset)
    _run(comparison, folder, machine(data_root, cache_root, device, threads), jobs)
    _report(comparison, folder, reach)


def _new_folder(output: Path | None, dataset: str) -> Path:
    from bsnn_tha.run_folder import RunFolder

    if output is not None:
        return RunFolder.create(output).path
    return RunFolder.create_numbered(Path("runs"), f"compare-{dataset}").path


def _run(comparison: Comparison, folder: Path, machine: Machine, jobs: int) -> None:
    from bsnn_tha.campaigns.comparison.runner import run_all

    with one_line_at_ctrl_c():
        try:
            run_all(comparison, folder, machine=machine, jobs=jobs, tell=_say)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted; go on with: bsnn-tha compare --output {folder}"
            ) from None


def _report(comparison: Comparison, folder: Path, reach: float | None) -> None:
    from bsnn_tha.campaigns.comparison import results, tables

    rows = results.read(comparison, folder, reach)
    tables.write(rows, folder)
    print(tables.table(rows))
    print(f"written to {folder}")


def _say(line: str) -> None:
    print(line, flush=True)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in listed(text)]
    except ValueError:
        raise InvalidValueError(
            f"--theta-0 takes numbers separated by commas, but got {text!r}"
        ) from None
