"""Search for a setting with a clamped surrogate that solves the task.

Searched, as a table (θ∞ as a multiple of θ0, so that every draw is valid):

====================  ===============  ==========
parameter             range            scale
====================  ===============  ==========
β                     0 to 0.9         linear
k                     0.01 to 10       log
θ0 hidden             0.5 to 20        log
θ∞ / θ0 hidden        1.01 to 2        log of −1
α hidden              1e-4 to 0.3      log
θ0 output             20 to 600        log
θ∞ / θ0 output        1.02 to 5        log of −1
α output              5e-3 to 0.3      log
η · θ∞ / (1 − β)      0.01 to 100      log
schedule              none or cosine   choice
====================  ===============  ==========

The peak of the target over θ∞ is fixed for a search: the paper's 1.1, or lower.
Every setting is tried with three seeds that the report does not use. The score
is the share of the last 300 iterations with exactly one spike on target, plus a
fifth of that share over all iterations, minus the final loss over that of a
silent network: the last two only to guide the search where the first is zero.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna

from bsnn_tha.campaigns.temporal_coding.ensemble import EnsembleResult, train_ensemble
from bsnn_tha.config import RunConfig
from bsnn_tha.presets import load_preset

SEEDS = (100, 101, 102)
AT_ONCE = 4
"""Settings trained side by side (each with every seed)."""
SCHEDULES: dict[str, dict[str, Any]] = {
    "none": {"optimizer.schedule": "none"},
    "cosine": {"optimizer.schedule": "cosine", "optimizer.period": 1.0},
}


def suggest(trial: optuna.Trial, peak: float, centre: str) -> dict[str, Any]:
    """One draw from the table, as changes to the published preset."""

    def log(name: str, low: float, high: float) -> float:
        return trial.suggest_float(name, low, high, log=True)

    beta = trial.suggest_float("beta", 0.0, 0.9)
    hidden, output = log("theta_0_hidden", 0.5, 20), log("theta_0_output", 20, 600)
    theta_inf = [
        hidden * (1 + log("rise_hidden", 0.01, 1)),
        output * (1 + log("rise_output", 0.02, 4)),
    ]
    return {
        "neuron.beta": beta,
        "neuron.slope": log("slope", 0.01, 10),
        "neuron.surrogate_centre": centre,
        "threshold.theta_0": [hidden, output],
        "threshold.theta_inf": theta_inf,
        "threshold.alpha": [log("alpha_hidden", 1e-4, 0.3), log("alpha_output", 5e-3, 0.3)],
        "optimizer.lr": log("scaled_lr", 1e-2, 1e2) / theta_inf[1] * (1 - beta),
        **SCHEDULES[trial.suggest_categorical("schedule", list(SCHEDULES))],
        "data.options.peak": peak * theta_inf[1],
    }


def search(
    peak: float,
    centre: str,
    trials: int,
    out: Path,
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Run a search and append one JSON line per setting to a file.

    Args:
        peak: of the target, over θ∞ of the output neuron.
        centre: ``"clamped"`` or ``"moving"``.
        trials: number of settings.
        out: file, e.g. ``search.jsonl``; one that exists gets further lines; the
            sampler starts afresh, so give it another seed.
        seed: of the sampler.
        tell: called with a line for every few settings.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        seed=seed, multivariate=True, constant_liar=True, n_startup_trials=40
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    base = load_preset("temporal-coding", "tha")
    best = 0.0
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", encoding="utf-8") as file:
        while len(study.trials) < trials:
            asked = [study.ask() for _ in range(min(AT_ONCE, trials - len(study.trials)))]
            changes = [suggest(trial, peak, centre) for trial in asked]
            configs = [
                base.with_changes({**change, "training.seed": seed})
                for change in changes
                for seed in SEEDS
            ]
            result = train_ensemble(configs)
            for index, (trial, change) in enumerate(zip(asked, changes, strict=True)):
                runs = range(index * len(SEEDS), (index + 1) * len(SEEDS))
                row = _row(result, configs, runs)
                study.tell(trial, row["score"])
                file.write(json.dumps({"peak": peak, **change, **row}) + "\n")
                file.flush()
                best = max(best, row["share"])
            tell(f"{len(study.trials)}/{trials} settings, best share on target {best:.2f}")


def _row(result: EnsembleResult, configs: list[RunConfig], runs: Sequence[int]) -> dict[str, Any]:
    shares, overall, losses = [], [], []
    for run in runs:
        spikes = result.spikes[:, run]
        shares.append(result.timing(run).share)
        on_target = (spikes.argmax(1) - int(result.target[run].argmax())).abs() <= 2
        overall.append(((spikes.sum(1) == 1) & on_target).float().mean().item())
        silent = result.target[run].square().mean()
        final = (result.loss[-100:, run].mean() / silent).nan_to_num(1.5, 1.5).clamp(max=1.5)
        losses.append(final.item())
    share, always, loss = (sum(values) / len(values) for values in (shares, overall, losses))
    return {"share": share, "loss": loss, "score": share + 0.2 * always - loss}
