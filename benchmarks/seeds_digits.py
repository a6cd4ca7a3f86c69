"""Whether studies with finals find better settings than single trainings do, on digits.

    python -m benchmarks.seeds_digits --output docs/studies/seeds

Pairs of studies that train as many epochs, by the command's defaults but for seeds: one takes the
highest accuracy of one training, as studies did, the other ends with finals. The setting that each
calls its best is trained from 20 seeds that neither has seen. Given again, the command goes on
where it was stopped; the table is written anew after each pair.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.seeds import interval
from bsnn_tha.config import RunConfig
from bsnn_tha.freed_memory import keep_freed_memory
from bsnn_tha.run_folder import replace_atomically
from bsnn_tha.training.evaluation import load_data, measure
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.session import Session
from studies.lessons import settings
from studies.options import Options
from studies.race import Race
from studies.ranking import best_trials
from studies.rungs import Rungs, is_final, trained
from studies.runner import run_study
from studies.study import OpenStudy

EPOCHS = 9
CHANGES: dict[str, Any] = {
    "training.epochs": EPOCHS,
    "data.validation": 0.3,
    "data.subset": 500,
    "data.num_steps": 6,
    "network.notation": "12C3-24C3-AP2-10",
}
"""Of the preset digits/tha, so that a training takes a second."""
SINGLE, FINALS = "1", "1..8"
FIRST_FRESH = 1000
"""Seeds from here on are no study's."""
MACHINE = Machine(device="cpu", threads=1)


def trials(seeds: str, single: int) -> int:
    """As many trials as train no more epochs than so many of one seed."""
    rungs = Rungs.halving(EPOCHS)
    count = single
    while count > 1:
        finals = Race.parse(seeds).finals(count, EPOCHS, rungs)
        if rungs.epochs(count - finals) + finals * EPOCHS <= rungs.epochs(single):
            break
        count -= 1
    return count


def search(folder: Path, repetition: int, seeds: str, single: int) -> OpenStudy:
    """One study, from where it was stopped."""
    return run_study(
        Options(
            "digits",
            "tha",
            trials(seeds, single),
            name=f"{repetition}-{'single' if seeds == SINGLE else 'finals'}",
            storage=str(folder),
            seed=repetition,
            seeds=seeds,
            changes=CHANGES | {"training.seed": 20 * repetition},
            device="cpu",
            threads=1,
        )
    )


class Best(Callback):
    """The accuracy by which a trial is scored: of the best epoch, on validation."""

    def __init__(self) -> None:
        self.accuracy = 0.0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.accuracy = max(self.accuracy, trainer.callback_metrics["val_accuracy"].item())


def judged(opened: OpenStudy, fresh: int) -> dict[str, Any]:
    """What a study's best setting is worth, and what the study took."""
    best = best_trials(opened)[0]
    config = RunConfig.from_toml(best.user_attrs["config"])
    dataset = load_data(config, MACHINE)
    scores, tests = [], []
    for seed in range(FIRST_FRESH, FIRST_FRESH + fresh):
        session = Session.prepare(config.with_changes({"training.seed": seed}), MACHINE, dataset)
        session.fit(after_epoch=[found := Best()])
        options = MACHINE.trainer_options(together=False)
        assert dataset.test is not None
        scores.append(found.accuracy)
        tests.append(measure(session.module, dataset, dataset.test, options).values["accuracy"])
    done = opened.study.get_trials(deepcopy=False)
    further = sum(len(setting.trials) - 1 for setting in settings(done, opened.plan))
    return {
        "trial": best.number,
        "trials": len(done),
        "further seeds": further,
        "proposed": sum(map(is_final, done)) - further,
        "epochs": sum(map(trained, done)),
        "scored": best.values[0],
        "validation": scores,
        "test": tests,
    }


def table(pairs: Sequence[dict[str, dict[str, Any]]]) -> str:
    """Markdown: each pair, and how many are better."""
    lines = [
        "| repetition | study | trials (seeds, proposals) | epochs | scored | fresh seeds | test |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for repetition, pair in enumerate(pairs):
        for name, own in pair.items():
            counts = f"{own['trials']} ({own['further seeds']}, {own['proposed']})"
            figures = " | ".join(_mean(own[split]) for split in ("validation", "test"))
            lines.append(
                f"| {repetition} | {name} | {counts} | {own['epochs']} | {own['scored']:.2%} "
                f"| {figures} |"
            )
    lines.append("")
    for split in ("validation", "test"):
        gained = [
            statistics.fmean(pair["finals"][split]) - statistics.fmean(pair["single"][split])
            for pair in pairs
        ]
        better = sum(gain > 0 for gain in gained)
        low, high = interval(better, len(pairs))
        lines.append(
            f"With finals better by {split} accuracy of fresh seeds in {better} of {len(pairs)} "
            f"repetitions (95%: {low:.0%} to {high:.0%}), by "
            f"{100 * statistics.fmean(gained):.2f} points in the mean."
        )
        judges = [own[split] for pair in pairs for own in pair.values()]
        scatter = math.sqrt(statistics.fmean(map(statistics.variance, judges)))
        lines.append(f"Between seeds of one setting it scatters by {100 * scatter:.1f} points.")
    return "\n".join(lines) + "\n"


def _mean(values: Sequence[float]) -> str:
    error = statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.fmean(values):.2%} ± {error:.2%}"


def main() -> None:
    """Search, judge, and write the table."""
    parser = argparse.ArgumentParser(description="Finals against single trainings, on digits.")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="of the repetitions")
    parser.add_argument("--trials", type=int, default=99, help="of one seed")
    parser.add_argument("--fresh", type=int, default=20, help="seeds of the judges")
    parser.add_argument("--folder", type=Path, default=Path("runs/seeds-digits"))
    parser.add_argument("--output", type=Path, help="folder of the table; by default --folder")
    options = parser.parse_args()
    keep_freed_memory()  # as `bsnn-tha study`
    pairs = []
    for repetition in range(options.first, options.first + options.repetitions):
        pair = {}
        for name, seeds in (("single", SINGLE), ("finals", FINALS)):
            kept = options.folder / f"{repetition}-{name}.json"
            if not kept.is_file():
                opened = search(options.folder, repetition, seeds, options.trials)
                with replace_atomically(kept) as temporary:
                    temporary.write_text(json.dumps(judged(opened, options.fresh)))
            pair[name] = json.loads(kept.read_text())
        pairs.append(pair)
        with replace_atomically((options.output or options.folder) / "digits.md") as temporary:
            temporary.write_text(table(pairs))
        print(table(pairs), flush=True)


if __name__ == "__main__":
    main()
