"""``bsnn-tha reproduce``: tables of results, ours beside the papers'."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bsnn_tha.cli.options import (
    AllowCode,
    CacheRoot,
    DataRoot,
    Device,
    DryRun,
    Threads,
    check_nothing_asked,
    listed,
    machine,
    one_line_at_ctrl_c,
)


def reproduce(
    context: typer.Context,
    table: Annotated[
        str | None,
        typer.Argument(help="A table's name, or a plan of your own (.toml). None lists them."),
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Rows to train, separated by commas. Default: all.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Train so many seeds of a row at most. Default: the plan's.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Runs at a time, each in one process.")] = 1,
    dry_run: DryRun = False,
    folder: Annotated[
        Path, typer.Option(help="Of the runs: FOLDER/TABLE/ROW/seed-N. They go on from there.")
    ] = Path("runs/reproduction"),
    records: Annotated[
        Path | None,
        typer.Option(
            help="Where the table is written, and whose runs are done already. Default: FOLDER."
        ),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of another machine, runs or records, to merge; repeatable."),
    ] = None,
    allow_code: AllowCode = False,
    data_root: DataRoot = None,
    cache_root: CacheRoot = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Make a table of results: train what is missing, write it beside the printed values.

    A table is a plan: rows, seeds, budgets, and what the paper prints. Finished
    runs are never repeated, whichever machine made them; one that was stopped
    goes on from its last epoch. Record and table are written after every run.

    \b
    bsnn-tha reproduce                         which tables there are
    bsnn-tha reproduce best --dry-run          its runs, what is done, hours to go
    bsnn-tha reproduce best --only digits,mnist --seeds 1
    bsnn-tha reproduce annealing --jobs 2
    bsnn-tha reproduce best --also /mnt/other/runs/reproduction
    bsnn-tha reproduce best --records docs/reproduction   go on with this project's
    """
    from bsnn_tha.campaigns.reproduction.campaign import Campaign, seconds
    from bsnn_tha.campaigns.reproduction.plan import load_plan, plan_names
    from bsnn_tha.cli import show

    if table is None:
        check_nothing_asked(context, "table")
        print("\n".join(f"{name:15} {load_plan(name).title}" for name in plan_names()))
        return
    plan = load_plan(table, allow_code=allow_code)
    campaign = Campaign(plan, folder, records or folder, tuple(also or ()), listed(only), seeds)
    if dry_run:
        entries = campaign.entries()
        missing = campaign.missing(entries)
        costs = {row.name: seconds(row, entries) for row in campaign.plan.rows}
        print(show.campaign(campaign.plan, entries, missing, costs))
        return
    here = machine(data_root, cache_root, device, threads)
    with one_line_at_ctrl_c():
        try:
            campaign.train(machine=here, jobs=jobs, tell=lambda line: print(line, flush=True))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted; the same command goes on: bsnn-tha reproduce {table}"
            ) from None
    print(f"written to {campaign.records / campaign.plan.name}")
