"""Whether studies find better settings when seeds are instances, at equal cost.

    python -m benchmarks.seeds

Settings of a synthetic objective have a true accuracy, and a training of one from a seed
scatters about it as trainings here do. Studies spend the same number of trainings: one
takes each setting's only seed for its accuracy, another asks the neighbours as well, a third
keeps a share of the trainings for further seeds of those that may be the best. What each then
calls its best is judged by the truth; how often it is truly better than the first's, with Wilson's
interval. All three see the same trainings of the same settings, as far as they have them.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna

from studies.race import Race, scatter
from studies.samplers import tpe
from studies.surface import Surface

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


@dataclass(frozen=True)
class Searched:
    """What a study of single trainings has by a certain time.

    Args:
        points: settings, in their order.
        scores: of one training each.
        truths: of the settings.
    """

    points: list[list[float]]
    scores: list[float]
    truths: list[float]

    def first(self, count: int) -> Searched:
        """As it was after so many."""
        return Searched(self.points[:count], self.scores[:count], self.truths[:count])


def search(task: Synthetic, trainings: int) -> Searched:
    """A study of so many settings, each trained once."""
    draw = np.random.default_rng([23, task.repetition])
    study = optuna.create_study(direction="maximize", sampler=tpe(task.repetition))
    found = Searched([], [], [])
    for _ in range(trainings):
        trial = study.ask()
        x = [trial.suggest_float(f"x{index}", 0, 1) for index in range(PARAMETERS)]
        score = task.train(x, draw)
        study.tell(trial, score)
        found.points.append(x)
        found.scores.append(score)
        found.truths.append(task.truth(x))
    return found


def luckiest(found: Searched) -> float:
    """True accuracy of the setting with the highest score."""
    return found.truths[int(np.argmax(found.scores))]


def surest(task: Synthetic, found: Searched, race: Race, finals: int) -> float:
    """True accuracy of the setting with the highest lower bound, after finals.

    Neighbours' likeness is learned once, when finals begin; a study learns it at each.
    """
    draw = np.random.default_rng([29, task.repetition])
    scores = [[score] for score in found.scores]
    points = np.array(found.points)
    surface = None
    for left in range(finals, -1, -1):
        means = np.array([statistics.fmean(own) for own in scores])
        variances = scatter(scores) ** 2 / np.array([len(own) for own in scores])
        surface = surface or Surface(points, means, variances)
        mean, error = surface.posterior(means, variances)
        if left:
            place = race.next_seed(mean, error, [len(own) for own in scores])
            scores[place].append(task.train(found.points[place], draw))
    return found.truths[int(np.argmax(mean - race.z * error))]


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
    parser.add_argument("--most", type=int, default=8)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    race = Race(1, options.most)
    finals = race.finals(options.trainings)
    names = [
        "one seed, highest accuracy",
        "one seed, highest lower bound",
        f"1..{options.most} seeds, highest lower bound",
        "(the best setting that the first tried)",
    ]
    print("| scatter | study | settings | true accuracy of its best | better in (95%) | equal in |")
    print("|---:|---|---:|---:|---:|---:|")
    for noise in options.noise:
        results: list[list[float]] = []
        for repetition in range(options.first, options.first + options.repetitions):
            task = Synthetic(repetition, noise)
            whole = search(task, options.trainings)
            shorter = whole.first(options.trainings - finals)
            results.append(
                [
                    luckiest(whole),
                    surest(task, whole, race, 0),
                    surest(task, shorter, race, finals),
                    max(whole.truths),
                ]
            )
        for place, name in enumerate(names):
            own = [result[place] for result in results]
            today = [result[0] for result in results]
            better = sum(mine > theirs for mine, theirs in zip(own, today, strict=True))
            equal = sum(mine == theirs for mine, theirs in zip(own, today, strict=True))
            low, high = interval(better, len(results))
            settings = options.trainings - (finals if place == 2 else 0)
            share = f"{better / len(results):.0%} ({low:.0%} to {high:.0%})" if place else ""
            print(
                f"| {noise:.1%} | {name} | {settings} | {statistics.fmean(own):.2%} | {share} "
                f"| {f'{equal / len(results):.0%}' if place else ''} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
