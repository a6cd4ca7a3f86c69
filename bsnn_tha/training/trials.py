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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from bsnn_tha.config import RunConfig
from bsnn_tha.errors import InvalidValueError, RunError
from bsnn_tha.run_folder import RunFolder, replace_atomically
from bsnn_tha.training.allowed import names_allowed, remember
from bsnn_tha.training.callbacks.progress import say
from bsnn_tha.training.evaluation import evaluate
from bsnn_tha.training.machine import THIS_MACHINE, Machine
from bsnn_tha.training.run import RunResult, resume, train
from bsnn_tha.training.session import Session
from bsnn_tha.training.summary import finished


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
    _write_plan(folder.path, count, config)
    remember(folder.path, config)
    return _train_all(folder.path, config, count, machine, verbose)


def are_trials(path: Path) -> bool:
    """True if the folder is one of trials, not of a single run."""
    return _plan(path).is_file()


def trials_config(path: Path, *, allow_code: bool = False) -> RunConfig:
    """The configuration of trials that have begun, its seed the first one's.

    Raises:
        RunError: the folder is not one of trials.
    """
    return _read_plan(path, allow_code)[1]


def trial_folders(path: Path) -> list[Path]:
    """The run folders of the trials that have begun, in the order of their seeds.

    Raises:
        RunError: the folder is not one of trials.
    """
    runs = (_trial(path, seed) for seed, _ in _planned(path))
    return [run for run in runs if RunFolder(run).config.is_file()]


def trials_finished(path: Path) -> bool:
    """True if every trial that is planned has done all it was configured for.

    Raises:
        RunError: the folder is not one of trials.
    """
    return all(finished(RunFolder(_trial(path, seed)), own) for seed, own in _planned(path))


def resume_trials(
    path: Path,
    *,
    at_least: int = 1,
    machine: Machine = THIS_MACHINE,
    verbose: bool = True,
    allow_code: bool = False,
) -> TrialsResult:
    """Go on with trials that were stopped: with the one that was, and those to come.

    Args:
        path: the folder of all trials.
        at_least: number of trials that there shall be; the folder's own where that is more.
        machine: data root, devices and threads.
        verbose: show progress.
        allow_code: as for :func:`~bsnn_tha.training.run.resume`.

    Raises:
        RunError: the folder is not one of trials.
    """
    planned, config = _read_plan(path, allow_code)
    count = max(planned, at_least)
    if count > planned and machine.leads:
        _write_plan(path, count, config)
    remember(path, config)
    return _train_all(path, config, count, machine, verbose, allow_code)


def evaluate_trials(
    path: Path,
    *,
    checkpoint: str | Path = "best",
    split: str = "test",
    machine: Machine = THIS_MACHINE,
    allow_code: bool = False,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Measure the network of every trial. Writes nothing.

    Args:
        path: the folder of all trials.
        checkpoint, split, machine, allow_code: as for
            :func:`~bsnn_tha.training.evaluation.evaluate`.

    Returns:
        What :func:`~bsnn_tha.training.evaluation.evaluate` gives for each seed, in their
        order; and ``{"seeds", "accuracies", "accuracy", "groups"}`` over them.

    Raises:
        RunError: the folder is not one of trials, or a trial has no checkpoint.
    """
    count, config = _read_plan(path, allow_code)
    seeds = range(config.training.seed, config.training.seed + count)
    if missing := [seed for seed in seeds if not RunFolder(_trial(path, seed)).last.exists()]:
        raise RunError(
            f"{path} has no network of seed {missing[0]} yet; "
            f"finish its trials with bsnn-tha train --resume {path}"
        )
    results = [
        evaluate(
            _trial(path, seed),
            checkpoint=checkpoint,
            split=split,
            machine=machine,
            allow_code=allow_code,
        )
        for seed in seeds
    ]
    return results, _accuracies(list(seeds), results)


def _read_plan(path: Path, allow_code: bool = False) -> tuple[int, RunConfig]:
    """How many trials, and the first one's configuration."""
    try:
        plan = tomllib.loads(_plan(path).read_text(encoding="utf-8-sig"))
        count, tables = int(plan["trials"]), plan["config"]
        allowed = allow_code or names_allowed(path)
        return count, RunConfig.from_dict(tables, str(_plan(path)), allow_code=allowed)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{path} is not a folder of trials: {error}") from None


def _planned(path: Path) -> Iterator[tuple[int, RunConfig]]:
    """Seeds of the trials, begun or not, and what each is trained with."""
    count, config = _read_plan(path, allow_code=True)
    first = config.training.seed
    for seed in range(first, first + count):
        yield seed, config.with_changes({"training.seed": seed})


def _write_plan(path: Path, count: int, config: RunConfig) -> None:
    with replace_atomically(_plan(path)) as temporary:
        plan = {"trials": count, "config": tomllib.loads(config.to_toml())}
        temporary.write_text(tomli_w.dumps(plan), encoding="utf-8")


def _trial(path: Path, seed: int) -> Path:
    return path / f"seed-{seed}"


def _train_all(
    path: Path,
    config: RunConfig,
    count: int,
    machine: Machine,
    verbose: bool,
    allow_code: bool = False,
) -> TrialsResult:
    """Train the trials that are not finished."""
    first = config.training.seed
    summaries = []
    for seed in range(first, first + count):
        if verbose and machine.leads:
            say(f"\ntrial {seed - first + 1}/{count}, seed {seed}")
        try:
            result = _train_one(_trial(path, seed), config, seed, machine, verbose, allow_code)
        except KeyboardInterrupt:  # which says how that trial alone goes on
            raise KeyboardInterrupt(
                f"interrupted; go on with this trial and those to come with "
                f"bsnn-tha train --resume {path}"
            ) from None
        summaries.append(result.summary)
    summary: dict[str, Any] = {}
    if machine.leads:
        summary = trials_summary(summaries)
        with replace_atomically(path / "trials.json") as temporary:
            temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return TrialsResult(path, summary)


def _train_one(
    path: Path,
    config: RunConfig,
    seed: int,
    machine: Machine,
    verbose: bool,
    allow_code: bool,
) -> RunResult:
    if RunFolder(path).config.exists():
        return resume(path, machine=machine, verbose=verbose, allow_code=allow_code)
    own = config.with_changes({"training.seed": seed})
    return train(own, output=path, machine=machine, verbose=verbose)


def trials_summary(summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Best, mean and sample standard deviation over the summaries of runs.

    One trial has no standard deviation: it is None.

    Example:
        >>> runs = [{"seed": s, "test": {"accuracy": a}, "protocol": "p", "train_seconds": 1.0}
        ...         for s, a in enumerate([0.9, 0.8, 0.85])]
        >>> trials_summary(runs)["accuracy"]
        {'best': 0.9, 'mean': 0.85, 'std': 0.05}
    """
    seeds = [s["seed"] for s in summaries]
    result: dict[str, Any] = {
        "seeds": seeds,
        "protocol": _protocols(summaries),
        "train_seconds": round(sum(s["train_seconds"] for s in summaries), 2),
    }
    if all("test" in s for s in summaries):
        result |= _accuracies(seeds, [s["test"] for s in summaries])
    return result


def _protocols(summaries: Sequence[dict[str, Any]]) -> str:
    """What the trials have in common; where they differ, which seed did what."""
    seeds: dict[str, list[str]] = {}
    for summary in summaries:
        seeds.setdefault(summary["protocol"], []).append(str(summary["seed"]))
    if len(seeds) == 1:
        return next(iter(seeds))
    return "; ".join(f"seed {', '.join(which)}: {said}" for said, which in seeds.items())


def _accuracies(seeds: list[int], tests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Accuracies on one split over seeds, and those of its groups; or precisions of boxes."""

    def over(values: list[float]) -> dict[str, float | None]:
        return {
            "best": max(values),
            "mean": round(statistics.fmean(values), 10),
            "std": round(statistics.stdev(values), 10) if len(values) > 1 else None,
        }

    if "map" in tests[0]:  # of boxes; a set without any to find has none
        precisions = [test["map"] or 0.0 for test in tests]
        return {"seeds": seeds, "maps": precisions, "map": over(precisions)}
    accuracies = [test["accuracy"] for test in tests]
    return {
        "seeds": seeds,
        "accuracies": accuracies,
        "accuracy": over(accuracies),
        "groups": {
            name: over([test["groups"][name] for test in tests])
            for name in tests[0].get("groups", {})
        },
    }


def _plan(path: Path) -> Path:
    return path / "trials.toml"
