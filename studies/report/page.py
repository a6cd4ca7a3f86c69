"""A study on one page that needs no other file: what was tried, what it tells, what is best.

Trials are points of its figures: whoever comes near one reads how it ended and its settings, and
sees the same trial in all other figures. The page of a study that runs loads itself again.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from animations.drawing import drawing, tips
from bsnn_tha.errors import BsnnThaError
from bsnn_tha.html_page import data, page, side_by_side, table
from studies.figures.drawn import Figures
from studies.figures.parts import Drawn
from studies.importances import REPEATS
from studies.measured import in_words
from studies.ranking import Estimate, best_trials, estimates, score
from studies.report.film import DPI, film_of, filmed_run
from studies.report.words import (
    TOP,
    best_config,
    budget,
    counts,
    described,
    published,
    reasons,
    without_best,
)
from studies.study import OpenStudy

REFRESH = 20
"""Seconds after which the page of a study that runs is loaded again."""
_SAID = 12
"""Reasons, and trials of each, that are written out."""


def study_page(opened: OpenStudy, folder: Path, drawn: Figures) -> str:
    """The page.

    Args:
        opened: the study.
        folder: of its report, for a film of the best trial.
        drawn: its figures.
    """
    return _Page(opened, folder, drawn).html()


@dataclass(frozen=True)
class _Page:
    opened: OpenStudy
    folder: Path
    drawn: Figures

    def html(self) -> str:
        sections: list[tuple[str, Callable[[], str]]] = [
            ("Best trials", self._best),
            ("Running trials", self._running),
            ("Pareto front", self._fronts),
            ("How it went", self._history),
            ("What matters", self._importances),
            ("The two settings that matter most", self._contours),
            ("Settings one by one", self._slices),
            ("Settings together", self._parallel),
            ("What went wrong", self._reasons),
            ("Film of the best trial", self._film),
            ("Search space", self._space),
            ("Best configuration", self._configuration),
        ]
        body = [self._head()]
        for title, make in sections:
            try:
                content = make()
            except BsnnThaError as error:
                content = _note(str(error))
            if content:
                body.append(f"<h2>{title}</h2>\n{content}")
        known = self.known
        body.append(tips({str(t.number): described(self.opened, t, known) for t in self.trials}))
        if self.best:
            body.append(data(self.best[0].params, "best"))
        running = any(trial.state == TrialState.RUNNING for trial in self.trials)
        return page(self.opened.study.study_name, "\n".join(body), REFRESH if running else None)

    @cached_property
    def trials(self) -> list[FrozenTrial]:
        trials = self.opened.study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.datetime_start is not None]

    @cached_property
    def best(self) -> list[FrozenTrial]:
        return best_trials(self.opened)

    @cached_property
    def known(self) -> dict[int, Estimate]:
        return estimates(self.opened)

    def _head(self) -> str:
        opened, plan = self.opened, self.opened.plan
        base = plan.base
        seeds = "" if plan.seeds == "1" else f", {plan.seeds} seeds per trial"
        words = (
            f"{base.data.name}, variant {base.variant}: {base.network.notation}. "
            f"Budget of a trial: {budget(opened)}{seeds}."
        )
        facts = [(f"{count:,}", name) for name, count in counts(opened.study).items()]
        if self.best and len(plan.objectives) == 1:
            facts.append((f"{self.best[0].values[0]:.4g}", f"best {plan.objectives[0]}"))
        elif self.best:
            facts.append((str(len(self.best)), "on the Pareto front"))
        if (own := published(opened.study)) is not None:
            words += f" Settings to begin with: trial {own.number}, "
            words += f"{score(opened, own, self.known)}."
        cells = "".join(f"<div><b>{html.escape(v)}</b>{html.escape(k)}</div>" for v, k in facts)
        return f'<p>{html.escape(words)}</p>\n<div class="facts">{cells}</div>'

    def _best(self) -> str:
        if not self.best:
            return _note(f"The study {without_best(self.opened)}.")
        names = [*map(in_words, self.opened.plan.objectives)]
        rows = [(trial.number, *self._scores(trial), _mark(trial)) for trial in self.best[:TOP]]
        return table(("trial", *names, ""), rows, [str(row[0]) for row in rows])

    def _scores(self, trial: FrozenTrial) -> list[str]:
        if len(trial.values) > 1:
            return [f"{value:.5g}" for value in trial.values]
        return [score(self.opened, trial, self.known)]

    def _running(self) -> str:
        running = [trial for trial in self.trials if trial.state == TrialState.RUNNING]
        if not running:
            return ""
        rows = []
        for trial in running:
            values = trial.intermediate_values
            last = f"{values[max(values)]:.4f}" if values else ""
            begun = trial.datetime_start
            rows.append(
                (trial.number, len(values), last, f"{begun:%Y-%m-%d %H:%M:%S}" if begun else "")
            )
        head = ("trial", "epochs so far", self.opened.plan.objectives[0], "since")
        return table(head, rows, [str(row[0]) for row in rows])

    def _history(self) -> str:
        parts = [
            drawing(own.figure, f"{name} of each trial", own.points)
            for name, own in self.drawn.history.items()
        ]
        if (curves := self.drawn.curves) is not None:
            parts.append(drawing(curves.figure, "learning curves of all trials", curves.points))
        return side_by_side(parts, "pair") if parts else ""

    def _importances(self) -> str:
        said = (
            f"Shares of the variance that each setting explains by itself (fANOVA): mean and "
            f"standard deviation of {REPEATS} forests, each with its own seed and trials drawn "
            "anew. Bars whose whiskers overlap are not told apart."
        )
        return self._told(said, self.drawn.importances, "importances for")

    def _contours(self) -> str:
        said = (
            "Colours are what to expect, by a Gaussian process over these two settings alone; "
            "dots are trials, in the colour of what they reached; the star is the best. A map "
            "of one colour says that the two decide little. Far from any trial it is a guess."
        )
        return self._told(said, self.drawn.contours, "map of two settings for")

    def _fronts(self) -> str:
        return _drawings(self.drawn.fronts.items())

    def _slices(self) -> str:
        parts = [
            drawing(own.figure, f"values of {name}", own.points) for name, own in self.drawn.slices
        ]
        if not parts:
            return ""
        what = html.escape(self.drawn.measured[0].what)
        return f"<p>Up is {what}.</p>\n{side_by_side(parts, 'many')}"

    def _parallel(self) -> str:
        own = self.drawn.parallel
        if own is None:
            return ""
        return (
            f'<div class="wide">{drawing(own.figure, "complete trials as lines", wide=True)}</div>'
        )

    def _reasons(self) -> str:
        found = reasons(self.opened.study)
        rows = [
            (state, reason, len(numbers), ", ".join(map(str, numbers[:_SAID])))
            for state, reason, numbers in found[:_SAID]
        ]
        return table(("", "reason", "trials", "which"), rows) if rows else ""

    def _film(self) -> str:
        if not self.best:
            return ""
        run = filmed_run(self.opened, self.folder)
        if run is None:
            return _note(
                f"Trials take no snapshots. With --film, bsnn-tha study report trains trial "
                f"{self.best[0].number} again, from the configuration's seed, and shows its film "
                "here."
            )
        film = film_of(run).embedded(dpi=DPI)
        said = (
            f"Trial {self.best[0].number}, trained again, in <code>{html.escape(str(run))}</code>."
        )
        return f"<p>{said}</p>\n{film}"

    def _space(self) -> str:
        return table(("setting", "range", "per"), self.opened.plan.space)

    def _configuration(self) -> str:
        if not self.best:
            return ""
        return (
            "<p>In <code>best.toml</code>, for <code>bsnn-tha train --config</code>.</p>\n"
            f"<details><summary><code>best.toml</code></summary>"
            f"<pre>{html.escape(best_config(self.opened).to_toml())}</pre></details>"
        )

    def _told(self, said: str, drawn: dict[str, Drawn], what: str) -> str:
        if not drawn:
            return ""
        return f"<p>{said}</p>\n{_drawings((f'{what} {k}', own) for k, own in drawn.items())}"


def _drawings(drawn: Iterable[tuple[str, Drawn]]) -> str:
    parts = [drawing(own.figure, name.replace("_", " "), own.points) for name, own in drawn]
    return side_by_side(parts, "pair") if parts else ""


def _mark(trial: FrozenTrial) -> str:
    return "published" if trial.user_attrs.get("published") else ""


def _note(said: str) -> str:
    return f'<p class="note">{html.escape(said)}</p>'
