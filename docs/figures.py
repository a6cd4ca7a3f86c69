"""Figures in the documents that stand in a file of results: written from it, or compared.

Where a page has ``<!--=NAME-->0.405<!--/-->``, which Markdown shows as 0.405, the
figure between the two comments is the one of that name below.

    python docs/figures.py            # names those that differ; status 1 if any does
    python docs/figures.py --write    # puts in what the files say
"""

from __future__ import annotations

import csv
import json
import re
import statistics
import sys
import tomllib
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
MARKED = re.compile(r"<!--=([^\s>]+?)-->(.*?)<!--/-->")

_CASES = {
    "flt32": "flt32, θ = 2, clamped",
    "flt32-sum": "flt32, θ = 2, clamped, sum",
    "bsnn-unit": "BSNN, θ = 1, clamped",
    "bsnn-unit-sum": "BSNN, θ = 1, clamped, sum",
    "bsnn": "BSNN, θ = 50, clamped",
    "bsnn-sum": "BSNN, θ = 50, clamped, sum",
    "tha": "Proposed, θ 5 → 50, clamped",
    "tha-sum": "Proposed, θ 5 → 50, clamped, sum",
    "tha-moving": "Proposed, θ 5 → 50, moving",
    "tha-moving-sum": "Proposed, θ 5 → 50, moving, sum",
    "solved": "solved, clamped",
    "solved-moving": "solved, moving",
    "solved-fixed": "solved, thresholds fixed at θ∞",
    "peak-1": "solved, peak 1 θ∞",
    "peak-1.02": "solved, peak 1.02 θ∞",
    "peak-1.05": "solved, peak 1.05 θ∞",
    "peak-1.1": "solved, peak 1.1 θ∞",
}


def temporal_coding() -> Iterator[tuple[str, str]]:
    """``temporal.CASE.loss``, ``.on-target``, ``.range``, ``.first`` (of ``.hits`` seeds), ..."""
    rows = json.loads((DOCS / "temporal-coding/results.json").read_text(encoding="utf-8"))
    for name, label in _CASES.items():
        row = rows[label]
        shares, spikes = row["share"], row["spikes"]
        first = [step for step in row["first"] if step is not None]
        yield f"temporal.{name}.loss", f"{row['loss']['1000']:.3f}"
        yield f"temporal.{name}.on-target", f"{statistics.mean(shares):.0%}"
        yield f"temporal.{name}.range", f"{100 * min(shares):.0f} to {100 * max(shares):.0f}"
        yield f"temporal.{name}.first", f"{statistics.median(first):.0f}" if first else "never"
        yield f"temporal.{name}.hits", str(len(first))
        yield f"temporal.{name}.spikes", f"{statistics.mean(spikes):.1f}"
        yield f"temporal.{name}.spikes-range", f"{min(spikes):.1f} to {max(spikes):.1f}"
    ratio = rows[_CASES["peak-1.05"]]["loss"]["1000"] / rows[_CASES["solved"]]["loss"]["1000"]
    yield "temporal.peak-1.05.loss-ratio", f"{ratio:.1f}"


def peers() -> Iterator[tuple[str, str]]:
    """``peers.NETWORK.train.PEER``: how many times as fast as it, ``.bf16`` likewise.

    Also ``.seconds`` of a training step and ``.memory`` in MiB.
    """
    results = json.loads((ROOT / "benchmarks/peers/results.json").read_text(encoding="utf-8"))
    for network, found in results["networks"].items():
        of = found["peers"]
        seconds = of["ours"]["train"]["seconds"][1]
        yield f"peers.{network}.seconds", f"{seconds:.2f}" if seconds >= 0.1 else f"{seconds:.3f}"
        for peer in ("ours", "ours-bf16", "published", "spikingjelly"):
            yield f"peers.{network}.memory.{peer}", f"{of[peer]['memory']['mib']:,.0f}"
        for peer in ("published", "spikingjelly"):
            for measure in ("train", "infer"):
                for own, ending in (("ours", ""), ("ours-bf16", ".bf16")):
                    rounds = zip(of[peer][measure]["all"], of[own][measure]["all"], strict=True)
                    factor = statistics.median(theirs / mine for theirs, mine in rounds)
                    text = f"{factor:.0f}" if factor >= 30 else f"{factor:.1f}"
                    yield f"peers.{network}.{measure}.{peer}{ending}", text


def studies() -> Iterator[tuple[str, str]]:
    """``studies.NAME.first``, ``.best`` (validation accuracy), ``.complete``, ``.pruned``, ...

    Also ``.trials``, ``.dead``; ``.best-trial``, its number; ``.best.CENTRE`` of the trials with
    that surrogate's centre; ``.trial-N`` and ``.trial-N.spikes``; of the best setting
    ``.layer-L.theta_0``, ``.theta_inf`` and ``.moved`` (at the end of training, of its way);
    ``.ahead-of.OTHER`` in points.
    """
    best: dict[str, float] = {}
    for path in sorted((DOCS / "studies").glob("*/trials.csv")):
        name = f"studies.{path.parent.name}"
        trials = list(csv.DictReader(path.open(encoding="utf-8")))
        complete = [t for t in trials if t["state"] == "complete"]
        digits = 1 if path.parent.name.startswith("mnist") else 2
        winner = max(complete, key=_accuracy)
        best[path.parent.name] = _accuracy(winner)
        yield f"{name}.first", f"{_accuracy(trials[0]):.{digits}%}"
        yield f"{name}.best", f"{_accuracy(winner):.{digits}%}"
        yield f"{name}.best-trial", winner["trial"]
        for state in ("complete", "pruned"):
            yield f"{name}.{state}", str(sum(t["state"] == state for t in trials))
        yield f"{name}.trials", str(len(trials))
        yield f"{name}.dead", str(sum(t["reason"].startswith("dead network") for t in trials))
        for centre in sorted({t.get("neuron.surrogate_centre") or "" for t in complete} - {""}):
            of = [_accuracy(t) for t in complete if t["neuron.surrogate_centre"] == centre]
            yield f"{name}.best.{centre}", f"{max(of):.1%}"
        for trial in complete:
            if trial.get("spikes"):
                yield f"{name}.trial-{trial['trial']}", f"{_accuracy(trial):.1%}"
                yield f"{name}.trial-{trial['trial']}.spikes", f"{float(trial['spikes']):,.0f}"
        yield from _annealed(name, path.with_name("best.toml"))
    for name, one in best.items():
        for other, two in best.items():
            yield f"studies.{name}.ahead-of.{other}", f"{100 * (one - two):.1f}"


def _accuracy(trial: dict[str, str]) -> float:
    return float(trial["accuracy"])


def _annealed(name: str, path: Path) -> Iterator[tuple[str, str]]:
    """How far a study's best setting lets thresholds go; of digits, whose samples are known."""
    config = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    threshold = config.get("threshold", {})
    if "theta_inf" not in threshold or config["data"]["name"] != "digits":
        return
    samples = round(DIGITS * (1 - config["data"]["validation"]))
    iterations = config["training"]["epochs"] * -(-samples // config["data"]["batch_size"])
    rows = zip(*(threshold[key] for key in ("theta_0", "theta_inf", "alpha")), strict=True)
    for layer, (first, last, alpha) in enumerate(rows, start=1):
        yield f"{name}.layer-{layer}.theta_0", f"{first:.2f}"
        yield f"{name}.layer-{layer}.theta_inf", f"{last:.2f}"
        yield f"{name}.layer-{layer}.moved", f"{1 - (1 - alpha) ** iterations:.1%}"


DIGITS = 1437
"""Training samples of scikit-learn's digits, with those of the validation split."""


def _table(path: Path) -> list[dict[str, str]]:
    """Rows of a file that is one Markdown table."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "|" in line]
    head, _, *rows = [
        [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        for line in lines
    ]
    return [dict(zip(head, row, strict=True)) for row in rows]


def seeds() -> Iterator[tuple[str, str]]:
    """``seeds.digits.pairs``, and of ``.validation`` and ``.test`` ``.better`` and ``.gain``.

    Of the synthetic objective ``seeds.SCATTER.better`` and ``.repetitions``.
    """
    pairs = _table(DOCS / "studies/seeds/digits.md")
    yield "seeds.digits.pairs", str(len(pairs) // 2)
    for split, column in (("validation", "fresh seeds"), ("test", "test")):
        means = [float(row[column].partition("%")[0]) for row in pairs]
        gains = [own - single for single, own in zip(means[::2], means[1::2], strict=True)]
        yield f"seeds.digits.{split}.better", str(sum(gain > 0 for gain in gains))
        yield f"seeds.digits.{split}.gain", f"{statistics.mean(gains):.1f}"
    for row in _table(DOCS / "studies/seeds/table.md"):
        if row["study"].endswith("with finals"):
            yield f"seeds.{row['scatter']}.better", row["better in (95%)"].partition(" ")[0]
            yield f"seeds.{row['scatter']}.repetitions", row["repetitions"]


def comparisons() -> Iterator[tuple[str, str]]:
    """``thresholds.FOLDER.WEIGHTS.RULE``: mean (σ) of the seeds' test accuracy, %.

    Also ``.spikes`` a sample, ``.dead`` of the hidden layers and ``.dead-first``, and, against
    the fixed rule of the same table: ``.ahead`` and ``.behind`` in points, and by how much of
    its θ0 a mean threshold moves at most, ``.moved``, ``.moved-hidden``, ``.moved-output``.
    """
    for path in sorted((DOCS / "thresholds").glob("*/table.md")):
        rows = _table(path)
        fixed = {row["weights"]: row for row in rows if row["rule"] == "fixed"}
        for row in rows:
            name = f"thresholds.{path.parent.name}.{row['weights']}.{row['rule']}"
            if "θ0" in row:
                name += "." + row["θ0"].removeprefix("× ")
            yield name, f"{_tenths(row['mean'])} ({_tenths(row['σ'])})"
            yield f"{name}.mean", _tenths(row["mean"])
            if "θ0" in row or row["weights"] not in fixed:
                continue
            *hidden, _ = row["dead"].replace("%", "").split(", ")
            yield f"{name}.spikes", row["spikes"]
            yield f"{name}.dead", " and ".join(hidden) + "%"
            yield f"{name}.dead-first", f"{Decimal(hidden[0]):.0f}%"
            ahead = Decimal(row["mean"]) - Decimal(fixed[row["weights"]]["mean"])
            yield f"{name}.ahead", _tenths(str(ahead))
            yield f"{name}.behind", _tenths(str(-ahead))
            starts = fixed[row["weights"]]["threshold"].split(", ")
            pairs = zip(row["threshold"].split(", "), starts, strict=True)
            *of_hidden, of_output = [abs(float(now) / float(start) - 1) for now, start in pairs]
            yield f"{name}.moved", f"{max(*of_hidden, of_output):.0%}"
            yield f"{name}.moved-hidden", f"{max(of_hidden):.0%}"
            yield f"{name}.moved-output", f"{of_output:.0%}"


def runs() -> Iterator[tuple[str, str]]:
    """``runs.NAME.accuracy`` and ``.GROUP`` (test, %), ``.epochs``, ``.bits`` of binary weights.

    Of a detector ``.map``, ``.map-50`` and ``.map-75`` instead of the accuracy.
    Of several seeds ``.best``, ``.mean`` and ``.std`` of the test accuracy, %. Of a folder of
    cases ``runs.NAME.CASE``: the accuracies of its seeds.
    """
    for path in sorted((DOCS / "runs").glob("*/summary.json")):
        name = f"runs.{path.parent.name}"
        summary = json.loads(path.read_text(encoding="utf-8"))
        test = summary["test"]
        if "accuracy" in test:
            yield f"{name}.accuracy", f"{100 * test['accuracy']:.2f}"
        for key in ("map", "map_50", "map_75"):
            if key in test:
                yield f"{name}.{key.replace('_', '-')}", f"{test[key]:.3f}"
        for group, accuracy in summary["test"].get("groups", {}).items():
            yield f"{name}.{group.replace(' ', '-')}", f"{100 * accuracy:.2f}"
        yield f"{name}.epochs", str(summary["epochs"])
        yield f"{name}.bits", f"{summary['weight_bits']['quantized']:,}"
    for path in sorted((DOCS / "runs").glob("*/trials.json")):
        accuracy = json.loads(path.read_text(encoding="utf-8"))["accuracy"]
        for part in ("best", "mean", "std"):
            yield f"runs.{path.parent.name}.{part}", f"{100 * accuracy[part]:.2f}"


def searched() -> Iterator[tuple[str, str]]:
    """``series.SERIES.STUDY``: test accuracy of its best setting from fresh seeds, % (σ)."""
    for path in sorted((DOCS / "studies").glob("*/*/retrained.json")):
        accuracy = json.loads(path.read_text(encoding="utf-8"))["accuracy"]
        mean, std = (f"{100 * accuracy[part]:.2f}" for part in ("mean", "std"))
        yield f"series.{path.parent.parent.name}.{path.parent.name}", f"{mean} ({std})"


SMALL_RISE = 1.2
"""θ∞ of a layer that hardly anneals, as a multiple of its θ0, at most."""


def rises() -> Iterator[tuple[str, str]]:
    """``series.SERIES.layers``: of best settings of the rule ``annealed``; ``.hardly`` rising."""
    for series in sorted((DOCS / "studies").glob("*/")):
        found: list[float] = []
        for path in sorted(series.glob("*/best.toml")):
            threshold = tomllib.loads(path.read_text(encoding="utf-8")).get("threshold", {})
            if threshold.get("rule") == "annealed":
                ends = zip(threshold["theta_0"], threshold["theta_inf"], strict=True)
                found += [last / first for first, last in ends]
        if found:
            yield f"series.{series.name}.layers", str(len(found))
            hardly = sum(rise <= SMALL_RISE for rise in found)
            yield f"series.{series.name}.hardly", str(hardly)


def cases() -> Iterator[tuple[str, str]]:
    """``runs.NAME.CASE``, of a folder with cases that have a folder for each seed."""
    for case in sorted((DOCS / "runs").glob("*/*/")):
        found = sorted(case.glob("seed-*/summary.json"))
        tests = [json.loads(path.read_text(encoding="utf-8"))["test"] for path in found]
        if tests:
            values = ", ".join(f"{100 * test['accuracy']:.2f}" for test in tests)
            yield f"runs.{case.parent.name}.{case.name}", values


def speakers() -> Iterator[tuple[str, str]]:
    """``speakers.CASE``: accuracy on held-out and on known training speakers, %."""
    path = DOCS / "runs/spoken-digits-speakers/results.json"
    for found in json.loads(path.read_text(encoding="utf-8")).values():
        for name, case in found.items() if isinstance(found, dict) else ():
            yield f"speakers.{name}", f"{case['unseen']:.1f} and {case['seen']:.1f}"


def campaigns() -> Iterator[tuple[str, str]]:
    """``reproduction.TABLE.ROW``: mean of the seeds' test accuracy, %, and their σ in brackets.

    Also ``.best``, ``.mean``, ``.std``, ``.GROUP`` (means, %), ``.seeds``, ``.epochs``, ``.bits``,
    ``.dead`` of the layers that fire, ``.spikes`` a sample, and ``.train``, accuracy on training
    samples in the last epoch (means over seeds). Of detectors mAP stands for accuracy, not in %;
    ``.map-50`` and ``.map-75`` are means at one overlap.
    """
    for path in sorted((DOCS / "reproduction").glob("*/runs.jsonl")):
        rows: dict[str, list[dict]] = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            rows.setdefault(entry["row"], []).append(entry["summary"])
        for row, found in rows.items():
            name = f"reproduction.{path.parent.name}.{row}"
            tests = [summary["test"] for summary in found]
            key, scale, digits = ("map", 1, 3) if "map" in tests[0] else ("accuracy", 100, 2)
            values = [scale * test[key] for test in tests]
            mean = f"{statistics.mean(values):.{digits}f}"
            std = f"{statistics.stdev(values):.{digits}f}" if len(found) > 1 else None
            yield name, f"{mean} ({std})" if std else mean
            yield f"{name}.best", f"{max(values):.{digits}f}"
            yield f"{name}.mean", mean
            yield f"{name}.std", std or "–"
            for overlap in ("map_50", "map_75") if key == "map" else ():
                at = statistics.mean(test[overlap] for test in tests)
                yield f"{name}.{overlap.replace('_', '-')}", f"{at:.3f}"
            for group in tests[0].get("groups", {}):
                share = statistics.mean(test["groups"][group] for test in tests)
                yield f"{name}.{group.replace(' ', '-')}", f"{100 * share:.2f}"
            yield f"{name}.seeds", str(len(found))
            yield f"{name}.epochs", str(found[0]["epochs"])
            if all("accuracy" in summary.get("train", {}) for summary in found):
                train = statistics.mean(summary["train"]["accuracy"] for summary in found)
                yield f"{name}.train", f"{train:.1%}"
            yield f"{name}.bits", f"{found[0]['weight_bits']['quantized']:,}"
            layers = [layer for layer in zip(*(s["layers"] for s in found), strict=True)]
            dead = [
                statistics.mean(one["dead_share"] for one in layer)
                for layer in layers
                if layer[0]["dead_share"] is not None
            ]
            yield f"{name}.dead", ", ".join(f"{share:.1%}" for share in dead)
            spikes = sum(statistics.mean(o["spikes_per_sample"] for o in each) for each in layers)
            yield f"{name}.spikes", f"{spikes:,.0f}"


_SURROGATES = ("triangle", "fast-sigmoid")
_RULES = {
    "fixed": [f"fixed-{surrogate}" for surrogate in _SURROGATES],
    "annealed": [f"annealed-{surrogate}" for surrogate in _SURROGATES],
    "one-path": [f"learned-{surrogate}-one-path" for surrogate in _SURROGATES],
    "separate-path": [f"learned-{surrogate}-separate-path" for surrogate in _SURROGATES],
}
_CHOICES = {
    **{
        f"{ours}-over-{theirs}": (_RULES[ours], _RULES[theirs])
        for ours, theirs in (
            ("annealed", "fixed"),
            ("one-path", "fixed"),
            ("separate-path", "fixed"),
            ("separate-path", "one-path"),
            ("annealed", "one-path"),
        )
    },
    "fast-sigmoid-over-triangle": tuple(
        [rows[place] for rows in _RULES.values()] for place in (1, 0)
    ),
}
"""Rows of moving-boxes-axes that differ in one choice, in the same order."""


def choices_apart() -> Iterator[tuple[str, str]]:
    """``axes.CHOICE``: gain in mAP over pairs of one seed, ± its standard error, and ``.above``."""
    path = DOCS / "reproduction/moving-boxes-axes/runs.jsonl"
    entries = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    found = {(e["row"], e["seed"]): e["summary"]["test"]["map"] for e in entries}
    seeds = sorted({seed for _, seed in found})
    for name, (ours, theirs) in _CHOICES.items():
        pairs = [(a, b, seed) for a, b in zip(ours, theirs, strict=True) for seed in seeds]
        gains = [found[a, seed] - found[b, seed] for a, b, seed in pairs]
        error = statistics.stdev(gains) / len(gains) ** 0.5
        mean = f"{statistics.mean(gains):+.3f}".replace("-", "−")
        yield f"axes.{name}", f"{mean} ± {error:.3f}"
        yield f"axes.{name}.above", f"{sum(gain > 0 for gain in gains)} of {len(gains)}"


def trivial_boxes() -> Iterator[tuple[str, str]]:
    """``boxes.ANSWER``, ``.map-50``, ``.map-75``: mAP of answers without a network."""
    answers = json.loads((DOCS / "detection/trivial.json").read_text(encoding="utf-8"))["answers"]
    for name, found in answers.items():
        yield f"boxes.{name}", f"{found['map']:.3f}"
        yield f"boxes.{name}.map-50", f"{found['map_50']:.3f}"
        yield f"boxes.{name}.map-75", f"{found['map_75']:.3f}"


def _tenths(figure: str) -> str:
    return str(Decimal(figure).quantize(Decimal("0.1"), ROUND_HALF_UP))


def all_figures() -> dict[str, str]:
    """Every figure by its name."""
    parts = (
        temporal_coding, peers, studies, searched, rises, seeds, comparisons, runs, cases, speakers,
        campaigns, choices_apart, trivial_boxes,
    )  # fmt: skip
    return dict(pair for part in parts for pair in part())


def rewritten(text: str, figures: dict[str, str]) -> str:
    """A page with the figures of the files; an unknown name is a KeyError."""
    return MARKED.sub(lambda found: f"<!--={found[1]}-->{figures[found[1]]}<!--/-->", text)


def main() -> int:
    """Compare or write all pages; the number of figures that differed."""
    figures, differ = all_figures(), 0
    for page in [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        for name, written in MARKED.findall(text):
            if written != figures[name]:
                differ += 1
                print(f"{page.relative_to(ROOT)}: {name} is {figures[name]}, not {written}")
        if "--write" in sys.argv:
            page.write_text(rewritten(text, figures), encoding="utf-8")
    return differ


if __name__ == "__main__":
    sys.exit(min(main(), 1))
