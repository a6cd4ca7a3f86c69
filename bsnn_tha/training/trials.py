"""The same configuration from several seeds, reported as the papers do.

runs/mnist-tha-1/
  trials.toml     the configuration, its seed the first trial's; and how many
  seed-0/ …       one run folder per trial
  trials.json     accuracies, best, mean and sample standard deviation

Each trial is a run like any other: it can be evaluated, and one that was
stopped goes on from its last epoch. Finished trials are not repeated.
"""

from __future__ import annotations

import json
import statistics
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from bsnn_tha.config import RunConfig
from bsnn_tha.errors import InvalidValueError, RunError
from bsnn_tha.training.allowed import names_allowed, remember
from bsnn_tha.training.files import RunFolder, replace_atomically
from bsnn_tha.training.machine import THIS_MACHINE, Machine
from bsnn_tha.training.run import resume, train
from bsnn_tha.training.session import Session


@dataclass(frozen=True)
class TrialsResult:
    """Finished trials."""

    path: Path
    summary: dict[str, Any]


def train_trials(
    config: RunConfig,
    count: int,
    *,
    output: Path | None = None,
    parent: Path = Path("runs"),
    machine: Machine = THIS_MACHINE,
    verbose: bool = True,
) -> TrialsResult:
    """Train ``count`` times, with seeds from ``training.seed`` upwards.

    Args:
        config: of the first trial.
        count: number of trials, at least 1.
        output: folder of all trials; as for :func:`~bsnn_tha.training.run.train`.
        parent: where numbered folders go.
        machine: data root, devices and threads.
        verbose: show progress.

    Returns:
        The folder and the summary, which is also in its ``trials.json``.

    Raises:
        BsnnThaError: as :func:`~bsnn_tha.training.run.train` does; before a
            trial has begun, nothing is written.
    """
    if count < 1:
        raise InvalidValueError(f"the number of seeds must be at least 1, but got {count}")
    # The last seed, because it may be too large: then nothing is written.
    Session.prepare(
        config.with_changes({"training.seed": config.training.seed + count - 1}), machine
    )
    name = f"{config.data.label}-{config.variant}"
    if not machine.leads:
        path = output or parent / name  # never written by this process
        return _train_all(path, config, count, machine, verbose)
    folder = RunFolder.create(output) if output else RunFolder.create_numbered(parent, name)
    with replace_atomically(_plan(folder.path)) as temporary:
        plan = {"trials": count, "config": tomllib.loads(config.to_toml())}
        temporary.write_text(tomli_w.dumps(plan), encoding="utf-8")
    remember(folder.path, config)
    return _train_all(folder.path, config, count, machine, verbose)


def are_trials(path: Path) -> bool:
    """True if the folder is one of trials, not of a single run."""
    return _plan(path).is_file()


def resume_trials(
    path: Path,
    *,
    machine: Machine = THIS_MACHINE,
    verbose: bool = True,
    allow_code: bool = False,
) -> TrialsResult:
    """Go on with trials that were stopped: with the one that was, and those to come.

    Args:
        path: the folder of all trials.
        machine: data root, devices and threads.
        verbose: show progress.
        allow_code: as for :func:`~bsnn_tha.training.run.resume`.

    Raises:
        RunError: the folder is not one of trials.
    """
    try:
        plan = tomllib.loads(_plan(path).read_text(encoding="utf-8"))
        count, tables = int(plan["trials"]), plan["config"]
        config = RunConfig.from_dict(
            tables, str(_plan(path)), allow_code=allow_code or names_allowed(path)
        )
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{path} is not a folder of trials: {error}") from None
    remember(path, config)
    return _train_all(path, config, count, machine, verbose)


def _train_all(
    path: Path, config: RunConfig, count: int, machine: Machine, verbose: bool
) -> TrialsResult:
    """Train the trials that are not finished."""
    first = config.training.seed
    summaries = []
    for seed in range(first, first + count):
        if verbose and machine.leads:
            print(f"\ntrial {seed - first + 1}/{count}, seed {seed}", flush=True)
        trial = path / f"seed-{seed}"
        if RunFolder(trial).config.exists():
            result = resume(
                trial, machine=machine, verbose=verbose, allow_code=bool(config.code_named())
            )
        else:
            result = train(
                config.with_changes({"training.seed": seed}),
                output=trial,
                machine=machine,
                verbose=verbose,
            )
        summaries.append(result.summary)
    summary: dict[str, Any] = {}
    if machine.leads:
        summary = trials_summary(summaries)
        with replace_atomically(path / "trials.json") as temporary:
            temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return TrialsResult(path, summary)


def trials_summary(summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Best, mean and sample standard deviation over the summaries of runs.

    Example:
        >>> runs = [{"seed": s, "test": {"accuracy": a}, "protocol": "p", "train_seconds": 1.0}
        ...         for s, a in enumerate([0.9, 0.8, 0.85])]
        >>> trials_summary(runs)["accuracy"]
        {'best': 0.9, 'mean': 0.85, 'std': 0.05}
    """

    def over(value: Callable[[dict[str, Any]], float]) -> dict[str, float]:
        values = [value(s) for s in summaries]
        return {
            "best": max(values),
            "mean": round(statistics.fmean(values), 10),
            "std": round(statistics.stdev(values), 10) if len(values) > 1 else 0.0,
        }

    result: dict[str, Any] = {
        "seeds": [s["seed"] for s in summaries],
        "protocol": summaries[0]["protocol"],
        "train_seconds": round(sum(s["train_seconds"] for s in summaries), 2),
    }
    if all("test" in s for s in summaries):
        result["accuracies"] = [s["test"]["accuracy"] for s in summaries]
        result["accuracy"] = over(lambda s: s["test"]["accuracy"])
        result["groups"] = {
            name: over(lambda s, name=name: s["test"]["groups"][name])  # type: ignore[misc]
            for name in summaries[0]["test"].get("groups", {})
        }
    return result


def _plan(path: Path) -> Path:
    return path / "trials.toml"
