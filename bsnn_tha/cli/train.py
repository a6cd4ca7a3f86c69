"""``bsnn-tha train``: train a network, or go on with one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bsnn_tha.cli.options import (
    AllowCode,
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
from bsnn_tha.presets import DEFAULT_DATASET, DEFAULT_VARIANT, preset_names

if TYPE_CHECKING:
    from bsnn_tha.config import RunConfig
    from bsnn_tha.training.machine import Machine
    from bsnn_tha.training.run import RunResult
    from bsnn_tha.training.trials import TrialsResult

Dataset = Annotated[
    str | None,
    typer.Argument(help=f"One of {', '.join(preset_names())}.", show_default=DEFAULT_DATASET),
]
Variant = Annotated[
    str | None,
    typer.Option(
        help="tha (annealed thresholds), bsnn (fixed), bsnn-unit (fixed at 1), "
        "flt32 (full-precision weights), ...; see bsnn-tha presets.",
        show_default=DEFAULT_VARIANT,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(help="A configuration (TOML) in place of DATASET and --variant."),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN",
        help="Go on with a run (or with trials) from the last finished epoch; "
        "--epochs can make it longer.",
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option(help="Train that many times from different seeds: best, mean and σ."),
]
Epochs = Annotated[int | None, typer.Option(help="training.epochs")]
Seed = Annotated[int | None, typer.Option(help="training.seed")]
BatchSize = Annotated[int | None, typer.Option(help="data.batch_size")]
NumSteps = Annotated[int | None, typer.Option(help="data.num_steps, T")]
Lr = Annotated[float | None, typer.Option(help="optimizer.lr")]
Centre = Annotated[
    str | None,
    typer.Option(help="neuron.surrogate_centre: clamped at θ0, or moving with θ."),
]
Protocol = Annotated[
    str | None,
    typer.Option(
        help="training.protocol: a validation split selects the checkpoint, or, as in "
        "the paper, the test set."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Run folder, new or empty. Default: runs/DATASET-VARIANT-N."
    ),
]
Devices = Annotated[
    int, typer.Option(help="GPUs (or CPU processes) per node.", rich_help_panel="Machine")
]
Nodes = Annotated[
    int,
    typer.Option(help="Computers, each started by torchrun or SLURM.", rich_help_panel="Machine"),
]


def train(
    dataset: Dataset = None,
    variant: Variant = None,
    config: Config = None,
    resume: Resume = None,
    seeds: Seeds = None,
    epochs: Epochs = None,
    seed: Seed = None,
    batch_size: BatchSize = None,
    num_steps: NumSteps = None,
    lr: Lr = None,
    surrogate_centre: Centre = None,
    protocol: Protocol = None,
    set_: Sets = None,
    allow_code: AllowCode = False,
    output: Output = None,
    data_root: DataRoot = None,
    cache_root: CacheRoot = None,
    device: Device = "auto",
    threads: Threads = None,
    devices: Devices = 1,
    nodes: Nodes = 1,
) -> None:
    """Train a network and measure it on the test set.

    Starts from the settings published for the data set and variant; any of
    them can be changed. Writes a run folder: config.toml, metrics.csv,
    best.ckpt, last.ckpt and summary.json.

    \b
    bsnn-tha train                            two minutes, no download
    bsnn-tha train mnist --epochs 1           the paper's network, annealed
    bsnn-tha train mnist --variant bsnn       the same with fixed thresholds
    bsnn-tha train spoken-digits --seeds 5    best, mean and σ of five seeds
    bsnn-tha train --resume runs/mnist-tha-1  after a crash, or Ctrl-C
    bsnn-tha train --config runs/mnist-tha-1/config.toml --seed 1
    """
    options = {
        "training.epochs": epochs,
        "training.seed": seed,
        "data.batch_size": batch_size,
        "data.num_steps": num_steps,
        "optimizer.lr": lr,
        "neuron.surrogate_centre": surrogate_centre,
        "training.protocol": protocol,
    }
    changes = settings(options, set_)
    here = machine(data_root, cache_root, device, threads, devices, nodes)
    if resume is not None:
        beginning = dataset, variant, config, seeds, output, set_ or None
        if any(given is not None for given in beginning) or changes.keys() - {"training.epochs"}:
            raise InvalidValueError(
                "a resumed run keeps its configuration: with --resume only --epochs and the "
                "options of the machine can be given"
            )
        _go_on(resume, epochs, here, allow_code)
    else:
        configured = _configuration(dataset, variant, config, allow_code).with_changes(changes)
        _begin(configured, seeds, output, here)


def _begin(config: RunConfig, seeds: int | None, output: Path | None, machine: Machine) -> None:
    from bsnn_tha.training.run import train
    from bsnn_tha.training.trials import train_trials

    with one_line_at_ctrl_c():
        if seeds is None:
            _show_run(train(config, output=output, machine=machine))
        else:
            _show_trials(train_trials(config, seeds, output=output, machine=machine))


def _go_on(path: Path, epochs: int | None, machine: Machine, allow_code: bool) -> None:
    from bsnn_tha.training.run import resume
    from bsnn_tha.training.trials import are_trials, resume_trials

    with one_line_at_ctrl_c():
        if not are_trials(path):
            _show_run(resume(path, epochs=epochs, machine=machine, allow_code=allow_code))
        elif epochs is not None:
            raise InvalidValueError("trials cannot be made longer; resume them without --epochs")
        else:
            _show_trials(resume_trials(path, machine=machine, allow_code=allow_code))


def _show_run(result: RunResult) -> None:
    from bsnn_tha.cli import show

    if result.summary:  # only the process that leads has one
        print(show.summary(result.summary))
        print(f"written to {result.folder.path}")


def _show_trials(result: TrialsResult) -> None:
    from bsnn_tha.cli import show

    if result.summary:
        print(show.trials(result.summary))
        print(f"written to {result.path}")


def _configuration(
    dataset: str | None, variant: str | None, path: Path | None, allow_code: bool
) -> RunConfig:
    from bsnn_tha.config import RunConfig
    from bsnn_tha.presets import load_preset
    from bsnn_tha.training.allowed import names_allowed

    if path is None:
        _check_no_path(dataset)
        return load_preset(
            DEFAULT_DATASET if dataset is None else dataset,
            DEFAULT_VARIANT if variant is None else variant,
        )
    if others := [name for name in (dataset, variant) if name is not None]:
        raise InvalidValueError(
            "give --config or a data set and variant, not both, but got "
            f"--config {path} and {' '.join(others)}"
        )
    return RunConfig.from_file(path, allow_code=allow_code or names_allowed(path.parent))


def _check_no_path(dataset: str | None) -> None:
    """Say which option takes what was given for a data set's name."""
    if dataset is None or dataset in preset_names():
        return
    given = Path(dataset)
    if given.suffix == ".toml":
        raise InvalidValueError(
            f"{dataset} is no data set but a configuration; give --config {dataset}"
        )
    if (given / "config.toml").is_file():
        raise InvalidValueError(
            f"{dataset} is no data set but a run; --resume {dataset} goes on with it, "
            f"--config {given / 'config.toml'} trains another like it"
        )
