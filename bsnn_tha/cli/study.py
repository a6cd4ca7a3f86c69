"""``bsnn-tha study``: search settings, and report what was found."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bsnn_tha.cli import series
from bsnn_tha.cli.options import (
    DEFAULT_STORAGE,
    AllowCode,
    CacheRoot,
    DataRoot,
    Device,
    Sets,
    Storage,
    Threads,
    check_seeds,
    machine,
    one_line_at_ctrl_c,
    settings,
    with_storage,
)
from studies.pruners import PRUNERS
from studies.samplers import SAMPLERS

Dataset = Annotated[str, typer.Argument(help="As for bsnn-tha train.")]
Variant = Annotated[str, typer.Option(help="tha, bsnn, bsnn-unit, flt32.")]
Trials = Annotated[int, typer.Option(help="Go on to this many finished trials.")]
Name = Annotated[str | None, typer.Option(help="Of the study. Default: DATASET-VARIANT.")]
Workers = Annotated[int, typer.Option(help="Local worker processes.")]
Sampler = Annotated[
    str,
    typer.Option(
        help=f"{', '.join(SAMPLERS)}, your own as module:Class, or OptunaHub's as "
        "hub:PACKAGE@COMMIT:NAME."
    ),
]
Pruner = Annotated[
    str,
    typer.Option(
        help=f"{', '.join(PRUNERS)}, your own as module:factory, or OptunaHub's as "
        "hub:PACKAGE@COMMIT:NAME."
    ),
]
Reduction = Annotated[
    int, typer.Option(help="Of how many settings one goes on: halving and hyperband.")
]
SamplerSeed = Annotated[int | None, typer.Option(help="Of the sampler.")]
Objective = Annotated[
    list[str] | None,
    typer.Option(
        help="accuracy, map, timing, spikes, dead or operations; several give a Pareto front.",
        show_default="accuracy (temporal-coding: timing, boxes: map)",
    ),
]
SeedsPerTrial = Annotated[
    str,
    typer.Option(help="3, or 1..8: one, and two thirds of the epochs go to finals."),
]
TrialSpace = Annotated[
    str | None, typer.Option(help="Your own table: module:NAME or file.py:NAME.")
]
WarmStart = Annotated[
    list[str] | None,
    typer.Option(
        help="A study whose best settings come first, or its journal's path; may be repeated."
    ),
]
Published = Annotated[bool, typer.Option(help="Begin with the preset's own settings.")]
Epochs = Annotated[int | None, typer.Option(help="Of a trial.", rich_help_panel="Budget")]
Subset = Annotated[int | None, typer.Option(help="Training samples.", rich_help_panel="Budget")]
Steps = Annotated[int | None, typer.Option(help="Time steps T.", rich_help_panel="Budget")]
Timeout = Annotated[
    float | None,
    typer.Option(help="Seconds; trials then pause to go on later.", rich_help_panel="Budget"),
]
Checkpoints = Annotated[
    str | None,
    typer.Option(
        help="Folder or address (s3://...) for trials that pause; one that all computers "
        "reach. Default: beside the report, where only this one does."
    ),
]
Begin = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="Of a setting that is searched, the first trial's value instead of the preset's; "
        "repeatable.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Go on although plan or budget differ.")]

Existing = Annotated[str, typer.Argument(help="Of the study.")]
ReportFolder = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Folder for the report. Default: NAME beside the study's journal; "
        "of a database, runs/studies/NAME.",
    ),
]
Retrain = Annotated[int | None, typer.Option(help="Train the best setting from that many seeds.")]
RetrainEpochs = Annotated[int | None, typer.Option(help="Of the retraining. Default: the study's.")]
Filmed = Annotated[
    bool, typer.Option("--film", help="Train the best trial again, bit for bit, and film it.")
]
Every = Annotated[
    float | None,
    typer.Option(help="Write it anew after so many seconds, until no trial runs."),
]
Dashboard = Annotated[
    bool,
    typer.Option("--dashboard", help="Also as notes and artifacts in the study's storage."),
]
Artifacts = Annotated[
    Path | None,
    typer.Option(
        help="Folder for the artifacts of --dashboard. Default: .artifacts beside the study's "
        "journal; of a database, in runs/studies."
    ),
]

Database = Annotated[str, typer.Option(help="The database behind the proxy, a URL.")]
Host = Annotated[
    str,
    typer.Option(
        help="Address to listen on. The proxy asks nobody who they are: any other than "
        "127.0.0.1 is for a network where everybody may read and write the studies."
    ),
]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]


class _DatasetOrCommand(TyperGroup):
    """``study digits`` runs a study; ``study report NAME`` is a command of its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_DatasetOrCommand,
    no_args_is_help=True,
    help="Search settings with Optuna: bsnn-tha study DATASET --variant tha --trials 50. "
    "All options of a search: bsnn-tha study run --help.",
)


@app.command()
def run(
    dataset: Dataset,
    variant: Variant = "tha",
    trials: Trials = 50,
    name: Name = None,
    storage: Storage = DEFAULT_STORAGE,
    workers: Workers = 1,
    sampler: Sampler = "tpe",
    pruner: Pruner = "halving",
    reduction: Reduction = 3,
    sampler_seed: SamplerSeed = None,
    objective: Objective = None,
    seeds_per_trial: SeedsPerTrial = "1",
    space: TrialSpace = None,
    published: Published = True,
    warm_start: WarmStart = None,
    epochs: Epochs = None,
    subset: Subset = None,
    steps: Steps = None,
    timeout: Timeout = None,
    checkpoints: Checkpoints = None,
    set_: Sets = None,
    begin: Begin = None,
    force: Force = False,
    data_root: DataRoot = None,
    cache_root: CacheRoot = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Search a data set and variant; the same command goes on.

    The first trial has the published settings, or those of --begin; what --set
    fixes is not searched. The first Ctrl-C finishes the running trials, a second
    one stops at once; finished trials are kept.

    \b
    bsnn-tha study digits --trials 50 --workers 2
    bsnn-tha study mnist --variant bsnn --epochs 2 --subset 6000 --trials 100
    bsnn-tha study digits --objective accuracy --objective spikes --sampler nsga2
    bsnn-tha study shd --trials 500 --storage postgresql+psycopg://me@db/studies
    """
    from bsnn_tha.cli.study_progress import StudyProgress
    from bsnn_tha.freed_memory import keep_freed_memory
    from studies import report
    from studies.options import Options
    from studies.runner import run_study

    keep_freed_memory()
    budget = {"training.epochs": epochs, "data.subset": subset, "data.num_steps": steps}
    changes, first = settings(budget, set_), settings({}, begin)
    options = Options(
        dataset,
        variant,
        trials=trials,
        name=name,
        storage=storage,
        workers=workers,
        sampler=sampler,
        pruner=pruner,
        reduction=reduction,
        seed=sampler_seed,
        objectives=tuple(objective or _usual_objective(dataset, variant, changes | first)),
        seeds=seeds_per_trial,
        space=space,
        published=published,
        warm_start=tuple(warm_start or ()),
        changes=changes,
        begin=first,
        timeout=timeout,
        checkpoints=checkpoints,
        force=force,
        data_root=None if data_root is None else str(data_root),
        cache_root=None if cache_root is None else str(cache_root),
        device=device,
        threads=threads,
    )
    with one_line_at_ctrl_c():
        opened = run_study(options, StudyProgress, print)
    print(report.text(opened))
    print(f"report: {with_storage(f'bsnn-tha study report {options.study_name}', storage)}")


def _usual_objective(dataset: str, variant: str, changes: dict[str, Any]) -> list[str]:
    from bsnn_tha.presets import load_preset

    loss = load_preset(dataset, variant).with_changes(changes).loss.name
    return [{"membrane": "timing", "yolo": "map"}.get(loss, "accuracy")]


@app.command("report")
def report_(
    name: Existing,
    storage: Storage = DEFAULT_STORAGE,
    output: ReportFolder = None,
    retrain: Retrain = None,
    epochs: RetrainEpochs = None,
    film: Filmed = False,
    every: Every = None,
    dashboard: Dashboard = False,
    artifacts: Artifacts = None,
    allow_code: AllowCode = False,
    data_root: DataRoot = None,
    cache_root: CacheRoot = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Write a study's report: best.toml, trials.csv, figures and one HTML page.

    It can be read while the study runs.

    \b
    bsnn-tha study report digits-tha
    bsnn-tha study report digits-tha --every 30    while it runs
    bsnn-tha study report digits-tha --film
    bsnn-tha study report digits-tha --dashboard
    bsnn-tha study report digits-tha --retrain 5
    bsnn-tha train --config runs/studies/digits-tha/best.toml
    """
    from bsnn_tha.cli import show
    from bsnn_tha.errors import InvalidValueError
    from studies import report
    from studies.heartbeat import Watch
    from studies.storage import artifact_folder, dashboard_command, open_storage, report_folder
    from studies.study import load_existing

    if every is not None and not every > 0:
        raise InvalidValueError(f"--every must be above 0 seconds, but got {every:g}")
    check_seeds("--retrain", retrain)
    opened = load_existing(open_storage(storage, name, create=False), storage, name)
    folder = output or report_folder(storage, name)
    kept = artifacts or artifact_folder(storage)
    here = machine(data_root, cache_root, device, threads)

    def write() -> None:
        written = report.write(opened, folder)
        if dashboard:
            film = report.write_gif(opened, folder)
            files = [*written.files, *([film] if film else [])]
            report.publish(opened, written.drawn, files, kept)

    with one_line_at_ctrl_c():
        if film:
            report.train_to_film(opened, folder, here, allow_code)
        watch = Watch()
        state = report.state_of(opened, watch)
        write()
        while every is not None:
            time.sleep(every)
            before, state = state, report.state_of(opened, watch)
            if state == before and not state.running:
                break
            write()
        print(report.text(opened))
        if retrain is not None:
            trained = report.retrain(opened, folder, retrain, epochs, here, allow_code)
            print(show.trials(trained.summary))
    print(f"written to {folder}")
    if dashboard:
        print(f"to look at it: {dashboard_command(storage, name, kept)}")


app.command("series")(series.series)


@app.command("list")
def list_(storage: Storage = DEFAULT_STORAGE) -> None:
    """List the studies of a storage."""
    from studies.storage import study_names

    print("\n".join(study_names(storage)) or "no studies")


@app.command()
def serve(storage: Database, host: Host = "127.0.0.1", port: Port = 13000) -> None:
    """Run Optuna's gRPC proxy: many workers, few connections to the database.

    It listens on this computer only. Workers on another one reach it through a tunnel.

    \b
    bsnn-tha study serve --storage postgresql+psycopg://me@db/studies
    ssh -N -L 13000:127.0.0.1:13000 me@server     on the worker's computer
    bsnn-tha study shd --trials 500 --storage grpc://127.0.0.1:13000
    """
    from optuna.storages import run_grpc_proxy_server

    from studies.errors import StudyError
    from studies.storage import is_loopback, open_storage, shown

    opened = open_storage(storage, "", create=True)
    print(
        f"serving {shown(storage)} on {host}:{port}; "
        f"workers use --storage grpc://{host if is_loopback(host) else 'HOST'}:{port}",
        flush=True,
    )
    if not is_loopback(host):
        print(
            f"warning: whoever reaches {host}:{port} reads and writes every study, without a "
            "password or encryption, and runs code in workers that search with cma-es; let a "
            "firewall admit the workers only, or listen on 127.0.0.1 behind an SSH tunnel",
            file=sys.stderr,
        )
    with one_line_at_ctrl_c():
        try:
            run_grpc_proxy_server(opened, host=host, port=port)
        except RuntimeError as error:  # gRPC's, of an address that it cannot have
            raise StudyError(
                "the proxy must listen on a free port of this computer, but cannot on "
                f"{host}:{port}; choose others with --host and --port, an IPv6 address as [::1]"
            ) from error
