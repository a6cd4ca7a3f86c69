"""``bsnn-tha report``: a run on one page."""

from __future__ import annotations

import time
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
)
from bsnn_tha.errors import InvalidValueError, RunError


def report(
    run: Annotated[
        Path, typer.Argument(help="Run folder, e.g. runs/mnist-tha-1; of trials every seed.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The page. Default: report.html in the run folder."),
    ] = None,
    film: Annotated[bool, typer.Option(help="With a film of its training.")] = True,
    every: Annotated[
        float | None,
        typer.Option(help="Write it anew after so many seconds, until the run has finished."),
    ] = None,
    allow_code: AllowCode = False,
    data_root: DataRoot = None,
    cache_root: CacheRoot = None,
    threads: Threads = None,
) -> None:
    """Write a run's page: curves, activity, mistakes, a film, configuration, workload.

    One HTML file that needs no other, and can be read while the run trains.

    \b
    bsnn-tha report runs/digits-tha-1
    bsnn-tha report runs/mnist-tha-1 --every 30 --no-film    while it trains
    """
    from animations.report.page import write_report

    if every is not None and not every > 0:
        raise InvalidValueError(f"--every must be above 0 seconds, but got {every:g}")
    runs = _runs(run, output)
    here = machine(data_root, cache_root, "cpu", threads)
    here.make_ready()
    with one_line_at_ctrl_c():
        while True:
            finished = _finished(run)
            for one in runs:
                print(write_report(one, output, machine=here, film=film, allow_code=allow_code))
            if every is None or finished:
                return
            time.sleep(every)
            runs = _runs(run, output)


def _runs(run: Path, output: Path | None) -> list[Path]:
    """The runs that get a page."""
    from bsnn_tha import zoo
    from bsnn_tha.training.trials import are_trials, trial_folders

    if zoo.named(str(run)):
        raise InvalidValueError(
            f"a page is of a run, but {run} has only its weights; bsnn-tha evaluate {run} measures "
            f"it, and bsnn-tha export {run} --to packed writes a report of what it needs"
        )
    if not are_trials(run):
        return [run]
    if output is not None:
        raise InvalidValueError(
            f"--output is of one run, but {run} holds one for each seed; leave it out, and each "
            "has its report.html, or give one of them"
        )
    if found := trial_folders(run):
        return found
    raise RunError(f"no trial of {run} has begun; go on with bsnn-tha train --resume {run}")


def _finished(run: Path) -> bool:
    """Whether a run, or every seed of trials, has done all it was configured for."""
    from bsnn_tha.run_folder import RunFolder
    from bsnn_tha.training.allowed import run_config
    from bsnn_tha.training.summary import finished
    from bsnn_tha.training.trials import are_trials, trials_finished

    if are_trials(run):
        return trials_finished(run)
    folder = RunFolder.open(run)
    return finished(folder, run_config(folder, allow_code=True)) is not None
