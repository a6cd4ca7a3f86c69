"""``bsnn-tha study series``: several searches as one plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bsnn_tha.cli.options import (
    DEFAULT_STORAGE,
    AllowCode,
    CacheRoot,
    DataRoot,
    Device,
    DryRun,
    Storage,
    Threads,
    check_nothing_asked,
    check_seeds,
    listed,
    machine,
    one_line_at_ctrl_c,
    with_storage,
)


def series(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(help="A series' name, or a plan of your own (.toml). None lists them."),
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Studies to go on with, separated by commas. Default: all.")
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(help="Go on to this many finished trials each. Default: the plan's."),
    ] = None,
    dry_run: DryRun = False,
    report: Annotated[
        bool, typer.Option("--report", help="Train nothing; write the page and all reports.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the page and the reports. Default: NAME beside the journals.",
        ),
    ] = None,
    retrain: Annotated[
        int | None,
        typer.Option(help="With --report: train each best setting from that many fresh seeds."),
    ] = None,
    storage: Storage = DEFAULT_STORAGE,
    workers: Annotated[int, typer.Option(help="Local worker processes.")] = 1,
    pruner: Annotated[
        str | None, typer.Option(help="As of bsnn-tha study. Default: the plan's.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds; trials then pause to go on later.")
    ] = None,
    checkpoints: Annotated[
        str | None, typer.Option(help="As of bsnn-tha study: a folder that all computers reach.")
    ] = None,
    allow_code: AllowCode = False,
    data_root: DataRoot = None,
    cache_root: CacheRoot = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Work on a series of studies; the same command goes on, on any number of computers.

    What it will cost is printed first. A worker takes the study that has the
    fewest workers, and the next when that has no trial left to begin.

    \b
    bsnn-tha study series                          which there are
    bsnn-tha study series appendix-d --dry-run     its studies, what is done, hours to go
    bsnn-tha study series appendix-d-small --workers 2
    bsnn-tha study series appendix-d --storage postgresql+psycopg://me@db/studies
    bsnn-tha study series appendix-d --only mnist-tha,mnist-bsnn --pruner halving
    bsnn-tha study series appendix-d-small --report --retrain 3
    """
    from bsnn_tha.cli import show
    from bsnn_tha.cli.study_progress import SeriesProgress
    from bsnn_tha.freed_memory import keep_freed_memory
    from studies.series import pages
    from studies.series.plan import load_series, series_names
    from studies.series.work import outlook, run_series
    from studies.storage import report_folder

    if name is None:
        check_nothing_asked(context, "series")
        print("\n".join(f"{each:20} {load_series(each).title}" for each in series_names()))
        return
    plan = load_series(name, allow_code=allow_code)
    check_seeds("--retrain", retrain)
    chosen = plan.only(listed(only))
    studies = [
        plan.options(
            search,
            trials=trials,
            storage=storage,
            workers=workers,
            pruner=pruner,
            timeout=timeout,
            checkpoints=checkpoints,
            data_root=None if data_root is None else str(data_root),
            cache_root=None if cache_root is None else str(cache_root),
            device=device,
            threads=threads,
        )
        for search in chosen
    ]
    keep_freed_memory()
    with one_line_at_ctrl_c():
        if report or retrain is not None:
            folder = output or report_folder(storage, plan.name)
            here = machine(data_root, cache_root, device, threads)
            pages.write(plan, chosen, studies, folder, here, retrain, allow_code)
            print(f"written to {folder}")
            return
        outlooks = [outlook(options, downloads=not dry_run) for options in studies]
        print(show.series(plan.title, outlooks), flush=True)
        if not dry_run:
            run_series(outlooks, SeriesProgress)
            command = with_storage(f"bsnn-tha study series {name} --report", storage)
            print(f"page and reports: {command}")
