"""What the command line prints of results: summaries and tables, as text."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from bsnn_tha.config import RunConfig
from bsnn_tha.nn.per_layer import in_words
from bsnn_tha.words import counted, duration, percent

if TYPE_CHECKING:
    from bsnn_tha.campaigns.reproduction.plan import Plan, Row
    from bsnn_tha.campaigns.reproduction.record import Entry
    from studies.series.work import Outlook

WIDTH = 100
HIGH = 0.5
"""Share of the highest learning rate at which a run should not end without a word."""


def summary(values: dict[str, Any]) -> str:
    """The result of a run, from its ``summary.json``."""
    bits = values["weight_bits"]
    lines = []
    if "test" in values:
        lines.append(f"test {_figure(values['test'])}  ({values['protocol']})")
        lines.extend(_groups(values["test"]))
    if "validation" in values:
        best = {k.removeprefix("best_"): v for k, v in values["validation"].items()}
        lines.append(f"best validation {_figure(best)}")
    if values.get("learning_rate_share", 0) > HIGH:
        lines.append(
            f"the learning rate ended at {values['learning_rate_share']:.0%} of its highest, where "
            "binary weights still flip; optimizer.schedule = cosine-to-zero ends at 0"
        )
    if "timing" in values:
        lines.append(_timing(values["timing"]))
    lines.append(values["data"])
    if "layers_of" in values:
        lines.append(f"in {values['layers_of']}:")
    lines.append(_layers(values["layers"]))
    lines.append(
        f"{bits['quantized']:,} bits of quantized weights, "
        f"{bits['full_precision']:,} bits in full precision"
    )
    epochs = counted(values["epochs"], "epoch")
    if "stopped" in values:
        epochs = f"{values['epochs']} of {values['planned_epochs']} epochs ({values['stopped']})"
    lines.append(
        f"{epochs}, {counted(values['iterations'], 'iteration')} in "
        f"{values['train_seconds']:.1f} s ({values['seconds_per_iteration']:.3f} s each)"
    )
    return "\n".join(lines)


def evaluation(values: dict[str, Any], split: str, checkpoint: str) -> str:
    """The result of an evaluation, of a checkpoint's file."""
    head = f"{split} {_figure(values)}, loss {values['loss']:.4f}, {checkpoint}"
    return "\n".join([head, *_groups(values), _layers(values["layers"])])


def trials(values: dict[str, Any]) -> str:
    """The result of several seeds, as in the papers' tables."""
    lines = [f"{len(values['seeds'])} trials in {values['train_seconds']:.1f} s of training"]
    if "accuracy" in values or "map" in values:
        lines.extend(seeds(values, "test"))
    lines.append(f"({values['protocol']})")
    return "\n".join(lines)


def seeds(values: dict[str, Any], split: str) -> list[str]:
    """Accuracies of every seed, then what the papers' tables have of them; or precisions."""
    if "map" in values:
        each = zip(values["seeds"], values["maps"], strict=True)
        over = values["map"]
        spread = "–" if over["std"] is None else f"{over['std']:.3f}"
        return [
            *(f"  seed {seed}  {split} mAP {_precision(precision)}" for seed, precision in each),
            f"{split} mAP best {over['best']:.3f}, mean {over['mean']:.3f}, σ {spread}",
        ]
    lines = [
        f"  seed {seed}  {split} accuracy {accuracy:.2%}"
        for seed, accuracy in zip(values["seeds"], values["accuracies"], strict=True)
    ]
    lines.append(f"{split} accuracy {_best_mean_std(values['accuracy'])}")
    lines.extend(
        f"  {name} {_best_mean_std(figures)}" for name, figures in values["groups"].items()
    )
    return lines


def _best_mean_std(figures: dict[str, float | None]) -> str:
    best, mean, std = (percent(figures[name]) for name in ("best", "mean", "std"))
    return f"best {best}, mean {mean}, σ {std} %"


def _figure(values: dict[str, Any]) -> str:
    """What a result is judged by: accuracy, or the mean average precision of boxes."""
    if "accuracy" in values:
        return f"accuracy {values['accuracy']:.2%}"
    return f"mAP {_precision(values['map'])}"


def _groups(values: dict[str, Any]) -> list[str]:
    """Accuracies of parts of the samples; precisions of boxes under each protocol."""
    lines = [f"  {name} {accuracy:.2%}" for name, accuracy in values.get("groups", {}).items()]
    for name, each in values.get("protocols", {}).items():
        figures = {"mAP": each["map"], ".5": each["map_50"], ".75": each["map_75"]}
        figures |= each["classes"] | each["sizes"]
        shown = "  ".join(f"{figure} {_precision(value)}" for figure, value in figures.items())
        lines.append(f"  {name}: {shown}  ({each['boxes']:,} boxes in {each['frames']:,} frames)")
    return lines


def _precision(value: float | None) -> str:
    """A dash where there was no box to find."""
    return "–" if value is None else f"{value:.3f}"


def campaign(
    plan: Plan,
    entries: Sequence[Entry],
    missing: Sequence[tuple[Row, int]],
    costs: Mapping[str, float | None],
) -> str:
    """A plan's rows, what is done of each, and what the rest is likely to cost.

    Args:
        plan: of the table.
        entries: of its finished runs.
        missing: rows and seeds to train.
        costs: seconds of one run by row; None where nothing is known.
    """
    table = Table(
        "row", "preset", "seeds", "done", "to train", "s a run", "printed mean",
        box=None, padding=(0, 1),
    )  # fmt: skip
    for row in plan.rows:
        printed = row.printed.mean
        table.add_row(
            row.name,
            row.preset,
            str(row.seeds),
            str(sum(entry["row"] == row.name for entry in entries)),
            str(sum(other.name == row.name for other, _ in missing)),
            "–" if (cost := costs[row.name]) is None else f"{cost:,.0f}",
            "–" if printed is None else row.merit.written(printed / row.merit.scale),
        )
    known = [cost for row, _ in missing if (cost := costs[row.name]) is not None]
    last = f"{counted(len(missing), 'run')} to train, about {sum(known) / 3600:.1f} hours "
    last += "one after the other"
    if unknown := len(missing) - len(known):
        last += f", and {unknown} of which nothing is known yet"
    return "\n".join([plan.title, _render(table), last])


def series(title: str, outlooks: Sequence[Outlook]) -> str:
    """Studies of a series, what is done of each, and what the rest is likely to cost."""
    table = Table("study", "trials", "done", "a whole trial", "to go", "", box=None, padding=(0, 1))
    for each in outlooks:
        cost = each.forecast
        table.add_row(
            each.options.study_name,
            f"{each.options.trials:,}",
            f"{each.done:,}",
            "–" if cost is None else duration(cost.epoch * cost.epochs),
            "–" if each.reason else duration(each.seconds) if each.left else "none",
            each.reason,
        )
    last = f"{sum(each.left for each in outlooks):,} trials to go"
    if seconds := sum(each.seconds for each in outlooks):
        last += f", about {duration(seconds)} on this machine"
    if unknown := sum(bool(each.reason) for each in outlooks):
        last += f"; of {unknown} studies it cannot be told here"
    return "\n".join([title, _render(table), last])


def presets(configs: list[RunConfig]) -> str:
    """A table of presets, and below it the tables of the papers they come from."""
    sources = list(dict.fromkeys(config.source for config in configs))
    columns = "data set", "variant", "weights", "rule", "θ0 → θ∞", "from"
    table = Table(*columns, box=None, padding=(0, 1))
    before = ""
    for config in configs:
        final = in_words(config.threshold.theta_inf)
        table.add_row(
            "" if config.data.name == before else config.data.name,
            config.variant,
            config.network.weights_in_words(),
            config.threshold.rule or ("annealed" if final else "fixed"),
            in_words(config.threshold.theta_0) + (f" → {final}" if final else ""),
            f"\\[{sources.index(config.source) + 1}]",
        )
        before = config.data.name
    notes = [f" [{number}] {source}" for number, source in enumerate(sources, start=1)]
    return "\n".join([_render(table), "", *notes])


def _layers(rows: list[dict[str, Any]]) -> str:
    table = Table(
        "layer", "neurons", "threshold", "firing rate", "dead", "saturated",
        "spikes/sample", "operations/sample",
        box=None, padding=(0, 1),
    )  # fmt: skip
    for index, row in enumerate(rows, start=1):
        table.add_row(
            str(index),
            f"{row['neurons']:,}",
            *_firing(row),
            f"{row['effective_macs'] + row['effective_acs']:,.0f}",
        )
    return _render(table)


def _firing(row: dict[str, Any]) -> list[str]:
    """Threshold and spikes of a layer; a dash each where it does not fire."""
    if row["threshold"] is None:
        return ["–"] * 5
    return [
        f"{row['threshold']:.4g}",
        f"{row['firing_rate']:.2%}",
        f"{row['dead_share']:.1%}",
        f"{row['saturated_share']:.1%}",
        f"{row['spikes_per_sample']:,.0f}",
    ]


def _timing(timing: dict[str, Any]) -> str:
    first = timing["first"]
    when = "never" if first is None else f"first at iteration {first:,}"
    return (
        f"exactly one spike within {timing['tolerance']} steps of step {timing['target_step']}: "
        f"{timing['share']:.1%} of the last {timing['last']} iterations, {when}"
    )


def _render(table: Table) -> str:
    buffer = io.StringIO()
    Console(file=buffer, width=WIDTH, force_terminal=False).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().rstrip().splitlines())
