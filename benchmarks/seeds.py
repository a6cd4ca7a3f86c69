"""Whether studies find better settings when seeds are instances, at equal cost.

    python -m benchmarks.seeds

Settings of a synthetic objective have a true accuracy, and a training of one from a seed
scatters about it as trainings here do. Studies spend the same number of trainings, by the workers
that ``bsnn-tha study`` has: one takes each setting's only seed at its word, another ends with
finals. What each calls its best is judged by the truth; how often it is truly better than the
first's, with Wilson's interval. Rows in brackets say where the rest is lost: they know the truth
when they choose, or when they search.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial

from bsnn_tha.presets import load_preset
from bsnn_tha.run_folder import replace_atomically
from studies.finals import Finals
from studies.lessons import settings
from studies.race import INSTANCES
from studies.ranking import best_trials
from studies.samplers import tpe
from studies.study import OpenStudy, Plan
from studies.worker import Worker

PARAMETERS = 8
SPACE = {f"x{index}": FloatDistribution(0, 1) for index in range(PARAMETERS)}


@dataclass
class Synthetic:
    """A smooth optimum in some parameters out of eight, others that matter less.

    Args:
        repetition: draws the optimum and all seeds.
        noise: standard deviation between seeds, as a share.
    """

    repetition: int
    noise: float

    def __post_init__(self) -> None:
        generator = np.random.default_rng([17, self.repetition])
        self.optimum = generator.uniform(0.15, 0.85, PARAMETERS)
        self.weights = 0.12 / 2.0 ** np.arange(PARAMETERS)

    def truth(self, x: Sequence[float]) -> float:
        """A setting's true accuracy: 97% at the optimum, some 85% for most settings."""
        return float(0.97 - np.sum(self.weights * (2 * np.abs(x - self.optimum)) ** 1.5))

    def train(self, x: Sequence[float], number: int) -> float:
        """One training, from a seed that is good or bad for this setting alone."""
        draw = np.random.default_rng([23, self.repetition, number])
        return self.truth(x) + self.noise * draw.standard_normal()


def study(task: Synthetic, trainings: int, seeds: str, blind: bool = True) -> OpenStudy:
    """A study of so many trainings.

    Args:
        task: what they are of.
        trainings: how many.
        seeds: of each setting, as ``--seeds-per-trial``.
        blind: whether the search sees what trainings scored, or their settings' truth.
    """
    plan = Plan(load_preset("digits").to_toml(), (), seeds=seeds)
    opened = OpenStudy(
        optuna.create_study(direction="maximize", sampler=tpe(task.repetition)), plan
    )

    def objective(trial: optuna.Trial) -> float:
        x = [
            trial.suggest_float(name, distribution.low, distribution.high)
            for name, distribution in SPACE.items()
        ]
        score = task.train(x, trial.number)
        trial.set_user_attr(INSTANCES, [{"accuracy": score}])
        return score if blind else task.truth(x)

    finals = Finals.of(plan, seed=(task.repetition,))
    Worker(opened.study, objective, trainings, finals=finals).work()
    return opened


def truth(task: Synthetic, trial: FrozenTrial) -> float:
    """Of a trial's setting."""
    return task.truth([trial.params[name] for name in SPACE])


def luckiest(opened: OpenStudy) -> FrozenTrial:
    """The trial with the highest score of one training."""
    return max(opened.study.trials, key=lambda trial: trial.user_attrs[INSTANCES][0]["accuracy"])


def surest(opened: OpenStudy, seeds: str) -> FrozenTrial:
    """The trial that a study of so many seeds calls its best."""
    return best_trials(OpenStudy(opened.study, replace(opened.plan, seeds=seeds)))[0]


def compared(task: Synthetic, trainings: int, seeds: str) -> dict[str, tuple[int, float]]:
    """By name of the study: how many settings it tried, and the true accuracy of its best."""
    single, raced = study(task, trainings, "1"), study(task, trainings, seeds)
    sighted = study(task, trainings, "1", blind=False)

    def best(opened: OpenStudy) -> float:
        return max(truth(task, trial) for trial in opened.study.trials)

    tried = len(settings(raced.study.trials, raced.plan))
    return {
        "one seed, highest accuracy": (trainings, truth(task, luckiest(single))),
        "one seed, highest lower bound": (trainings, truth(task, surest(single, seeds))),
        f"{seeds} seeds, with finals": (tried, truth(task, surest(raced, seeds))),
        "(settings of the first, best by truth)": (trainings, best(single)),
        "(settings of the third, best by truth)": (tried, best(raced)),
        "(search by truth, highest lower bound)": (trainings, truth(task, surest(sighted, seeds))),
    }


def interval(wins: int, count: int) -> tuple[float, float]:
    """Wilson's interval of a share, 95%.

    Example:
        >>> tuple(round(end, 3) for end in interval(160, 200))
        (0.739, 0.85)
    """
    z, share = 1.96, wins / count
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count)


def main() -> None:
    """Compare and print a Markdown table."""
    parser = argparse.ArgumentParser(description="Seeds as instances, at equal cost.")
    parser.add_argument("--trainings", type=int, default=100)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="of the repetitions")
    parser.add_argument("--noise", nargs="*", type=float, default=[0.010, 0.018, 0.026])
    parser.add_argument("--seeds", default="1..8")
    parser.add_argument("--kept", type=Path, help="file of what is done; given again, it goes on")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    done: dict[str, dict[str, tuple[int, float]]] = {}
    if options.kept is not None and options.kept.is_file():
        done = json.loads(options.kept.read_text())
    # All scatters in turn: a run that is stopped has as many repetitions of each.
    for repetition in range(options.first, options.first + options.repetitions):
        for noise in options.noise:
            name = f"{options.trainings} {noise} {repetition}"
            if name not in done:
                task = Synthetic(repetition, noise)
                done[name] = compared(task, options.trainings, options.seeds)
        if options.kept is not None:
            with replace_atomically(options.kept) as temporary:
                temporary.write_text(json.dumps(done))
    print(table(done))


def table(done: dict[str, dict[str, tuple[int, float]]]) -> str:
    """Markdown, of all that is done."""
    groups: dict[tuple[int, float], list[dict[str, tuple[int, float]]]] = {}
    for name, found in done.items():
        trainings, noise, _ = name.split()
        groups.setdefault((int(trainings), float(noise)), []).append(found)
    lines = [
        "| trainings | repetitions | scatter | study | settings | truth of its best "
        "| better in (95%) | equal |",
        "|---:|---:|---:|---|---:|---:|---:|---:|",
    ]
    for (number, scatter), group in sorted(groups.items()):
        lines += [f"| {number} | {len(group)} | {scatter:.1%} | {row(n, group)}" for n in group[0]]
    return "\n".join(lines)


def row(name: str, found: Sequence[dict[str, tuple[int, float]]]) -> str:
    """One study beside the first one, over all repetitions."""
    settings, own = zip(*(repetition[name] for repetition in found), strict=True)
    today = [next(iter(repetition.values()))[1] for repetition in found]
    better = sum(mine > theirs for mine, theirs in zip(own, today, strict=True))
    equal = sum(mine == theirs for mine, theirs in zip(own, today, strict=True))
    low, high = interval(better, len(own))
    first = equal == len(own)
    share = "" if first else f"{better / len(own):.0%} ({low:.0%} to {high:.0%})"
    ties = "" if first else f"{equal / len(own):.0%}"
    return (
        f"{name} | {statistics.fmean(settings):.0f} | {statistics.fmean(own):.2%} "
        f"| {share} | {ties} |"
    )


if __name__ == "__main__":
    main()
