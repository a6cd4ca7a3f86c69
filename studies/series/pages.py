"""The page of a series: what each study found, beside what the paper prints.

FOLDER/
  README.md       the page
  history.png     the best trial so far, study by study
  STUDY/          each study's own report (:mod:`studies.report`)
"""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState

from animations.style import RC, colour
from bsnn_tha.nn.per_layer import in_words
from bsnn_tha.run_folder import replace_atomically
from bsnn_tha.training.machine import Machine
from bsnn_tha.words import DASH, duration, percent, wrapped
from studies import report
from studies.options import Options
from studies.ranking import best_trials
from studies.series.plan import Search, Series
from studies.series.work import existing
from studies.study import OpenStudy
from studies.worker import finished

PAGE, HISTORY = "README.md", "history.png"
_ACROSS = 3  # panels of the figure
_RACED = (
    "The best is the trial of which most is to be expected after its finals, further seeds, and "
    "not the highest of one seed, which the figure shows. "
)


@dataclass(frozen=True)
class Row:
    """A study of the page.

    Args:
        search: as planned.
        opened: the study itself; None if nobody has begun it.
        fresh: test accuracies of its best setting from fresh seeds, if it was trained again.
    """

    search: Search
    opened: OpenStudy | None
    fresh: Sequence[float] = ()


def write(
    series: Series,
    chosen: Sequence[Search],
    studies: Sequence[Options],
    folder: Path,
    machine: Machine,
    retrain: int | None = None,
    allow_code: bool = False,
) -> None:
    """Write the reports of studies that have a complete trial, and the page of all.

    Args:
        series: the plan.
        chosen, studies: of it, and where each is kept.
        folder: for the page.
        machine: where best settings are trained again.
        retrain: from how many fresh seeds; None for not.
        allow_code: that a best setting names.
    """
    rows = []
    for search, options in zip(chosen, studies, strict=True):
        opened, own = existing(options), folder / search.name
        if opened is None or not best_trials(opened):
            rows.append(Row(search, opened))
            continue
        report.write(opened, own)
        if retrain is not None:
            report.retrain(opened, own, retrain, None, machine, allow_code)
        rows.append(Row(search, opened, report.retrained(opened, own)))
    folder.mkdir(parents=True, exist_ok=True)
    with replace_atomically(folder / PAGE) as temporary:
        temporary.write_text(page(series, rows), encoding="utf-8")
    buffer = io.BytesIO()
    history(rows).savefig(buffer, format="png", dpi=100)
    with replace_atomically(folder / HISTORY) as temporary:
        temporary.write_bytes(buffer.getvalue())


def page(series: Series, rows: Sequence[Row]) -> str:
    """The page's text."""
    cells = [[write(row) for write in _COLUMNS.values()] for row in rows]
    kept = [i for i in range(len(_COLUMNS)) if any(line[i] not in ("", DASH) for line in cells)]
    header = [*_COLUMNS]
    lines = [f"# {series.title}", ""]
    if series.about:
        lines += [series.about.strip(), ""]
    lines += [
        wrapped(
            "Accuracy in per cent: of the settings to begin with, all complete trials and the best "
            "one on validation images, by which the best was chosen; of the best from fresh seeds "
            f"on the test set. {_RACED if '..' in series.seeds_per_trial else ''}"
            f"Printed: {series.source}. Time is of all trials together, on a machine that may have "
            "been shared."
        ),
        "",
        "| " + " | ".join(header[i] for i in kept) + " |",
        "|" + "---|" * len(kept),
        *("| " + " | ".join(line[i] for i in kept) + " |" for line in cells),
        "",
        f"![The best trial so far, over trials]({HISTORY})",
        "",
        "## The best settings",
        "",
        *(_setting(row) for row in rows),
        "",
        wrapped(
            f"Searched with `bsnn-tha study series {series.name}`, {_trials(series, rows)} trials "
            f"of `{series.sampler}` each, pruner `{series.pruner}`, seeds per trial "
            f"{series.seeds_per_trial}{_with(series.set)}. Every trial is a line of its "
            "study's `trials.csv`; `best.toml` beside it is for `bsnn-tha train --config`."
        ),
        *_asked([row.search for row in rows]),
    ]
    return "\n".join(lines) + "\n"


def history(rows: Sequence[Row]) -> Figure:
    """The best trial so far over finished trials, a line per study, a panel per data set."""
    begun = [(row, row.opened) for row in rows if row.opened is not None]
    datasets = list(dict.fromkeys(row.search.preset.partition("/")[0] for row, _ in begun))
    across = min(max(1, len(datasets)), _ACROSS)
    down = max(1, -(-len(datasets) // across))
    with mpl.rc_context(RC):
        figure = Figure(figsize=(4.5 * across, 3.6 * down), layout="constrained")
        grid = figure.subplots(down, across, squeeze=False)
        for axes in grid.flat[len(datasets) :]:
            axes.set_visible(False)
        for axes, dataset in zip(grid.flat, datasets, strict=False):
            own = [pair for pair in begun if pair[0].search.preset.partition("/")[0] == dataset]
            for index, (row, opened) in enumerate(own):
                values = [t.values[0] if t.values else np.nan for t in finished(opened.study)]
                best = 100 * np.fmax.accumulate(np.array(values or [np.nan], dtype=float))
                axes.step(
                    np.arange(1, len(best) + 1), best, where="post",
                    color=colour(index), label=row.search.name.removeprefix(f"{dataset}-"),
                )  # fmt: skip
            axes.set(title=dataset, xlabel="trials")
            axes.legend(loc="lower right")
        for axes in grid[:, 0]:
            axes.set_ylabel("best validation accuracy, %")
    return figure


def _complete(row: Row) -> list[FrozenTrial]:
    if row.opened is None:
        return []
    return row.opened.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _counts(row: Row) -> str:
    if row.opened is None:
        return "0"
    return f"{len(_complete(row))} / {len(finished(row.opened.study)) - len(_complete(row))}"


def _published(row: Row) -> str:
    values = [t.values[0] for t in _complete(row) if t.user_attrs.get("published")]
    return percent(values[0]) if values else DASH


def _quartiles(row: Row) -> str:
    values = [trial.values[0] for trial in _complete(row)]
    if len(values) < 2:
        return DASH
    return " / ".join(percent(value) for value in statistics.quantiles(values))


def _best(row: Row) -> str:
    trials = best_trials(row.opened) if row.opened is not None else []
    return f"{percent(trials[0].values[0])} (trial {trials[0].number})" if trials else DASH


def _again(row: Row) -> str:
    if not row.fresh:
        return DASH
    spread = f" ({percent(statistics.stdev(row.fresh))})" if len(row.fresh) > 1 else ""
    return f"{percent(statistics.fmean(row.fresh))}{spread}, {len(row.fresh)} seeds"


def _time(row: Row) -> str:
    seconds = [t.duration.total_seconds() for t in _complete(row) if t.duration is not None]
    return duration(sum(seconds)) if seconds else DASH


def _mean(row: Row) -> str:
    return DASH if row.search.printed.mean is None else f"{row.search.printed.mean:.2f}"


_COLUMNS = {
    "study": lambda row: f"[{row.search.name}]({row.search.name}/trials.csv)",
    "complete / pruned": _counts,
    "settings to begin with": _published,
    "quartiles of trials": _quartiles,
    "best trial": _best,
    "the best from fresh seeds: mean (σ)": _again,
    "printed mean": _mean,
    "time": _time,
}


def _setting(row: Row) -> str:
    """The best trial's setting, as a line of Markdown."""
    if row.opened is None or not best_trials(row.opened):
        return f"- {row.search.name}: no complete trial yet"
    config = report.best_config(row.opened)
    threshold, neuron = config.threshold, config.neuron
    theta = _short(threshold.theta_0)
    if threshold.theta_inf is not None:
        theta += f" → {_short(threshold.theta_inf)}, α {_short(threshold.alpha)}"
    return wrapped(
        f"- {row.search.name}: θ {theta}; β {_short(neuron.beta)}; {neuron.surrogate_centre} "
        f"surrogate of slope {_short(neuron.slope)}; learning rate {_short(config.optimizer.lr)}; "
        f"dropout {_short(config.network.dropout)}; norm {in_words(config.network.norm)}; "
        f"clipping of gradients {'on' if config.training.grad_clip else 'off'}, "
        f"of weights {'on' if config.training.weight_clip else 'off'}"
    )


def _short(value: Any) -> str:
    """Three digits are what a search is good for."""
    if isinstance(value, dict):
        return in_words({key: _rounded(each) for key, each in value.items()})
    return in_words(
        [_rounded(each) for each in value] if isinstance(value, list) else _rounded(value)
    )


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def _with(values: dict[str, Any], words: str = ", with ") -> str:
    return words * bool(values) + ", ".join(f"`{key} = {value}`" for key, value in values.items())


def _trials(series: Series, rows: Sequence[Row]) -> str:
    """How many the studies were planned with; the data sets are named where they differ."""
    planned: dict[int, dict[str, None]] = {}
    for row in rows:
        dataset = row.search.preset.partition("/")[0]
        planned.setdefault(series.trials_of(row.search), {})[dataset] = None
    if len(planned) == 1:
        return str(next(iter(planned)))
    return " or ".join(f"{count} ({', '.join(names)})" for count, names in planned.items())


def _asked(searches: Sequence[Search]) -> list[str]:
    """What each study was asked for, if they differ in more than their presets."""
    if not any(search.set or search.begin for search in searches):
        return []
    lines = (
        f"- {search.name}: preset `{search.preset}`{_with(search.set)}"
        f"{_with(search.begin, ', to begin with ')}"
        for search in searches
    )
    return ["", *map(wrapped, lines)]
