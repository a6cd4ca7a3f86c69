"""Whether studies find better settings when seeds are instances, at equal cost.

    python -m benchmarks.seeds

Settings of a synthetic objective have a true accuracy, and a training of one from a seed
scatters about it as trainings here do. Studies spend the same number of trainings: one
takes each setting's only seed for its accuracy, another asks the neighbours as well, a third
races seeds too. What each then calls its best is judged by the truth.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import optuna

from studies.race import Race, scatter
from studies.samplers import tpe
from studies.surface import posterior

PARAMETERS = 8


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

    def train(self, x: Sequence[float], draw: np.random.Generator) -> float:
        """One training, from a seed that is good or bad for this setting alone."""
        return self.truth(x) + self.noise * draw.standard_normal()


def study(task: Synthetic, race: Race, trainings: int) -> Found:
    """What a study of so many trainings calls its best."""
    draw = np.random.default_rng([23, task.repetition])
    search = optuna.create_study(direction="maximize", sampler=tpe(task.repetition))
    known: list[list[float]] = []
    points: list[list[float]] = []
    left = trainings
    while left:
        trial = search.ask()
        x = [trial.suggest_float(f"x{index}", 0, 1) for index in range(PARAMETERS)]
        scores: list[float] = []
        while left and (not scores or race.goes_on(scores, known)):
            scores.append(task.train(x, draw))
            left -= 1
        points.append(x)
        known.append(scores)
        search.tell(trial, statistics.fmean(scores))
    means = np.array([statistics.fmean(scores) for scores in known])
    seeds = np.array([len(scores) for scores in known])
    mean, error = posterior(np.array(points), means, scatter(known) ** 2 / seeds)
    truths = [task.truth(x) for x in points]
    return Found(truths[means.argmax()], truths[(mean - race.z * error).argmax()], len(points))


class Found(NamedTuple):
    """True accuracies of the best mean and of the highest lower bound, and settings tried."""

    mean: float
    bound: float
    settings: int


def main() -> None:
    """Compare and print a Markdown table."""
    parser = argparse.ArgumentParser(description="Seeds as instances, at equal cost.")
    parser.add_argument("--trainings", type=int, default=100)
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="of the repetitions")
    parser.add_argument("--noise", nargs="*", type=float, default=[0.010, 0.018, 0.026])
    parser.add_argument("--most", type=int, default=3)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print("| scatter | study | settings | true accuracy of its best | better in |")
    print("|---:|---|---:|---:|---:|")
    for noise in options.noise:
        repetitions = range(options.first, options.first + options.repetitions)
        tasks = [Synthetic(repetition, noise) for repetition in repetitions]
        single = [study(task, Race(), options.trainings) for task in tasks]
        raced = [study(task, Race(1, options.most), options.trainings) for task in tasks]
        rows = {
            "one seed, highest accuracy": [(found, found.mean) for found in single],
            "one seed, highest lower bound": [(found, found.bound) for found in single],
            f"1..{options.most} seeds, highest lower bound": [(f, f.bound) for f in raced],
        }
        for name, results in rows.items():
            better = sum(
                truth > found.mean for (_, truth), found in zip(results, single, strict=True)
            )
            print(
                f"| {noise:.1%} | {name} | {statistics.fmean(f.settings for f, _ in results):.0f} "
                f"| {statistics.fmean(truth for _, truth in results):.2%} "
                f"| {better} of {len(tasks)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
