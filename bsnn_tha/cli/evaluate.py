"""``bsnn-tha evaluate``: measure what a run, or every seed of trials, has learned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bsnn_tha.cli.options import (
    AllowCode,
    CacheRoot,
    DataRoot,
    Device,
    Threads,
    machine,
    one_line_at_ctrl_c,
)


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder, of trials every seed; or zoo:NAME.")],
    checkpoint: Annotated[str, typer.Option(help="best, last or a path.")] = "best",
    split: Annotated[str, typer.Option(help="test or validation.")] = "test",
    allow_code: AllowCode = False,
    data_root: DataRoot = None,
    cache_root: CacheRoot = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Measure a trained network: accuracy, firing rates, dead neurons, thresholds.

    \b
    bsnn-tha evaluate runs/digits-tha-1
    bsnn-tha evaluate runs/mnist-tha-1 --split validation --checkpoint last
    bsnn-tha evaluate zoo:mnist
    """
    from bsnn_tha import zoo
    from bsnn_tha.cli import show
    from bsnn_tha.run_folder import RunFolder
    from bsnn_tha.training.evaluation import evaluate as measure
    from bsnn_tha.training.trials import are_trials, evaluate_trials

    options: Any = {"checkpoint": checkpoint, "split": split, "allow_code": allow_code}
    options["machine"] = machine(data_root, cache_root, device, threads)
    with one_line_at_ctrl_c():
        if zoo.named(str(run)):
            name = zoo.name_of(str(run), checkpoint)
            result = zoo.evaluate(name, split, options["machine"])
            print(show.evaluation(result, split, str(run)))
        elif are_trials(run):
            _, values = evaluate_trials(run, **options)
            print("\n".join(show.seeds(values, split)))
        else:
            result = measure(run, **options)
            print(show.evaluation(result, split, RunFolder(run).checkpoint(checkpoint).name))
