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


def report(
    run: Annotated[Path, typer.Argument(help="Run folder, e.g. runs/mnist-tha-1.")],
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
    from bsnn_tha.errors import InvalidValueError
    from bsnn_tha.run_folder import RunFolder

    if every is not None and not every > 0:
        raise InvalidValueError(f"--every must be above 0 seconds, but got {every:g}")
    here = machine(data_root, cache_root, "cpu", threads)
    here.make_ready()
    with one_line_at_ctrl_c():
        while True:
            finished = RunFolder(run).finished
            path = write_report(run, output, machine=here, film=film, allow_code=allow_code)
            print(path)
            if every is None or finished:
                return
            time.sleep(every)
